-- Records are in the sink. KEYS: flushing, meta, lease, attempts, dead, then a clean-copy key per id.
-- ARGV: owner, epoch, copy TTL in ms (0: no copies), negative TTL in ms, then the ids.
-- Returns 1 when the epoch is flushed now, 0 when records are left, -1 when lease or epoch is not the caller's.
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return -1 end
if tonumber(redis.call('HGET', KEYS[2], 'open') or '1') - 1 ~= tonumber(ARGV[2]) then return -1 end
local ttl, negative = tonumber(ARGV[3]), tonumber(ARGV[4])
local refused = redis.call('EXISTS', KEYS[4], KEYS[5]) > 0
for i = 5, #ARGV do
  local copy = KEYS[i + 1]
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  if value then
    -- Removal comes first: a full Redis refuses a script whose first write needs memory, and could never be emptied.
    redis.call('HDEL', KEYS[1], ARGV[i])
    local keep = ttl
    if value == '' and ttl > 0 then keep = negative end
    if keep > 0 then
      redis.call('SET', copy, value, 'PX', keep)
    else
      redis.call('DEL', copy)
    end
    if refused then
      -- A state that the sink has taken settles what was refused before.
      redis.call('HDEL', KEYS[4], ARGV[i])
      redis.call('HDEL', KEYS[5], ARGV[i])
    end
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[2], 'flushed', ARGV[2])
  return 1
end
return 0
