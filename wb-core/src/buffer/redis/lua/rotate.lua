-- Closes the open epoch. KEYS: open, flushing, meta, groups, groups_flushing; of an append-only entity also log, closed log.
-- A layout that is being left is closed for writes in the same step: see seal.lua.
-- ARGV: owner, stamp.
-- Returns the number of the closed epoch, 0 when nothing is dirty, -1 when the caller does not hold the lease; and 1 when
-- transactions have written in that epoch, else 0.
local now = clock()
if holder(KEYS[3], now) ~= ARGV[1] then return { -1, 0 } end
-- A sealed layout, or a key of a wrong type, fails the script here: a rename would take the seal away.
local records, entries = size('HLEN', KEYS[1]), KEYS[6] and size('LLEN', KEYS[6]) or 0
for _, hash in ipairs({ KEYS[2], KEYS[4], KEYS[5] }) do redis.call('HLEN', hash) end
if KEYS[7] then redis.call('LLEN', KEYS[7]) end
local leaves = left_for(KEYS[3], 'leaving', now)
local function close()
  if not leaves then return end
  seal(KEYS[1])
  seal(KEYS[6])
end
local function exists(key) return key and redis.call('EXISTS', key) == 1 end
local open_epoch = tonumber(redis.call('HGET', KEYS[3], 'open') or '1')
-- A closed epoch that is not flushed yet comes first: order is kept by finishing it.
if exists(KEYS[2]) or exists(KEYS[7]) then
  -- A removal comes first: a full Redis refuses a script whose first write needs memory, and needs workers most.
  redis.call('HDEL', KEYS[3], 'stamp', 'log')
  redis.call('HSET', KEYS[3], 'stamp', ARGV[2])
  -- A closed log is a part of the epoch: it does not end without it.
  if exists(KEYS[7]) then redis.call('HSET', KEYS[3], 'log', 1) end
  if open_epoch < 2 then
    -- Its number is lost, and must not be taken for "nothing is dirty".
    open_epoch = 2
    redis.call('HSET', KEYS[3], 'open', open_epoch)
  end
  return { open_epoch - 1, redis.call('EXISTS', KEYS[5]) }
end
local log = entries > 0
if not log and records == 0 then
  close()
  return { 0, 0 }
end
-- Not known before the first rotation.
local opened_at = redis.call('HGET', KEYS[3], 'opened_at') or now
local marked = redis.call('EXISTS', KEYS[4], KEYS[5])
-- Of the epoch before this one nothing is left. What of it never reached the sink is known now, or never.
local lost = gone(KEYS[3], KEYS[2], KEYS[7] and 0)
if records > 0 then redis.call('RENAME', KEYS[1], KEYS[2]) end
if log then redis.call('RENAME', KEYS[6], KEYS[7]) end
if marked > 0 then
  -- The marks travel with the records; those of an epoch that has ended say nothing of this one.
  redis.call('DEL', KEYS[5])
  marked = redis.call('EXISTS', KEYS[4])
  if marked == 1 then redis.call('RENAME', KEYS[4], KEYS[5]) end
end
redis.call('HDEL', KEYS[3], 'log', 'log_end', 'settled', 'told')
redis.call('HSET', KEYS[3], 'open', open_epoch + 1, 'opened_at', now, 'flushing_at', opened_at, 'stamp', ARGV[2], 'size', records)
if lost > 0 then redis.call('HSET', KEYS[3], 'vanished', open_epoch - 1) end
if log then
  local trimmed = tonumber(redis.call('HGET', KEYS[3], 'trimmed') or '0')
  redis.call('HSET', KEYS[3], 'log', 1, 'log_end', string.format('%.0f', trimmed + entries))
end
close()
return { open_epoch, marked }
