-- Writes of one transaction, all or nothing. KEYS: open, flushing, groups of each partition that it writes to, in turn; the
-- clean copy of each record; with a limit, open and flushing of all other partitions. ARGV: limit (0: none), number of
-- partitions written to, of records, mark; then for each record its partition (from 1), id, state, 1 if it expects a
-- state (else 0), and that state.
-- Returns {0, keys that are new in open}, {1, record} (from 0) that met another state, or {2, 0}: no room. Repeating is safe.
local limit, partitions, records = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local copies, used = 3 * partitions, 0
-- A key of a wrong type fails the script here, before anything is stored.
for i = 1, copies, 3 do
  used = used + redis.call('HLEN', KEYS[i]) + redis.call('HLEN', KEYS[i + 1])
  redis.call('HLEN', KEYS[i + 2])
end
local writes, fresh = {}, 0
for n = 1, records do
  local at = 5 * n
  local key = 3 * tonumber(ARGV[at]) - 2
  local write = { open = KEYS[key], groups = KEYS[key + 2], id = ARGV[at + 1], state = ARGV[at + 2] }
  local dirty = redis.call('HGET', write.open, write.id) or redis.call('HGET', KEYS[key + 1], write.id)
  if ARGV[at + 3] == '1' and (dirty or copy_of(KEYS[copies + n])) ~= ARGV[at + 4] then return { 1, n - 1 } end
  if not dirty then fresh = fresh + 1 end
  writes[n] = write
end
if limit > 0 and fresh > 0 then
  for i = copies + records + 1, #KEYS do
    -- A key of a wrong type in a partition that is not written to is none of this transaction's.
    local size = redis.pcall('HLEN', KEYS[i])
    if type(size) == 'number' then used = used + size end
  end
  if used + fresh > limit then return { 2, 0 } end
end
fresh = 0
for _, write in ipairs(writes) do fresh = fresh + redis.call('HSET', write.open, write.id, write.state) end
if records > 1 then tie(writes, ARGV[4]) end
return { 0, fresh }
