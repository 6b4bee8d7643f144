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
local stream = string.sub(records, 1, -5) .. 'audit' -- records ends in key:

-- Records an edit; '' is none.
local function trail(edit)
  if edit ~= '' then redis.call('XADD', stream, 'MAXLEN', '~', 100000, '*', 'edit', edit) end
end

-- The members of an id in the index: one, unless the index was edited by hand.
local function members(id)
  return redis.call('ZRANGE', ids, '[' .. id .. ' ', '(' .. id .. '!', 'BYLEX')
end

local function named(member)
  return records .. string.sub(member, -64)
end

local function decode(text)
  local ok, r = pcall(cjson.decode, text)
  return ok and type(r) == 'table' and r or nil
end

local function isPointer(r)
  return r and type(r.current) == 'string' and r.id == nil
end

-- The name of the pointer that belongs to a record; nil if the record has no previous hash.
local function previous(r)
  local p = r and r.previous
  return type(p) == 'table' and type(p.hash) == 'string' and records .. string.lower(p.hash) or nil
end

-- The id of the key that a name belongs to, and what is stored there. The id is nil if it cannot be
-- read, and false if the name is free: nothing is there, or a pointer that leads nowhere.
local function owner(name)
  local text = redis.pcall('GET', name)
  local r = decode(text)
  if isPointer(r) then
    local target = decode(redis.pcall('GET', records .. r.current))
    return previous(target) == name and target.id or false, r
  end
  if not text then return false end
  return r and type(r.id) == 'string' and r.id or nil, r
end

-- What is stored as the record of an id; '' if there is none, or it is not a string.
local function stored(id)
  for _, m in ipairs(members(id)) do
    local text = redis.pcall('GET', named(m))
    if type(text) == 'table' then return '' end
    if text and not isPointer(decode(text)) then return text end
  end
  return ''
end

-- Deletes the pointer to a record, except the one with the name kept.
local function unpoint(name, kept)
  local p = previous(decode(redis.pcall('GET', name)))
  if p and p ~= kept then
    local r = decode(redis.pcall('GET', p))
    if isPointer(r) and r.current == string.sub(name, -64) then redis.call('DEL', p) end
  end
end

-- Deletes the records of an id, their pointers, and its members in the index, except one. A record
-- with another id is left alone.
local function forget(id, kept)
  local n = 0
  for _, m in ipairs(members(id)) do
    if m ~= kept then
      local name = named(m)
      local other, r = owner(name)
      if not isPointer(r) and (not other or other == id) then
        unpoint(name)
        n = n + redis.call('DEL', name)
      end
      redis.call('ZREM', ids, m)
    end
  end
  return n
end

-- Whether the previous hash of a record is free, or another one of the same key.
local function previousFits(id, record)
  local p = previous(decode(record))
  local other = p and owner(p)
  return not p or other == false or other == id
end

local function pointer(hash)
  return '{"current":"' .. hash .. '"}'
end

-- Whether the pointer to a record is there, or is not needed.
local function pointed(record, hash)
  local p = previous(decode(record))
  return not p or redis.pcall('GET', p) == pointer(hash)
end

local function write(id, hash, name, record)
  local p = previous(decode(record))
  unpoint(name, p)
  redis.call('ZADD', ids, 0, id .. ' ' .. hash)
  redis.call('SET', name, record, 'KEEPTTL')
  if p then
    if redis.pcall('GET', p) ~= pointer(hash) then redis.call('SET', p, pointer(hash)) end
    local expires = redis.call('PEXPIRETIME', name)
    if expires > 0 then redis.call('PEXPIREAT', p, expires) end
  end
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

	// KEYS: ids, name. ARGV: records, id, hash, record, edit.
	addScript = rueidis.NewLuaScript("#!lua\n" + common + `
local id = ARGV[2]
if owner(KEYS[2]) ~= false or not previousFits(false, ARGV[4]) then return 1 end
for _, m in ipairs(members(id)) do
  local other, r = owner(named(m))
  if other ~= false and not isPointer(r) then return 1 end
end
forget(id)
write(id, ARGV[3], KEYS[2], ARGV[4])
trail(ARGV[5])
return 0`)

	// KEYS: ids, names. ARGV: records; id, hash, record, edit of each; and the start of one edit of
	// all, or ''. Stops at the first whose hash is another id's and returns its number, from 1; or 0.
	// After that come members and records in turns of the ids that were there already.
	addAbsentScript = rueidis.NewLuaScript("#!lua\n" + common + `
local answer, added = {0}, {}
local function found(id)
  for _, m in ipairs(members(id)) do
    local record = redis.pcall('GET', named(m))
    if record and not isPointer(decode(record)) then
      answer[#answer + 1] = m
      answer[#answer + 1] = record
      return true
    end
  end
end
for i = 2, #KEYS do
  local id, hash, record, edit = ARGV[4 * i - 6], ARGV[4 * i - 5], ARGV[4 * i - 4], ARGV[4 * i - 3]
  if not found(id) then
    local other, r = owner(KEYS[i])
    if other == id then -- the index has lost it
      redis.call('ZADD', ids, 0, id .. ' ' .. (isPointer(r) and r.current or hash))
      found(id)
    elseif other == false and previousFits(false, record) then
      forget(id)
      write(id, hash, KEYS[i], record)
      trail(edit)
      added[#added + 1] = id
    else
      answer = {i - 1}
      break
    end
  end
end
if ARGV[#ARGV] ~= '' and #added > 0 then
  trail(ARGV[#ARGV] .. '["' .. table.concat(added, '","') .. '"]}') -- an id needs no escapes
end
return answer`)

	// ARGV: records, ids. Returns a member and its record for each id; neither if it has no record.
	heldScript = rueidis.NewLuaScriptReadOnly("#!lua flags=no-writes\n" + common + `
local answer = {}
for i = 2, #ARGV do
  local member, record = false, false
  for _, m in ipairs(members(ARGV[i])) do
    local text = redis.pcall('GET', named(m))
    if text and not isPointer(decode(text)) then
      member, record = m, text
      break
    end
  end
  answer[#answer + 1] = member
  answer[#answer + 1] = record
end
return answer`)

	// KEYS: ids, names. ARGV: records; id, hash, record, old record, edit of each. Stops at the
	// first whose hash is another id's and returns its number, from 1; -1 if an old record is not
	// what is stored; or 0.
	putScript = rueidis.NewLuaScript("#!lua\n" + common + `
for i = 2, #KEYS do
  local id, hash, record = ARGV[5 * i - 8], ARGV[5 * i - 7], ARGV[5 * i - 6]
  if stored(id) ~= ARGV[5 * i - 5] then return {-1} end
  local member, held, old = id .. ' ' .. hash, members(id), redis.pcall('GET', KEYS[i])
  if old ~= record or #held ~= 1 or held[1] ~= member or not pointed(record, hash) then
    local other = owner(KEYS[i])
    local fits = other == id or other == false or other == nil and redis.call('ZSCORE', ids, member)
    if not fits or not previousFits(id, record) then return {i - 1} end
    if #held > 0 then forget(id, member) end
    write(id, hash, KEYS[i], record)
    trail(ARGV[5 * i - 4])
  end
end
return {0}`)

	// KEYS: ids, name, old name. ARGV: records, id, hash, record, old hash, old record, edit.
	updateScript = rueidis.NewLuaScript("#!lua\n" + common + `
local id, was = ARGV[2], ARGV[2] .. ' ' .. ARGV[5]
if redis.pcall('GET', KEYS[3]) ~= ARGV[6] or not redis.call('ZSCORE', ids, was) then return 2 end
if not previousFits(id, ARGV[4]) then return 1 end
if KEYS[2] ~= KEYS[3] then
  local other, r = owner(KEYS[2])
  if other ~= false and not (other == id and isPointer(r)) then return 1 end
  unpoint(KEYS[3])
  redis.call('RENAME', KEYS[3], KEYS[2])
end
forget(id, id .. ' ' .. ARGV[3])
write(id, ARGV[3], KEYS[2], ARGV[4])
trail(ARGV[7])
return 0`)

	// ARGV: records, id, old record, edit. Returns how many records there were; -1 if the old record is
	// not what is stored.
	deleteScript = rueidis.NewLuaScript("#!lua flags=allow-oom\n" + common + `
if stored(ARGV[2]) ~= ARGV[3] then return -1 end
local n = forget(ARGV[2])
if n > 0 then trail(ARGV[4]) end
return n`)
)
