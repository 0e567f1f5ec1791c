-- Dead letters become dirty again. KEYS: dead, attempts, open, flushing. ARGV: id, letter as it was read, and its payload in
-- turn. Returns for each id 1 (dirty again), 0 (a newer state is dirty and decides), -1 (no such letter), -2 (another letter).
-- A key of a wrong type fails the script here, before anything is taken out.
for _, key in ipairs(KEYS) do redis.call('HLEN', key) end
local replies = {}
for i = 1, #ARGV, 3 do
  local id = ARGV[i]
  local letter = redis.call('HGET', KEYS[1], id)
  local reply = 1
  if not letter then
    reply = -1
  elseif redis.call('HEXISTS', KEYS[3], id) == 1 or redis.call('HEXISTS', KEYS[4], id) == 1 then
    reply = 0
  elseif letter ~= ARGV[i + 1] then
    reply = -2
  else
    -- Removed first: see take in step.lua. The clean copy stays, as after a step back.
    redis.call('HDEL', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
    redis.call('HSET', KEYS[3], id, ARGV[i + 2])
  end
  replies[#replies + 1] = reply
end
return replies
