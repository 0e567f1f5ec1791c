-- Writes down whose data this is from now on, unless somebody else has done so since the caller looked. KEYS: lineage.
-- ARGV: the lineage and the run id that the caller found ('' for none), then lineage, run id, replication id and beat
-- that are to stand, the run that had the data before, 1 when nothing was lost between the two, and 1 when this run has each
-- write on disk before its answer. Returns what stands now,
-- as beat.lua does.
-- A value of a foreign type gives way: nobody can use it, and everybody needs what belongs there.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local found = redis.call('HMGET', KEYS[1], 'lineage', 'run')
if (found[1] or '') == ARGV[1] and (found[2] or '') == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'beat')
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'lineage', ARGV[3], 'run', ARGV[4], 'replid', ARGV[5], 'base', ARGV[6], 'beat', ARGV[6],
    'beat_ms', time[1] * 1000 + math.floor(time[2] / 1000), 'run_before', ARGV[7], 'whole', ARGV[8], 'synced', ARGV[9])
end
return redis.call('HMGET', KEYS[1], 'lineage', 'run', 'replid', 'base', 'beat', 'beat_ms', 'run_before', 'whole', 'synced')
