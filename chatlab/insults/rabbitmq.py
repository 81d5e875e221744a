"""Insults on RabbitMQ: one queue, competing consumers.

RabbitMQ hands each insult to one consumer, in turn among those that have room: a consumer
has room while it holds fewer than ``prefetch`` unacknowledged insults. So the distribution
follows from three options:

- ``prefetch`` 1: in turn among idle members; 0 (no limit): a backlog goes to whoever
  attaches first;
- ``ack`` ``manual``: an insult that a member held when it ended goes to another, marked
  redelivered; ``auto``: RabbitMQ forgets it at once, and ignores prefetch;
- ``work``: seconds a member is busy with each insult, before it acknowledges it.

It is plainly one queue: a member that also produces may draw its own insult. Insults are
persistent and confirmed, and wait when nobody listens.

A *poison* insult, whose handler fails whoever gets it, is given back (``basic.reject``) and
handed out again at once, marked redelivered. The queue is a quorum queue, the only kind that
counts deliveries before RabbitMQ 4: ``x-delivery-limit`` 4 makes the fifth the last, then it
is a dead letter, in ``chatlab/insults/dead``. That queue keeps the newest 1,000. (A member
that ends without a goodbye gives back what it held, and that counts, too.) With automatic
acknowledgements there is nothing to give back: the insult is lost.

The queue holds 100,000 insults and refuses more; a quorum queue learns that it is full a
moment late and may take a few on top.

``require_listener`` looks first and sends then: RabbitMQ's own "now or never" (expiration 0)
would refuse an insult while all listeners are *busy*, too. So a listener that leaves in
between leaves it waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from chatlab.amqp import (
    Connections,
    Consumer,
    Delivery,
    Depth,
    Outcome,
    Queue,
    incoming,
    outgoing,
)
from chatlab.client import Life
from chatlab.errors import ChatlabError
from chatlab.insults.line import (
    DEAD_LETTERS,
    DELIVERIES,
    QUEUE_MESSAGES,
    Drawn,
    Registry,
    Role,
    refused,
)
from chatlab.messages import INSULTS as CHAT
from chatlab.messages import Message, Receipt

#: The one queue of the channel.
QUEUE = "chatlab/insults"
#: Where insults go that failed too often.
DEAD = "chatlab/insults/dead"
#: A receipt says who listens when the answer comes within this time, in seconds.
LOOK_SECONDS = 1.0

#: Bounded; the oldest make room.
DEAD_QUEUE = Queue(DEAD, settle=False, arguments={"x-max-length": DEAD_LETTERS})


def work_queue(name: str, most: int = QUEUE_MESSAGES) -> Queue:
    """A quorum queue of at most ``most`` insults that counts their deliveries."""
    return Queue(
        name,
        arguments={
            "x-queue-type": "quorum",
            "x-max-length": most,
            "x-overflow": "reject-publish",
            "x-delivery-limit": DELIVERIES - 1,  # n + 1 deliveries
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": DEAD,
        },
    )


class RabbitLine:
    """One member's line on RabbitMQ."""

    #: The most that :attr:`queue` holds.
    limit = QUEUE_MESSAGES

    def __init__(self, life: Life, connections: Connections, _registry: Registry) -> None:
        self._life = life
        self._connections = connections
        self._consumer: Consumer | None = None
        self._turn = asyncio.Lock()

    @property
    def queue(self) -> str:
        """Where this member's insults go."""
        return QUEUE

    @property
    def things(self) -> tuple[Queue, ...]:
        """What is declared: the dead letters' queue, and :attr:`queue`."""
        return DEAD_QUEUE, work_queue(self.queue, self.limit)

    # --------------------------------------------------------------------- receiving

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        if role == "producer":
            return
        await self._connections.consuming.ensure(*self.things)
        consumer = Consumer(
            self.queue,
            prefetch=options["prefetch"],
            auto_ack=options["ack"] == "auto",
            on_lost=on_lost,
            on_back=on_back,
        )
        await self._connections.consuming.consume(consumer)
        self._consumer = consumer

    async def take(self) -> Drawn | None:
        assert self._consumer is not None
        try:
            batch = await self._consumer.take(1)
        except ChatlabError:
            self._connections.consuming.topology.forget_queue(self.queue)
            raise
        return drawn(self._consumer, batch[0]) if batch else None

    async def ours(self, drawn: Drawn, late: bool) -> bool:
        consumer, delivery = _tag(drawn)
        if late:
            await consumer.check(delivery)
        return consumer.auto_ack or not delivery.stale

    async def done(self, drawn: Drawn) -> bool:
        consumer, delivery = _tag(drawn)
        return not consumer.auto_ack and consumer.ack(delivery)

    async def failed(self, drawn: Drawn) -> bool:
        consumer, delivery = _tag(drawn)
        if consumer.auto_ack:
            return True
        return consumer.reject(delivery) and delivery.attempt >= DELIVERIES

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def close(self) -> None:
        if self._consumer is not None:
            await self._consumer.close()

    def abandon(self) -> None:
        if self._consumer is not None:
            self._consumer.abandon()

    def state(self) -> dict[str, Any]:
        return {"unacked": self._consumer.unacked if self._consumer is not None else 0}

    # ----------------------------------------------------------------------- sending

    async def send(self, messages: Sequence[Message], listened: bool) -> list[Receipt]:
        if listened and await self._nobody():
            return refused(messages)
        outcomes = await self._publish(messages)
        answered = any(outcome.kind in ("acked", "nacked") for outcome in outcomes)
        depth = await self._look() if answered else None
        return [
            self._receipt(message.id, outcome, depth)
            for message, outcome in zip(messages, outcomes, strict=True)
        ]

    async def _nobody(self) -> bool:
        """Whether certainly nobody listens."""
        with suppress(ChatlabError):  # then publishing says what is wrong
            await self._connections.publishing.ensure(*self.things)
        depth = await self._look()
        return depth is not None and depth.consumers == 0

    async def _publish(self, messages: Sequence[Message]) -> list[Outcome]:
        connection = self._connections.publishing
        items = [outgoing(message, "", self.queue, persistent=True) for message in messages]
        async with self._turn:  # a first send that waits is not overtaken
            try:
                await connection.ensure(*self.things)
            except ChatlabError as error:
                return [Outcome("failed", error.what)] * len(items)
            batch = connection.submit(items)
        return await connection.outcomes(batch, self._life.settings.send_seconds)

    async def _look(self) -> Depth | None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                (depth,) = await self._connections.publishing.depths([self.queue])
        except (TimeoutError, ChatlabError):
            return None  # only who listens is not known
        return depth

    def _receipt(self, id: str, outcome: Outcome, depth: Depth | None) -> Receipt:
        waiting, listeners = depth or (None, None)
        kind, reason, error = outcome
        if kind == "acked":
            return Receipt(id, "confirmed", waiting, listeners)
        if kind == "returned":
            # The next send makes the queue anew.
            self._connections.publishing.topology.forget_queue(self.queue)
            return Receipt(id, "unroutable", 0, 0, "the insult queue is gone")
        if kind == "nacked" and (waiting or 0) >= self.limit:
            # One queue, and it is full: here a nack is definite.
            kind, error = "failed", "MailboxFull"
            reason = f"the insult queue holds {self.limit:,} insults, its limit"
        if kind == "failed":
            return Receipt(id, "failed", waiting, listeners, reason, error)
        return Receipt(id, "uncertain", waiting, listeners, reason, "SendUncertain")

    async def dead_letters(self) -> list[Message]:
        connection = self._connections.publishing
        await connection.ensure(DEAD_QUEUE)
        return [incoming(letter, CHAT) for letter in await connection.peek(DEAD, DEAD_LETTERS)]


def drawn(consumer: Consumer, delivery: Delivery) -> Drawn:
    """An insult as the consumer got it."""
    again = delivery.redelivered or delivery.attempt > 1
    return Drawn(incoming(delivery, CHAT), again, (consumer, delivery))


def _tag(drawn: Drawn) -> tuple[Consumer, Delivery]:
    consumer, delivery = drawn.tag
    return consumer, delivery
