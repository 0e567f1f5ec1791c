-- Where a partition stands, at one instant. A script, because a full Redis refuses even a transaction that only reads.
-- KEYS: open, flushing, meta, attempts, dead, stale, groups, groups_flushing; of an append-only entity also log, closed log.
-- Returns records open, records being flushed, letters, the open epoch, the last flushed one, the last one that is known to have
-- lost records, and how many of them nobody was told of yet.
local sizes = {}
-- Also those that are not told: with a key of a wrong type the partition cannot be flushed, and the script fails.
for i = 1, #KEYS do sizes[i] = size(i <= 8 and 'HLEN' or 'LLEN', KEYS[i]) end
local epoch, missing = vanished(KEYS[3], KEYS[2], sizes[10])
return {
  sizes[1] + (sizes[9] or 0), sizes[2] + (sizes[10] or 0), sizes[5],
  tonumber(redis.call('HGET', KEYS[3], 'open') or '1'), tonumber(redis.call('HGET', KEYS[3], 'flushed') or '0'),
  epoch, missing,
}
