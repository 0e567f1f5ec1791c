-- Takes or renews a lease. KEYS: lease. ARGV: owner, TTL in ms. Returns 1 when the owner holds it now.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
-- A removal comes first, as in ack: a full Redis needs workers most.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
