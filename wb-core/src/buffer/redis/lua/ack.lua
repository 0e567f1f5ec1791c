-- Records are in the sink. KEYS 3 to 5: attempts, dead, stale. ARGV: owner, epoch, stamp, copy TTL in ms (0: no copies), negative
-- TTL in ms, then the ids.
if not holds() then return {-1, 0, 0} end
redis.call('HLEN', KEYS[5])
local ttl, negative = tonumber(ARGV[4]), tonumber(ARGV[5])
local refused = redis.call('EXISTS', KEYS[3], KEYS[4], KEYS[5]) > 0
for i = 6, #ARGV do
  local copy = KEYS[i]
  local value = take(ARGV[i])
  if value then
    local keep = ttl
    if value == '' and ttl > 0 then keep = negative end
    if keep > 0 then
      redis.call('SET', copy, value, 'PX', keep)
    else
      redis.call('DEL', copy)
    end
    if refused then
      -- A state that the sink has taken settles what was refused, or left out, before.
      redis.call('HDEL', KEYS[3], ARGV[i])
      redis.call('HDEL', KEYS[4], ARGV[i])
      redis.call('HDEL', KEYS[5], ARGV[i])
    end
  end
end
return finish(#ARGV - 5)
