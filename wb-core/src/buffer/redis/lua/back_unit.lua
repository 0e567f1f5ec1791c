-- Records that belong together must be tried again: see back.lua. They stay together, with what supersedes some of them.
if not holds() then return {} end
for _, record in ipairs(records) do
  if record.value then
    redis.call('SET', record.copy, record.value)
    unseal(record.open)
    redis.call('HSETNX', record.open, record.id, record.value)
    redis.call('HSET', record.attempts, record.id, record.wants)
  end
end
tie(records, ARGV[2])
return finish()
