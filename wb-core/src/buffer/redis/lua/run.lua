-- Which run of the server has the data. Its run id alone does not say it: a server that was a replica for a while, and is a
-- primary again, has the data of that other server, and the same run id. So a run is named by its run id and by the replication id
-- that it had when somebody looked first. It goes on while the run id is the same and the data were not replaced: the replication id is the
-- known one, or follows from it (the second one: promoted without having been in step with another), or is new without a second
-- one (the first replica came, or the backlog was freed; what is copied from another server has that one's id as the second).
-- INFO may be forbidden: then a run has no name, and only beats tell.
local function info(section)
  local reply = redis.pcall('INFO', section)
  if type(reply) == 'table' then return '' end
  return reply
end
local function fact(text, name) return string.match(text, name .. ':(%w*)') or '' end
-- The name of the run, given the one that is written down and the replication id that it had; the run id, and both replication ids.
local function run_of(known, replid)
  local text = info('replication')
  local id, first, second = fact(info('server'), 'run_id'), fact(text, 'master_replid'), fact(text, 'master_replid2')
  local name = id
  if id ~= '' and first ~= '' then name = id .. '-' .. first end
  if known and string.match(known, '^(%w*)') == id then
    local unnamed = first == '' or not replid or replid == ''
    if unnamed or first == replid or second == replid or string.match(second, '^0*$') then name = known end
  end
  return { name, id, first, second }
end
-- The same by what the lineage says. A value of a foreign type stands for nothing.
local function noted_run(key)
  local noted = redis.pcall('HMGET', key, 'run', 'replid')
  if noted.err then return run_of() end
  return run_of(noted[1], noted[2])
end
