-- Entries of the closed log are settled, from its head on. KEYS 3 to 6: attempts, open, dead, closed log. ARGV: owner,
-- epoch, stamp, number of the first entry, how many, and their ids; then, for each that the sink has not, its place from
-- 1, 'again' or 'dead', and attempts or letter.
if not holds() then return {-1, 0, 0} end
redis.call('HLEN', KEYS[5])
local from, count = tonumber(ARGV[4]), tonumber(ARGV[5])
local trimmed = tonumber(redis.call('HGET', KEYS[2], 'trimmed') or '0')
local again = false
local function is_head() return trimmed == from end
if is_head() then
  local entries, written = {}, {}
  local refused = redis.call('EXISTS', KEYS[3], KEYS[5]) > 0
  if refused or #ARGV > 5 + count then entries = redis.call('LRANGE', KEYS[6], 0, count - 1) end
  taken = math.min(count, redis.call('LLEN', KEYS[6]))
  -- A removal comes first: see take.
  redis.call('LTRIM', KEYS[6], count, -1)
  redis.call('HSET', KEYS[2], 'trimmed', string.format('%.0f', trimmed + taken))
  if refused then
    for i = 6, 5 + count do written[ARGV[i]] = true end
    for i = 6 + count, #ARGV, 3 do written[ARGV[5 + ARGV[i]]] = nil end
    for place, payload in ipairs(entries) do
      -- Of an equal entry that was no row, as its letter is called: see Id::unreadable.
      if written[ARGV[5 + place]] then written['\255entry:' .. redis.sha1hex(payload)] = true end
    end
    -- As after an ack: what the sink has taken settles what was refused before.
    for id in pairs(written) do
      redis.call('HDEL', KEYS[3], id)
      redis.call('HDEL', KEYS[5], id)
    end
  end
  for i = 6 + count, #ARGV, 3 do
    local place = tonumber(ARGV[i])
    local payload, id = entries[place], ARGV[5 + place]
    if payload then
      -- Of two entries with one key that are to be tried again the first counts, as in the sink.
      if ARGV[i + 1] == 'dead' then
        redis.call('HSET', KEYS[5], id, ARGV[i + 2])
      else
        if not again then unseal(KEYS[4]) end
        again = true
        if redis.call('HSETNX', KEYS[4], id, payload) == 1 then redis.call('HSET', KEYS[3], id, ARGV[i + 2]) end
      end
    end
  end
elseif trimmed < from + count then
  -- Neither what the caller has read nor what it has trimmed: the log is another one.
  return {-1, 0, 0}
end
local left = redis.call('LLEN', KEYS[6])
if left == 0 then redis.call('HDEL', KEYS[2], 'log') end
return finish(count, left)
