-- Which partitions have anything to flush, and since when. KEYS: of each partition in turn open, flushing, meta; of an
-- append-only entity also log, closed log. ARGV: keys of one partition.
-- Returns for each that has: its position from 0, records open, records being flushed, milliseconds since the open epoch
-- was opened, and since the one being flushed was (-1: not known). The server's clock, so that all workers agree.
-- The idle case is the common one, and costs one command.
local stride = tonumber(ARGV[1])
local places = {}
for i = 1, #KEYS do
  if (i - 1) % stride ~= 2 then places[#places + 1] = KEYS[i] end
end
if redis.call('EXISTS', unpack(places)) == 0 then return {} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for i = 1, #KEYS, stride do
  local open, flushing = redis.call('HLEN', KEYS[i]), redis.call('HLEN', KEYS[i + 1])
  if stride == 5 then
    open, flushing = open + redis.call('LLEN', KEYS[i + 3]), flushing + redis.call('LLEN', KEYS[i + 4])
  end
  if open + flushing > 0 then
    local since = redis.call('HMGET', KEYS[i + 2], 'opened_at', 'flushing_at')
    local age = function(at) return at and math.max(0, now - tonumber(at)) or -1 end
    for _, value in ipairs({ (i - 1) / stride, open, flushing, age(since[1]), age(since[2]) }) do
      found[#found + 1] = value
    end
  end
end
return found
