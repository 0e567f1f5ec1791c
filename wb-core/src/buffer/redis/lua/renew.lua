-- Renews the leases that a worker holds. KEYS: leases. ARGV: owner, TTL in ms, then the workers that are alive.
-- Returns for each lease 1 when it is the owner's, 0 when it is free, -1 when it is another's. Needs no memory, so that
-- the workers of a full Redis keep their leases.
local alive = {}
for i = 3, #ARGV do alive[ARGV[i]] = true end
local states = {}
for i, holder in ipairs(redis.call('MGET', unpack(KEYS))) do
  if not holder then
    states[i] = 0
  elseif holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    states[i] = 1
  else
    -- A dead worker's lease that lasts longer than leases do: the server's clock went back, and nobody must wait until
    -- it has caught up. A worker that is alive after all renews it in time.
    if not alive[holder] then
      local left = redis.call('PTTL', KEYS[i])
      if left > tonumber(ARGV[2]) or left == -1 then redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
    end
    states[i] = -1
  end
end
return states
