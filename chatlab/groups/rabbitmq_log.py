"""``rabbitmq-log``: a group is a log that its members read, each at its own position.

The exchange is a fanout, as in the other RabbitMQ groups, and one stream queue per group is
bound to it. Reading takes nothing out. What a member has is

- a *position*: the offset of the first message that it has not been shown. The name server
  keeps it, so it outlives a disconnect, a crash and the member's life;
- while it is connected, a *seat*: an exclusive queue that nothing is bound to. It shows that
  the member listens, and is the lock by which a newer life evicts an older one.

A late joiner chooses where to begin: ``rabbitmq-log:from=first`` reads what the log still
has, ``from=next`` (the default) what comes after the subscription. The choice is the
member's: the group's backend is ``rabbitmq-log``.

::

    subscribe: position := 0, or the end of the log (found by a mark that is put there)
    a batch:   handed := after its last ─► show ─► position := handed ─► ack (flow control)

RabbitMQ never marks what it hands out from a stream a second time. The name server knows how
far an earlier attachment had come: what lies between ``position`` and ``handed`` may have
been shown already, and is marked redelivered.

A message is never unroutable once the log exists: the log keeps it, whoever listens. (After
a restart RabbitMQ may need a moment to bring its streams up. Until then it has no log to put
a message into; the sender is told "unroutable", and members come back when it is there.) The
log is bounded; it forgets its oldest segment, read or not. It goes with its last member.

RabbitMQ 3.10 writes down only after a second that a node has its *first* stream: killed
before, it forgets that one with what it has confirmed. Later ones outlive a kill at once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from chatlab.amqp import Binding, Consumer, Delivery, is_mark, mark
from chatlab.errors import ChatClosed, ChatlabError, SendUncertain, ServiceUnavailable
from chatlab.groups.rabbitmq import PREFETCH, RabbitMember
from chatlab.groups.rabbitmq_kinds import log_queue
from chatlab.groups.rabbitmq_sender import Meaning, of_seats

#: The header in which RabbitMQ says where in the stream a message stands, and the argument
#: by which a consumer says where to begin.
OFFSET = "x-stream-offset"


class RabbitLogMember(RabbitMember):
    """One user's handle on one group that is a log."""

    _meaning: Meaning = staticmethod(of_seats)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._log = log_queue(self.group)
        #: The first offset that was not shown.
        self._position = 0
        #: The first offset that no attachment before this subscription had begun to show.
        self._handed = 0
        #: Shown, and the name server does not know it yet.
        self._unsaved: list[str] = []
        #: The log is gone: the next one begins at 0.
        self._anew = False

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        return super().state() | {"position": self._position}

    # ------------------------------------------------------------------- membership

    async def _enrol(self) -> None:
        await self._declare()
        found = await self._registry.position(self.group, self._life.user)
        first = self._options["from"] == "first"
        if found is None or self._anew:
            start = 0 if first else await self._end()
            found = start, start
        self._position, self._handed = found
        self._from_first = first and not self._handed
        await self._save()
        self._anew = False

    async def _declare(self) -> None:
        await self._connections.consuming.ensure(
            self._kind.exchange(self.group),
            self._log,
            Binding(self._log.name, self.group),
            self._kind.queue(self._queue),
        )

    async def _leave(self) -> None:
        await self._registry.forget_position(self.group, self._life.user)
        await super()._leave()
        connection = self._connections.consuming
        connection.topology.forget_queue(self._log.name)
        if not await self._registry.group_members(self.group):
            await connection.delete_queue(self._log.name)

    async def _end(self) -> int:
        """The offset of the next message. RabbitMQ does not tell it, so a mark is put into
        the log, and the first that comes after "next" is it, or a message before it."""
        life, connection = self._life, self._connections
        consumer = Consumer(
            self._log.name, prefetch=1, stream=True, arguments=lambda: {OFFSET: "next"}
        )
        await connection.consuming.consume(consumer)
        try:
            batch = connection.publishing.submit([mark(self._log.name)])
            seconds = life.settings.send_seconds
            (outcome,) = await connection.publishing.outcomes(batch, seconds)
            if outcome.kind != "acked":
                raise ServiceUnavailable(f"RabbitMQ did not take a mark: {outcome.reason}.")
            async with asyncio.timeout(seconds):
                (first,) = await consumer.take(1)
        except TimeoutError:
            raise ServiceUnavailable(f"The log of {self.group} does not answer.") from None
        finally:
            await consumer.close()
        return offset_of(first)

    # -------------------------------------------------------------------- receiving

    def _new_consumer(self) -> Consumer:
        return Consumer(
            self._log.name,
            prefetch=PREFETCH,
            stream=True,
            lock=self._queue,
            arguments=self._begin,
            on_lost=self._lost,
            on_back=self._came,
        )

    def _begin(self) -> dict[str, Any]:
        """Where to go on; asked for at each attachment. Always a number from 0: a word or a
        number that RabbitMQ cannot use costs the whole connection (541)."""
        return {OFFSET: max(0, self._position)}

    async def _show_all(self, consumer: Consumer, batch: list[Delivery]) -> list[str]:
        await self._life.gate.wait()
        after = offset_of(batch[-1]) + 1
        await self._save(handed=after)
        messages = [delivery for delivery in batch if not is_mark(delivery)]
        ids = await super()._show_all(consumer, messages) if messages else []
        if len(ids) == len(messages):  # all, if any
            self._position = after
            self._unsaved += ids
            await self._save()
        return []  # acknowledged when the name server knows the position

    async def _save(self, handed: int = 0) -> None:
        """Tell the name server how far we are; when it is away, the next call does.

        Raises:
            Taken: a newer life reads on; nothing more is ours to show.
        """
        life, position = self._life, self._position
        with suppress(ServiceUnavailable, SendUncertain):
            await self._registry.keep_position(
                *(self.group, life.user, life.incarnation),
                *(position, max(position, handed, self._handed)),
            )
            if self._unsaved:
                life.facts("Acked", self._chat, self._unsaved)
                self._unsaved = []

    def _redelivered(self, delivery: Delivery) -> bool:
        return offset_of(delivery) < self._handed

    def _ended(self, error: ChatlabError) -> None:
        if isinstance(error, ChatClosed):
            self._anew = True
            self._connections.consuming.topology.forget_queue(self._log.name)
        super()._ended(error)


def offset_of(delivery: Delivery) -> int:
    """Where in its stream it stands."""
    return int(delivery.properties.headers[OFFSET])
