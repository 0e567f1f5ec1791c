-- Records must be tried again. KEYS 4, 5: attempts, open. ARGV: owner, epoch, then id and attempts in turn.
if not holds() then return {-1, 0} end
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local value = take(id)
  if value then
    -- This moves against the readers' order: one that has looked into open already finds the copy. No TTL until it is
    -- flushed or superseded.
    redis.call('SET', KEYS[5 + (i - 1) / 2], value)
    if redis.call('HSETNX', KEYS[5], id, value) == 1 then
      redis.call('HSET', KEYS[4], id, ARGV[i + 1])
    else
      -- A newer state is there; what was refused is superseded.
      redis.call('HDEL', KEYS[4], id)
    end
  end
end
return finish((#ARGV - 2) / 2)
