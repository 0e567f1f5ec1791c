-- Some entries of a closed log, one at least. KEYS: meta, the closed log. ARGV: how many to skip, how many at most, of how many
-- bytes at most. Returns how many were ever trimmed, the entries, how many the log has.
local from, most, budget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found, bytes, count, full = {}, 0, 1, false
repeat
  -- Each page as large as what was seen so far lets expect: little is read that does not fit.
  local page = redis.call('LRANGE', KEYS[2], from + #found, from + #found + count - 1)
  local wanted = count
  for _, entry in ipairs(page) do
    full = full or (#found > 0 and bytes + #entry > budget)
    if not full then
      found[#found + 1] = entry
      bytes = bytes + #entry
    end
  end
  local fits = math.floor((budget - bytes) * #found / math.max(bytes, 1))
  count = math.min(most - #found, 4 * #found, fits)
until full or #page < wanted or count < 1
return {redis.call('HGET', KEYS[1], 'trimmed'), found, redis.call('LLEN', KEYS[2])}
