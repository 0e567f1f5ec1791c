-- Where a partition stands, at one instant. A script, because a full Redis refuses even a transaction that only reads.
-- KEYS: open, flushing, dead, meta; of an append-only entity also log, closed log. Returns the three sizes, the open epoch
-- and the last flushed one.
local function entries(key) return key and redis.call('LLEN', key) or 0 end
return {
  redis.call('HLEN', KEYS[1]) + entries(KEYS[5]), redis.call('HLEN', KEYS[2]) + entries(KEYS[6]), redis.call('HLEN', KEYS[3]),
  tonumber(redis.call('HGET', KEYS[4], 'open') or '1'), tonumber(redis.call('HGET', KEYS[4], 'flushed') or '0'),
}
