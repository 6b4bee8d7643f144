-- Spends the charges of one request, or nothing. ARGV is the time in microseconds, or nothing for
-- the server's; 1 to spend, 0 to look; for how many milliseconds a repeated request is not charged
-- again; and for each counter its limit, cost, duration and width of a slot. KEYS are the counters:
-- hashes of what was spent, by the end of its slot in microseconds; and, where the request is known,
-- when it was charged. The answer has for each counter what counts, and in how many
-- microseconds some of it does not, none of it does, and there is room for the cost.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(n) return string.format('%.0f', n) end

local counters, room = {}, true
local mark = KEYS[(#ARGV - 3) / 4 + 1]
local marked = mark and redis.call('GET', mark)
local paid = marked and now - tonumber(marked) <= ARGV[3] * 1000
for a = 4, #ARGV, 4 do
  local c = {
    limit = tonumber(ARGV[a]), cost = tonumber(ARGV[a + 1]),
    duration = tonumber(ARGV[a + 2]), width = tonumber(ARGV[a + 3]),
    spent = 0, slots = {}, gone = {},
  }
  local all = redis.call('HGETALL', KEYS[#counters + 1])
  for j = 1, #all, 2 do
    local expires = tonumber(all[j]) + c.duration
    if expires > now then
      local cost = tonumber(all[j + 1])
      c.spent = c.spent + cost
      table.insert(c.slots, {expires = expires, cost = cost})
    else
      table.insert(c.gone, all[j])
    end
  end
  c.fits = paid or c.cost <= 0 or c.spent <= c.limit - c.cost
  room = room and c.fits
  table.insert(counters, c)
end

local answer, spend = {}, ARGV[2] == '1' and room and not paid
for i, c in ipairs(counters) do
  local key = KEYS[i]
  if spend and c.cost > 0 then
    local slot = math.ceil(now / c.width) * c.width
    redis.call('HINCRBY', key, whole(slot), whole(c.cost))
    if #c.gone > 0 then
      redis.call('HDEL', key, unpack(c.gone))
    end
    redis.call('PEXPIRE', key, whole(math.ceil((c.duration + c.width) / 1000)))
    c.spent = c.spent + c.cost
    table.insert(c.slots, {expires = slot + c.duration, cost = c.cost})
    if mark then
      redis.call('SET', mark, whole(now), 'PX', ARGV[3])
    end
  end
  table.sort(c.slots, function(x, y) return x.expires < y.expires end)
  local wait = 0
  if not c.fits and c.cost > c.limit then
    wait = c.duration
  elseif not c.fits then
    local left = c.spent
    for _, slot in ipairs(c.slots) do
      left = left - slot.cost
      if left <= c.limit - c.cost then
        wait = slot.expires - now
        break
      end
    end
  end
  local first, last = c.slots[1], c.slots[#c.slots]
  table.insert(answer, c.spent)
  table.insert(answer, first and first.expires - now or 0)
  table.insert(answer, last and last.expires - now or 0)
  table.insert(answer, wait)
end
return answer
