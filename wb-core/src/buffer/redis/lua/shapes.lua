-- Makes a shape known, where it is not, and returns all, each with the time at which it was first seen, oldest first.
-- KEYS: shapes. ARGV: the shape, when it was first seen in ms ('' for now), how many are remembered.
local since, known = tonumber(ARGV[2]), redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known or (since and since < tonumber(known)) then
  if not since then
    local time = redis.call('TIME')
    since = time[1] * 1000 + math.floor(time[2] / 1000)
    -- Later than all others, also when the clock went back.
    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
    if last[2] then since = math.max(since, tonumber(last[2]) + 1) end
  end
  redis.call('ZADD', KEYS[1], string.format('%.0f', since), ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
end
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
