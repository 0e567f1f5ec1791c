-- Writes down whose data this is from now on, unless somebody else has done so since the caller looked. KEYS: meta.
-- ARGV: the lineage and the run id that the caller found ('' for none), then lineage, run id, replication id and beat
-- that are to stand. Returns 1 when they do.
local found = redis.call('HMGET', KEYS[1], 'lineage', 'run')
if (found[1] or '') ~= ARGV[1] or (found[2] or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'beat')
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lineage', ARGV[3], 'run', ARGV[4], 'replid', ARGV[5], 'base', ARGV[6], 'beat', ARGV[6],
  'beat_ms', time[1] * 1000 + math.floor(time[2] / 1000))
return 1
