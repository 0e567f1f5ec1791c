-- Where ids of a partition stand, at one instant. KEYS: open, flushing, attempts, dead, stale, meta; of an append-only entity also
-- log, closed log. ARGV: the ids. Returns the open epoch, the last flushed one, the last one that is known to have lost records, how
-- many entries the two logs have, and for each id a sum: 1 in open, 2 in flushing, 4 refused when it was settled last,
-- 8 dead, 16 left out when it was settled last, because the sink had a newer version, 32 discarded as a dead letter. Before the sums
-- comes the last epoch of which some of these marks are gone.
local function entries(key) return key and size('LLEN', key) or 0 end
local closed = entries(KEYS[8])
local epoch = vanished(KEYS[6], KEYS[2], KEYS[8] and closed)
local first = leaving(KEYS[1]) and 2 or 1
local replies = {
  tonumber(redis.call('HGET', KEYS[6], 'open') or '1'), tonumber(redis.call('HGET', KEYS[6], 'flushed') or '0'), epoch,
  entries(KEYS[7]), closed, tonumber(redis.call('HGET', KEYS[6], 'unmarked') or '0'),
}
for i, id in ipairs(ARGV) do
  local sum, bit = 0, first
  for k = first, 4 do
    sum = sum + bit * redis.call('HEXISTS', KEYS[k], id)
    bit = bit * 2
  end
  local mark = redis.call('HGET', KEYS[5], id)
  if mark then sum = sum + (string.sub(mark, 1, 9) == 'discarded' and 32 or 16) end
  replies[i + 6] = sum
end
return replies
