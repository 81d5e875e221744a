"""Insults in Redis: a list (at most once, the baseline) and a stream (at least once).

=====================  ===================================  ================================
                       ``redis-list``                       ``redis-stream``
=====================  ===================================  ================================
an insult waits in     a list                               a stream
taken by               ``BLPOP``                            ``XREADGROUP`` of one consumer
                                                            group, at most ``prefetch``
until it is done       nothing remembers it: a member       the group knows who holds it;
                       that is killed takes it along        ``XACK`` and ``XDEL`` forget it
a poison insult        is lost: nothing to give back        is a dead letter after 5
                                                            deliveries
=====================  ===================================  ================================

Keys, in one slot: ``…:insults:{line}:queue``, ``:ids`` (a sorted set of the newest ids, so
that a message sent again is stored once), ``:listeners`` (a sorted set: user -> when it
stops counting, in ms of Redis' clock, so that the machines' clocks need not agree), ``:dead``
(a list of the newest 1,000 dead letters). What reads and then writes is one Lua script.

A member waits on a connection of its own. Redis serves those who wait in the order in which
they began to, so idle members take turns; waits are cut into pieces of a third of a lease,
and whoever begins anew stands at the end: the turn is not strict.

A listener says so every third of a lease. With the stream it also says that it still works on
what it holds (``XCLAIM JUSTID``); what nobody spoke for during a whole lease belongs to a
dead or frozen member, and an idle one takes it over, marked redelivered. An insult whose
handler failed is stored anew, at the end, with the count of its deliveries: that wakes an
idle member at once. Stored insults are never trimmed: a queue that is full refuses the next.

``require_listener`` is decided by the script that stores: nobody can leave in between. (A
member that crashed counts until its lease is over.)
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from chatlab.amqp import OUTSIDER, Connections
from chatlab.backoff import BACKOFF_SECONDS, patiently
from chatlab.client import Life
from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    NotPossible,
    SendUncertain,
    ServiceUnavailable,
)
from chatlab.insults.line import (
    DEAD_LETTERS,
    DELIVERIES,
    NOBODY,
    QUEUE_MESSAGES,
    Drawn,
    Registry,
    Role,
)
from chatlab.messages import INSULTS as CHAT
from chatlab.messages import Message, Receipt, batches, check_name, new_message
from chatlab.resp import Redis, Script, ScriptError, mapped

T = TypeVar("T")

#: A listener renews its lease this many times in its time.
RENEWALS = 3
#: The consumer group of the stream.
GROUP = "insults"
#: Most insults that one read takes when ``prefetch`` sets no limit.
READ_MESSAGES = 1_000
#: Pause between tries to wake a member that waits in BLPOP, in seconds.
WAKE_SECONDS = 0.02

#: Connections of abandoned lines that are being dropped.
closing: set[asyncio.Future[None]] = set()

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# The stream's group begins with the stream, whoever comes first, also after a loss of data.
_STREAM = """
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'insults', '0', 'MKSTREAM')
"""

# To the dead letters: the message's text.
_BURY = """
local function bury(text)
  redis.call('RPUSH', KEYS[2], text)
  redis.call('LTRIM', KEYS[2], -tonumber(ARGV[1]), -1)
end
"""

# queue, ids, listeners | kind, most, whether a listener is needed, then id, message, …
# -> for each: s stored (or already there), f full, n nobody listens
SEND = Script(
    _NOW
    + """
local stream, most, verdicts = ARGV[1] == 'stream', tonumber(ARGV[2]), {}
local length = redis.call(stream and 'XLEN' or 'LLEN', KEYS[1])
local heard = ARGV[3] == '0' or redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf') > 0
for i = 4, #ARGV, 2 do
  local verdict = 's'
  if not redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    if not heard then verdict = 'n'
    elseif length >= most then verdict = 'f'
    else
      if stream then redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 1])
      else redis.call('RPUSH', KEYS[1], ARGV[i + 1]) end
      redis.call('ZADD', KEYS[2], now, ARGV[i])
      length = length + 1
    end
  end
  verdicts[#verdicts + 1] = verdict
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -(most + 1))
return table.concat(verdicts)
"""
)

# queue, listeners | kind -> waiting, listeners
LOOK = Script(
    _NOW
    + """
local listeners = redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf')
if ARGV[1] == 'list' then return {redis.call('LLEN', KEYS[1]), listeners} end
"""
    + _STREAM
    + """
local held = redis.call('XPENDING', KEYS[1], 'insults')[1]
return {redis.call('XLEN', KEYS[1]) - held, listeners}
"""
)

# queue, listeners | consumer, lease in ms, user, then entries it holds: it lives and works
BEAT = Script(
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
if #ARGV > 3 then
"""
    + _STREAM
    + """
end
for i = 4, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], 'insults', ARGV[i], ARGV[i], 1, ARGV[1])
  if held[1] then
    redis.call('XCLAIM', KEYS[1], 'insults', ARGV[1], 0, ARGV[i], 'JUSTID')
  end
end
return 1
"""
)

# stream, dead | most dead letters, member, most entries, idle ms, last delivery, whose ('':
# anybody's; the member's own: what the answer to a read would have said). Takes over what was
# idle for so long; what has had its last delivery is a dead letter instead.
# -> entries as {entry, message, earlier deliveries}, texts of dead letters
CLAIM = Script(
    _BURY
    + _STREAM
    + """
local found, dead = {}, {}
local pending = {'XPENDING', KEYS[1], 'insults', 'IDLE', ARGV[4], '-', '+', ARGV[3]}
if ARGV[6] ~= '' then pending[#pending + 1] = ARGV[6] end
for _, row in ipairs(redis.call(unpack(pending))) do
  local entry, times = row[1], row[4]
  local stored = redis.call('XRANGE', KEYS[1], entry, entry)[1]
  if not stored then
    redis.call('XACK', KEYS[1], 'insults', entry)
  else
    local text, before = stored[2][2], tonumber(stored[2][4] or 0)
    if ARGV[6] ~= '' then
      found[#found + 1] = {entry, text, before + times - 1}
    elseif before + times >= tonumber(ARGV[5]) then
      bury(text)
      redis.call('XACK', KEYS[1], 'insults', entry)
      redis.call('XDEL', KEYS[1], entry)
      dead[#dead + 1] = text
    else
      redis.call('XCLAIM', KEYS[1], 'insults', ARGV[2], 0, entry)
      found[#found + 1] = {entry, text, before + times}
    end
  end
end
return {found, dead}
"""
)

# stream | entry -> whether it was still held by anybody
DONE = Script("""
local held = redis.call('XACK', KEYS[1], 'insults', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
return held
""")

# stream, dead | most dead letters, member, last delivery, entry. Gives back what this member
# holds: stored anew, or with the dead letters. -> 1: a dead letter
FAILED = Script(
    _BURY
    + _STREAM
    + """
local entry = ARGV[4]
local held = redis.call('XPENDING', KEYS[1], 'insults', entry, entry, 1, ARGV[2])[1]
local stored = redis.call('XRANGE', KEYS[1], entry, entry)[1]
if not held or not stored then return 0 end
local text, count = stored[2][2], tonumber(stored[2][4] or 0) + held[4]
redis.call('XACK', KEYS[1], 'insults', entry)
redis.call('XDEL', KEYS[1], entry)
if count >= tonumber(ARGV[3]) then bury(text) return 1 end
redis.call('XADD', KEYS[1], '*', 'm', text, 'n', count)
return 0
"""
)

# stream | member, most: all that it holds is stored anew, and the group forgets the member
GIVE_BACK = Script(
    _STREAM
    + """
for _, row in ipairs(redis.call('XPENDING', KEYS[1], 'insults', '-', '+', ARGV[2], ARGV[1])) do
  local stored = redis.call('XRANGE', KEYS[1], row[1], row[1])[1]
  redis.call('XACK', KEYS[1], 'insults', row[1])
  if stored then
    redis.call('XDEL', KEYS[1], row[1])
    redis.call('XADD', KEYS[1], '*', unpack(stored[2]))
  end
end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'insults', ARGV[1])
"""
)


class RedisLine(ABC):
    """What the two lines share: sending, the lease of a listener, coming back."""

    kind = ""
    #: Most insults that wait.
    limit = QUEUE_MESSAGES

    def __init__(self, life: Life, _connections: Connections, _registry: Registry) -> None:
        self._life = life
        self._redis = Redis(
            life.redis, deadline=life.settings.send_seconds, name=life.connection_name
        )
        self._lease = life.settings.lease_seconds
        #: How long a wait in Redis is at most, in seconds.
        self._wait = min(self._lease / RENEWALS, life.settings.send_seconds / 2)
        self._me = f"{life.user}/{life.incarnation}"
        self._options: dict[str, Any] = {}
        self._beating: asyncio.Task[None] | None = None
        #: When Redis last heard of this listener, by the loop's clock.
        self._beat_at = 0.0
        self._stopped = False
        self._turn = asyncio.Lock()

    def _key(self, name: str) -> str:
        return self._redis.key(f"insults:{{{self.kind}}}:{name}")

    # --------------------------------------------------------------------- listening

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        self._options, self._on_lost, self._on_back = options, on_lost, on_back
        if role == "producer":
            await self._look()
            return
        await self._beat()
        self._beating = asyncio.create_task(self._keep_beating())

    async def _beat(self) -> None:
        args = [self._me, round(self._lease * 1000), self._life.user, *self._held()]
        await self._redis.run(BEAT, [self._key("queue"), self._key("listeners")], args)
        self._beat_at = asyncio.get_running_loop().time()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self._lease / RENEWALS)
            await self._life.gate.wait()
            with suppress(ChatlabError):  # the next one says it, too
                await self._beat()

    def _held(self) -> list[str]:
        """Entries in hand."""
        return []

    async def _reading(self, read: Callable[[], Awaitable[T]]) -> T:
        """What ``read`` returns; when Redis is away, once it is back."""
        while True:
            try:
                return await read()
            except (ServiceUnavailable, SendUncertain) as error:
                self._on_lost(error)
            await patiently(self._beat)
            await self._recover()
            self._on_back()

    @abstractmethod
    async def _recover(self) -> None:
        """Redis is back."""

    @abstractmethod
    async def take(self) -> Drawn | None:
        """See :class:`~chatlab.insults.line.Line`."""

    async def ours(self, drawn: Drawn, late: bool) -> bool:
        return True

    async def stop(self) -> None:
        self._stopped = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            with suppress(ChatlabError), mapped(self._redis.address):
                await cast(
                    "Any", self._redis.driver.zrem(self._key("listeners"), self._life.user)
                )

    async def close(self) -> None:
        await self._redis.close()

    def abandon(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        task = asyncio.ensure_future(self._hang_up())
        closing.add(task)
        task.add_done_callback(closing.discard)

    async def _hang_up(self) -> None:
        await self._redis.close()

    # ----------------------------------------------------------------------- sending

    async def send(self, messages: Sequence[Message], listened: bool) -> list[Receipt]:
        verdicts: list[tuple[str, str]] = []
        async with self._turn:  # a first send that waits is not overtaken
            for part in batches(messages):
                verdicts += await self._store(part, listened)
        waiting: int | None = None
        listeners: int | None = None
        if any(code in "sf" for code, _ in verdicts):
            with suppress(ChatlabError):  # only who listens is not known
                waiting, listeners = await self._look()
        return [
            self._receipt(message.id, code, reason, waiting, listeners)
            for message, (code, reason) in zip(messages, verdicts, strict=True)
        ]

    async def _store(self, part: Sequence[Message], listened: bool) -> list[tuple[str, str]]:
        """Code and reason of each. The same ids may be stored again and again, so a Redis
        that is away is tried until the deadline."""
        keys = [self._key("queue"), self._key("ids"), self._key("listeners")]
        args: list[Any] = [self.kind, self.limit, int(listened)]
        for message in part:
            args += [message.id, json.dumps(message, ensure_ascii=False)]
        loop = asyncio.get_running_loop()
        until, pause, left = loop.time() + self._life.settings.send_seconds, 0.0, False
        while True:
            try:
                return [(code, "") for code in await self._redis.run(SEND, keys, args)]
            except (ServiceUnavailable, SendUncertain) as error:
                left = left or isinstance(error, SendUncertain)
                pause = min(2 * pause, BACKOFF_SECONDS[1]) or BACKOFF_SECONDS[0]
                if loop.time() + pause > until:
                    return [("?" if left else "x", error.what)] * len(part)
            except ChatlabError as error:
                return [("x", error.what)] * len(part)
            await asyncio.sleep(pause)

    def _receipt(
        self, id: str, code: str, reason: str, waiting: int | None, listeners: int | None
    ) -> Receipt:
        match code:
            case "s":
                return Receipt(id, "confirmed", waiting, listeners)
            case "n":
                return Receipt(id, "unroutable", 0, 0, NOBODY)
            case "f":
                full = f"the insult queue holds {self.limit:,} insults, its limit"
                return Receipt(id, "failed", waiting, listeners, full, "MailboxFull")
            case "x":
                return Receipt(id, "failed", None, None, reason)
        return Receipt(id, "uncertain", None, None, reason, "SendUncertain")

    async def _look(self) -> tuple[int, int]:
        keys = [self._key("queue"), self._key("listeners")]
        waiting, listeners = await self._redis.run(LOOK, keys, [self.kind])
        return waiting, listeners

    @abstractmethod
    async def dead_letters(self) -> list[Message]:
        """See :class:`~chatlab.insults.line.Line`."""


class ListLine(RedisLine):
    """``redis-list``."""

    kind = "list"

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        #: Popped, and not yet begun.
        self._hand: Drawn | None = None
        #: The connection that waits, and what Redis knows it by.
        self._own: Any = None
        self._own_id = 0
        self._waits = False
        await super().open(role, options, on_lost, on_back)

    async def _recover(self) -> None:
        pass  # what was on its way is lost

    async def take(self) -> Drawn | None:
        self._hand = None
        while not self._stopped:
            found = await self._reading(self._pop)
            if found is not None:
                message = read_message(found)
                self._hand = Drawn(message, False, found)
                return self._hand
        return None

    async def _pop(self) -> str | None:
        """The next one within the wait. Lost if this connection breaks or this process ends
        between the pop and its answer."""
        try:
            with mapped(self._redis.address):
                if self._own is None:
                    self._own = self._redis.driver.client()
                    self._own_id = await self._own.client_id()
                self._waits = True
                found = await self._own.blpop([self._key("queue")], self._wait)
        except ChatlabError:
            await self._drop_own()
            raise
        finally:
            self._waits = False
        return None if found is None else str(found[1])

    async def ours(self, drawn: Drawn, late: bool) -> bool:
        self._hand = None
        return True

    async def done(self, drawn: Drawn) -> bool:
        return False

    async def failed(self, drawn: Drawn) -> bool:
        return True

    async def stop(self) -> None:
        await super().stop()
        # One that waits is woken; one that is not yet waiting gets there in a moment.
        with suppress(ChatlabError), mapped(self._redis.address):
            while self._waits:
                await cast("Any", self._redis.driver.client_unblock(self._own_id))
                await asyncio.sleep(WAKE_SECONDS)

    async def close(self) -> None:
        if self._hand is not None:  # popped while leaving: back to where it was
            with suppress(ChatlabError), mapped(self._redis.address):
                await cast("Any", self._redis.driver.lpush(self._key("queue"), self._hand.tag))
        await self._drop_own()
        await super().close()

    async def _hang_up(self) -> None:
        await self._drop_own()
        await super()._hang_up()

    async def _drop_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            with suppress(ChatlabError), mapped(self._redis.address):
                await own.aclose()

    async def dead_letters(self) -> list[Message]:
        raise NotPossible("redis-list keeps no dead letters: what fails there is lost.")

    def state(self) -> dict[str, Any]:
        return {}


class StreamLine(RedisLine):
    """``redis-stream``. The group's consumer is ``user/incarnation``."""

    kind = "stream"

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        #: Read and not yet begun.
        self._buffer: deque[Drawn] = deque()
        #: All that this member holds.
        self._mine: dict[str, None] = {}
        self._claimed_at = 0.0
        #: An acknowledgement went astray: the group has to be asked what we hold.
        self._unsure = False
        self._reader: asyncio.Task[Any] | None = None
        await self._look()  # makes the group
        await super().open(role, options, on_lost, on_back)
        if role != "producer":
            await self._recover()

    def _held(self) -> list[str]:
        return list(self._mine)

    async def take(self) -> Drawn | None:
        loop = asyncio.get_running_loop()
        while not self._buffer:
            if self._stopped:
                return None
            if self._unsure:
                await self._reading(self._recover)
            if loop.time() - self._claimed_at >= self._lease / RENEWALS:
                await self._reading(lambda: self._claim(self._lease * 1000, ""))
                self._claimed_at = loop.time()
            if not self._buffer and not self._stopped:
                self._reader = asyncio.ensure_future(self._reading(self._read))
                try:
                    await asyncio.wait([self._reader])
                    if self._reader.cancelled():  # by stop; what it was given is still ours
                        return None
                    self._reader.result()
                finally:
                    self._reader.cancel()
        return self._buffer.popleft()

    @property
    def _room(self) -> int:
        return self._options["prefetch"] or READ_MESSAGES

    async def _read(self) -> None:
        """New ones, as soon as there are any, within the wait."""
        try:
            with mapped(self._redis.address):
                answer = await cast(
                    "Any",
                    self._redis.driver.xreadgroup(
                        GROUP,
                        self._me,
                        {self._key("queue"): ">"},
                        count=self._room,
                        block=round(self._wait * 1000),
                    ),
                )
        except ScriptError as error:
            if error.code != "NOGROUP":
                raise
            await self._look()  # Redis has lost the stream: begin again
            return
        for _, rows in answer or []:
            for entry, fields in rows:
                self._got(entry, fields.get("m", ""), int(fields.get("n", 0)))

    async def _claim(self, idle: float, whose: str) -> None:
        """Take over what nobody spoke for during ``idle`` ms, or what is ours already."""
        keys = [self._key("queue"), self._key("dead")]
        args = (DEAD_LETTERS, self._me, self._room, round(idle), DELIVERIES, whose)
        found, dead = await self._redis.run(CLAIM, keys, args)
        for text in dead:
            self._life.fact("Rejected", CHAT, read_message(text).id, True)
        for entry, text, earlier in found:
            self._got(entry, text, earlier)

    def _got(self, entry: str, text: str, earlier: int) -> None:
        self._mine[entry] = None
        self._buffer.append(Drawn(read_message(text), earlier > 0, entry))

    async def _recover(self) -> None:
        """What the group says that we hold; an answer may have been lost on the way."""
        self._buffer.clear()
        self._mine.clear()
        await patiently(lambda: self._claim(0, self._me))
        self._unsure = False

    async def ours(self, drawn: Drawn, late: bool) -> bool:
        if drawn.tag not in self._mine:
            return False
        silent = asyncio.get_running_loop().time() - self._beat_at
        if late or silent > self._lease:  # somebody may have taken it over
            await self._reading(lambda: self._check(drawn.tag))
        return drawn.tag in self._mine

    async def _check(self, entry: str) -> None:
        with mapped(self._redis.address):
            held = await cast(
                "Any",
                self._redis.driver.xpending_range(
                    self._key("queue"), GROUP, entry, entry, 1, self._me
                ),
            )
        if not held:
            self._mine.pop(entry, None)

    async def done(self, drawn: Drawn) -> bool:
        held = await self._settled(drawn, DONE, ["queue"], [drawn.tag])
        return bool(held)

    async def failed(self, drawn: Drawn) -> bool:
        args = [DEAD_LETTERS, self._me, DELIVERIES, drawn.tag]
        return bool(await self._settled(drawn, FAILED, ["queue", "dead"], args))

    async def _settled(
        self, drawn: Drawn, script: Script, keys: list[str], args: list[Any]
    ) -> Any:
        """Nothing when Redis is away: then we are given it again, or somebody else is."""
        self._mine.pop(drawn.tag, None)
        try:
            return await self._redis.run(script, [self._key(key) for key in keys], args)
        except (ServiceUnavailable, SendUncertain):
            self._unsure = True
            return None

    async def stop(self) -> None:
        await super().stop()
        if self._reader is not None:
            self._reader.cancel()

    async def close(self) -> None:
        if self._beating is not None:
            with suppress(ChatlabError):
                args = [self._me, self.limit]
                await self._redis.run(GIVE_BACK, [self._key("queue")], args)
        await super().close()

    async def dead_letters(self) -> list[Message]:
        with mapped(self._redis.address):
            texts = await cast("Any", self._redis.driver.lrange(self._key("dead"), 0, -1))
        return [read_message(text) for text in texts]

    def state(self) -> dict[str, Any]:
        return {"unacked": len(self._mine)}


async def stored(redis: Redis) -> dict[str, int]:
    """What a lab's Redis holds of insults: how many are in each list and stream."""
    found: dict[str, int] = {}
    with mapped(redis.address):
        for kind, name in (("list", "queue"), ("stream", "queue"), ("stream", "dead")):
            key = f"insults:{{{kind}}}:{name}"
            length = (
                redis.driver.xlen if (kind, name) == ("stream", "queue") else redis.driver.llen
            )
            if count := await cast("Any", length(redis.key(key))):
                found[key] = count
    return found


def read_message(text: str) -> Message:
    """The message that a text in Redis is. What is not wholly ours is an outsider's: its
    text is shown, nothing else of it is believed."""
    try:
        message = new_message(json.loads(text))
        texts = (message.id, message.body)
        numbers = (message.incarnation, message.seq, message.clock)
        if (
            len(message) == len(Message._fields)
            and all(isinstance(value, str) and value for value in texts)
            and all(isinstance(value, int) for value in numbers)
        ):
            return message._replace(
                sender=check_name(message.sender), to=CHAT, sent_at=float(message.sent_at)
            )
    except (ValueError, TypeError, IndexError, InvalidInput):
        pass
    id = f"{OUTSIDER}:{secrets.token_hex(8)}"
    return Message(id, OUTSIDER, 0, CHAT, text, 0, time.time(), 0)
