-- Records become dead letters. KEYS: flushing, meta, lease, attempts, dead, then a clean-copy key per id.
-- ARGV: owner, epoch, then id and letter in turn. Returns as ack does.
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return -1 end
if tonumber(redis.call('HGET', KEYS[2], 'open') or '1') - 1 ~= tonumber(ARGV[2]) then return -1 end
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local value = redis.call('HGET', KEYS[1], id)
  if value then
    -- Removal comes first, as in ack.
    redis.call('HDEL', KEYS[1], id)
    redis.call('SET', KEYS[5 + (i - 1) / 2], value)
    redis.call('HSET', KEYS[5], id, ARGV[i + 1])
    redis.call('HDEL', KEYS[4], id)
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[2], 'flushed', ARGV[2])
  return 1
end
return 0
