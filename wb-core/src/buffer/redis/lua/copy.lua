-- The clean copy under a key. A value of a foreign type is as good as none: whoever sets the next one replaces it.
local function copy_of(key)
  local found = redis.pcall('GET', key)
  if type(found) == 'table' and found.err then
    if string.match(found.err, 'WRONGTYPE') then return false end
    error(found.err)
  end
  return found
end
