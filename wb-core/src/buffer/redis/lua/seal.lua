-- What scripts share that meet the seal of a layout that is being left; it stands before each of them. Its program has left a mark in
-- `meta` of every partition, and while that is fresh each partition is closed for writes in the step that closes its epoch: `open`
-- (and `log`) are the string `leaving`. Such a partition has nothing open, and is flushed as ever. One of a layout that was left holds another
-- string, and fails whatever looks for a hash there.
local LEAVING = 'leaving'

local function leaving(key) return redis.call('TYPE', key).ok == 'string' and redis.call('GET', key) == LEAVING end

-- How many a hash or a list has. A key of a wrong type fails the script.
local function size(command, key)
  local found = redis.pcall(command, key)
  if type(found) ~= 'table' then return found end
  if leaving(key) then return 0 end
  return redis.call(command, key)
end

-- The topology that the layout is being left for; nil when there is no mark, or none that is fresh. One that ends later than marks do was
-- left before this server's clock went back.
local function left_for(hash, field, now)
  local ends, ttl, to = string.match(redis.call('HGET', hash, field) or '', '^(%d+) (%d+) (.*)$')
  if not ends then return nil end
  local left = tonumber(ends) - now
  return left > 0 and left <= tonumber(ttl) and to or nil
end

-- Closes what has nothing open. Where a full Redis refuses it, the next step does it.
local function seal(key)
  if key and redis.call('EXISTS', key) == 0 then redis.pcall('SET', key, LEAVING) end
end

-- A record goes back to where it can be written over: the next rotation closes the partition again.
local function unseal(key)
  if key and leaving(key) then redis.call('DEL', key) end
end

