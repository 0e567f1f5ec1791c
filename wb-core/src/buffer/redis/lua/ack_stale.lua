-- Records were left out: the sink has newer versions of them. KEYS 3 to 5: attempts, dead, stale, then a clean-copy key per id.
-- ARGV: owner, epoch, stamp, most marks, then id and version in turn.
if not holds() then return {-1, 0, 0} end
redis.call('HLEN', KEYS[5])
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  if take(id) then
    redis.call('DEL', KEYS[6 + (i - 5) / 2])
    redis.call('HDEL', KEYS[3], id)
    redis.call('HDEL', KEYS[4], id)
    -- The epoch tells which marks are old; versions are text, because scripts count in floats.
    redis.call('HSET', KEYS[5], id, ARGV[i + 1] .. ' ' .. ARGV[2])
  end
end
-- Marks of records that nobody writes again would stay for ever.
bound_marks(KEYS[5], KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[4]))
return finish((#ARGV - 4) / 2)
