"""The name server's operations as Lua, each atomic. The keys are told in ``redis.py``.

Each answers ``{"OK", …}`` or the name of a refusal and its details. Values are text with the
free part last: ``accounts`` holds "digest newest-life", ``users`` "life since address" (since
0: departed, and then when instead of where), ``groups`` "since backend", ``members:*`` "life
connected", ``servers`` "end address", ``ticket:*`` "caller life peer proof", ``endpoints``
"life JSON". Times are in ms of Redis' clock.

What changes who is there is published on the channel ``changes``, which those scripts get
after their keys: an empty message, only a hint to ask again.
"""

from __future__ import annotations

from chatlab.resp import Script

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_TELL = """
local function tell(channel)  -- whoever may not publish may do all else
  if channel then redis.pcall('PUBLISH', channel, '') end
end
"""

_USER = """
local function user(entry)  -- life, since, address; nothing when there is no entry
  local life, since, address = string.match(entry or '', '^(%d+) (%d+) (.*)$')
  return tonumber(life), tonumber(since), address
end
"""

#: Is this member there? Yes when it said so and, if it claimed a presence, that lives.
_MEMBERS = """
local function members(key, users, leases)
  local found = redis.call('HGETALL', key)
  for i = 2, #found, 2 do
    local life, connected = string.match(found[i], '^(%d+) ([01])$')
    local present, since = user(redis.call('HGET', users, found[i - 1]))
    if connected == '1' and present then
      local ends = tonumber(redis.call('ZSCORE', leases, found[i - 1]) or 0)
      if present ~= tonumber(life) or since == 0 or ends <= now then connected = '0' end
    end
    found[i] = connected
  end
  return found
end
"""

#: accounts | name, digest
ACCOUNT = Script("""
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2] .. ' 0')
local digest = string.match(redis.call('HGET', KEYS[1], ARGV[1]), '^%S+')
if digest ~= ARGV[2] then return {'IN USE', ARGV[1]} end
return {'OK'}
""")

#: accounts, users, leases, endpoints, changes | name, digest, address, life or '', lease,
#: endpoint
CLAIM = Script(
    _NOW
    + _USER
    + _TELL
    + """
local name = ARGV[1]
local account = redis.call('HGET', KEYS[1], name) or ARGV[2] .. ' 0'
local digest, newest = string.match(account, '^(%S+) (%d+)$')
if digest ~= ARGV[2] then return {'IN USE', name} end
newest = tonumber(newest)
local mine = tonumber(ARGV[4]) or newest + 1
if mine < newest then return {'TAKEN', name, newest} end
local life, since = user(redis.call('HGET', KEYS[2], name))
local ends = tonumber(redis.call('ZSCORE', KEYS[3], name) or 0)
if life ~= mine or since == 0 or ends <= now then since = now end
redis.call('HSET', KEYS[1], name, digest .. ' ' .. mine)
redis.call('HSET', KEYS[2], name, mine .. ' ' .. since .. ' ' .. ARGV[3])
redis.call('ZADD', KEYS[3], now + ARGV[5], name)
redis.call('HSET', KEYS[4], name, mine .. ' ' .. ARGV[6])
tell(KEYS[5])
return {'OK', mine}
"""
)

#: users, leases, endpoints | name. Its address and endpoint; nothing when it is not there.
FIND_USER = Script(
    _NOW
    + _USER
    + """
local ends = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
local life, since, address = user(redis.call('HGET', KEYS[1], ARGV[1]))
if ends <= now or since == 0 then return {'OK'} end
local endpoint = redis.call('HGET', KEYS[3], ARGV[1]) or ''
local its, text = string.match(endpoint, '^(%d+) (.*)$')
return {'OK', address, tonumber(its) == life and text or ''}
"""
)

#: users, leases | name. When it was last known to be there, and whether it is.
LAST_SEEN = Script(
    _NOW
    + _USER
    + """
local ends = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
local _, since, address = user(redis.call('HGET', KEYS[1], ARGV[1]))
if not since then return {'OK', 0, 0} end
if since == 0 then return {'OK', 0, tonumber(address) or 0} end
if ends <= now then return {'OK', 0, ends} end
return {'OK', 1, now}
"""
)

_NEWEST = """
local function newest(name, digest, life)  -- 'OK', or why this is not the account's newest life
  local entry = redis.call('HGET', KEYS[1], name) or ''
  local stored, last = string.match(entry, '^(%S+) (%d+)$')
  if stored ~= digest then return 'IN USE' end
  if tonumber(last) > tonumber(life) then return 'TAKEN', tonumber(last) end
  return 'OK'
end
"""

#: accounts, ticket | name, digest, life, peer, proof, how long it is good
ISSUE_TICKET = Script(
    _NEWEST
    + """
local verdict, last = newest(ARGV[1], ARGV[2], ARGV[3])
if verdict ~= 'OK' then return {verdict, ARGV[1], last} end
local entry = table.concat({ARGV[1], ARGV[3], ARGV[4], ARGV[5]}, ' ')
redis.call('SET', KEYS[2], entry, 'PX', ARGV[6])
return {'OK'}
"""
)

#: accounts, ticket | caller, then who redeems: name, digest, life. The caller's life and the
#: proof; nothing when the ticket is no good, which uses it up all the same.
REDEEM_TICKET = Script(
    _NEWEST
    + """
local verdict, last = newest(ARGV[2], ARGV[3], ARGV[4])
if verdict ~= 'OK' then return {verdict, ARGV[2], last} end
local entry = redis.call('GETDEL', KEYS[2]) or ''
local caller, life, peer, proof = string.match(entry, '^(%S+) (%d+) (%S+) (%S+)$')
if caller ~= ARGV[1] or peer ~= ARGV[2] then return {'OK'} end
local account = redis.call('HGET', KEYS[1], caller) or ''
local current = tonumber(string.match(account, '^%S+ (%d+)$') or 0)
if current > tonumber(life) then return {'OK'} end
return {'OK', tonumber(life), proof}
"""
)

#: accounts, users, leases, changes | lease, then for each "name life digest address". For each
#: that is over, its number in that list, from 0, and the newer life that holds the name; and
#: the numbers of those that were registered again. Reads all by one command each and writes
#: all by one: half of the work that three commands for each would be.
RENEW = Script(
    _NOW
    + _TELL
    + """
local names, mine, digests, places = {}, {}, {}, {}
for i = 2, #ARGV do
  local words = '^(%S+) (%d+) (%S+) (.*)$'
  names[i - 1], mine[i - 1], digests[i - 1], places[i - 1] = string.match(ARGV[i], words)
end
local accounts = redis.call('HMGET', KEYS[1], unpack(names))
local entries = redis.call('HMGET', KEYS[2], unpack(names))
local before = redis.call('ZMSCORE', KEYS[3], unpack(names))
local ends, renewed, over, anew, back = now + ARGV[1], {}, {}, {}, false
local function extend(i)
  back = back or not before[i] or tonumber(before[i]) <= now  -- it was not there just now
  renewed[#renewed + 1] = ends
  renewed[#renewed + 1] = names[i]
end
local function register(i)  -- Redis has forgotten it, or it is over
  local account = redis.call('HGET', KEYS[1], names[i]) or digests[i] .. ' 0'
  local digest, newest = string.match(account, '^(%S+) (%d+)$')
  newest = tonumber(newest)
  if newest > tonumber(mine[i]) or digest ~= digests[i] then
    over[#over + 1] = i - 1
    over[#over + 1] = math.max(newest, 1)
  else
    redis.call('HSET', KEYS[1], names[i], digest .. ' ' .. mine[i])
    redis.call('HSET', KEYS[2], names[i], mine[i] .. ' ' .. now .. ' ' .. places[i])
    extend(i)
    anew[#anew + 1] = i - 1
    back = true
  end
end
for i = 1, #names do
  local life, since = string.match(entries[i] or '', '^(%d+) (%d+)')
  if life ~= mine[i] then
    register(i)
  elseif since ~= '0' then  -- else it has departed
    (accounts[i] == digests[i] .. ' ' .. life and extend or register)(i)
  end
end
if #renewed > 0 then redis.call('ZADD', KEYS[3], unpack(renewed)) end
if back then tell(KEYS[4]) end
return {'OK', over, anew}
"""
)

#: users, endpoints | name, life, endpoint
ENDPOINT = Script(
    _USER
    + """
if user(redis.call('HGET', KEYS[1], ARGV[1])) == tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
end
return {'OK'}
"""
)

#: users, leases, endpoints, changes | name, life
DEPART = Script(
    _NOW
    + _USER
    + _TELL
    + """
if user(redis.call('HGET', KEYS[1], ARGV[1])) == tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' 0 ' .. now)
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
  tell(KEYS[4])
end
return {'OK'}
"""
)

#: groups, changes | group, backend or '', backend of a new group by default
OPEN_GROUP = Script(
    _NOW
    + _TELL
    + """
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then
  entry = now .. ' ' .. (ARGV[2] ~= '' and ARGV[2] or ARGV[3])
  redis.call('HSET', KEYS[1], ARGV[1], entry)
  tell(KEYS[2])
end
local backend = string.match(entry, '^%d+ (.*)$')
if ARGV[2] ~= '' and ARGV[2] ~= backend then
  return {'MISMATCH', ARGV[1], backend, ARGV[2]}
end
return {'OK', backend}
"""
)

#: groups, members, changes | group, backend, member, life, connected. The group may have ended
#: between open and enter, when its last member left: then it begins again.
ENTER_GROUP = Script(
    _NOW
    + _TELL
    + """
redis.call('HSETNX', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local backend = string.match(redis.call('HGET', KEYS[1], ARGV[1]), '^%d+ (.*)$')
if backend ~= ARGV[2] then return {'MISMATCH', ARGV[1], backend, ARGV[2]} end
local entry = redis.call('HGET', KEYS[2], ARGV[3])
local newest = tonumber(string.match(entry or '0 0', '^(%d+)'))
if newest > tonumber(ARGV[4]) then return {'TAKEN', ARGV[3], newest} end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4] .. ' ' .. ARGV[5])
tell(KEYS[3])
return {'OK'}
"""
)

#: groups, members, changes | group, member, newest life that may go or ''
LEAVE_GROUP = Script(
    _TELL
    + """
local life = string.match(redis.call('HGET', KEYS[2], ARGV[2]) or '0 0', '^(%d+)')
if ARGV[3] == '' or tonumber(life) <= tonumber(ARGV[3]) then
  redis.call('HDEL', KEYS[2], ARGV[2])
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end
tell(KEYS[3])
return {'OK'}
"""
)

#: members, users, leases
GROUP_MEMBERS = Script(_NOW + _USER + _MEMBERS + "return {'OK', members(unpack(KEYS))}")

#: positions | group, member, life, position, handed
KEEP_POSITION = Script("""
local entry = redis.call('HGET', KEYS[1], ARGV[2])
local newest = tonumber(string.match(entry or '0', '^(%d+)'))
if newest > tonumber(ARGV[3]) then return {'TAKEN', ARGV[2], newest} end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
return {'OK'}
""")

#: servers | kind, token, address, lease, '1' when it registers, '1' when it is the only one of
#: its kind. Entries whose lease is over are removed on the way: their servers are dead, or
#: write them again.
RENEW_SERVER = Script(
    _NOW
    + """
local mine = ARGV[1] .. ' ' .. ARGV[2]
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  local kind, ends = string.match(found[i], '^(%S+) '), string.match(found[i + 1], '^%d+')
  if kind == ARGV[1] and found[i] ~= mine then
    local over = tonumber(ends) <= now
    if ARGV[6] == '1' and not over and ARGV[5] == '0' then return {'SERVER', kind} end
    if over or ARGV[6] == '1' then redis.call('HDEL', KEYS[1], found[i]) end
  end
end
redis.call('HSET', KEYS[1], mine, (now + ARGV[4]) .. ' ' .. ARGV[3])
return {'OK'}
"""
)

#: servers | kind, token
FORGET_SERVER = Script("""
redis.call('HDEL', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
return {'OK'}
""")

#: servers | kind. Token and address of each.
SERVERS_OF = Script(
    _NOW
    + """
local alive = {}
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  local kind, token = string.match(found[i], '^(%S+) (.*)$')
  local ends, address = string.match(found[i + 1], '^(%d+) (.*)$')
  if kind == ARGV[1] and tonumber(ends) > now then
    alive[#alive + 1] = token
    alive[#alive + 1] = address
  end
end
return {'OK', alive}
"""
)

#: users, leases, groups, what every key of members begins with
DISCOVER = Script(
    _NOW
    + _USER
    + _MEMBERS
    + """
local people, rooms = {}, {}
local leased = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES')
for i = 1, #leased, 2 do
  local name, left = leased[i], tonumber(leased[i + 1]) - now
  local life, since, address = user(redis.call('HGET', KEYS[1], name))
  if address then people[#people + 1] = {name, address, tostring(since), life, left} end
end
local groups = redis.call('HGETALL', KEYS[3])
for i = 1, #groups, 2 do
  local since, backend = string.match(groups[i + 1], '^(%d+) (.*)$')
  local there = members(KEYS[4] .. groups[i], KEYS[1], KEYS[2])
  rooms[#rooms + 1] = {groups[i], backend, since, there}
end
return {'OK', people, rooms}
"""
)
