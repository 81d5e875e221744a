"""What a store of mailboxes does: a mailbox is a log and a cursor.

A mailbox belongs to a user, not to a connection. Sending appends to its log; handing out
changes nothing that matters; only an acknowledgement moves the cursor. So whoever dies, at
whatever moment, the messages behind the cursor are dealt with and those after it come again.

::

    log     1 2 3 4 5 6 7 8 9        ids refuse a second copy of any message in the log
                  ^       ^
                  cursor  handed     behind the cursor: history, trimmed; up to ``handed``:
                                     on its way; after it: waiting

One receiver holds a mailbox at a time. :meth:`Mailboxes.attach` gives out a :class:`Hold`;
the next attach, or a claim by a newer incarnation, makes it stale, and a stale hold is told
:class:`~chatlab.errors.Taken` at its next call: two receivers never split a mailbox.

Positions are opaque text, comparable only by the store that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message

#: What may wait in a mailbox, not acknowledged.
MAILBOX_MESSAGES = 100_000
MAILBOX_BYTES = 64 * 1024 * 1024
#: What is kept behind the cursor, as history and to recognise a second copy.
HISTORY_MESSAGES = 10_000
HISTORY_BYTES = 8 * 1024 * 1024

#: What one question for a conversation is told at most.
TOLD_MESSAGES = 1_000
TOLD_BYTES = 8 * 1024 * 1024

Verdict = Literal["stored", "duplicate", "full of messages", "full of bytes"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a mailbox holds; the defaults are the promise, tests use smaller ones."""

    messages: int = MAILBOX_MESSAGES
    bytes: int = MAILBOX_BYTES
    history_messages: int = HISTORY_MESSAGES
    history_bytes: int = HISTORY_BYTES


class Stored(NamedTuple):
    """What a mailbox did with a batch."""

    #: One for each message, in order.
    verdicts: list[Verdict]
    #: Messages that wait with nobody taking them: with a receiver, the backlog the batch
    #: found; without one, all that is not acknowledged, the batch included.
    waiting: int
    #: 1 when a receiver holds the mailbox now, else 0.
    listeners: int


class Batch(NamedTuple):
    """Messages as they are handed out, oldest first, column by column."""

    positions: list[str]
    messages: list[Message]
    #: Bytes that each takes in the store.
    sizes: list[int]
    #: The first so many were handed out before, under an earlier hold, and not acknowledged.
    again: int = 0

    def split(self, count: int) -> tuple[Batch, Batch]:
        """The first ``count`` messages, and the rest."""
        p, m, s, again = self
        return (
            Batch(p[:count], m[:count], s[:count], min(again, count)),
            Batch(p[count:], m[count:], s[count:], max(again - count, 0)),
        )


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of messages that are handed out for the first time, as one."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        [position for batch in batches for position in batch.positions],
        [message for batch in batches for message in batch.messages],
        [size for batch in batches for size in batch.sizes],
    )


#: Takes new messages and the position just before them; False: it fetches them instead.
Offer = Callable[[str, Batch], bool]

#: Takes a receiver and the id of the newest message of this user that it has acknowledged.
Told = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to receive from one mailbox."""

    user: str
    incarnation: int
    #: Random; the mailbox knows the one of the present hold.
    token: str = field(repr=False)
    #: The cursor when the hold began: handing out starts after it.
    start: str
    #: Called (on the loop) when there may be something new, or when the hold became stale.
    wake: Callable[[], None] = field(repr=False, compare=False)
    #: Where a store may hand over unasked what was stored just now.
    offer: Offer | None = field(default=None, repr=False, compare=False)
    #: Called when somebody has acknowledged messages that this user sent.
    told: Told | None = field(default=None, repr=False, compare=False)


class MailboxState(NamedTuple):
    """A mailbox as ``lab.state()`` shows it."""

    user: str
    incarnation: int
    #: Messages ever stored, behind what was handed out last, and acknowledged.
    stored: int
    handed: int
    acked: int
    #: Not acknowledged: how many, and their bytes.
    unacknowledged: int
    bytes: int
    #: A receiver holds it now.
    held: bool


class Seen(NamedTuple):
    """Whether a user receives."""

    online: bool
    #: When it last had a hold, or acknowledged something: seconds since the epoch, by the
    #: store's clock; 0: never.
    at: float


class Mailboxes(Protocol):
    """A store. All methods raise ``ServiceUnavailable`` or ``SendUncertain`` when the store
    cannot be reached; each may be repeated."""

    #: ``mailbox-memory`` or ``mailbox-redis``.
    backend: str

    async def open(self) -> None:
        """Begin to watch for what other servers do. Call before anything else."""

    async def close(self) -> None:
        """Stop watching; holds of this server end by themselves."""

    async def claim(self, user: str, incarnation: int) -> None:
        """Make ``incarnation`` the user's newest; holds of older ones become stale.

        Raises:
            Taken: a newer one is known.
        """

    async def newest(self, user: str) -> int:
        """The newest incarnation known of ``user``; 0 when none is."""

    async def attach(
        self,
        user: str,
        incarnation: int,
        wake: Callable[[], None],
        offer: Offer | None = None,
        told: Told | None = None,
    ) -> Hold:
        """Begin to receive; an earlier hold becomes stale and is woken.

        Raises:
            Taken: a newer incarnation is known.
        """

    async def detach(self, hold: Hold) -> None:
        """Stop receiving. No effect for a stale hold."""

    async def send(self, to: str, batch: Sequence[Message]) -> Stored:
        """Append a batch. An id of one sender is stored once."""

    async def fetch(
        self, hold: Hold, after: str, count: int = BATCH_MESSAGES, size: int = BATCH_BYTES
    ) -> Batch:
        """Hand out what follows ``after``: at most ``count`` messages and (but for the
        first) ``size`` bytes.

        Raises:
            Taken: the hold is stale.
            ServiceUnavailable: the mailbox was wiped; claim and attach again.
        """

    async def ack(
        self, hold: Hold, position: str, count: int, size: int, newest: Mapping[str, str]
    ) -> None:
        """Move the cursor to ``position``, past ``count`` messages of ``size`` bytes, and let
        their senders know.

        Args:
            newest: sender -> id of the newest of its messages among them.

        Raises: as :meth:`fetch`.
        """

    async def reached(self, user: str, receivers: Sequence[str]) -> dict[str, str]:
        """Receiver -> id of the newest message of ``user`` that it has acknowledged; without
        those that have acknowledged none."""

    async def history(self, user: str, peer: str, limit: int) -> list[Message]:
        """Of what the two mailboxes hold: what ``user`` sent ``peer`` and what it has
        acknowledged of ``peer``; the newest ``limit``, in the order in which they were
        stored."""

    async def seen(self, names: Sequence[str]) -> list[Seen]:
        """For each name whether it receives now, and when it last did."""

    async def wipe(self) -> None:
        """Forget all mailboxes; holds are woken and end."""

    async def state(self) -> list[MailboxState]:
        """All mailboxes, by name."""


def full_reason(verdict: Verdict, limits: Limits, user: str) -> str:
    """Why a message was refused, with the limit it met."""
    if verdict == "full of messages":
        return f"The mailbox of {user} is full: {limits.messages:,} messages wait."
    return f"The mailbox of {user} is full: {limits.bytes / 2**20:g} MiB wait."
