"""Insults on RabbitMQ: one durable queue, competing consumers.

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
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

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
from chatlab.backends import INSULTS, full_text, parse_backend
from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError, InvalidInput, NotPossible
from chatlab.groups.member import OnEnd
from chatlab.messages import INSULTS as CHAT
from chatlab.messages import Message, Receipt

#: The one queue of the channel.
QUEUE = "chatlab/insults"
#: Most insults that wait in it.
QUEUE_MESSAGES = 100_000
#: A receipt says who listens when the answer comes within this time, in seconds.
LOOK_SECONDS = 1.0

Role = Literal["both", "producer", "consumer"]
Ack = Literal["manual", "auto"]

_QUEUE = Queue(
    QUEUE, arguments={"x-max-length": QUEUE_MESSAGES, "x-overflow": "reject-publish"}
)


class InsultMember:
    """One user's part in the insult channel. Takes none until :meth:`join`.

    Args:
        on_message: called for each insult drawn.
        on_end: called when receiving ended without being asked to.
    """

    def __init__(
        self,
        life: Life,
        connections: Connections,
        on_message: OnMessage,
        on_end: OnEnd | None = None,
    ) -> None:
        #: The role now; ``None``: takes no part.
        self.role: Role | None = None
        #: Receives now. False while the connection is lost, and for a mere producer.
        self.connected = False
        #: With all options.
        self.backend = ""
        self._life = life
        self._connections = connections
        self._on_message = on_message
        self._on_end = on_end
        self._seen = life.seen(CHAT)
        self._options: dict[str, Any] = {}
        self._drawn = 0
        self._last_id = ""
        self._consumer: Consumer | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._leaving = False
        self._verb = asyncio.Lock()
        self._turn = asyncio.Lock()

    # ------------------------------------------------------------------- taking part

    async def join(
        self,
        role: Role = "both",
        *,
        prefetch: int = 1,
        ack: Ack = "manual",
        work: float = 0.0,
    ) -> None:
        """Take part, or change how. Fact: Connected, with role and options.

        Args:
            role: ``producer`` sends, ``consumer`` draws, ``both``.
            prefetch: most insults held unacknowledged; 0: no limit.
            ack: by this client after its work, or ``auto``: by RabbitMQ at once.
            work: seconds of work on each insult, one at a time.

        Raises:
            InvalidInput: a role or option that does not exist.
            ServiceUnavailable: RabbitMQ does not answer.
        """
        if role not in ("both", "producer", "consumer"):
            raise InvalidInput(
                f"There is no role {role!r}.", todo="Roles: both, producer, consumer."
            )
        given = full_text("rabbitmq", {"prefetch": prefetch, "ack": ack, "work": work})
        _, options = parse_backend(given, INSULTS)
        async with self._verb:
            if (role, options) == (self.role, self._options):
                return
            await self._stop()
            await self._start(role, options, full_text("rabbitmq", options))

    async def leave(self) -> None:
        """Take part no more. The insult in hand is finished first, others go back to the
        queue. Fact: Disconnected."""
        async with self._verb:
            if self.role is not None:
                await self._stop()
                self.role, self._options = None, {}
                self._life.fact("Disconnected", CHAT, "")

    def abandon(self) -> None:
        """Drop everything as in a crash: no goodbye, no facts."""
        if self._receiver is not None:
            self._receiver.cancel()
        if self._consumer is not None:
            self._consumer.abandon()
        self._consumer = self._receiver = None
        self.role, self.connected = None, False

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        return {
            "role": self.role or "",
            **self._options,
            "connected": self.connected,
            "drawn": self._drawn,
            "last id": self._last_id,
            "unacked": self._consumer.unacked if self._consumer is not None else 0,
        }

    async def _start(self, role: Role, options: dict[str, Any], backend: str) -> None:
        consumer = None
        if role != "producer":
            connection = self._connections.consuming
            await connection.ensure(_QUEUE)
            consumer = Consumer(
                QUEUE,
                prefetch=options["prefetch"],
                auto_ack=options["ack"] == "auto",
                on_lost=self._lost,
                on_back=self._came,
            )
            await connection.consume(consumer)
        self.role, self._options, self.backend = role, options, backend
        self._consumer, self._leaving = consumer, False
        self._came()
        if consumer is not None:
            self._receiver = asyncio.create_task(self._receive(consumer))

    async def _stop(self) -> None:
        """Draw no more: finish the insult in hand, give back the others."""
        consumer, receiver = self._consumer, self._receiver
        if consumer is None or receiver is None:
            return
        self._leaving = True
        await consumer.stop()
        if not self._life.gate.is_set():
            receiver.cancel()
        await asyncio.wait([receiver])
        await consumer.close()
        self._consumer = self._receiver = None
        self.connected = False

    # --------------------------------------------------------------------- receiving

    async def _receive(self, consumer: Consumer) -> None:
        try:
            while batch := await consumer.take(1):
                (delivery,) = batch
                if not self._life.gate.is_set():
                    await self._life.gate.wait()
                    await consumer.check(delivery)
                if self._leaving:
                    return
                if consumer.auto_ack or not delivery.stale:
                    await self._draw(consumer, delivery)
        except ChatlabError as error:
            self._ended(error)

    async def _draw(self, consumer: Consumer, delivery: Delivery) -> None:
        life = self._life
        insult = incoming(delivery, CHAT)
        if self._seen.add(insult.id):
            life.clock.see(insult.clock)
            self._drawn += 1
            self._last_id = insult.id
            life.fact("Delivered", CHAT, insult, delivery.redelivered)
            self._on_message(insult, delivery.redelivered)
            if self._options["work"]:
                await asyncio.sleep(self._options["work"])
                await life.gate.wait()
            life.fact("Handled", CHAT, insult.id)
        else:
            life.fact("Discarded", CHAT, insult.id)
        if not consumer.auto_ack and consumer.ack(delivery):
            life.fact("Acked", CHAT, insult.id)

    def _came(self) -> None:
        self.connected = self._consumer is not None
        self._life.fact("Connected", CHAT, self.backend, self.role)

    def _lost(self, error: ChatlabError) -> None:
        self.connected = False
        self._life.fact("Disconnected", CHAT, error.what)

    def _ended(self, error: ChatlabError) -> None:
        """The queue was deleted, or RabbitMQ refused it after a reconnect."""
        self._connections.consuming.topology.forget_queue(QUEUE)
        self._consumer = self._receiver = None
        self.role, self._options = None, {}
        self._lost(error)
        if self._on_end is not None:
            self._on_end(error)

    # ----------------------------------------------------------------------- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send in order, pipelined; one receipt each, whatever became of it.
        ``listeners`` counts all consumers of the queue, ``waiting`` what nobody holds.

        Raises:
            ChatClosed: this user takes no part.
            NotPossible: it only draws.
        """
        if self.role is None:
            raise ChatClosed(f"{self._life.user} takes no part in the insult channel.")
        if self.role == "consumer":
            raise NotPossible(
                f"{self._life.user} only draws insults.",
                todo='Change the role: insults(role="both") or insults(role="producer").',
            )
        for message in messages:
            self._life.fact("Sent", CHAT, message)
        outcomes = await self._publish(messages)
        answered = any(outcome.kind in ("acked", "nacked") for outcome in outcomes)
        depth = await self._look() if answered else None
        return [
            self._receipt(message, outcome, depth)
            for message, outcome in zip(messages, outcomes, strict=True)
        ]

    async def _publish(self, messages: Sequence[Message]) -> list[Outcome]:
        connection = self._connections.publishing
        items = [outgoing(message, "", QUEUE, persistent=True) for message in messages]
        async with self._turn:  # a first send that waits is not overtaken
            try:
                await connection.ensure(_QUEUE)
            except ChatlabError as error:
                return [Outcome("failed", error.what)] * len(items)
            batch = connection.submit(items)
        return await connection.outcomes(batch, self._life.settings.send_seconds)

    async def _look(self) -> Depth | None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                (depth,) = await self._connections.publishing.depths([QUEUE])
        except (TimeoutError, ChatlabError):
            return None  # only who listens is not known
        return depth

    def _receipt(self, message: Message, outcome: Outcome, depth: Depth | None) -> Receipt:
        life, id = self._life, message.id
        waiting, listeners = depth or (None, None)
        kind, reason, error = outcome
        if kind == "acked":
            life.settled(id)
            life.fact("Confirmed", CHAT, id, waiting, listeners)
            return Receipt(id, "confirmed", waiting, listeners)
        if kind == "returned":
            life.settled(id)
            # The next send makes the queue anew.
            self._connections.publishing.topology.forget_queue(QUEUE)
            reason = "the insult queue is gone"
            life.fact("Returned", CHAT, id, reason)
            return Receipt(id, "unroutable", 0, 0, reason)
        if kind == "nacked" and (waiting or 0) >= QUEUE_MESSAGES:
            # One queue, and it is full: here a nack is definite.
            kind, error = "failed", "MailboxFull"
            reason = f"the insult queue holds {QUEUE_MESSAGES:,} insults, its limit"
        if kind == "failed":
            life.settled(id)
            life.fact("Failed", CHAT, id, reason)
            return Receipt(id, "failed", waiting, listeners, reason, error)
        life.unsettled(message)
        life.fact("Uncertain", CHAT, id, reason)
        return Receipt(id, "uncertain", waiting, listeners, reason, "SendUncertain")
