-- What transact, back_unit and replay_unit share; it stands before each of them. Gives records one mark in common, the least that any of
-- them has, else `mark`: a record that many transactions write does not gather as many marks. Each record has `groups`, the
-- hash of the marks of its partition, and `id`.
local function tie(records, mark)
  local least
  local marks = {}
  for i, record in ipairs(records) do
    marks[i] = redis.call('HGET', record.groups, record.id) or ''
    for one in string.gmatch(marks[i], '%S+') do
      if not least or one < least then least = one end
    end
  end
  least = least or mark
  for i, record in ipairs(records) do
    if marks[i] == '' then
      redis.call('HSET', record.groups, record.id, least)
    elseif not string.find(marks[i], least, 1, true) then
      redis.call('HSET', record.groups, record.id, marks[i] .. ' ' .. least)
    end
  end
end

