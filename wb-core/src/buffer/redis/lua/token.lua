-- Leaves a load token where the clean copy would be, unless something is there. KEYS: copy, open. ARGV: token, TTL in ms.
-- A sealed layout takes none: its `open` is no hash. Returns 1 when it is there.
redis.call('HLEN', KEYS[2])
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
