"""Groups on a Redis stream (``redis-stream``): a log, and a cursor for each subscriber.

Keys of group sd, in one slot:

=======================  ======  =====================================================
key (below the prefix)   type    content
=======================  ======  =====================================================
``group:{sd}:log``       stream  entry ``<number>-0``: ``k`` its sender and id, ``m`` the
                                 message as a JSON array
``group:{sd}:ids``       hash    ``k`` -> number, trimmed together with the log
``group:{sd}:cursors``   zset    subscriber -> number it has acknowledged up to
``group:{sd}:me``        hash    ``last`` and ``first`` number, ``bytes`` of the log; for
                                 each subscriber ``life:…`` (newest incarnation), ``token:…``
                                 (of the present hold), ``handed:…`` (highest number ever
                                 handed out), ``again:…`` (what that was when the present
                                 hold began: up to it messages are marked redelivered)
=======================  ======  =====================================================

Everything that reads and then writes is one Lua script. Numbers have no holes, so how many
wait for whom, and how many ``maxlen`` dropped, is a subtraction.

A member that receives has a connection of its own, subscribed to two channels: the group's,
on which an append says that there is something new, and one named by its token. So Redis
itself knows who listens (``PUBSUB NUMSUB`` in the script that appends), and knows it at once
when a member's process dies. A hint needs no second way: when the connection is lost the
member attaches again and looks. Nobody polls. (https://redis.io/docs/latest/commands/xadd/)

The numbers are the group's own, so the log takes no entries but ours: what another program
adds with XADD is shown to nobody, and from then on sending is refused, with what to do (Redis
gives no number twice, also not that of a deleted entry).

Redis 7.0 commands only. With an append-only file, written before each answer as the lab's is, a
SIGKILL of Redis loses nothing; without one everything, and the members are told.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from chatlab.client import Life
from chatlab.errors import ChatClosed, ChatlabError, NotPossible, SendFailed, Taken
from chatlab.groups.handle import Answer
from chatlab.groups.log import Limits, LogMember, Page, full_reason
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message, new_message
from chatlab.resp import Listener, Redis, Script, ScriptError, mapped

#: At most this many messages are trimmed by one call: a bounded pause, and more than the
#: call added.
TRIM_STEP = 2 * BATCH_MESSAGES

# Forget the oldest messages: ``drop`` of them whoever has not read them, and of what everybody
# has acknowledged what is more than ``keep`` messages, or anything while the log has more than
# ``most`` bytes. -> the first number that is left, and the bytes
_TRIM = """
local log, ids, cursors, me = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function trim(keep, most, step, drop)
  local h = redis.call('HMGET', me, 'first', 'bytes', 'last')
  local first, size, last = tonumber(h[1] or 1), tonumber(h[2] or 0), tonumber(h[3] or 0)
  local low = redis.call('ZRANGE', cursors, 0, 0, 'WITHSCORES')
  local behind = tonumber(low[2] or last) - first + 1
  local look = math.max(drop, math.min(behind, step))
  if drop <= 0 and (look <= 0 or (behind <= keep and size <= most)) then
    return first, size
  end
  local gone, keys, freed = {}, {}, 0
  for i, row in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', look)) do
    if i > drop and (i > behind or (behind - i < keep and size - freed <= most)) then break end
    gone[i], keys[i] = row[1], row[2][2]
    freed = freed + #row[2][4]
  end
  if #gone > 0 then
    redis.call('XDEL', log, unpack(gone))
    redis.call('HDEL', ids, unpack(keys))
    first, size = first + #gone, size - freed
    redis.call('HSET', me, 'first', first, 'bytes', size)
  end
  return first, size
end
"""

# The subscriber of a script's caller: TAKEN by a newer life.
_LIFE = """
local function taken(user, life)
  return tonumber(redis.call('HGET', KEYS[4], 'life:' .. user) or 0) > tonumber(life)
end
"""

# subscribe: ARGV user, life, most subscribers
SUBSCRIBE = Script(
    _LIFE
    + """
local cursors, me, user = KEYS[3], KEYS[4], ARGV[1]
if taken(user, ARGV[2]) then return redis.error_reply('TAKEN') end
if not redis.call('ZSCORE', cursors, user) then
  if redis.call('ZCARD', cursors) >= tonumber(ARGV[3]) then
    return redis.error_reply('FULL')
  end
  local last = redis.call('HGET', me, 'last') or 0
  redis.call('ZADD', cursors, last, user)
  redis.call('HSET', me, 'handed:' .. user, last)
end
redis.call('HSET', me, 'life:' .. user, ARGV[2])
return 1
"""
)

# attach: ARGV user, life, token, channel prefix -> the cursor, -1: no subscriber
ATTACH = Script(
    _LIFE
    + """
local me, user = KEYS[4], ARGV[1]
if taken(user, ARGV[2]) then return redis.error_reply('TAKEN') end
local cursor = redis.call('ZSCORE', KEYS[3], user)
if not cursor then return -1 end
local old = redis.call('HGET', me, 'token:' .. user)
redis.call('HSET', me, 'life:' .. user, ARGV[2], 'token:' .. user, ARGV[3],
  'again:' .. user, redis.call('HGET', me, 'handed:' .. user) or 0)
if old and old ~= ARGV[3] then redis.call('PUBLISH', ARGV[4] .. old, 'taken') end
return tonumber(cursor)
"""
)

# take: ARGV user, token, shown up to, most messages, most bytes, history messages and bytes,
# most to trim -> the last number, how many (the first) were handed out before, how many were
# missed, the messages as one JSON array
TAKE = Script(
    _TRIM
    + """
local user, shown = ARGV[1], tonumber(ARGV[3])
local cursor = redis.call('ZSCORE', cursors, user)
if not cursor then return redis.error_reply('GONE') end
local h = redis.call('HMGET', me, 'token:' .. user, 'again:' .. user, 'handed:' .. user, 'last')
if h[1] ~= ARGV[2] then return redis.error_reply('TAKEN') end
if shown > tonumber(cursor) then redis.call('ZADD', cursors, shown, user) end
local first = trim(tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), 0)
if ARGV[4] == '0' then return {shown, 0, 0, '[]'} end
local from = math.max(shown, first - 1)
local missed, left, texts = from - shown, tonumber(ARGV[5]), {}
local ours = {'(' .. from .. '-0', (h[4] or 0) .. '-0'}
for i, row in ipairs(redis.call('XRANGE', log, ours[1], ours[2], 'COUNT', ARGV[4])) do
  left = left - #row[2][4]
  if i > 1 and left < 0 then break end
  texts[i] = row[2][4]
end
local last = from + #texts
if last > tonumber(h[3]) then redis.call('HSET', me, 'handed:' .. user, last) end
if missed > 0 then redis.call('ZADD', cursors, from, user) end
local again = math.max(0, math.min(last, tonumber(h[2])) - from)
return {last, again, missed, '[' .. table.concat(texts, ',') .. ']'}
"""
)

# detach: ARGV user, token
DETACH = Script("""
local field = 'token:' .. ARGV[1]
if redis.call('HGET', KEYS[4], field) == ARGV[2] then redis.call('HDEL', KEYS[4], field) end
return 1
""")

# leave: ARGV user, life, history messages and bytes, most to trim
LEAVE = Script(
    _LIFE
    + _TRIM
    + """
local user = ARGV[1]
if taken(user, ARGV[2]) then return redis.error_reply('TAKEN') end
redis.call('ZREM', cursors, user)
redis.call('HDEL', me, 'life:' .. user, 'token:' .. user, 'handed:' .. user, 'again:' .. user)
if redis.call('ZCARD', cursors) == 0 then
  redis.call('UNLINK', log, ids, cursors, me)
else
  trim(tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), 0)
end
return 1
"""
)

# append: ARGV sender, the group's channel, channel prefix, most messages that wait, most bytes,
# history messages and bytes, most to trim, maxlen (0: none), then key, message, …
# -> verdicts (s stored, d duplicate, m and b full of messages and bytes), other subscribers,
#    those of them that listen, what waits for the rest, who is furthest behind
APPEND = Script(
    _TRIM
    + """
if redis.call('ZCARD', cursors) == 0 then return {'', 0, 0, 0, ''} end
local keep, most, step = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local maxlen = tonumber(ARGV[9])
local first, size = trim(keep, most, step, 0)
local last = tonumber(redis.call('HGET', me, 'last') or 0)
local top = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if top and top[1] ~= last .. '-0' then return redis.error_reply('FOREIGN') end
local low = redis.call('ZRANGE', cursors, 0, 0, 'WITHSCORES')
local room = tonumber(ARGV[4]) - (last - tonumber(low[2]))
local verdicts, added = {}, 0
for i = 10, #ARGV, 2 do
  local verdict = 's'
  if redis.call('HEXISTS', ids, ARGV[i]) == 1 then verdict = 'd'
  elseif maxlen == 0 and added >= room then verdict = 'm'
  elseif size + #ARGV[i + 1] > tonumber(ARGV[5]) then verdict = 'b'
  else
    last, added, size = last + 1, added + 1, size + #ARGV[i + 1]
    redis.call('XADD', log, last .. '-0', 'k', ARGV[i], 'm', ARGV[i + 1])
    redis.call('HSET', ids, ARGV[i], last)
  end
  verdicts[#verdicts + 1] = verdict
end
if added > 0 then
  redis.call('HSET', me, 'last', last, 'bytes', size, 'first', first)
  if maxlen > 0 then first = trim(keep, most, step, last - first + 1 - maxlen) end
  redis.call('PUBLISH', ARGV[2], last)
end
local others, fields, channels = {}, {}, {}
local all = redis.call('ZRANGE', cursors, 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    others[#others + 1] = tonumber(all[i + 1])
    fields[#fields + 1] = 'token:' .. all[i]
  end
end
if #others == 0 then return {table.concat(verdicts), 0, 0, 0, low[1]} end
for i, token in ipairs(redis.call('HMGET', me, unpack(fields))) do
  channels[i] = ARGV[3] .. (token or '')
end
local there, listeners, waiting = redis.call('PUBSUB', 'NUMSUB', unpack(channels)), 0, 0
for i, cursor in ipairs(others) do
  if tonumber(there[2 * i]) > 0 then listeners = listeners + 1
  else waiting = waiting + last - math.max(cursor, first - 1) end
end
return {table.concat(verdicts), #others, listeners, waiting, low[1]}
"""
)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class RedisLog:
    """The stream of one group, as one life of a user works with it."""

    def __init__(self, life: Life, group: str, maxlen: int = 0) -> None:
        self.limits = Limits()
        self._life = life
        self._group = group
        self._maxlen = maxlen
        self._redis = Redis(
            life.redis, deadline=life.settings.send_seconds, name=life.connection_name
        )
        self._keys = [
            self._redis.key("group", f"{{{group}}}", part)
            for part in ("log", "ids", "cursors", "me")
        ]
        self._channel = self._redis.key("group-new", group)
        self._holds = self._redis.key("group-hold", group, "")
        self._token = ""
        self._listener: Listener | None = None

    @property
    def _history(self) -> tuple[int, int, int]:
        return self.limits.history_messages, self.limits.history_bytes, TRIM_STEP

    async def _run(self, script: Script, *args: str | int) -> Any:
        try:
            return await self._redis.run(script, self._keys, args)
        except ScriptError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: ScriptError) -> ChatlabError:
        user, group = self._life.user, self._group
        match error.code:
            case "TAKEN":
                return Taken(f"A newer client of {user} took over.")
            case "GONE":
                # After a restart without its data the connection was lost, too: that is
                # what counts, because then there is a way to go on.
                lost = self._listener.lost if self._listener is not None else None
                return lost or ChatClosed(f"The stream of {group} was deleted.")
            case "FOREIGN":
                return SendFailed(
                    f"The stream of {group} has an entry that another program added.",
                    todo="Let all its members unsubscribe: then the group begins anew.",
                )
            case "FULL":
                most = f"{self.limits.members:,}"
                return NotPossible(f"The group {group} has {most} members, which is the limit.")
        return error

    async def subscribe(self) -> None:
        life = self._life
        await self._run(SUBSCRIBE, life.user, life.incarnation, self.limits.members)

    async def attach(self) -> int | None:
        life = self._life
        self._release()
        token = secrets.token_hex(8)
        listener = Listener(self._redis, life.settings.heartbeat_seconds)
        try:
            await listener.open([self._channel, self._holds + token])
            cursor = await self._run(ATTACH, life.user, life.incarnation, token, self._holds)
        except BaseException:
            listener.close()
            raise
        if cursor < 0:
            listener.close()
            return None
        self._listener, self._token = listener, token
        return int(cursor)

    async def take(self, shown: int, count: int) -> Page:
        last, again, missed, texts = await self._run(
            *(TAKE, self._life.user, self._token, shown, count, BATCH_BYTES, *self._history)
        )
        messages = list(map(new_message, json.loads(texts)))
        return Page(messages, last, again, missed)

    async def wait(self) -> None:
        if self._listener is not None:
            await self._listener.take()

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.stop()

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def detach(self) -> None:
        self._release()
        await self._run(DETACH, self._life.user, self._token)

    async def leave(self) -> None:
        await self._run(LEAVE, self._life.user, self._life.incarnation, *self._history)

    async def append(self, batch: Sequence[Message]) -> Answer:
        args: list[str | int] = [self._life.user, self._channel, self._holds]
        args += [self.limits.messages, self.limits.bytes, *self._history, self._maxlen]
        for message in batch:
            args += (f"{message.sender}/{message.id}", _encode(message))
        verdicts, others, listeners, waiting, behind = await self._run(APPEND, *args)
        refused = {
            index: full_reason(self._group, self.limits, behind, by_bytes=verdict == "b")
            for index, verdict in enumerate(verdicts)
            if verdict in "mb"
        }
        return Answer(listeners, waiting, nobody=not others, refused=refused)

    def drop(self) -> None:
        self._release()
        self._redis.abandon()


class RedisStreamMember(LogMember):
    """One user's handle on a group on a Redis stream."""

    _open = RedisLog


async def streams(redis: Redis) -> list[tuple[str, str, int]]:
    """What Redis remembers of the groups of this lab, as (thing, name, value)."""
    rows: list[tuple[str, str, int]] = []
    begin, end = redis.key("group", "{"), "}:cursors"
    with mapped(redis.address):
        pattern = begin.replace("[", "\\[").replace("*", "\\*") + "*" + end
        for key in sorted([key async for key in redis.driver.scan_iter(pattern, count=1000)]):
            group = key[len(begin) : -len(end)]
            me = await redis.driver.hget(f"{begin}{group}}}:me", "last")
            last = int(me or 0)
            cursors: Any = await redis.driver.zrange(key, 0, -1, withscores=True)
            length = await redis.driver.xlen(f"{begin}{group}}}:log")
            rows.append(("group: messages in stream", group, length))
            for user, cursor in sorted(cursors):
                rows.append(("group: cursor", f"{group}: {user}", int(cursor)))
                rows.append(("group: waiting", f"{group}: {user}", last - int(cursor)))
    return rows


async def stream(redis: Redis, group: str) -> tuple[int, dict[str, int]]:
    """Of one group: how many messages its stream has, and how many come after the cursor of
    each member, in one transaction."""
    key = redis.key("group", f"{{{group}}}", "")
    with mapped(redis.address):
        async with redis.driver.pipeline(transaction=True) as pipe:
            pipe.xlen(f"{key}log")
            pipe.hget(f"{key}me", "last")
            pipe.zrange(f"{key}cursors", 0, -1, withscores=True)
            length, last, cursors = await pipe.execute()
    return int(length), {user: int(last or 0) - int(cursor) for user, cursor in cursors}
