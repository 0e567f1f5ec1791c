-- Takes or renews a lease. KEYS: meta. ARGV: owner, TTL in ms. Returns 1 when the owner holds it now.
local now = clock()
local other = holder(KEYS[1], now)
if other and other ~= ARGV[1] then return 0 end
hold(KEYS[1], ARGV[1], now + ARGV[2])
return 1
