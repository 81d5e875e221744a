"""Groups that keep messages: one log for all, and a cursor for each subscriber.

::

    log     3 4 5 6 7 8 9        numbered without holes, from 1
              ^   ^     ^
             ana  bob   handed   up to its cursor a subscriber has acknowledged; up to
                                 ``handed`` it was given messages; after that they wait

Sending appends once, however many subscribe. A cursor moves only when the client has shown
a message and says so, so whoever dies, at whatever moment, finds what it has not shown. Up
to the lowest cursor the log is history: kept a while, to recognise a second copy of an id,
then trimmed. What a subscriber has not acknowledged is never trimmed: at the limit sending
is refused, and the refusal names who is behind. With ``maxlen=N`` it is the other way round:
the newest ``N`` are kept, and who misses some is told how many.

One client of a user receives at a time. Attaching makes an earlier hold stale; a stale one is
told :class:`~chatlab.errors.Taken` at its next look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chatlab.client import Life
from chatlab.errors import ChatClosed
from chatlab.groups.handle import Answer, Handle
from chatlab.messages import BATCH_MESSAGES, Message


@dataclass(frozen=True, slots=True)
class Limits:
    """What the log of one group holds; the defaults are the promise, tests use smaller
    ones."""

    #: Most messages that wait for the subscriber that is furthest behind, and their bytes
    #: together with those of the history.
    messages: int = 100_000
    bytes: int = 64 * 1024 * 1024
    #: What is kept behind the lowest cursor, as long as the log is smaller than this.
    history_messages: int = 10_000
    history_bytes: int = 8 * 1024 * 1024
    members: int = 1_000


class Page(NamedTuple):
    """What one look at the log gives: messages, oldest first."""

    messages: list[Message]
    #: The number of the last one; without messages, that of the last before.
    last: int
    #: The first so many were handed out before, to an earlier hold, and not acknowledged.
    again: int = 0
    #: So many before the first are gone, unseen.
    missed: int = 0


class Log(Protocol):
    """The log of one group, as one user's client works with it.

    All coroutines raise ServiceUnavailable or SendUncertain when the log cannot be reached
    (each may be repeated), and :class:`chatlab.errors.Taken` for a stale incarnation.
    """

    async def subscribe(self) -> None:
        """Have a cursor, from the end of the log."""

    async def attach(self) -> int | None:
        """Begin to receive: the cursor; ``None`` without a subscription."""
        ...

    async def take(self, shown: int, count: int) -> Page:
        """Acknowledge up to ``shown``; be handed at most ``count`` of those after it.

        Raises:
            ChatClosed: the log is gone.
        """
        ...

    async def wait(self) -> None:
        """Until there may be something new, or :meth:`stop`."""

    def stop(self) -> None:
        """Let :meth:`wait` return."""

    async def detach(self) -> None:
        """Receive no more. No effect for a stale hold."""

    async def leave(self) -> None:
        """Remove the cursor; with the last one the log goes, too."""

    async def append(self, batch: Sequence[Message]) -> Answer:
        """Append; an id that is there already is not stored again."""
        ...

    def drop(self) -> None:
        """Drop connections at once."""


class LogMember(Handle):
    """One user's handle on a group with a log."""

    #: Opens the log: the life, the group, ``maxlen``.
    _open: Callable[[Life, str, int], Log]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._log = self._open(self._life, self.group, self._options["maxlen"])
        self._shown = 0
        self._unacked: list[str] = []
        self._stopping = False

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        return super().state() | {"unacked": len(self._unacked), "cursor": self._shown}

    async def _enrol(self) -> None:
        await self._log.subscribe()

    async def _attach(self) -> None:
        self._stopping = False
        cursor = await self._log.attach()
        if cursor is None:
            self.subscribed = False
            raise ChatClosed(f"The subscription to {self.group} is gone.")
        self._shown, self._unacked = cursor, []

    async def _reattach(self) -> str:
        cursor = await self._log.attach()
        if cursor is not None:
            return ""
        # As RabbitMQ's queues are declared again: but then what waited is gone.
        await self._log.subscribe()
        self._shown, self._unacked = await self._log.attach() or 0, []
        return f"The messages of {self.group} are gone: an unknown number was missed."

    async def _show_all(self) -> None:
        gate = self._life.gate
        while True:
            found = await self._log.take(self._shown, 0 if self._stopping else BATCH_MESSAGES)
            if self._unacked:
                self._life.facts("Acked", self._chat, self._unacked)
                self._unacked = []
            if found.missed:
                self.missed += found.missed
                self._gap(
                    f"Missed {found.missed:,} messages, dropped before they were read "
                    f"({self.backend})."
                )
            if not found.messages:
                if self._stopping:
                    return
                await self._log.wait()
                continue
            self._unacked = [message.id for message in found.messages]
            if not gate.is_set():
                await gate.wait()
                await self._log.take(self._shown, 0)  # is it still ours?
            marks = [number < found.again for number in range(len(found.messages))]
            self._show(found.messages, marks)
            self._shown = found.last

    async def _stop(self) -> None:
        self._stopping = True
        self._log.stop()

    async def _detach(self) -> None:
        await self._log.detach()

    async def _leave(self) -> None:
        await self._log.leave()
        await super()._leave()

    async def _post(self, batch: Sequence[Message]) -> Answer:
        return await self._log.append(batch)

    def _drop(self) -> None:
        self._log.drop()


def full_reason(group: str, limits: Limits, behind: str, *, by_bytes: bool) -> str:
    """Why a message was refused, with the limit it met."""
    what = f"{limits.bytes / 2**20:g} MiB" if by_bytes else f"{limits.messages:,} messages"
    return f"The group {group} is full: {what} wait; the furthest behind is {behind}."
