-- Fixes or changes the topology of entities: of all of them in one step, or of none. A layout that is left is sealed: its `open`
-- (and `log`) hold a string, so that whatever a program of that layout still sends (a plain HSET too) fails with WRONGTYPE.
-- KEYS: topology hash, list of layouts; then for each entity, of each partition of the layout that it leaves: open, flushing, log, closed log,
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

local function type_of(key) return redis.call('TYPE', key).ok end

local entities, key = {}, 3
for at = 2, #ARGV, 6 do
  local entity = { name = ARGV[at], asked = ARGV[at + 1], seen = ARGV[at + 2], logs = ARGV[at + 4] == '1', old = {}, new = {} }
  for p = 1, tonumber(ARGV[at + 3]) do entity.old[p], key = key, key + 10 end
  for p = 1, tonumber(ARGV[at + 5]) do entity.new[p], key = key, key + 5 end
  entities[#entities + 1] = entity
end

-- What waits in a partition, and its dead letters. A key of a wrong type fails the script here, before anything is changed.
local function waiting(first, may_be_sealed)
  local dirty = 0
  for i = 0, 3 do
    local key = KEYS[first + i]
    if not (may_be_sealed and type_of(key) == 'string' and redis.call('GET', key) == SEAL) then
      dirty = dirty + redis.call(i < 2 and 'HLEN' or 'LLEN', key)
    end
  end
  return dirty, redis.call('HLEN', KEYS[first + 4])
end

local function sum(places, may_be_sealed)
  local dirty, letters = 0, 0
  for _, first in ipairs(places) do
    local d, l = waiting(first, may_be_sealed)
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
    redis.call('HDEL', KEYS[first + 5], 'owner', 'until_ms')
    redis.call('DEL', KEYS[first + 6], KEYS[first + 7], KEYS[first + 8], KEYS[first + 9])
  end
  for _, first in ipairs(entity.new) do
    for i = 0, 2, 2 do
      if type_of(KEYS[first + i]) == 'string' and redis.call('GET', KEYS[first + i]) == SEAL then
        redis.call('DEL', KEYS[first + i])
      end
    end
  end
end
for _, entity in ipairs(entities) do
  for _, first in ipairs(entity.old) do
    redis.call('SET', KEYS[first], SEAL)
    if entity.logs then redis.call('SET', KEYS[first + 2], SEAL) end
  end
  if entity.seen ~= entity.asked then redis.call('HSET', KEYS[1], entity.name, entity.asked) end
end
-- By the list what is left of a layout is found later. A full Redis takes nothing more, and that is no reason not to go on.
for _, entity in ipairs(entities) do
  for _, topology in ipairs({ entity.asked, entity.seen }) do
    if topology ~= '' then redis.pcall('HSETNX', KEYS[2], entity.name .. ' ' .. topology, 1) end
  end
end
return { 1, 0, 0, 0, 0, 0 }
