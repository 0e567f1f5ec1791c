-- Dead letters go for good. KEYS: dead, attempts, open, flushing, stale, meta, then the clean copy of each id. ARGV: most marks, then the
-- ids. Returns how many letters there were.
for i = 1, 6 do redis.call('HLEN', KEYS[i]) end
local epoch = tonumber(redis.call('HGET', KEYS[6], 'open') or '1') - 1
local discarded = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  if redis.call('HDEL', KEYS[1], id) == 1 then
    discarded = discarded + 1
    -- A newer state has attempts and a copy of its own.
    if redis.call('HEXISTS', KEYS[3], id) == 0 and redis.call('HEXISTS', KEYS[4], id) == 0 then
      redis.call('HDEL', KEYS[2], id)
      redis.call('DEL', KEYS[5 + i])
      -- Who waits for the write is not to take it for one that is in the sink.
      redis.call('HSET', KEYS[5], id, string.format('discarded %.0f', epoch))
    end
  end
end
if discarded > 0 then bound_marks(KEYS[5], KEYS[6], epoch, tonumber(ARGV[1])) end
return discarded
