-- Leaves a load token where nothing stands, or in place of a loaded copy that the caller cannot use. KEYS: copy, open. ARGV:
-- token, TTL in ms, that copy to the byte ('' for none: "no such row" is replaced by nobody). Returns 1 when it did. A sealed
-- layout takes none: its `open` is no hash.
size('HLEN', KEYS[2])
local stands = copy_of(KEYS[1])
if stands and (ARGV[3] == '' or stands ~= ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
