-- Takes a worker of an entity off the list. KEYS: workers. ARGV: entity, worker.
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local entity, worker = string.match(member, '^([^:]*):%d+:(.*)$')
  if entity == ARGV[1] and worker == ARGV[2] then redis.call('ZREM', KEYS[1], member) end
end
return 0
