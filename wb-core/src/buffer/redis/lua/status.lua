-- Where a partition stands, at one instant. A script, because a full Redis refuses even a transaction that only reads.
-- KEYS: open, flushing, dead, meta. Returns the three sizes, the open epoch and the last flushed one.
return {
  redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[3]),
  tonumber(redis.call('HGET', KEYS[4], 'open') or '1'), tonumber(redis.call('HGET', KEYS[4], 'flushed') or '0'),
}
