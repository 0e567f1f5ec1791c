-- Drops clean copies. KEYS: copies. Those without a TTL stay: they are the readable state of records that the sink has
-- refused. Returns how many were dropped.
local dropped = 0
for _, copy in ipairs(KEYS) do
  if redis.call('PTTL', copy) >= 0 then dropped = dropped + redis.call('UNLINK', copy) end
end
return dropped
