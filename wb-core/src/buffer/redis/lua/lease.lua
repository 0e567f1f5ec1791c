-- What scripts that look at leases share; it stands before each of them. A lease is two fields of `meta`: `owner`, and
-- `until_ms` by this server's clock. It has no TTL: a full Redis under `volatile-*` evicts what has one, and leases would be
-- all that is left to evict once everything else is dirty.

-- This server's time in ms.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The worker that holds the lease, and when that ends; nil when nobody does. One that has ended, or has no end, is nobody's.
local function holder(meta, now)
  local lease = redis.call('HMGET', meta, 'owner', 'until_ms')
  local ends = tonumber(lease[2])
  if lease[1] and ends and ends > now then return lease[1], ends end
  return nil
end

-- Writes a lease down. A removal comes first: a full Redis refuses a script whose first write needs memory, and needs
-- workers most.
local function hold(meta, owner, ends)
  redis.call('HDEL', meta, 'owner', 'until_ms')
  redis.call('HSET', meta, 'owner', owner, 'until_ms', string.format('%.0f', ends))
end

