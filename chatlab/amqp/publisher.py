"""Publishing with confirms in a window, and again after a lost connection.

Messages wait in a queue, go out while fewer than ``window`` are unconfirmed, and end with
one :class:`Outcome` each. RabbitMQ answers with *ack* (it took responsibility), *nack* (a
queue refused: an answer, so never sent again) or, before an ack, *return* (``mandatory`` and
no queue was bound); one answer may cover many. When the channel is lost, what is
unconfirmed goes back to the head of the queue in its old order, and goes out again from the
oldest before anything new. So one sender's messages never overtake each other, and a
receiver that drops second copies by id sees each once.

Whoever waits gives up when nothing at all was confirmed for ``patience`` seconds. Then a
message that never left is *failed*, one that left is *uncertain*.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from chatlab.amqp.errors import NotFound
from chatlab.amqp.wire import Channel, Properties
from chatlab.errors import ChatlabError, InvalidInput

#: Most messages written without yielding to the loop.
WRITE_BURST = 100


class Outgoing(NamedTuple):
    """One message to publish."""

    exchange: str
    key: str
    body: bytes
    #: Carries the ``message_id`` by which a return is matched.
    properties: Properties
    #: Return it when no queue is bound.
    mandatory: bool = True


class Outcome(NamedTuple):
    """What became of one message; ``reason`` is empty when it was acked."""

    kind: Literal["acked", "nacked", "returned", "failed", "uncertain", "sent"]
    reason: str = ""
    #: The class of :mod:`chatlab.errors` that says the same, when it failed.
    error: str = ""


ACKED = Outcome("acked")
#: Written without asking for a confirm.
SENT = Outcome("sent", "no confirm asked for")
NACKED = Outcome("nacked", "RabbitMQ refused it for at least one queue")
RETURNED = Outcome("returned", "no queue is bound")


class Batch:
    """The messages of one submit, on their way."""

    def __init__(self, items: Sequence[Outgoing]) -> None:
        self.results: list[Outcome | None] = [None] * len(items)
        self.left = len(items)
        self.done = asyncio.Event()
        self.entries = [_Pending(item, self, index) for index, item in enumerate(items)]
        if not items:
            self.done.set()


class _Pending:
    """One message on its way. ``batch`` is None when nobody waits for it any more."""

    __slots__ = ("batch", "index", "item", "returned", "written")

    def __init__(self, item: Outgoing, batch: Batch, index: int) -> None:
        self.item = item
        self.batch: Batch | None = batch
        self.index = index
        self.written = False
        self.returned = False

    def settle(self, outcome: Outcome) -> None:
        batch = self.batch
        if batch is None:
            return
        self.batch = None
        batch.results[self.index] = outcome
        batch.left -= 1
        if not batch.left:
            batch.done.set()


class Publisher:
    """The publishing side of one connection; see the module's docstring."""

    def __init__(self, window: int = 1000) -> None:
        self.window = window
        #: Why there is no connection now; part of what those who give up are told.
        self.trouble = ""
        self._channel: Channel | None = None
        self._waiting: deque[_Pending] = deque()
        #: Unconfirmed on the present channel, by delivery tag: 1, 2, 3 …
        self._flight: dict[int, _Pending] = {}
        self._last_tag = 0
        self._oldest_tag = 1
        self._progress = 0.0
        self._pumping = False

    @property
    def unconfirmed(self) -> int:
        """Messages without an answer yet, those not yet written included."""
        return sum(1 for pending in self._all() if pending.batch is not None)

    def submit(self, items: Sequence[Outgoing]) -> Batch:
        """Take messages to publish, in this order and after all taken before."""
        batch = Batch(items)
        self._waiting.extend(batch.entries)
        self._pump()
        return batch

    async def outcomes(self, batch: Batch, patience: float) -> list[Outcome]:
        """One outcome a message, in order; never raises for what happened to one.

        Args:
            patience: seconds without any confirm after which the rest is given up.
        """
        try:
            await self._wait(batch, patience)
        finally:  # also when the waiting cell is interrupted
            self._give_up(batch.entries)
        return [outcome for outcome in batch.results if outcome is not None]

    async def attach(self, channel: Channel) -> None:
        """Go on with this new channel: confirms on, then the unconfirmed ones again."""
        channel.raw.add_on_return_callback(self._on_return)
        await channel.call("confirm_delivery", ack_nack_callback=self._on_confirm)
        self._last_tag, self._oldest_tag = 0, 1
        self._channel = channel
        self._pump()

    def detach(self) -> None:
        """The channel is gone with its connection: what is unconfirmed goes again."""
        self._channel = None
        unconfirmed = [p for p in self._flight.values() if p.batch is not None]
        for pending in unconfirmed:
            pending.returned = False
        self._flight.clear()
        self._waiting.extendleft(reversed(unconfirmed))

    def refused(self, error: ChatlabError) -> None:
        """RabbitMQ closed the channel because of a message; which one, it does not say.

        A missing exchange is named, so only what was meant for it is settled: its last
        message came after the fault or was it; whether earlier ones got through, nobody
        knows. Without a name, all that is unconfirmed is uncertain.
        """
        unconfirmed = [p for p in self._flight.values() if p.batch is not None]
        named = isinstance(error, NotFound)
        suspects = [
            p for p in unconfirmed if not named or f"'{p.item.exchange}'" in error.what
        ] or unconfirmed
        for pending in suspects[:-1]:
            pending.settle(Outcome("uncertain", error.what))
        for pending in suspects[-1:]:
            pending.settle(
                Outcome("failed", error.what, "ChatClosed")
                if named
                else Outcome("uncertain", error.what)
            )
        self.detach()

    def fail(self, reason: str) -> None:
        """The connection is over for good: settle all."""
        entries = list(self._all())
        self._flight.clear()
        self._waiting.clear()
        self._channel = None
        self._give_up(entries, reason)

    # ------------------------------------------------------------ writing and answers

    def _all(self) -> Iterator[_Pending]:
        yield from self._flight.values()
        yield from self._waiting

    def _pump(self) -> None:
        """Write while the window is open, a burst a turn of the loop."""
        if self._pumping or self._channel is None:
            return
        for _ in range(WRITE_BURST):
            if not self._waiting or len(self._flight) >= self.window:
                return
            pending = self._waiting.popleft()
            if pending.batch is None:
                continue
            exchange, key, body, properties, mandatory = pending.item
            try:
                written = self._channel.send(
                    "basic_publish", exchange, key, body, properties, mandatory
                )
            except InvalidInput as error:
                pending.settle(Outcome("failed", error.what, "InvalidInput"))
                continue
            if not written:
                self._waiting.appendleft(pending)  # lost this instant; detach follows
                return
            pending.written = True
            self._last_tag += 1
            self._flight[self._last_tag] = pending
        self._pumping = True
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._pumping = False
        self._pump()

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        outcome = ACKED if method.NAME == "Basic.Ack" else NACKED
        for pending in self._answered(method.delivery_tag, method.multiple):
            pending.settle(RETURNED if pending.returned else outcome)
        self._progress = asyncio.get_running_loop().time()
        self._pump()

    def _answered(self, tag: int, multiple: bool) -> Iterable[_Pending]:
        if not multiple:
            pending = self._flight.pop(tag, None)
            return () if pending is None else (pending,)
        if tag == 0:  # AMQP: all so far
            tag = self._last_tag
        tags = range(self._oldest_tag, tag + 1)
        self._oldest_tag = tag + 1
        return [self._flight.pop(tag) for tag in tags if tag in self._flight]

    def _on_return(self, _: object, __: object, properties: Any, ___: bytes) -> None:
        for pending in self._flight.values():
            if (
                not pending.returned
                and pending.item.properties.message_id == properties.message_id
            ):
                pending.returned = True
                return

    # ------------------------------------------------------------------------- waiting

    async def _wait(self, batch: Batch, patience: float) -> None:
        """Until the batch is done, or nothing was confirmed for ``patience`` seconds."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while not batch.done.is_set():
            rest = max(started, self._progress) + patience - loop.time()
            if rest <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await batch.done.wait()

    def _give_up(self, entries: Sequence[_Pending], reason: str = "") -> None:
        blocked = self._channel.wire.blocked if self._channel is not None else ""
        if blocked:
            reason = f"RabbitMQ takes no messages now: {blocked}"
        reason = reason or self.trouble or "RabbitMQ did not confirm it in time"
        for pending in entries:
            if pending.batch is not None:
                pending.settle(Outcome("uncertain" if pending.written else "failed", reason))
