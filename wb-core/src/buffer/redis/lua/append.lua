-- Entries of several callers, as far as the limit lets them in. KEYS: open of every partition, then flushing, log and
-- closed log of every partition. ARGV: limit, number of callers; for each caller how many entries; then partition
-- (from 1) and payload of each, caller by caller, in their order.
-- Returns how many entries were added, then for each caller what limit.lua says of it.
local limit, callers = tonumber(ARGV[1]), tonumber(ARGV[2])
local partitions, used, broken = #KEYS / 4, 0, {}
-- The code of an error: its first word.
local function code(reply) return string.match(reply.err, '^%-?(%S+)') end
for i = 1, #KEYS do
  local size = redis.pcall(i <= 2 * partitions and 'HLEN' or 'LLEN', KEYS[i])
  if type(size) == 'table' then
    broken[(i - 1) % partitions + 1] = code(size)
  else
    used = used + size
  end
end

-- What refuses these entries; nil when nothing does.
local function refusal(first, count)
  for at = first, first + 2 * count - 2, 2 do
    local wrong = broken[tonumber(ARGV[at])]
    if wrong then return wrong end
  end
  if used + count > limit then return -1 end
  return nil
end

local replies, at = { 0 }, 3 + callers
for caller = 1, callers do
  local count = tonumber(ARGV[2 + caller])
  local reply = refusal(at, count)
  if not reply then
    reply = 0
    for entry = at, at + 2 * count - 2, 2 do
      local added = redis.pcall('RPUSH', KEYS[2 * partitions + tonumber(ARGV[entry])], ARGV[entry + 1])
      if type(added) == 'table' then
        -- A server that refuses writes does so at the first one, before anything is stored.
        reply = code(added)
        break
      end
      replies[1], used = replies[1] + 1, used + 1
    end
  end
  replies[caller + 1] = reply
  at = at + 2 * count
end
return replies
