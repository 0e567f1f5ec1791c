-- Fixes or changes the topology of entities: of all of them in one step, or of none. A layout that is left is sealed: its `open`
-- (and `log`) hold a string, so that whatever a program of that layout still sends (a plain HSET too) fails with WRONGTYPE. One that
-- was announced is closed by then (see seal.lua), which is made final here.
-- KEYS: topology hash, list of layouts, hash of the entities that are being laid out anew; then for each entity, of each partition of the layout that it leaves: open, flushing, log, closed log,
-- dead, meta, attempts, groups, groups_flushing, stale; of each partition of the layout that it is to have: open, flushing, log, closed
-- log, dead.
-- ARGV: 'switch', or 'look' to change nothing; then for each entity its name, the topology that it is to have, what the
-- caller found stored ('' for nothing), the number of partitions that it leaves and 1 if they have logs (else 0), the number of
-- those that it is to have.
-- Returns {1, 0, …} when all stand as asked (or could); {0, place of an entity from 0, …} when something else is stored than
-- the caller found; {2, place, dirty, letters, dirty in the new layout, letters there} when that entity must not change.
-- One server, one step. In a cluster the partitions would be sealed one by one, each only when it is empty, and the topology
-- changed when all are.
local SEAL = 'sealed'

-- Whether a key holds a seal: of a layout that is being left, or (`left`) that was left.
local function sealed(key, left)
  if redis.call('TYPE', key).ok ~= 'string' then return false end
  local value = redis.call('GET', key)
  return value == 'leaving' or (left and value == SEAL)
end

local entities, key = {}, 4
for at = 2, #ARGV, 6 do
  local entity = { name = ARGV[at], asked = ARGV[at + 1], seen = ARGV[at + 2], logs = ARGV[at + 4] == '1', old = {}, new = {} }
  for p = 1, tonumber(ARGV[at + 3]) do entity.old[p], key = key, key + 10 end
  for p = 1, tonumber(ARGV[at + 5]) do entity.new[p], key = key, key + 5 end
  entities[#entities + 1] = entity
end

-- What waits in a partition, and its dead letters. A key of a wrong type fails the script here, before anything is changed.
local function waiting(first, left)
  local dirty = 0
  for i = 0, 3 do
    local key = KEYS[first + i]
    if not (i % 2 == 0 and sealed(key, left)) then
      dirty = dirty + redis.call(i < 2 and 'HLEN' or 'LLEN', key)
    end
  end
  return dirty, redis.call('HLEN', KEYS[first + 4])
end

local function sum(places, left)
  local dirty, letters = 0, 0
  for _, first in ipairs(places) do
    local d, l = waiting(first, left)
    dirty, letters = dirty + d, letters + l
  end
  return dirty, letters
end

for i, entity in ipairs(entities) do
  if (redis.call('HGET', KEYS[1], entity.name) or '') ~= entity.seen then return { 0, i - 1, 0, 0, 0, 0 } end
  -- Of an entity that is new here, what waits was written by programs that came first, and nothing stands against it.
  if entity.seen ~= '' and entity.seen ~= entity.asked then
    local dirty, letters = sum(entity.old, false)
    local dirty_there, letters_there = sum(entity.new, true)
    if dirty + letters + dirty_there + letters_there > 0 then
      return { 2, i - 1, dirty, letters, dirty_there, letters_there }
    end
  end
end
if ARGV[1] ~= 'switch' then return { 1, 0, 0, 0, 0, 0 } end

-- Removals come first: a full Redis refuses a script whose first write needs memory.
for _, entity in ipairs(entities) do
  for _, first in ipairs(entity.old) do
    redis.call('HDEL', KEYS[first + 5], 'owner', 'until_ms', 'leaving')
    redis.call('DEL', KEYS[first + 6], KEYS[first + 7], KEYS[first + 8], KEYS[first + 9])
  end
  for _, first in ipairs(entity.new) do
    for i = 0, 2, 2 do
      if sealed(KEYS[first + i], true) then redis.call('DEL', KEYS[first + i]) end
    end
  end
end
for _, entity in ipairs(entities) do
  for _, first in ipairs(entity.old) do
    redis.call('SET', KEYS[first], SEAL)
    if entity.logs then redis.call('SET', KEYS[first + 2], SEAL) end
  end
  if entity.seen ~= entity.asked then
    redis.call('HDEL', KEYS[3], entity.name)
    redis.call('HSET', KEYS[1], entity.name, entity.asked)
  end
end
-- By the list what is left of a layout is found later. A full Redis takes nothing more, and that is no reason not to go on.
for _, entity in ipairs(entities) do
  for _, topology in ipairs({ entity.asked, entity.seen }) do
    if topology ~= '' then redis.pcall('HSETNX', KEYS[2], entity.name .. ' ' .. topology, 1) end
  end
end
return { 1, 0, 0, 0, 0, 0 }
