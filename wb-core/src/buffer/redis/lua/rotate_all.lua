-- Closes the open epochs of all partitions at one instant. KEYS: open, flushing, meta, groups, groups_flushing of each partition
-- in turn. ARGV: owner, stamp. Returns for each partition in turn what rotate.lua returns. Nothing is done unless
-- the caller holds all leases; where epochs were left behind, those come first, and nothing is closed. A layout that is being left is
-- closed for writes in the same step: see seal.lua.
local left, stranger, leaves, sizes, replies, now = false, false, false, {}, {}, clock()
for i = 3, #KEYS, 5 do
  local at = (i - 3) / 5 * 2 + 1
  local mine = holder(KEYS[i], now) == ARGV[1]
  stranger = stranger or not mine
  replies[at], replies[at + 1] = mine and 0 or -1, 0
end
if stranger then return replies end
for i = 1, #KEYS, 5 do
  left = left or redis.call('EXISTS', KEYS[i + 1]) == 1
  -- A sealed layout, or a key of a wrong type, fails the script here, before anything is renamed.
  sizes[i] = size('HLEN', KEYS[i])
  for at = i + 1, i + 4 do redis.call('HLEN', KEYS[at]) end
  leaves = left_for(KEYS[i + 2], 'leaving', now) or leaves
end
for i = 1, #KEYS, 5 do
  local open, flushing, meta, groups, groups_flushing = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3], KEYS[i + 4]
  local at = (i - 1) / 5 * 2 + 1
  if left then
    if redis.call('EXISTS', flushing) == 1 then
      local open_epoch = tonumber(redis.call('HGET', meta, 'open') or '1')
      -- A removal comes first, and a number may be lost: see rotate.lua.
      redis.call('HDEL', meta, 'stamp')
      redis.call('HSET', meta, 'stamp', ARGV[2])
      if open_epoch < 2 then
        open_epoch = 2
        redis.call('HSET', meta, 'open', open_epoch)
      end
      replies[at], replies[at + 1] = open_epoch - 1, redis.call('EXISTS', groups_flushing)
    end
  elseif sizes[i] > 0 then
    local open_epoch = tonumber(redis.call('HGET', meta, 'open') or '1')
    local opened_at = redis.call('HGET', meta, 'opened_at') or now
    -- See rotate.lua.
    local lost = gone(meta, flushing)
    redis.call('RENAME', open, flushing)
    redis.call('DEL', groups_flushing)
    local marked = redis.call('EXISTS', groups)
    if marked == 1 then redis.call('RENAME', groups, groups_flushing) end
    redis.call('HDEL', meta, 'settled', 'told')
    redis.call('HSET', meta, 'open', open_epoch + 1, 'opened_at', now, 'flushing_at', opened_at, 'stamp', ARGV[2], 'size', sizes[i])
    if lost > 0 then redis.call('HSET', meta, 'vanished', open_epoch - 1) end
    replies[at], replies[at + 1] = open_epoch, marked
  end
end
if leaves and not left then
  for i = 1, #KEYS, 5 do seal(KEYS[i]) end
end
return replies
