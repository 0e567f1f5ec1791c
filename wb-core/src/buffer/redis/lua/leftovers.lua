-- What is left in partitions, whatever their layout. KEYS: of each partition in turn open, flushing, log, closed log, dead.
-- Returns {records and entries that are not flushed, dead letters}. The string of a sealed layout, and any other value of a
-- foreign type, counts nothing here.
local dirty, letters = 0, 0
local function size(command, key)
  local found = redis.pcall(command, key)
  return type(found) == 'number' and found or 0
end
for i = 1, #KEYS, 5 do
  dirty = dirty + size('HLEN', KEYS[i]) + size('HLEN', KEYS[i + 1]) + size('LLEN', KEYS[i + 2]) + size('LLEN', KEYS[i + 3])
  letters = letters + size('HLEN', KEYS[i + 4])
end
return { dirty, letters }
