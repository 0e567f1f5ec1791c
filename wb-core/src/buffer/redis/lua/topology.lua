-- Fixes or changes the topology of entities: of all of them, or of none. KEYS: topology hash. ARGV: for each entity its name,
-- the topology that it is to have, and what the caller found stored ('' for nothing). Returns 1 when all stand as asked.
for i = 1, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if stored ~= ARGV[i + 1] and stored ~= ARGV[i + 2] then return 0 end
end
for i = 1, #ARGV, 3 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
