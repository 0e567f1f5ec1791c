-- Records become dead letters. KEYS 3, 4: attempts, dead. ARGV: owner, epoch, stamp, then id and letter in turn.
if not holds() then return {-1, 0, 0} end
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local value = take(id)
  if value then
    redis.call('SET', KEYS[4 + (i - 2) / 2], value)
    redis.call('HSET', KEYS[4], id, ARGV[i + 1])
    redis.call('HDEL', KEYS[3], id)
  end
end
return finish((#ARGV - 3) / 2)
