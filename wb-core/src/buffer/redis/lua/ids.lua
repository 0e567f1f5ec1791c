-- Reserves ids. KEYS: counter. ARGV: how many, floor ('' for none). Returns the last one as text; nothing when there is no
-- counter and no floor. Numbers stay text, because Lua's are exact to 2^53 only.
local counter, floor = redis.call('GET', KEYS[1]), ARGV[2]
if not counter and floor == '' then return false end
local function below(a, b)
  if a:sub(1, 1) == '-' then return true end
  if #a ~= #b then return #a < #b end
  return a < b
end
if floor ~= '' and (not counter or below(counter, floor)) then redis.call('SET', KEYS[1], floor) end
redis.call('INCRBY', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
