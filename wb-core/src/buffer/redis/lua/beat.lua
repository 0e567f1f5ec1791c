-- Looks whether this is still the server and the data that the caller knows, and if so raises the beat. KEYS: lineage.
-- ARGV: the lineage, the run and the beat that the caller saw last.
-- Returns 1 when it raised the beat; the run of the server, its run id, both replication ids, and whether it has an append-only file;
-- then what is stored: lineage, run, replication id, the beat at which this run began, the beat, its time in ms, the run
-- before this one, 1 when this one took over all that it had, and 1 when it has each write on disk before its answer.
-- A value of a foreign type stands for nothing: what was known is lost.
local function stored()
  local names = { 'lineage', 'run', 'replid', 'base', 'beat', 'beat_ms', 'run_before', 'whole', 'synced' }
  local found = redis.pcall('HMGET', KEYS[1], unpack(names))
  if found.err and string.match(found.err, 'WRONGTYPE') then
    return { false, false, false, false, false, false, false, false, false }
  end
  return found
end
local before, raised = stored(), 0
local server = run_of(before[2], before[3])
server[5] = fact(info('persistence'), 'aof_enabled')
if before[1] == ARGV[1] and before[2] == ARGV[2] and before[2] == server[1] and tonumber(before[5]) >= tonumber(ARGV[3]) then
  -- A removal comes first, as in ack: a full Redis refuses a script whose first write needs memory.
  redis.call('HDEL', KEYS[1], 'beat')
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'beat', before[5] + 1, 'beat_ms', time[1] * 1000 + math.floor(time[2] / 1000), 'replid', server[3])
  before, raised = stored(), 1
end
return { raised, server, before }
