-- Writes of several callers, as far as the limit of dirty keys lets them in. KEYS: open of every partition, then
-- flushing of every partition. ARGV: limit, number of writes, then for each caller the number of its writes and as many
-- of: partition (from 1), id, record. The ids of one caller differ.
-- Returns how many keys are new in open, then for each caller 0 when its writes are stored, -1 when they would pass the
-- limit, or the code of the error that refused them. Nothing of a refused caller is stored.
--
-- What is dirty is counted anew in each call, because any client may write with a plain HSET. A key that is in open and
-- in flushing counts twice: the sum never says less than there is.
local limit, partitions = tonumber(ARGV[1]), #KEYS / 2
local used, broken = 0, {}
-- The code of an error: its first word.
local function code(reply) return string.match(reply.err, '^%-?(%S+)') end
for i = 1, #KEYS do
  -- A key of a wrong type fails those who write to its partition, and nobody else.
  local size = redis.pcall('HLEN', KEYS[i])
  if type(size) == 'table' then broken[(i - 1) % partitions + 1] = code(size) else used = used + size end
end
local replies, roomy = { 0 }, used + tonumber(ARGV[2]) <= limit
-- Records by partition, stored together at the end when all of them fit whatever is new.
local together = {}

-- How many of these writes make a key dirty.
local function fresh(first, last)
  local count = 0
  for i = first, last, 3 do
    local partition, id = tonumber(ARGV[i]), ARGV[i + 1]
    if redis.call('HEXISTS', KEYS[partition], id) == 0 and redis.call('HEXISTS', KEYS[partitions + partition], id) == 0 then
      count = count + 1
    end
  end
  return count
end

-- What refuses these writes; nil when nothing does. Keys that are dirty already pass.
local function refusal(first, last)
  for i = first, last, 3 do
    local bad = broken[tonumber(ARGV[i])]
    if bad then return bad end
  end
  if roomy then return nil end
  local new = fresh(first, last)
  if new > 0 and used + new > limit then return -1 end
  return nil
end

-- Stores these writes at once; 0, or the code of an error.
local function store(first, last)
  for i = first, last, 3 do
    local new = redis.pcall('HSET', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
    if type(new) == 'table' then return code(new) end
    replies[1], used = replies[1] + new, used + new
  end
  return 0
end

local function gather(first, last)
  for i = first, last, 3 do
    local partition = tonumber(ARGV[i])
    local fields = together[partition]
    if not fields then
      fields = {}
      together[partition] = fields
    end
    fields[#fields + 1] = ARGV[i + 1]
    fields[#fields + 1] = ARGV[i + 2]
  end
  return 0
end

local at = 3
while at <= #ARGV do
  local first = at + 1
  local last = at + 3 * tonumber(ARGV[at])
  at = last + 1
  replies[#replies + 1] = refusal(first, last) or (roomy and gather or store)(first, last)
end

for partition, fields in pairs(together) do
  -- Lua's stack takes some thousand values.
  for i = 1, #fields, 1000 do
    local new = redis.pcall('HSET', KEYS[partition], unpack(fields, i, math.min(i + 999, #fields)))
    if type(new) == 'table' then
      -- The server refuses writes; it does so at the first one, before anything is stored.
      for caller = 2, #replies do
        if replies[caller] == 0 then replies[caller] = code(new) end
      end
      return replies
    end
    replies[1] = replies[1] + new
  end
end
return replies
