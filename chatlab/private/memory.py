"""Mailboxes in the server's memory (``mailbox-memory``): lost with the server.

The same log and cursor as in Redis, in plain Python, for one server: the reference that a
reader studies first, and what the contract tests run beside ``mailbox-redis``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import accumulate, islice
from operator import itemgetter

from chatlab.errors import ServiceUnavailable, Taken
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message, size_of
from chatlab.private.mailbox import (
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

#: History is trimmed in steps of this many messages: each step moves the whole list once.
TRIM_STEP = 1_000


class _Mailbox:
    """One user's log, ids and cursor. Positions count messages from 1."""

    def __init__(self) -> None:
        self.log: list[Message] = []
        self.sizes: list[int] = []  # of each message in the log
        self.stamps: list[int] = []  # when each was stored, in the order of the whole store
        self.first = 1  # the position of log[0]
        self.ids: set[str] = set()
        self.incarnation = 0
        self.hold: Hold | None = None
        self.seen_at = 0.0
        self.acked = 0
        self.handed = 0  # under the present hold
        self.handed_ever = 0
        self.waiting_bytes = 0  # after the cursor
        self.history_bytes = 0
        self.reached: dict[str, str] = {}  # sender -> its newest message behind the cursor

    @property
    def stored(self) -> int:
        return self.first - 1 + len(self.log)

    def stale(self) -> None:
        """End the present hold, if any, and let its owner find out."""
        hold, self.hold = self.hold, None
        if hold is not None:
            self.seen_at = time.time()
            hold.wake()

    def add(self, batch: Sequence[Message], limits: Limits, stamp: int) -> list[Verdict]:
        """Append what is new and fits; ``stamp`` is that of the first."""
        keys = [f"{message.sender}/{message.id}" for message in batch]
        sizes = [size_of(message.body) for message in batch]
        room = limits.messages - (self.stored - self.acked)
        free = limits.bytes - self.waiting_bytes
        new = set(keys)
        fine = len(new) == len(batch) <= room and sum(sizes) <= free
        if fine and self.ids.isdisjoint(new):
            self._append(keys, batch, sizes, stamp)
            return ["stored"] * len(batch)
        verdicts: list[Verdict] = []
        for key, message, size in zip(keys, batch, sizes, strict=True):
            if key in self.ids:
                verdicts.append("duplicate")
            elif room <= 0:
                verdicts.append("full of messages")
            elif size > free:
                verdicts.append("full of bytes")
            else:
                self._append([key], [message], [size], stamp)
                stamp, room, free = stamp + 1, room - 1, free - size
                verdicts.append("stored")
        return verdicts

    def _append(
        self, keys: list[str], batch: Sequence[Message], sizes: list[int], stamp: int
    ) -> None:
        self.ids.update(keys)
        self.log += batch
        self.sizes += sizes
        self.stamps += range(stamp, stamp + len(batch))
        self.waiting_bytes += sum(sizes)

    def newest(self, sender: str, limit: int, through: int) -> Iterator[tuple[int, Message]]:
        """Stamps and messages of ``sender`` up to the position ``through``, newest first."""
        last = through - self.first
        found = (
            (self.stamps[index], self.log[index])
            for index in range(last, -1, -1)
            if self.log[index].sender == sender
        )
        return islice(found, limit)

    def trim(self, limits: Limits) -> None:
        """Forget the oldest acknowledged messages, with their ids."""
        behind = self.acked - self.first + 1
        excess = behind - limits.history_messages
        if excess < min(TRIM_STEP, limits.history_messages) and (
            self.history_bytes <= limits.history_bytes
        ):
            return
        drop = 0
        for message, size in zip(self.log[:behind], self.sizes, strict=False):
            if drop >= excess and self.history_bytes <= limits.history_bytes:
                break
            self.ids.discard(f"{message.sender}/{message.id}")
            self.history_bytes -= size
            drop += 1
        del self.log[:drop], self.sizes[:drop], self.stamps[:drop]
        self.first += drop


class MemoryMailboxes:
    """The store of one in-memory server."""

    backend = "mailbox-memory"

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._boxes: dict[str, _Mailbox] = {}
        self._stamp = 1

    def _box(self, user: str) -> _Mailbox:
        box = self._boxes.get(user)
        if box is None:
            box = self._boxes[user] = _Mailbox()
        return box

    def _held(self, hold: Hold) -> _Mailbox:
        box = self._boxes.get(hold.user)
        if box is None:
            raise ServiceUnavailable("The mailboxes were wiped.")
        if box.hold is not hold:
            raise Taken(f"A newer client of {hold.user} took over.")
        return box

    async def open(self) -> None:
        """Nothing to watch: there is no other server."""

    async def close(self) -> None:
        """Nothing to stop."""

    async def claim(self, user: str, incarnation: int) -> None:
        box = self._box(user)
        if incarnation < box.incarnation:
            raise Taken(f"A newer client of {user} took over.")
        if incarnation > box.incarnation:
            box.incarnation = incarnation
            box.stale()

    async def newest(self, user: str) -> int:
        box = self._boxes.get(user)
        return box.incarnation if box else 0

    async def attach(
        self,
        user: str,
        incarnation: int,
        wake: Callable[[], None],
        offer: Offer | None = None,
        told: Told | None = None,
    ) -> Hold:
        await self.claim(user, incarnation)
        box = self._box(user)
        box.stale()
        box.handed = box.acked
        box.seen_at = time.time()
        box.hold = Hold(user, incarnation, "", str(box.acked), wake, offer, told)
        return box.hold

    async def detach(self, hold: Hold) -> None:
        box = self._boxes.get(hold.user)
        if box is not None and box.hold is hold:
            box.hold = None
            box.seen_at = time.time()

    async def send(self, to: str, batch: Sequence[Message]) -> Stored:
        box = self._box(to)
        hold = box.hold
        backlog = box.stored - box.handed
        verdicts = box.add(batch, self.limits, self._stamp)
        self._stamp += len(batch)
        if hold is None:
            return Stored(verdicts, box.stored - box.acked, 0)
        hold.wake()
        return Stored(verdicts, backlog, 1)

    async def fetch(
        self, hold: Hold, after: str, count: int = BATCH_MESSAGES, size: int = BATCH_BYTES
    ) -> Batch:
        box = self._held(hold)
        position = int(after)
        start = position + 1 - box.first
        sizes = box.sizes[start : start + count]
        if sum(sizes) > size:
            within = sum(1 for total in accumulate(sizes) if total <= size)
            sizes = sizes[: max(within, 1)]
        stop = position + len(sizes)
        positions = [str(number) for number in range(position + 1, stop + 1)]
        again = max(0, min(stop, box.handed_ever) - position)
        box.handed = max(box.handed, stop)
        box.handed_ever = max(box.handed_ever, stop)
        return Batch(positions, box.log[start : start + len(sizes)], sizes, again)

    async def ack(
        self, hold: Hold, position: str, count: int, size: int, newest: Mapping[str, str]
    ) -> None:
        box = self._held(hold)
        box.acked = int(position)
        box.waiting_bytes -= size
        box.history_bytes += size
        box.seen_at = time.time()
        box.reached.update(newest)
        box.trim(self.limits)
        for sender, id in newest.items():
            there = self._boxes.get(sender)
            if there is not None and there.hold is not None and there.hold.told is not None:
                there.hold.told(hold.user, id)

    async def reached(self, user: str, receivers: Sequence[str]) -> dict[str, str]:
        boxes = [(name, self._boxes[name]) for name in receivers if name in self._boxes]
        return {name: box.reached[user] for name, box in boxes if user in box.reached}

    async def history(self, user: str, peer: str, limit: int) -> list[Message]:
        mine, theirs = (self._boxes.get(name, _EMPTY) for name in (user, peer))
        shown = mine.newest(peer, limit, mine.acked)
        sent = theirs.newest(user, limit, theirs.stored)
        newest = islice(merge(shown, sent, key=itemgetter(0), reverse=True), limit)
        return [message for _, message in newest][::-1]

    async def seen(self, names: Sequence[str]) -> list[Seen]:
        boxes = [self._boxes.get(name, _EMPTY) for name in names]
        now = time.time()
        return [
            Seen(True, now) if box.hold is not None else Seen(False, box.seen_at)
            for box in boxes
        ]

    async def wipe(self) -> None:
        boxes, self._boxes = self._boxes, {}
        for box in boxes.values():
            box.stale()

    async def state(self) -> list[MailboxState]:
        return [
            MailboxState(
                user,
                box.incarnation,
                box.stored,
                box.handed,
                box.acked,
                box.stored - box.acked,
                box.waiting_bytes,
                box.hold is not None,
            )
            for user, box in sorted(self._boxes.items())
        ]


_EMPTY = _Mailbox()
