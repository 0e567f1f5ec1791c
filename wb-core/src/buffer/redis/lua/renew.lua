-- Renews the leases that a worker holds. KEYS: meta of each partition. ARGV: owner, TTL in ms, then the workers that are
-- alive. Returns two lists: for each lease 1 when it is the owner's, 0 when it is free, -1 when it is another's, -2 when its
-- `meta` cannot be read; and of each that cannot be its position from 0, the code of the error, and the type of its value.
local now, ttl = clock(), tonumber(ARGV[2])
local alive = {}
for i = 3, #ARGV do alive[ARGV[i]] = true end
local states, broken = {}, {}
for i, meta in ipairs(KEYS) do
  -- A key of a wrong type costs its own partition, and no other.
  local size = redis.pcall('HLEN', meta)
  if type(size) == 'table' then
    states[i] = -2
    local found = redis.pcall('TYPE', meta)
    broken[#broken + 1] = { i - 1, string.match(size.err, '^%-?(%S+)'), found.ok or 'none' }
  else
    local owner, ends = holder(meta, now)
    if not owner then
      states[i] = 0
    elseif owner == ARGV[1] then
      hold(meta, owner, now + ttl)
      states[i] = 1
    else
      -- A dead worker's lease that lasts longer than leases do: the server's clock went back, and nobody must wait until
      -- it has caught up. A worker that is alive after all renews it in time.
      if not alive[owner] and ends - now > ttl then hold(meta, owner, now + ttl) end
      states[i] = -1
    end
  end
end
return { states, broken }
