-- Looks records of several partitions up at one instant, in the order in which records move. A script, because a full Redis
-- refuses even a transaction that only reads. KEYS: open, flushing and clean copy of each record in turn. ARGV: the ids.
-- Returns for each {1, state} when it is dirty, else {0, clean copy or nothing}.
local found = {}
for i, id in ipairs(ARGV) do
  local key = 3 * i - 2
  local open = redis.pcall('HGET', KEYS[key], id)
  if type(open) == 'table' then open = not leaving(KEYS[key]) and redis.call('HGET', KEYS[key], id) end
  local dirty = open or redis.call('HGET', KEYS[key + 1], id)
  if dirty then found[i] = { 1, dirty } else found[i] = { 0, copy_of(KEYS[key + 2]) } end
end
return found
