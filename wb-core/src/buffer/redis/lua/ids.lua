-- Reserves ids. KEYS: counter, notes, lineage. ARGV: how many, floor ('' for none), 1 when blocks may have been given out that the
-- counter has forgotten, and how many blocks are left out then. Returns the last one as text; nothing, and nothing is done,
-- without a floor when there is no counter, or when it is the one that another run of the server has left: that one may have
-- lost what was reserved last. Numbers stay text, because Lua's are exact to 2^53 only.
local run = noted_run(KEYS[3])[1]
local counter, floor = redis.call('GET', KEYS[1]), ARGV[2]
local notes = redis.call('HMGET', KEYS[2], 'run', 'largest')
local known = counter and notes[1] == run
local largest = tonumber(notes[2] or '0')
if floor == '' then
  if not known then return false end
  largest = math.max(largest, tonumber(ARGV[1]))
  if not notes[2] or largest > tonumber(notes[2]) then redis.call('HSET', KEYS[2], 'largest', string.format('%.0f', largest)) end
else
  local function below(a, b)
    if a:sub(1, 1) == '-' then return true end
    if #a ~= #b then return #a < #b end
    return a < b
  end
  if not counter or below(counter, floor) then redis.call('SET', KEYS[1], floor) end
  largest = math.max(largest, tonumber(ARGV[1]))
  -- Others may hold blocks, as large as any that was ever asked for.
  if ARGV[3] == '1' or counter and not known then
    redis.call('INCRBY', KEYS[1], string.format('%.0f', largest * tonumber(ARGV[4])))
  end
  redis.call('HSET', KEYS[2], 'run', run, 'largest', string.format('%.0f', largest))
end
redis.call('INCRBY', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
