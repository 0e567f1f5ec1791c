-- What is said about a layout that is to be left. KEYS: topology hash; hash of the entities that are being laid out anew; then open, log, meta of
-- some of its partitions in turn. ARGV: the entity, the topology that the layout has, and what is said: 'announce' (it is to be left: what has
-- nothing open is closed at once), 'cancel' (it is not), 'look' (what was closed without a fresh mark is opened again: the program that
-- left the mark is gone); the topology that it is to be left for, for how many ms this is so, 1 if the partitions have logs (else 0), 1 if these are
-- its last partitions (else 0).
-- Returns 1; 0, and nothing is done, when another topology is stored.
-- The mark is in `meta` of each partition, for its own scripts, and in the hash, by which it is seen that there is any.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
local verb, to, ttl, logs = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'
local last = ARGV[7] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A key of a wrong type fails the script here, before anything is changed.
if verb == 'announce' then
  for i = 5, #KEYS, 3 do redis.call('HLEN', KEYS[i]) end
end
for i = 3, #KEYS, 3 do
  local open, log, meta = KEYS[i], logs and KEYS[i + 1] or nil, KEYS[i + 2]
  if verb == 'announce' then
    -- A removal comes first: a full Redis refuses a script whose first write needs memory.
    redis.call('HDEL', meta, 'leaving')
    redis.call('HSET', meta, 'leaving', string.format('%.0f %.0f %s', now + ttl, ttl, to))
    seal(open)
    seal(log)
  elseif redis.call('TYPE', meta).ok ~= 'hash' then
    -- Without its `meta` a partition has no mark. One of a wrong type costs this partition its mark, and no other.
    unseal(open)
    unseal(log)
  else
    local another = left_for(meta, 'leaving', now)
    if not another or (verb == 'cancel' and another == to) then
      redis.call('HDEL', meta, 'leaving')
      unseal(open)
      unseal(log)
    end
  end
end
-- A mark that is over stays until the next look: by it, who was refused a moment ago is told why.
local OVER = '0 0 '
local another = left_for(KEYS[2], ARGV[1], now)
local mark = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if verb == 'announce' then
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f %.0f %s', now + ttl, ttl, to))
elseif verb == 'cancel' then
  if not another or another == to then redis.call('HSET', KEYS[2], ARGV[1], OVER .. to) end
elseif last and not another then
  -- Only now that all partitions were seen; and not when somebody has announced it again between two of these steps.
  if mark:sub(1, #OVER) == OVER then
    redis.call('HDEL', KEYS[2], ARGV[1])
  else
    redis.call('HSET', KEYS[2], ARGV[1], OVER .. (string.match(mark, '^%d+ %d+ (.*)$') or ''))
  end
end
return 1
