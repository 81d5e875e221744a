"""Mailboxes in Redis (``mailbox-redis``): they survive the server, and Redis' own restart.

Keys of user bob, in one slot: ``…:mailbox:{bob}:log`` (a stream; each entry ``k``: who sent
it and its id, ``m``: the message as a JSON array), ``…:ids`` (a hash ``k`` -> entry, trimmed
together with the log), ``…:reached`` (a hash: sender -> id of its newest message behind the
cursor) and ``…:me`` (a hash, below). Everything that reads and then writes is one Lua script,
so any number of servers may run over one Redis; a server keeps only its live streams.

====================  =============================================================
field of ``me``       meaning
====================  =============================================================
``incarnation``       newest one that claimed the name
``token, server``     of the present hold, and of the server whose stream it is
``acked, acked_n``    the cursor: entry, and how many are behind it
``handed``            the highest entry ever handed out
``again``             what ``handed`` was when the present hold began (up to it: redelivered)
``base``              what ``acked_n`` was then
``given, handed_n``   the last entry given to the present hold, and how many are up to it
``stored_n``          how many were ever stored
``bytes, log_bytes``  after the cursor, and in the whole log
``seen``              when a hold last began, acknowledged or ended: ms by Redis' clock
====================  =============================================================

A server says that it lives by a key of its own that expires; a hold of a dead server counts
as no receiver. Pub/sub is only a hint from the server that stored a message (or took a hold
over, or was told of an acknowledgement) to the one that holds the stream; a hint may be lost,
so every second a server sweeps the users that it holds.

Redis 7.0 commands only. On a cluster the sweep would be one call per slot.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from typing import Any

from chatlab.errors import ChatlabError, ServiceUnavailable, Taken
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message, new_message, size_of
from chatlab.private.mailbox import (
    TOLD_BYTES,
    Batch,
    Hold,
    Limits,
    MailboxState,
    Offer,
    Seen,
    Stored,
    Told,
    Verdict,
)
from chatlab.resp import Redis, Script, ScriptError, mapped

#: How often a server sweeps the users it holds, and says that it lives.
SWEEP_SECONDS = 1.0
#: A server that has not said so for this long is dead.
SERVER_SECONDS = 3.0
#: At most this many acknowledged messages are trimmed by one acknowledgement: a bounded
#: pause, and more than the acknowledgement added.
TRIM_STEP = 2 * BATCH_MESSAGES

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
#: Entries looked at by one call, and at most for one question: a conversation lies between
#: those of others.
LOOK_STEP = 1_000
LOOK_MOST = 20_000

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
#: Users in one sweep: about a millisecond of Redis.
SWEEP_USERS = 500

_VERDICTS: dict[str, Verdict] = {
    "s": "stored",
    "d": "duplicate",
    "m": "full of messages",
    "b": "full of bytes",
}


@dataclass(slots=True)
class _Given:
    """What a hold was really given: the last entry, and how many up to it."""

    position: str
    count: int = 0
    #: Looks that are on their way.
    looking: int = 0
    #: The stream did not take what was offered.
    declined: bool = False

    def add(self, batch: Batch) -> None:
        if batch.positions:
            self.position = batch.positions[-1]
            self.count += len(batch.positions)


class RedisMailboxes:
    """The store of one of any number of servers.

    Args:
        redis: the server's own connection; not closed by :meth:`close`.
        limits: what a mailbox holds.
    """

    backend = "mailbox-redis"

    def __init__(self, redis: Redis, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._redis = redis
        self._server = secrets.token_hex(8)
        self._channels = redis.key("mailbox-wake", "")
        self._holds: dict[str, Hold] = {}
        self._given: dict[str, _Given] = {}
        self._alive: dict[str, tuple[float, bool]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def _key(self, user: str, part: str) -> str:
        return self._redis.key("mailbox", f"{{{user}}}", part)

    def _keys(self, user: str, *parts: str) -> list[str]:
        return [self._key(user, part) for part in parts]

    def _server_key(self, server: str) -> str:
        return self._redis.key("mailbox-server", server)

    async def open(self) -> None:
        await self._live()
        self._tasks = [asyncio.create_task(self._sweep()), asyncio.create_task(self._listen())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        with suppress(ChatlabError), mapped(self._redis.address):
            await self._redis.driver.delete(self._server_key(self._server))

    async def _run(
        self, script: Script, user: str, parts: Sequence[str], *args: str | int
    ) -> Any:
        try:
            return await self._redis.run(script, self._keys(user, *parts), args)
        except ScriptError as error:
            if error.code == "TAKEN":
                raise Taken(f"A newer client of {user} took over.") from error
            if error.code == "GONE":
                raise ServiceUnavailable("The mailboxes were wiped.") from error
            raise

    # -- holds

    async def claim(self, user: str, incarnation: int) -> None:
        await self._run(CLAIM, user, ["me"], incarnation, self._channels, user)
        hold = self._holds.get(user)
        if hold is not None and hold.incarnation < incarnation:
            hold.wake()

    async def newest(self, user: str) -> int:
        with mapped(self._redis.address):
            return int(await self._redis.driver.hget(self._key(user, "me"), "incarnation") or 0)

    async def attach(
        self,
        user: str,
        incarnation: int,
        wake: Callable[[], None],
        offer: Offer | None = None,
        told: Told | None = None,
    ) -> Hold:
        token = secrets.token_hex(8)
        start = await self._run(
            ATTACH, user, ["me"], incarnation, token, self._server, self._channels, user
        )
        hold = Hold(user, incarnation, token, start, wake, offer, told)
        self._given[token] = _Given(start)
        earlier, self._holds[user] = self._holds.get(user), hold
        if earlier is not None:
            earlier.wake()
        return hold

    async def detach(self, hold: Hold) -> None:
        self._given.pop(hold.token, None)
        if self._holds.get(hold.user) is hold:
            del self._holds[hold.user]
        await self._run(DETACH, hold.user, ["me"], hold.token)

    # -- messages

    async def send(self, to: str, batch: Sequence[Message]) -> Stored:
        hold = self._holds.get(to)
        token = hold.token if hold is not None and hold.offer is not None else ""
        texts = [_encode(message) for message in batch]
        args: list[str | int] = [self.limits.messages, self.limits.bytes]
        args += [self._server, self._channels, to, token]
        for message, text in zip(batch, texts, strict=True):
            args += (f"{message.sender}/{message.id}", text)
        try:
            reply = await self._run(SEND, to, ["log", "ids", "me"], *args)
        except BaseException:
            if hold is not None:  # it may count as given what the lost reply named
                hold.wake()
            raise
        letters, stored, acked, handed, server, before, new = reply
        verdicts = [_VERDICTS[letter] for letter in letters]
        if new and hold is not None and hold.offer is not None:
            kept = [letter == "s" for letter in letters]
            sizes = [size_of(text) for text in compress(texts, kept)]
            await self._offer(
                hold, before, Batch(new.split(), list(compress(batch, kept)), sizes)
            )
        elif server == self._server and to in self._holds:
            self._holds[to].wake()
        if server and await self._lives(server):
            return Stored(verdicts, stored - handed, 1)
        return Stored(verdicts, stored + letters.count("s") - acked, 0)

    async def fetch(
        self, hold: Hold, after: str, count: int = BATCH_MESSAGES, size: int = BATCH_BYTES
    ) -> Batch:
        given = self._given.get(hold.token)
        known = given is not None and given.position == after
        keys, limits = ["log", "me"], (after, count, size)
        if given is None or not known:
            reply = await self._run(FETCH, hold.user, keys, hold.token, *limits, "")
            return _batch(reply)
        given.looking += 1
        try:
            reply = await self._run(FETCH, hold.user, keys, hold.token, *limits, given.count)
        finally:
            given.looking -= 1
        batch = _batch(reply)
        given.add(batch)
        if given.declined:
            await self._correct(hold, given)
        return batch

    async def _offer(self, hold: Hold, before: str, batch: Batch) -> None:
        """Hand a stream what was stored and counts as handed out already."""
        given = self._given.get(hold.token)
        if hold.offer is not None and hold.offer(before, batch):
            if given is not None:
                given.add(batch)
        elif given is not None:
            given.declined = True
            if not given.looking:  # else whoever looks corrects it
                await self._correct(hold, given)

    async def _correct(self, hold: Hold, given: _Given) -> None:
        """Let Redis count as handed out what was, and no more."""
        given.declined = False
        with suppress(Taken, ServiceUnavailable):  # nobody's count any more
            limits = given.position, 0, 0, given.count
            await self._run(FETCH, hold.user, ["log", "me"], hold.token, *limits)

    async def ack(
        self, hold: Hold, position: str, count: int, size: int, newest: Mapping[str, str]
    ) -> None:
        limits = self.limits
        history = (limits.history_messages, limits.history_bytes, TRIM_STEP)
        keys = ["log", "ids", "me", "reached"]
        last = (word for pair in newest.items() for word in pair)
        await self._run(
            ACK, hold.user, keys, hold.token, position, count, size, *history, *last
        )
        for sender, id in newest.items():
            await self._tell(sender, hold.user, id)

    # -- what is known of it

    async def _tell(self, user: str, receiver: str, id: str) -> None:
        """Let a sender know, wherever its stream is."""
        hold = self._holds.get(user)
        if hold is None:
            hint = f"{user} {receiver} {id}"
            await self._run(TELL, user, ["me"], self._channels, self._server, hint)
        elif hold.told is not None:
            hold.told(receiver, id)

    async def reached(self, user: str, receivers: Sequence[str]) -> dict[str, str]:
        with mapped(self._redis.address):
            pipeline = self._redis.driver.pipeline(transaction=False)
            for name in receivers:
                pipeline.hget(self._key(name, "reached"), user)
            found = await pipeline.execute()
        return {name: id for name, id in zip(receivers, found, strict=True) if id is not None}

    async def history(self, user: str, peer: str, limit: int) -> list[Message]:
        with mapped(self._redis.address):
            acked = await self._redis.driver.hget(self._key(user, "me"), "acked")
        shown = await self._newest(user, peer, limit, str(acked or "0-0"))
        sent = await self._newest(peer, user, limit, "+")
        # Entries of two logs in one millisecond: by the senders' Lamport clocks.
        found = sorted([*shown, *sent], key=lambda row: (row[0], row[1].clock))
        return [message for _, message in found[-limit:]]

    async def _newest(
        self, user: str, sender: str, limit: int, before: str
    ) -> list[tuple[int, Message]]:
        """Of a user's log up to ``before``: the newest of ``sender``, each with the
        millisecond in which it was stored."""
        found: list[tuple[int, Message]] = []
        room = TOLD_BYTES
        for _ in range(LOOK_MOST // LOOK_STEP):
            entries, texts, size, before = await self._run(
                NEWEST, user, ["log"], before, f"{sender}/", LOOK_STEP, room
            )
            times = [int(entry.partition("-")[0]) for entry in entries.split()]
            found += zip(times, _decode(texts), strict=True)
            room -= size
            if not before or len(found) >= limit:
                break
        return found[:limit]

    async def seen(self, names: Sequence[str]) -> list[Seen]:
        keys = [self._key(name, "me") for name in names]
        now, *pairs = await self._redis.run(SEEN, keys)
        return [
            Seen(True, now / 1000)
            if server and await self._lives(server)
            else Seen(False, int(seen) / 1000)
            for server, seen in zip(pairs[::2], pairs[1::2], strict=True)
        ]

    # -- other servers

    async def _live(self) -> None:
        """Say that this server lives."""
        with mapped(self._redis.address):
            await self._redis.driver.set(
                self._server_key(self._server), 1, px=int(SERVER_SECONDS * 1000)
            )

    async def _lives(self, server: str) -> bool:
        """Whether a server lives; asked once a second at most."""
        if server == self._server:
            return True
        asked, answer = self._alive.get(server, (float("-inf"), False))
        if time.monotonic() - asked > SWEEP_SECONDS:
            with mapped(self._redis.address):
                answer = bool(await self._redis.driver.exists(self._server_key(server)))
            self._alive[server] = (time.monotonic(), answer)
        return answer

    async def _listen(self) -> None:
        channel = self._channels + self._server
        while True:
            with suppress(ChatlabError):  # hints only: the sweep finds what is missed
                async with self._redis.subscription(channel) as pubsub:
                    while True:
                        with mapped(self._redis.address):
                            hint = await pubsub.get_message(
                                ignore_subscribe_messages=True, timeout=SWEEP_SECONDS
                            )
                        if hint:
                            self._hinted(*hint["data"].split(" ", 2))
            await asyncio.sleep(SWEEP_SECONDS)

    def _hinted(self, user: str, receiver: str = "", id: str = "") -> None:
        hold = self._holds.get(user)
        if hold is None:
            return
        if not receiver:
            hold.wake()
        elif hold.told is not None:
            hold.told(receiver, id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with suppress(ChatlabError):  # Redis is away: the next sweep tries again
                await self._live()
                holds = list(self._holds.values())
                for first in range(0, len(holds), SWEEP_USERS):
                    some = holds[first : first + SWEEP_USERS]
                    users = " ".join([hold.user for hold in some])
                    tokens = " ".join([hold.token for hold in some])
                    ends = self._redis.key("mailbox", "{"), "}:me"
                    for number in await self._redis.run(SWEEP, [], [*ends, users, tokens]):
                        some[number - 1].wake()

    # -- all of them

    async def _scan(self, pattern: str) -> list[str]:
        with mapped(self._redis.address):
            found = self._redis.driver.scan_iter(match=pattern, count=1000)
            return [key async for key in found]

    async def wipe(self) -> None:
        prefix = _literal(self._redis.key("mailbox", ""))
        keys = await self._scan(prefix + "*")
        with mapped(self._redis.address):
            for first in range(0, len(keys), 1000):
                await self._redis.driver.unlink(*keys[first : first + 1000])
        for hold in list(self._holds.values()):
            hold.wake()

    async def state(self) -> list[MailboxState]:
        prefix, suffix = self._redis.key("mailbox", "{"), "}:me"
        keys = sorted(await self._scan(f"{_literal(prefix)}*{suffix}"))
        states = []
        for key in keys:
            with mapped(self._redis.address):
                me = await self._redis.driver.hgetall(key)
            user = key[len(prefix) : -len(suffix)]
            number = {name: int(value) for name, value in me.items() if name in _NUMBERS}
            stored, acked = number.get("stored_n", 0), number.get("acked_n", 0)
            states.append(
                MailboxState(
                    user,
                    number.get("incarnation", 0),
                    stored,
                    number.get("handed_n", 0),
                    acked,
                    stored - acked,
                    number.get("bytes", 0),
                    "server" in me and await self._lives(str(me["server"])),
                )
            )
        return states


_NUMBERS = {"incarnation", "stored_n", "handed_n", "acked_n", "bytes"}


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _batch(reply: list[Any]) -> Batch:
    """What FETCH answers."""
    positions, sizes, again, texts = reply
    return Batch(positions.split(), _decode(texts), list(map(int, sizes.split())), again)


def _decode(texts: str) -> list[Message]:
    """A JSON array of messages."""
    return list(map(new_message, json.loads(texts)))


def _literal(text: str) -> str:
    """``text`` as a SCAN pattern that matches itself only."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)
