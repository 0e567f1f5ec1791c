-- A page of the dead letters of some units. KEYS: dead. ARGV: cursor, how many letters to look at, then the marks of the units.
-- Returns the next cursor, and id and mark in turn. Quotes inside a text of a letter are escaped, so no payload looks like a mark.
local wanted = {}
for i = 3, #ARGV do wanted[ARGV[i]] = true end
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {}
for i = 1, #page[2], 2 do
  local mark = string.match(page[2][i + 1], '"mark":"(%x+)"')
  if mark and wanted[mark] then
    found[#found + 1] = page[2][i]
    found[#found + 1] = mark
  end
end
return { page[1], found }
