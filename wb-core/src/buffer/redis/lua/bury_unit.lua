-- Records that belong together become dead letters: see bury.lua.
if not holds() then return {} end
for _, record in ipairs(records) do
  if record.value then
    redis.call('SET', record.copy, record.value)
    redis.call('HSET', record.dead, record.id, record.wants)
    redis.call('HDEL', record.attempts, record.id)
  end
end
return finish()
