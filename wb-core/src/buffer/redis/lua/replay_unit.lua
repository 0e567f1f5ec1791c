-- Dead letters of one unit become dirty again, all at one instant, and are tied again. KEYS: dead, attempts, open, flushing, groups
-- of each of their partitions in turn. ARGV: mark; then for each letter its partition (from 1), id, the letter as it was read,
-- and its payload. Returns for each what replay.lua returns; nothing, and does nothing, when one is another letter now.
for _, key in ipairs(KEYS) do redis.call('HLEN', key) end
local replies, back = {}, {}
for i = 2, #ARGV, 4 do
  local key, id = 5 * tonumber(ARGV[i]) - 4, ARGV[i + 1]
  local letter = redis.call('HGET', KEYS[key], id)
  local reply = 1
  if not letter then
    reply = -1
  elseif redis.call('HEXISTS', KEYS[key + 2], id) == 1 or redis.call('HEXISTS', KEYS[key + 3], id) == 1 then
    reply = 0
  elseif letter ~= ARGV[i + 2] then
    return {}
  else
    back[#back + 1] = {
      dead = KEYS[key], attempts = KEYS[key + 1], open = KEYS[key + 2], groups = KEYS[key + 4], id = id, payload = ARGV[i + 3],
    }
  end
  replies[#replies + 1] = reply
end
-- Removals are the first writes: see take in step.lua. The clean copies stay.
for _, record in ipairs(back) do
  redis.call('HDEL', record.dead, record.id)
  redis.call('HDEL', record.attempts, record.id)
end
for _, record in ipairs(back) do redis.call('HSET', record.open, record.id, record.payload) end
if #back > 1 then tie(back, ARGV[1]) end
return replies
