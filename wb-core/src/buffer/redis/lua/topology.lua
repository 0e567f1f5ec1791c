-- Fixes or changes the topology of an entity. KEYS: topology hash. ARGV: entity, topology, the stored one it may
-- replace ('' for none). Returns what is stored afterwards.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored or stored == ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  return ARGV[2]
end
return stored
