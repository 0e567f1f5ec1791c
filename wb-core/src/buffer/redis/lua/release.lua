-- Gives a lease up. KEYS: meta. ARGV: owner.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'until_ms')
return 1
