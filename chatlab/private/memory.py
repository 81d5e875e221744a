"""Mailboxes in the server's memory (``mailbox-memory``): lost with the server.

The same log and cursor as in Redis, in plain Python, for one server: the reference that a
reader studies first, and what the contract tests run beside ``mailbox-redis``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatlab.errors import ServiceUnavailable, Taken
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message
from chatlab.private.mailbox import Entry, Hold, Limits, MailboxState, Offer, Stored, Verdict

#: History is trimmed in steps of this many messages: each step moves the whole list once.
TRIM_STEP = 1_000


class _Mailbox:
    """One user's log, ids and cursor. Positions count messages from 1."""

    def __init__(self) -> None:
        self.log: list[tuple[Message, int]] = []
        self.first = 1  # the position of log[0]
        self.ids: set[tuple[str, str]] = set()
        self.incarnation = 0
        self.hold: Hold | None = None
        self.acked = 0
        self.handed = 0  # under the present hold
        self.handed_ever = 0
        self.waiting_bytes = 0  # after the cursor
        self.history_bytes = 0

    @property
    def stored(self) -> int:
        return self.first - 1 + len(self.log)

    def stale(self) -> None:
        """End the present hold, if any, and let its owner find out."""
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.wake()

    def add(self, message: Message, limits: Limits) -> Verdict:
        key = (message.sender, message.id)
        if key in self.ids:
            return "duplicate"
        if self.stored - self.acked >= limits.messages:
            return "full of messages"
        size = _size(message.body)
        if self.waiting_bytes + size > limits.bytes:
            return "full of bytes"
        self.ids.add(key)
        self.log.append((message, size))
        self.waiting_bytes += size
        return "stored"

    def trim(self, limits: Limits) -> None:
        """Forget the oldest acknowledged messages, with their ids."""
        behind = self.acked - self.first + 1
        excess = behind - limits.history_messages
        if excess < min(TRIM_STEP, limits.history_messages) and (
            self.history_bytes <= limits.history_bytes
        ):
            return
        drop = 0
        for message, size in self.log[:behind]:
            if drop >= excess and self.history_bytes <= limits.history_bytes:
                break
            self.ids.discard((message.sender, message.id))
            self.history_bytes -= size
            drop += 1
        del self.log[:drop]
        self.first += drop


class MemoryMailboxes:
    """The store of one in-memory server."""

    backend = "mailbox-memory"

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._boxes: dict[str, _Mailbox] = {}

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
    ) -> Hold:
        await self.claim(user, incarnation)
        box = self._box(user)
        box.stale()
        box.handed = box.acked
        box.hold = Hold(user, incarnation, "", str(box.acked), wake)
        return box.hold

    async def detach(self, hold: Hold) -> None:
        box = self._boxes.get(hold.user)
        if box is not None and box.hold is hold:
            box.hold = None

    async def send(self, to: str, batch: Sequence[Message]) -> Stored:
        box = self._box(to)
        hold = box.hold
        backlog = box.stored - box.handed
        verdicts = [box.add(message, self.limits) for message in batch]
        if hold is None:
            return Stored(verdicts, box.stored - box.acked, 0)
        hold.wake()
        return Stored(verdicts, backlog, 1)

    async def fetch(
        self, hold: Hold, after: str, count: int = BATCH_MESSAGES, size: int = BATCH_BYTES
    ) -> list[Entry]:
        box = self._held(hold)
        position = int(after)
        start = position + 1 - box.first
        entries: list[Entry] = []
        for message, length in box.log[start : start + count]:
            size -= length
            if entries and size < 0:
                break
            position += 1
            entries.append(Entry(str(position), message, position <= box.handed_ever, length))
        box.handed = max(box.handed, position)
        box.handed_ever = max(box.handed_ever, position)
        return entries

    async def ack(self, hold: Hold, position: str, count: int, size: int) -> None:
        box = self._held(hold)
        box.acked = int(position)
        box.waiting_bytes -= size
        box.history_bytes += size
        box.trim(self.limits)

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


def _size(body: str) -> int:
    return len(body) if body.isascii() else len(body.encode())
