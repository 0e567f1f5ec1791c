-- Writes of several callers, as far as the limit of dirty keys lets them in. KEYS: open of every partition, then
-- flushing of every partition. ARGV: limit, number of callers, of records, and of runs; for each run its partition (from
-- 1) and length; id and record of each, run by run, those of one id in the order of their callers; the caller (from 1)
-- of each record. The ids of one caller differ.
-- Returns how many keys are new in open, then for each caller 0 when its writes are stored, -1 when they would pass the
-- limit, or the code of the error that refused them. Nothing of a refused caller is stored.
--
-- What is dirty is counted anew in each call, because any client may write with a plain HSET. A key that is in open and
-- in flushing counts twice: the sum never says less than there is.
local limit, callers, records, runs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local partitions, fields = #KEYS / 2, 4 + 2 * runs
local used, broken = 0, nil
-- The code of an error: its first word.
local function code(reply) return string.match(reply.err, '^%-?(%S+)') end
for i = 1, #KEYS do
  -- A key of a wrong type fails those who write to its partition, and nobody else.
  local size = redis.pcall('HLEN', KEYS[i])
  if type(size) == 'table' then
    broken = broken or {}
    broken[(i - 1) % partitions + 1] = code(size)
  else
    used = used + size
  end
end
local replies = { 0 }

if not broken and used + records <= limit then
  -- All of them fit, whatever is new: whole runs at once.
  local verdict, at = 0, fields + 1
  for run = 5, fields, 2 do
    local open, stop = KEYS[tonumber(ARGV[run])], at + 2 * tonumber(ARGV[run + 1])
    while at < stop do
      -- Lua's stack takes some thousand values.
      local last = math.min(at + 999, stop - 1)
      local new = redis.pcall('HSET', open, unpack(ARGV, at, last))
      -- A server that refuses writes does so at the first one, before anything is stored.
      if type(new) == 'table' then verdict = code(new) else replies[1] = replies[1] + new end
      at = last + 1
    end
  end
  for caller = 1, callers do replies[caller + 1] = verdict end
  return replies
end

-- Near the limit each caller is looked at: its records, as places of their ids in ARGV.
local writes, keys, at = {}, {}, fields + 1
for caller = 1, callers do writes[caller] = {} end
for run = 5, fields, 2 do
  for _ = 1, tonumber(ARGV[run + 1]) do
    keys[at] = tonumber(ARGV[run])
    at = at + 2
  end
end
for record = 1, records do
  local mine = writes[tonumber(ARGV[fields + 2 * records + record])]
  mine[#mine + 1] = fields + 2 * record - 1
end

-- What refuses these writes; nil when nothing does. Keys that are dirty already pass.
local function refusal(mine)
  local new = 0
  for _, id in ipairs(mine) do
    local partition = keys[id]
    if broken and broken[partition] then return broken[partition] end
    if redis.call('HEXISTS', KEYS[partition], ARGV[id]) == 0
      and redis.call('HEXISTS', KEYS[partitions + partition], ARGV[id]) == 0 then
      new = new + 1
    end
  end
  if new > 0 and used + new > limit then return -1 end
  return nil
end

-- Stores these writes; 0, or the code of an error.
local function store(mine)
  for _, id in ipairs(mine) do
    local new = redis.pcall('HSET', KEYS[keys[id]], ARGV[id], ARGV[id + 1])
    if type(new) == 'table' then return code(new) end
    replies[1], used = replies[1] + new, used + new
  end
  return 0
end

for caller = 1, callers do replies[caller + 1] = refusal(writes[caller]) or store(writes[caller]) end
return replies
