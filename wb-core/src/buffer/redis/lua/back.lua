-- Records must be tried again. KEYS 3, 4: attempts, open. ARGV: owner, epoch, stamp, then id and attempts in turn.
if not holds() then return {-1, 0, 0} end
local function open()
  if taken == 1 then unseal(KEYS[4]) end
  return KEYS[4]
end
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local value = take(id)
  if value then
    -- This moves against the readers' order: one that has looked into open already finds the copy. No TTL until it is
    -- flushed or superseded.
    redis.call('SET', KEYS[4 + (i - 2) / 2], value)
    redis.call('HSETNX', open(), id, value)
    -- Also where a newer state is there: until that is settled, the key's last outcome is a refusal.
    redis.call('HSET', KEYS[3], id, ARGV[i + 1])
  end
end
return finish((#ARGV - 3) / 2)
