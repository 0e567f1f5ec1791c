-- Bytes of a record of a hash on average, by some of them. KEYS: hash.
local ids = redis.call('HRANDFIELD', KEYS[1], -32)
local bytes = 0
for _, id in ipairs(ids) do bytes = bytes + #id + redis.call('HSTRLEN', KEYS[1], id) end
return #ids > 0 and math.ceil(bytes / #ids) or 0
