-- Which partitions have anything to flush, and since when. KEYS: of each partition in turn open, flushing, meta, attempts, dead,
-- stale, groups, groups_flushing; of an append-only entity also log, closed log. ARGV: keys of one partition, 1 to look for broken
-- ones although nothing waits (else 0).
-- Returns two lists: of each partition that has its position from 0, records open, records being flushed, milliseconds since
-- the open epoch was opened, and since the one being flushed was (-1: not known), by the server's clock, so that all workers
-- agree; and of each that cannot be used its position, the number of a key of a wrong type from 0, the code of the error, and the type
-- of its value.
-- The idle case is the common one, and costs one command.
local stride, hashes = tonumber(ARGV[1]), 8
local places = {}
for i = 1, #KEYS, stride do
  for _, at in ipairs({ i, i + 1 }) do places[#places + 1] = KEYS[at] end
  for at = i + hashes, i + stride - 1 do places[#places + 1] = KEYS[at] end
end
if ARGV[2] ~= '1' and redis.call('EXISTS', unpack(places)) == 0 then return { {}, {} } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The type of a key's value; none when it may not be asked.
local function type_of(key)
  local found = redis.pcall('TYPE', key)
  return found.ok or 'none'
end

-- Sizes of the keys of a partition; nil when one is of a wrong type, and which one, and the code of the error. It costs its
-- own partition, and no other.
local function sizes(first)
  local found = {}
  for k = 0, stride - 1 do
    local key = KEYS[first + k]
    local size = redis.pcall(k < hashes and 'HLEN' or 'LLEN', key)
    if type(size) == 'table' and not leaving(key) then return nil, k, string.match(size.err, '^%-?(%S+)') end
    found[k] = type(size) == 'table' and 0 or size
  end
  return found
end

local found, broken = {}, {}
local function age(at) return at and math.max(0, now - (tonumber(at) or now)) or -1 end
for i = 1, #KEYS, stride do
  local position, size, key, code = (i - 1) / stride, sizes(i)
  if not size then
    broken[#broken + 1] = { position, key, code, type_of(KEYS[i + key]) }
  else
    local open, flushing = size[0] + (size[hashes] or 0), size[1] + (size[hashes + 1] or 0)
    if open + flushing > 0 then
      local since = redis.call('HMGET', KEYS[i + 2], 'opened_at', 'flushing_at')
      found[#found + 1] = { position, open, flushing, age(since[1]), age(since[2]) }
    end
  end
end
return { found, broken }
