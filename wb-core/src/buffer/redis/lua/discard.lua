-- Dead letters go for good. KEYS: dead, attempts, open, flushing, then the clean copy of each id. ARGV: the ids. Returns how
-- many letters there were.
for i = 1, 4 do redis.call('HLEN', KEYS[i]) end
local discarded = 0
for i, id in ipairs(ARGV) do
  if redis.call('HDEL', KEYS[1], id) == 1 then
    discarded = discarded + 1
    -- A newer state has attempts and a copy of its own.
    if redis.call('HEXISTS', KEYS[3], id) == 0 and redis.call('HEXISTS', KEYS[4], id) == 0 then
      redis.call('HDEL', KEYS[2], id)
      redis.call('DEL', KEYS[4 + i])
    end
  end
end
return discarded
