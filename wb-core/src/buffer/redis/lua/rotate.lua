-- Closes the open epoch. KEYS: open, flushing, meta, lease, groups, groups_flushing. ARGV: owner, stamp.
-- Returns the number of the closed epoch, 0 when nothing is dirty, -1 when the caller does not hold the lease; and 1 when
-- transactions have written in that epoch, else 0.
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return { -1, 0 } end
local open_epoch = tonumber(redis.call('HGET', KEYS[3], 'open') or '1')
-- A closed epoch that is not flushed yet comes first: order is kept by finishing it.
if redis.call('EXISTS', KEYS[2]) == 1 then
  -- A removal comes first: a full Redis refuses a script whose first write needs memory, and needs workers most.
  redis.call('HDEL', KEYS[3], 'stamp')
  redis.call('HSET', KEYS[3], 'stamp', ARGV[2])
  if open_epoch < 2 then
    -- Its number is lost, and must not be taken for "nothing is dirty".
    open_epoch = 2
    redis.call('HSET', KEYS[3], 'open', open_epoch)
  end
  return { open_epoch - 1, redis.call('EXISTS', KEYS[6]) }
end
if redis.call('EXISTS', KEYS[1]) == 0 then return { 0, 0 } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Not known before the first rotation.
local opened_at = redis.call('HGET', KEYS[3], 'opened_at') or now
local marked = redis.call('EXISTS', KEYS[5], KEYS[6])
redis.call('RENAME', KEYS[1], KEYS[2])
if marked > 0 then
  -- The marks travel with the records; those of an epoch that has ended say nothing of this one.
  redis.call('DEL', KEYS[6])
  marked = redis.call('EXISTS', KEYS[5])
  if marked == 1 then redis.call('RENAME', KEYS[5], KEYS[6]) end
end
redis.call('HSET', KEYS[3], 'open', open_epoch + 1, 'opened_at', now, 'flushing_at', opened_at, 'stamp', ARGV[2])
return { open_epoch, marked }
