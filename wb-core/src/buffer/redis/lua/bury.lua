-- Records become dead letters. KEYS 4, 5: attempts, dead. ARGV: owner, epoch, then id and letter in turn.
if not holds() then return {-1, 0} end
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local value = take(id)
  if value then
    redis.call('SET', KEYS[5 + (i - 1) / 2], value)
    redis.call('HSET', KEYS[5], id, ARGV[i + 1])
    redis.call('HDEL', KEYS[4], id)
  end
end
return finish((#ARGV - 2) / 2)
