-- Marks of writes that are in no sink although nothing waits: those that were left out, and those whose dead letters were discarded. It stands
-- before each script that leaves some. A mark says what it is, and the epoch that was closed last when it was left.

-- Beyond `most` marks the older half goes, but none of this epoch: who waits for a write asks soon after its epoch. `meta` says up to
-- which epoch some are gone (`unmarked`), and from how many on it is worth to look again (`marks`).
local function bound_marks(marks, meta, epoch, most)
  local count = redis.call('HLEN', marks)
  if count <= math.max(most, tonumber(redis.call('HGET', meta, 'marks') or '0')) then return end
  local all, old = redis.call('HGETALL', marks), {}
  for i = 1, #all, 2 do
    local of = tonumber(string.match(all[i + 1], ' (%d+)$') or '0')
    if of < epoch then old[#old + 1] = { all[i], of } end
  end
  table.sort(old, function(one, other) return one[2] < other[2] end)
  local unmarked = tonumber(redis.call('HGET', meta, 'unmarked') or '0')
  for i = 1, math.min(#old, math.floor(count / 2)) do
    redis.call('HDEL', marks, old[i][1])
    unmarked = math.max(unmarked, old[i][2])
    count = count - 1
  end
  redis.call('HSET', meta, 'unmarked', unmarked, 'marks', 2 * count)
end

