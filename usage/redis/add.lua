-- Adds what was counted of one API key, in one step.
--
-- KEYS: 1 networks (hash), 2 last address (string), 3 summary (hash), 4 ids (sorted set),
--       5 refusals (sorted set)
-- ARGV: 1 id, 2 now, 3 retention, 4 addresses per key, 5 last used, 6 last network,
--       7 last use of the secret, 8 of the previous secret, 9 dropped, then one entry a row.
-- Times are in microseconds, 0 for none. An entry is "network day allowed would_refuse
-- refused… first last"; a field of the hash of networks holds entries of one network, without
-- it, with ";" between them.
local id, now, retention, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local day_length = 86400000000
local summary_ttl = math.max(retention, 400 * day_length)

local function number(n) return string.format('%.0f', n) end

local function entries(value)
  local list = {}
  for text in string.gmatch(value or '', '[^;]+') do
    local e = {}
    for n in string.gmatch(text, '%S+') do e[#e + 1] = tonumber(n) end
    list[#list + 1] = e
  end
  return list
end

local function text(list)
  local parts = {}
  for i, e in ipairs(list) do
    local numbers = {}
    for j, n in ipairs(e) do numbers[j] = number(n) end
    parts[i] = table.concat(numbers, ' ')
  end
  return table.concat(parts, ';')
end

local function last(e) return e[#e] end

local function kept(list)
  local result = {}
  for _, e in ipairs(list) do
    if last(e) >= now - retention then result[#result + 1] = e end
  end
  return result
end

local function refused(e)
  local total = 0
  for i = 4, #e - 2 do total = total + e[i] end
  return total
end

local function merge(list, row)
  for _, e in ipairs(list) do
    if e[1] == row[1] then
      for i = 2, #e - 2 do e[i] = e[i] + row[i] end
      e[#e - 1] = math.min(e[#e - 1], row[#row - 1])
      e[#e] = math.max(e[#e], row[#row])
      return e
    end
  end
  list[#list + 1] = row
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return row
end

-- One half of the addresses that stay, or one more, were used most, the others last.
local function trim()
  local all = redis.call('HGETALL', KEYS[1])
  local networks = {}
  for i = 1, #all, 2 do
    local n = {name = all[i], requests = 0, last = 0}
    for _, e in ipairs(entries(all[i + 1])) do
      n.requests = n.requests + e[2] + refused(e)
      n.last = math.max(n.last, last(e))
    end
    networks[#networks + 1] = n
  end
  table.sort(networks, function(a, b)
    if a.requests ~= b.requests then return a.requests > b.requests end
    return a.name < b.name
  end)
  local rest = {}
  for i = math.floor((most + 1) / 2) + 1, #networks do rest[#rest + 1] = networks[i] end
  table.sort(rest, function(a, b)
    if a.last ~= b.last then return a.last > b.last end
    return a.name < b.name
  end)
  for i = most - math.floor((most + 1) / 2) + 1, #rest do redis.call('HDEL', KEYS[1], rest[i].name) end
end

for i = 10, #ARGV do
  local network, rest = string.match(ARGV[i], '^(%S+) (.+)$')
  local list = kept(entries(redis.call('HGET', KEYS[1], network)))
  local e = merge(list, entries(rest)[1])
  list = kept(list)
  if #list > 0 then
    redis.call('HSET', KEYS[1], network, text(list))
    if refused(e) > 0 then redis.call('ZADD', KEYS[5], number(last(e)), id .. ' ' .. network .. ' ' .. number(e[1])) end
  end
end

local s = {}
local stored = redis.call('HGETALL', KEYS[3])
for i = 1, #stored, 2 do s[stored[i]] = tonumber(stored[i + 1]) end

-- Once a day: networks that were not used since the retention leave.
local today = math.floor(now / day_length)
if s.pruned ~= today then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local list = entries(all[i + 1])
    local left = kept(list)
    if #left == 0 then
      redis.call('HDEL', KEYS[1], all[i])
    elseif #left < #list then
      redis.call('HSET', KEYS[1], all[i], text(left))
    end
  end
  s.pruned = today
end

local last_used = tonumber(ARGV[5])
if last_used >= (s.last_used or 0) then
  s.last_used = last_used
  local ttl = last_used + retention - now
  if ARGV[6] ~= '' and ttl >= 1000000 then
    redis.call('SET', KEYS[2], ARGV[6], 'PX', number(math.floor(ttl / 1000)))
  else
    redis.call('DEL', KEYS[2])
  end
end
s.last_current = math.max(s.last_current or 0, tonumber(ARGV[7]))
s.last_previous = math.max(s.last_previous or 0, tonumber(ARGV[8]))
s.dropped = math.max(s.dropped or 0, tonumber(ARGV[9]))
if redis.call('HLEN', KEYS[1]) > most then
  trim()
  s.dropped = math.max(s.dropped, s.last_used)
end
for field, value in pairs(s) do redis.call('HSET', KEYS[3], field, number(value)) end
redis.call('PEXPIRE', KEYS[1], number(math.floor((retention + day_length) / 1000)))
redis.call('PEXPIRE', KEYS[3], number(math.floor(summary_ttl / 1000)))
redis.call('ZADD', KEYS[4], 0, id)
return 1
