-- What scripts that look at a closed epoch share; it stands before each of them. The epoch's size is noted when it is closed, and
-- every step notes what it took out: what is gone without a step was taken away by a foreign hand, and never reached the sink.

-- How many records are gone so. `entries`: what is left of the closed log; nil when that is not to be judged.
local function gone(meta, flushing, entries)
  local kept = redis.call('HMGET', meta, 'size', 'settled', 'log_end', 'trimmed')
  local function count(at) return tonumber(kept[at] or '0') end
  local sum = 0
  -- Not noted by an older program: nothing is known.
  if kept[1] then sum = math.max(0, count(1) - count(2) - redis.call('HLEN', flushing)) end
  if kept[3] and entries then sum = sum + math.max(0, count(3) - count(4) - entries) end
  return sum
end

-- The last epoch that is known to have lost records, and how many of the closed one nobody was told of yet.
local function vanished(meta, flushing, entries)
  local sum = gone(meta, flushing, entries)
  local found = redis.call('HMGET', meta, 'open', 'vanished', 'told')
  if sum == 0 then return tonumber(found[2] or '0'), 0 end
  return tonumber(found[1] or '1') - 1, math.max(0, sum - tonumber(found[3] or '0'))
end

-- Says what a step has come to: notes what it `took` out of the hash, and ends the epoch when nothing of it is left, in the hash and
-- in the log. One that has lost records does not count as flushed. Returns what a step returns; `entries` is what is left of the
-- closed log, for who knows.
local function ended(flushing, meta, epoch, asked, taken, hashed, entries)
  if hashed and taken > 0 then redis.call('HINCRBY', meta, 'settled', taken) end
  local log = redis.call('HEXISTS', meta, 'log') == 1
  if not entries and not log then entries = 0 end
  local over = not log and redis.call('EXISTS', flushing) == 0
  local missing, lost = 0, false
  -- A step that is repeated finds its records gone too, but the epoch ended.
  if tonumber(redis.call('HGET', meta, 'flushed') or '0') < tonumber(epoch) then
    local sum = gone(meta, flushing, entries)
    if sum > 0 then
      local told = tonumber(redis.call('HGET', meta, 'told') or '0')
      lost, missing = true, math.max(0, sum - told)
      if missing > 0 then redis.call('HSET', meta, 'told', sum) end
    elseif over or redis.call('HEXISTS', meta, 'size') == 0 then
      -- The number is right, or nobody has noted it, and yet these were not there.
      missing = asked - taken
      lost = missing > 0
    end
  end
  if not over then return { 0, taken, missing } end
  if lost then return { 2, taken, missing } end
  redis.call('HSET', meta, 'flushed', epoch)
  return { 1, taken, missing }
end

