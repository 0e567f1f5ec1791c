-- Says that a worker is alive. KEYS: workers. ARGV: entity, TTL in ms, worker. Returns the workers of the entity that are.
-- Only this server's clock counts, and each worker is judged by its own TTL.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me = ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3]
-- A removal comes first, as in ack: a full Redis needs workers most.
redis.call('ZREM', KEYS[1], me)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), me)
local alive = { ARGV[3] }
local list = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #list, 2 do
  if list[i] ~= me then
    local entity, ttl, worker = string.match(list[i], '^([^:]*):(%d+):(.*)$')
    -- A heartbeat from the future was made before this clock went back; who is alive sends another one soon.
    if not entity or math.abs(now - tonumber(list[i + 1])) >= tonumber(ttl) then
      redis.call('ZREM', KEYS[1], list[i])
    elseif entity == ARGV[1] then
      alive[#alive + 1] = worker
    end
  end
end
return alive
