-- Makes shapes known, where they are not, and returns all, each with the time at which it was first seen, oldest first.
-- KEYS: shapes, lineage. ARGV: how many are remembered, the caller's shape, then what the caller has seen of the list: shape and time in
-- ms in turn. A caller without a shape ('') only looks. Returns the age of the list in ms, and the list.
-- The first member says since when this run of the server has the list, by a score below zero. One that was emptied, or came
-- back as it was some time ago, may lack shapes that were known: its list is young again.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = '=' .. noted_run(KEYS[2])[1]
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local begun = first[1] == life and -tonumber(first[2])
if not begun or begun > now then
  if ARGV[2] ~= '' then
    -- Removals come first, as in ack: a full Redis needs workers most, and a new program's worker has to be known before it begins.
    redis.call('ZREM', KEYS[1], life)
    if first[1] and tonumber(first[2]) < 0 then redis.call('ZREM', KEYS[1], first[1]) end
    redis.call('ZADD', KEYS[1], string.format('%.0f', -now), life)
  end
  begun = now
end
local function tell(shape, since)
  local known = redis.call('ZSCORE', KEYS[1], shape)
  if known and not (since and since < tonumber(known)) then return end
  if not since then
    -- Later than all others, also when the clock went back.
    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
    since = math.max(now, tonumber(last[2]) + 1)
  end
  redis.call('ZREM', KEYS[1], shape)
  redis.call('ZADD', KEYS[1], string.format('%.0f', since), shape)
end
for i = 3, #ARGV, 2 do tell(ARGV[i], tonumber(ARGV[i + 1])) end
if ARGV[2] == '' then return { now - begun, redis.call('ZRANGEBYSCORE', KEYS[1], 0, '+inf', 'WITHSCORES') } end
tell(ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 1, -1 - tonumber(ARGV[1]))
return { now - begun, redis.call('ZRANGE', KEYS[1], 1, -1, 'WITHSCORES') }
