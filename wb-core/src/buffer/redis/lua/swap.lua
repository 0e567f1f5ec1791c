-- Compare-and-set of one record. KEYS: open, flushing, the clean copy; where there is a limit also open and then flushing of
-- every partition. ARGV: id, the state that must stand, the new one, the limit ('' for none).
-- Returns 1 when the new state is stored and its key was not in open, 2 when it was, 0 when another state stands (or none that
-- is known), -1 when the key would pass the limit. Absence proves nothing: "no such row" stands as an empty copy.
local id = ARGV[1]
local open = redis.call('HGET', KEYS[1], id)
local dirty = open or redis.call('HGET', KEYS[2], id)
if (dirty or copy_of(KEYS[3])) ~= ARGV[2] then return 0 end
if not dirty and ARGV[4] ~= '' then
  local used = 0
  for i = 4, #KEYS do
    -- A key of a wrong type costs its own partition, and no other.
    local size = redis.pcall('HLEN', KEYS[i])
    if type(size) == 'number' then used = used + size end
  end
  if used >= tonumber(ARGV[4]) then return -1 end
end
redis.call('HSET', KEYS[1], id, ARGV[3])
return open and 2 or 1
