-- Puts a loaded state as the clean copy, if the load token still stands. KEYS: copy, open. ARGV: token, state, TTL in ms.
-- With TTL 0 the token is only removed. Returns 1 when the token stood.
-- A sealed layout takes none: its `open` is no hash.
size('HLEN', KEYS[2])
if copy_of(KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return 1
