-- What ack, back and bury share; it stands before each of them, after lease.lua and closed.lua. KEYS: flushing, meta, and two more hashes, then a
-- clean-copy key per id. ARGV: owner, epoch, stamp, then what the step wants.
-- A step returns {what became of the epoch, records it took out, records that are found missing}: 1 when the epoch is flushed
-- now, 0 when records are left, 2 when none is left although some never reached a step, -1 when lease or epoch is not the caller's.

-- Whether the epoch is the caller's to finish.
local function holds()
  if holder(KEYS[2], clock()) ~= ARGV[1] then return false end
  if tonumber(redis.call('HGET', KEYS[2], 'open') or '1') - 1 ~= tonumber(ARGV[2]) then return false end
  -- The number may be another epoch's, in a Redis that lost its data and counts anew.
  if redis.call('HGET', KEYS[2], 'stamp') ~= ARGV[3] then return false end
  -- A key of a wrong type fails the script here, before a record is taken out that could not be put where it goes:
  -- what a script has done before an error stays done.
  redis.call('HLEN', KEYS[3])
  size('HLEN', KEYS[4])
  return true
end

-- The record of an id, taken out of the epoch; false when it is not there any more. The removal is the first write of a
-- step: a full Redis refuses a script whose first write needs memory, and could never be emptied.
local taken = 0
local function take(id)
  local value = redis.call('HGET', KEYS[1], id)
  if value then
    redis.call('HDEL', KEYS[1], id)
    taken = taken + 1
  end
  return value
end

-- What this step has come to. `entries`: of a step on the log, what is left of it.
local function finish(asked, entries)
  return ended(KEYS[1], KEYS[2], ARGV[2], asked, taken, not entries, entries)
end

