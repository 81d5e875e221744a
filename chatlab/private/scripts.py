"""The operations on mailboxes in Redis as Lua, each atomic. The keys are told in ``redis.py``.

A stale hold is answered with the error TAKEN, one of a mailbox that was wiped with GONE. Redis
7.0 commands only.
"""

from __future__ import annotations

from chatlab.resp import Script

# Redis' clock in ms.
_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# claim: KEYS me; ARGV incarnation, channel prefix, user
CLAIM = Script("""
local me = KEYS[1]
local newest = tonumber(redis.call('HGET', me, 'incarnation') or 0)
local mine = tonumber(ARGV[1])
if mine < newest then return redis.error_reply('TAKEN') end
if mine > newest then
  redis.call('HSET', me, 'incarnation', mine)
  local server = redis.call('HGET', me, 'server')
  redis.call('HDEL', me, 'token', 'server')
  if server then redis.call('PUBLISH', ARGV[2] .. server, ARGV[3]) end
end
return 1
""")

# attach: KEYS me; ARGV incarnation, token, server, channel prefix, user -> the cursor
ATTACH = Script(
    _NOW
    + """
local me = KEYS[1]
local newest = tonumber(redis.call('HGET', me, 'incarnation') or 0)
if tonumber(ARGV[1]) < newest then return redis.error_reply('TAKEN') end
local server = redis.call('HGET', me, 'server')
local acked_n = redis.call('HGET', me, 'acked_n') or 0
local acked = redis.call('HGET', me, 'acked') or '0-0'
redis.call('HSET', me, 'incarnation', ARGV[1], 'token', ARGV[2], 'server', ARGV[3],
  'handed_n', acked_n, 'base', acked_n, 'given', acked, 'seen', now,
  'again', redis.call('HGET', me, 'handed') or '0-0')
if server and server ~= ARGV[3] then redis.call('PUBLISH', ARGV[4] .. server, ARGV[5]) end
return acked
"""
)

# detach: KEYS me; ARGV token
DETACH = Script(
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'token', 'server')
  redis.call('HSET', KEYS[1], 'seen', now)
end
return 1
"""
)

# send: KEYS log, ids, me; ARGV most messages, most bytes, this server, channel prefix, user,
# token of a hold of this server (or nothing), then key, message, key, message, …
# -> verdicts (s stored, d duplicate, m and b full of messages and bytes), stored_n before,
#    acked_n, handed_n, server; and, when that hold had been given all there was: the last
#    entry given before, and the new entries, which count as handed out from here on. The
#    caller hands them over, which saves it the fetch.
SEND = Script("""
local log, ids, me = KEYS[1], KEYS[2], KEYS[3]
local h = redis.call('HMGET', me, 'stored_n', 'acked_n', 'handed_n', 'bytes', 'server',
  'token', 'given')
local stored, acked = tonumber(h[1] or 0), tonumber(h[2] or 0)
local bytes, room = tonumber(h[4] or 0), tonumber(ARGV[1]) - (stored - acked)
local most, verdicts, added, size, new = tonumber(ARGV[2]), {}, 0, 0, {}
for i = 7, #ARGV, 2 do
  local verdict = 's'
  if redis.call('HEXISTS', ids, ARGV[i]) == 1 then verdict = 'd'
  elseif added >= room then verdict = 'm'
  elseif bytes + size + #ARGV[i + 1] > most then verdict = 'b'
  else
    local entry = redis.call('XADD', log, '*', 'k', ARGV[i], 'm', ARGV[i + 1])
    redis.call('HSET', ids, ARGV[i], entry)
    added = added + 1
    new[added] = entry
    size = size + #ARGV[i + 1]
  end
  verdicts[#verdicts + 1] = verdict
end
if added > 0 then
  redis.call('HINCRBY', me, 'stored_n', added)
  redis.call('HINCRBY', me, 'bytes', size)
  redis.call('HINCRBY', me, 'log_bytes', size)
  if h[6] and h[6] == ARGV[6] and tonumber(h[3]) == stored then
    redis.call('HINCRBY', me, 'handed_n', added)
    redis.call('HSET', me, 'handed', new[added], 'given', new[added])
  else
    new = {}
    if h[5] and h[5] ~= ARGV[3] then redis.call('PUBLISH', ARGV[4] .. h[5], ARGV[5]) end
  end
end
return {table.concat(verdicts), stored, acked, tonumber(h[3] or 0), h[5] or '', h[7] or '',
  table.concat(new, ' ')}
""")

# The hold of a script's caller, by its token; GONE: the mailbox was wiped.
_HELD = """
local function stale(me, token)
  local h = redis.call('HMGET', me, 'token', 'incarnation')
  if h[1] == token then return nil end
  return redis.error_reply(h[2] and 'TAKEN' or 'GONE')
end
local function after(one, other)
  local a, b = string.match(one, '(%d+)-(%d+)')
  local c, d = string.match(other, '(%d+)-(%d+)')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a > c or (a == c and b > d)
end
"""

# fetch: KEYS log, me; ARGV token, after, most messages, most bytes, how many were handed out
# under this hold up to ``after`` ('': a look only, which changes nothing). What was counted as
# handed out and was not (SEND offered it, and the stream had no room) is put right.
# -> entries and their sizes, separated by spaces; how many (the first) were handed out before;
#    the messages as one JSON array: four replies are read much quicker than four a message
FETCH = Script(
    _HELD
    + """
local log, me = KEYS[1], KEYS[2]
local no = stale(me, ARGV[1])
if no then return no end
local rows, most = {}, tonumber(ARGV[3])
if most > 0 then rows = redis.call('XRANGE', log, '(' .. ARGV[2], '+', 'COUNT', most) end
local h = redis.call('HMGET', me, 'again', 'base')
local entries, sizes, texts, again, left = {}, {}, {}, 0, tonumber(ARGV[4])
for i, row in ipairs(rows) do
  local text = row[2][4]
  left = left - #text
  if i > 1 and left < 0 then break end
  entries[i], sizes[i], texts[i] = row[1], #text, text
  if not after(row[1], h[1]) then again = i end
end
if ARGV[5] ~= '' then
  local given = entries[#entries] or ARGV[2]
  redis.call('HSET', me, 'handed_n', tonumber(h[2]) + tonumber(ARGV[5]) + #entries,
    'given', given, 'handed', after(given, h[1]) and given or h[1])
end
return {table.concat(entries, ' '), table.concat(sizes, ' '), again,
  '[' .. table.concat(texts, ',') .. ']'}
"""
)

# ack: KEYS log, ids, me, reached; ARGV token, entry, how many, bytes, history messages, history
# bytes, most to trim, then sender, id of its newest message among them, …
ACK = Script(
    _HELD
    + _NOW
    + """
local log, ids, me = KEYS[1], KEYS[2], KEYS[3]
local no = stale(me, ARGV[1])
if no then return no end
redis.call('HSET', me, 'acked', ARGV[2], 'seen', now)
if #ARGV > 7 then redis.call('HSET', KEYS[4], unpack(ARGV, 8)) end
local acked = redis.call('HINCRBY', me, 'acked_n', ARGV[3])
local waiting = redis.call('HINCRBY', me, 'bytes', -ARGV[4])
local h = redis.call('HMGET', me, 'stored_n', 'log_bytes')
local behind = redis.call('XLEN', log) - (tonumber(h[1]) - acked)
local bytes = tonumber(h[2]) - waiting
local keep, most, freed, gone, keys = tonumber(ARGV[5]), tonumber(ARGV[6]), 0, {}, {}
if behind <= keep and bytes <= most then return 1 end
for _, row in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', math.min(behind, ARGV[7]))) do
  if behind - #gone <= keep and bytes - freed <= most then break end
  gone[#gone + 1], keys[#keys + 1] = row[1], row[2][2]
  freed = freed + #row[2][4]
end
if #gone > 0 then
  redis.call('XDEL', log, unpack(gone))
  redis.call('HDEL', ids, unpack(keys))
  redis.call('HINCRBY', me, 'log_bytes', -freed)
end
return 1
"""
)

# tell: KEYS me; ARGV channel prefix, this server, hint: for the server that holds the user
TELL = Script("""
local server = redis.call('HGET', KEYS[1], 'server')
if server and server ~= ARGV[2] then redis.call('PUBLISH', ARGV[1] .. server, ARGV[3]) end
return 1
""")

# newest: KEYS log; ARGV before ('+': the end), what ``k`` begins with, messages to look at,
# bytes of messages to return at most
# -> entries, the messages as one JSON array, newest first; how many bytes; the entry to go on
#    before ('': there is nothing more to look at, or no room)
NEWEST = Script("""
local rows = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[3])
local entries, texts, size, most = {}, {}, 0, tonumber(ARGV[4])
local more = #rows == tonumber(ARGV[3]) and '(' .. rows[#rows][1] or ''
for _, row in ipairs(rows) do
  if string.sub(row[2][2], 1, #ARGV[2]) == ARGV[2] then
    if size + #row[2][4] > most then more = '' break end
    size = size + #row[2][4]
    entries[#entries + 1], texts[#texts + 1] = row[1], row[2][4]
  end
end
return {table.concat(entries, ' '), '[' .. table.concat(texts, ',') .. ']', size, more}
""")
# seen: KEYS me of each user -> Redis' clock, then server and seen of each
SEEN = Script(
    _NOW
    + """
local answer = {now}
for i, me in ipairs(KEYS) do
  local h = redis.call('HMGET', me, 'server', 'seen')
  answer[#answer + 1], answer[#answer + 2] = h[1] or '', h[2] or '0'
end
return answer
"""
)

# sweep: ARGV what the key ``me`` of a user begins and ends with, the held users, the token of
# each -> numbers of those to wake: the hold is stale, or there is more than was handed out.
# It makes the keys itself: so the sweep of a thousand users costs a server next to nothing.
SWEEP = Script("""
local wake, i, token = {}, 0, string.gmatch(ARGV[4], '%S+')
for user in string.gmatch(ARGV[3], '%S+') do
  i = i + 1
  local h = redis.call('HMGET', ARGV[1] .. user .. ARGV[2], 'token', 'stored_n', 'handed_n')
  if h[1] ~= token() or tonumber(h[2] or 0) > tonumber(h[3] or 0) then wake[#wake + 1] = i end
end
return wake
""")
