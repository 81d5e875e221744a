"""Mailboxes in Redis (``mailbox-redis``): they survive the server, and Redis' own restart.

Keys of user bob, in one slot: ``…:mailbox:{bob}:log`` (a stream; each entry ``k``: who sent
it and its id, ``m``: the message as a JSON array), ``…:ids`` (a hash ``k`` -> entry, trimmed
together with the log), ``…:reached`` (a hash: sender -> id of its newest message behind the
cursor) and ``…:me`` (a hash, below). Everything that reads and then writes is one Lua script
(``scripts``), so any number of servers may run over one Redis; a server keeps only its live
streams.

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

from chatlab import logs
from chatlab.errors import ChatlabError, ServiceUnavailable, Taken
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message, new_message, size_of
from chatlab.private import scripts
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

#: Entries looked at by one call, and at most for one question: a conversation lies between
#: those of others.
LOOK_STEP = 1_000
LOOK_MOST = 20_000

#: Users in one sweep: about a millisecond of Redis.
SWEEP_USERS = 500

log = logs.of(__name__)

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
        self._away = False

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
        await self._run(scripts.CLAIM, user, ["me"], incarnation, self._channels, user)
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
            scripts.ATTACH, user, ["me"], incarnation, token, self._server, self._channels, user
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
        await self._run(scripts.DETACH, hold.user, ["me"], hold.token)

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
            reply = await self._run(scripts.SEND, to, ["log", "ids", "me"], *args)
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
            reply = await self._run(scripts.FETCH, hold.user, keys, hold.token, *limits, "")
            return _batch(reply)
        given.looking += 1
        try:
            reply = await self._run(
                scripts.FETCH, hold.user, keys, hold.token, *limits, given.count
            )
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
            await self._run(scripts.FETCH, hold.user, ["log", "me"], hold.token, *limits)

    async def ack(
        self, hold: Hold, position: str, count: int, size: int, newest: Mapping[str, str]
    ) -> None:
        limits = self.limits
        history = (limits.history_messages, limits.history_bytes, TRIM_STEP)
        keys = ["log", "ids", "me", "reached"]
        last = (word for pair in newest.items() for word in pair)
        await self._run(
            scripts.ACK, hold.user, keys, hold.token, position, count, size, *history, *last
        )
        for sender, id in newest.items():
            await self._tell(sender, hold.user, id)

    # -- what is known of it

    async def _tell(self, user: str, receiver: str, id: str) -> None:
        """Let a sender know, wherever its stream is."""
        hold = self._holds.get(user)
        if hold is None:
            hint = f"{user} {receiver} {id}"
            await self._run(scripts.TELL, user, ["me"], self._channels, self._server, hint)
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
                scripts.NEWEST, user, ["log"], before, f"{sender}/", LOOK_STEP, room
            )
            times = [int(entry.partition("-")[0]) for entry in entries.split()]
            found += zip(times, _decode(texts), strict=True)
            room -= size
            if not before or len(found) >= limit:
                break
        return found[:limit]

    async def seen(self, names: Sequence[str]) -> list[Seen]:
        keys = [self._key(name, "me") for name in names]
        now, *pairs = await self._redis.run(scripts.SEEN, keys)
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
            try:
                await self._sweep_once()
            except ChatlabError as error:  # Redis is away: the next sweep tries again
                if not self._away:
                    log.warning("store away", store=self.backend, why=error.what)
                self._away = True
            else:
                if self._away:
                    log.warning("store back", store=self.backend)
                self._away = False

    async def _sweep_once(self) -> None:
        await self._live()
        holds = list(self._holds.values())
        for first in range(0, len(holds), SWEEP_USERS):
            some = holds[first : first + SWEEP_USERS]
            users = " ".join([hold.user for hold in some])
            tokens = " ".join([hold.token for hold in some])
            ends = self._redis.key("mailbox", "{"), "}:me"
            for number in await self._redis.run(scripts.SWEEP, [], [*ends, users, tokens]):
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
