-- Clean copies that have an end, as they stand; false where there is none. KEYS: copies.
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('PTTL', key) >= 0 and copy_of(key)
end
return found
