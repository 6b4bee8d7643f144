package redis

import "github.com/redis/rueidis"

// Each script is one atomic step. All work on KEYS[1], the index, and on records whose names they
// make from ARGV[1] and the hashes in the index: the hash tag puts them into the same slot, but
// the caller cannot know all of them. Their first line makes Redis 7 refuse them before they start,
// rather than half-way, when it is out of memory.
//
//nolint:dupword // Lua ends its blocks with the same word
const common = `
local ids, records = KEYS[1], ARGV[1]

-- The members of an id in the index: one, unless the index was edited by hand.
local function members(id)
  return redis.call('ZRANGE', ids, '[' .. id .. ' ', '(' .. id .. '!', 'BYLEX')
end

local function named(member)
  return records .. string.sub(member, -64)
end

-- The id that a record gives itself; nil where there is none that can be read.
local function owner(name)
  local ok, r = pcall(cjson.decode, redis.pcall('GET', name))
  return ok and type(r) == 'table' and r.id or nil
end

-- Deletes the records of an id and its members in the index, except one. A record with another id
-- is left alone.
local function forget(id, kept)
  local n = 0
  for _, m in ipairs(members(id)) do
    if m ~= kept then
      local other = owner(named(m))
      if other == nil or other == id then n = n + redis.call('DEL', named(m)) end
      redis.call('ZREM', ids, m)
    end
  end
  return n
end

local function write(id, hash, name, record)
  redis.call('ZADD', ids, 0, id .. ' ' .. hash)
  redis.call('SET', name, record, 'KEEPTTL')
end
`

// The results of a script that writes.
const (
	written int64 = iota
	exists        // the id or the hash is that of another key
	changed       // the record is not what it was when it was read
)

//nolint:dupword // as above
var (
	// ARGV: records, min, max, count. Returns members and records in turns.
	readScript = rueidis.NewLuaScriptReadOnly("#!lua flags=no-writes\n" + common + `
local found = {}
for _, m in ipairs(redis.call('ZRANGE', ids, ARGV[2], ARGV[3], 'BYLEX', 'LIMIT', 0, ARGV[4])) do
  found[#found + 1] = m
  found[#found + 1] = redis.pcall('GET', named(m))
end
return found`)

	// KEYS: ids, name. ARGV: records, id, hash, record.
	addScript = rueidis.NewLuaScript("#!lua\n" + common + `
local id = ARGV[2]
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
for _, m in ipairs(members(id)) do
  if redis.call('EXISTS', named(m)) == 1 then return 1 end
end
forget(id)
write(id, ARGV[3], KEYS[2], ARGV[4])
return 0`)

	// KEYS: ids, names. ARGV: records; id, hash, record of each. Stops at the first whose hash
	// is another id's and returns its number, from 1; or 0. After that come members and records
	// in turns of the ids that were there already.
	addAbsentScript = rueidis.NewLuaScript("#!lua\n" + common + `
local answer = {0}
local function found(id)
  for _, m in ipairs(members(id)) do
    local record = redis.pcall('GET', named(m))
    if record then
      answer[#answer + 1] = m
      answer[#answer + 1] = record
      return true
    end
  end
end
for i = 2, #KEYS do
  local id, hash, record = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
  if not found(id) then
    if redis.call('EXISTS', KEYS[i]) == 0 then
      forget(id)
      write(id, hash, KEYS[i], record)
    elseif owner(KEYS[i]) == id then -- the index has lost it
      redis.call('ZADD', ids, 0, id .. ' ' .. hash)
      found(id)
    else
      return {i - 1}
    end
  end
end
return answer`)

	// KEYS: ids, names. ARGV: records; id, hash, record of each. Stops at the first whose hash
	// is another id's and returns its number, from 1; or 0.
	putScript = rueidis.NewLuaScript("#!lua\n" + common + `
for i = 2, #KEYS do
  local id, hash, record = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
  local member, held, old = id .. ' ' .. hash, members(id), redis.pcall('GET', KEYS[i])
  if old ~= record or #held ~= 1 or held[1] ~= member then
    if old then
      local other = owner(KEYS[i])
      local ours = other == id or other == nil and redis.call('ZSCORE', ids, member)
      if not ours then return {i - 1} end
    end
    if #held > 0 then forget(id, member) end
    write(id, hash, KEYS[i], record)
  end
end
return {0}`)

	// KEYS: ids, name, old name. ARGV: records, id, hash, record, old hash, old record.
	updateScript = rueidis.NewLuaScript("#!lua\n" + common + `
local id, was = ARGV[2], ARGV[2] .. ' ' .. ARGV[5]
if redis.pcall('GET', KEYS[3]) ~= ARGV[6] or not redis.call('ZSCORE', ids, was) then return 2 end
if KEYS[2] ~= KEYS[3] then
  if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
  redis.call('RENAME', KEYS[3], KEYS[2])
end
write(id, ARGV[3], KEYS[2], ARGV[4])
forget(id, id .. ' ' .. ARGV[3])
return 0`)

	// ARGV: records, id. Returns how many records there were.
	deleteScript = rueidis.NewLuaScript("#!lua flags=allow-oom\n" + common + `
return forget(ARGV[2])`)
)
