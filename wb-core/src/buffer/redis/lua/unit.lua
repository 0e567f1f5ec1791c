-- What back_unit and bury_unit share; it stands before each of them, after lease.lua and closed.lua. KEYS: flushing, meta, attempts, open, dead, groups of
-- each part in turn, then the clean copy of each record. ARGV: number of parts, mark; for each part its owner, epoch,
-- stamp and number of records; then for each record, part by part, its id and what the step wants.
-- Returns for each part what a step on one partition returns. All records are handled in one call, however many: what one
-- transaction wrote must not stand half here and half there at any instant.
local parts, records = {}, {}

-- Whether all epochs are the caller's to finish; see step.lua. Takes the records out of them.
local function holds()
  local count = tonumber(ARGV[1])
  local at = 3 + 4 * count
  local now = clock()
  for part = 1, count do
    local key, arg = 6 * part - 5, 4 * part - 1
    local flushing, meta = KEYS[key], KEYS[key + 1]
    if holder(meta, now) ~= ARGV[arg] then return false end
    if tonumber(redis.call('HGET', meta, 'open') or '1') - 1 ~= tonumber(ARGV[arg + 1]) then return false end
    if redis.call('HGET', meta, 'stamp') ~= ARGV[arg + 2] then return false end
    for i = key + 2, key + 5 do size('HLEN', KEYS[i]) end
    parts[part] = { flushing = flushing, meta = meta, epoch = ARGV[arg + 1], asked = tonumber(ARGV[arg + 3]), taken = 0 }
    for _ = 1, parts[part].asked do
      records[#records + 1] = {
        part = parts[part], attempts = KEYS[key + 2], open = KEYS[key + 3], dead = KEYS[key + 4], groups = KEYS[key + 5],
        copy = KEYS[6 * count + #records + 1], id = ARGV[at], wants = ARGV[at + 1],
      }
      at = at + 2
    end
  end
  -- Removals are the first writes: see step.lua.
  for _, record in ipairs(records) do
    local part = record.part
    record.value = redis.call('HGET', part.flushing, record.id)
    if record.value then
      redis.call('HDEL', part.flushing, record.id)
      part.taken = part.taken + 1
    end
  end
  return true
end

-- What became of each part; see step.lua.
local function finish()
  local replies = {}
  for i, part in ipairs(parts) do
    replies[i] = ended(part.flushing, part.meta, part.epoch, part.asked, part.taken, true)
  end
  return replies
end

