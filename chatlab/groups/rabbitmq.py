"""Groups on RabbitMQ: a fanout exchange per group, a queue per member.

=======================  ==============================  ==================================
                         ``rabbitmq-transient``          ``rabbitmq-durable``
=======================  ==============================  ==================================
exchange ``<group>``     durable fanout                  durable fanout
queue                    exclusive: goes with its        durable, one active consumer
``chatlab/<group>/<user>``  member's connection
messages                 transient                       persistent
an absent member         misses what is sent             finds it waiting
=======================  ==============================  ==================================

Publishes are confirmed and ``mandatory``, deliveries acknowledged by hand, many at a time.
One active consumer (``x-single-active-consumer``) keeps the order over a reconnect, when
RabbitMQ still hands messages to the connection that was lost. Every queue is bounded and
refuses what is too much: on a fanout that is a nack although other queues took the message,
hence *uncertain*.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chatlab import messages as m
from chatlab.amqp import (
    Binding,
    Connections,
    Consumer,
    Delivery,
    Exchange,
    Outcome,
    Queue,
    incoming,
    outgoing,
)
from chatlab.backends import parse_backend
from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError
from chatlab.groups.member import OnEnd, Registry
from chatlab.messages import Message, Receipt

#: Most messages that wait in one member's queue.
QUEUE_MESSAGES = 100_000
#: Messages handed out before the first of them must be acknowledged.
PREFETCH = 500
#: At a goodbye, what has already arrived here is shown within this time, in seconds.
DRAIN_SECONDS = 1.0
#: Receipts tell who listens only in groups of at most so many others …
LOOK_MEMBERS = 32
#: … and when the answers come within this time, in seconds.
LOOK_SECONDS = 1.0

_BOUNDED = {"x-max-length": QUEUE_MESSAGES, "x-overflow": "reject-publish"}


@dataclass(frozen=True)
class Kind:
    """What distinguishes one RabbitMQ backend from another."""

    #: The queue belongs to its member's connection and goes with it.
    exclusive: bool
    persistent: bool
    arguments: dict[str, Any] = field(default_factory=dict)

    def queue(self, name: str) -> Queue:
        """A member's queue."""
        return Queue(name, exclusive=self.exclusive, arguments=_BOUNDED | self.arguments)


def transient() -> Kind:
    """``rabbitmq-transient``: who is not there misses it."""
    return Kind(exclusive=True, persistent=False)


def durable() -> Kind:
    """``rabbitmq-durable``: who is not there finds it waiting, also after a restart."""
    return Kind(exclusive=False, persistent=True, arguments={"x-single-active-consumer": True})


#: Backend name -> its kind, made from its options.
KINDS: dict[str, Callable[..., Kind]] = {
    "rabbitmq-transient": transient,
    "rabbitmq-durable": durable,
}


class Look(NamedTuple):
    """What a look at the other members' queues said; ``None``: not known."""

    listeners: int | None
    waiting: int | None
    #: Nobody but the sender has a queue.
    nobody: bool = False


UNKNOWN = Look(None, None)


def queue_name(group: str, user: str) -> str:
    """The queue of one member; neither name may hold a slash, so no two pairs collide."""
    return f"chatlab/{group}/{user}"


class RabbitMember:
    """One user's handle on one group on RabbitMQ; see :class:`chatlab.groups.GroupMember`."""

    def __init__(
        self,
        life: Life,
        connections: Connections,
        registry: Registry,
        group: str,
        backend: str,
        on_message: OnMessage,
        on_end: OnEnd | None = None,
    ) -> None:
        self.group = group
        self.backend = backend
        self.subscribed = False
        self.connected = False
        self._life = life
        self._connections = connections
        self._registry = registry
        name, options = parse_backend(backend)
        self._kind = KINDS[name](**options)
        self._on_message = on_message
        self._on_end = on_end
        self._chat = m.group(group)
        self._queue = queue_name(group, life.user)
        self._exchange = Exchange(group)
        self._seen = life.seen(self._chat)
        self._last_ids: dict[str, str] = {}
        self._consumer: Consumer | None = None
        self._receiver: asyncio.Task[None] | None = None
        #: One verb at a time; and one send at a time until it is handed over.
        self._verb = asyncio.Lock()
        self._turn = asyncio.Lock()

    # ------------------------------------------------------------------- membership

    async def subscribe(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._subscribe()

    async def connect(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            if self._consumer is not None:
                return
            await self._subscribe()
            await self._ensure()  # a transient queue is gone since the last disconnect
            consumer = Consumer(
                self._queue,
                prefetch=PREFETCH,
                sole=not self._kind.exclusive,
                on_lost=self._lost,
                on_back=self._back,
            )
            await self._connections.consuming.consume(consumer)
            try:
                await self._enter(connected=True)
            except BaseException:
                await consumer.close()
                raise
            self._consumer = consumer
            self._came()
            self._receiver = asyncio.create_task(self._receive(consumer))

    async def disconnect(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._disconnect()

    async def unsubscribe(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._disconnect()
            await self._connections.consuming.delete_queue(self._queue)
            await self._registry.leave_group(self.group, self._life.user)
            if self.subscribed:
                self.subscribed = False
                self._life.fact("Left", self._chat)

    async def close(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        await self.disconnect()

    def abandon(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        if self._receiver is not None:
            self._receiver.cancel()
        if self._consumer is not None:
            self._consumer.abandon()
        self._consumer = self._receiver = None
        self.connected = False

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        consumer = self._consumer
        return {
            "backend": self.backend,
            "subscribed": self.subscribed,
            "connected": self.connected,
            "last ids": dict(self._last_ids),
            "unacked": consumer.unacked if consumer is not None else 0,
        }

    async def _subscribe(self) -> None:
        if self.subscribed:
            return
        await self._registry.open_group(self.group, self.backend)
        await self._ensure()
        await self._enter(connected=False)
        self.subscribed = True
        self._life.fact("Subscribed", self._chat, self.backend)

    async def _ensure(self) -> None:
        await self._connections.consuming.ensure(
            self._exchange,
            self._kind.queue(self._queue),
            Binding(self._queue, self.group),
        )

    async def _enter(self, *, connected: bool) -> None:
        life = self._life
        await self._registry.enter_group(self.group, life.user, life.incarnation, connected)

    async def _disconnect(self) -> None:
        consumer, receiver = self._consumer, self._receiver
        if consumer is None or receiver is None:
            return
        await consumer.stop()
        frozen = not self._life.gate.is_set()
        await asyncio.wait([receiver], timeout=0 if frozen else DRAIN_SECONDS)
        if self._consumer is None:  # it ended by itself while we waited
            return
        receiver.cancel()
        await asyncio.wait([receiver])
        self._gone("")
        await consumer.close()
        self._consumer = self._receiver = None
        # A goodbye to services that are away is not an error: a lost connection takes the
        # transient queue with it, and the name server knows by the lease.
        with suppress(ChatlabError):
            if self._kind.exclusive and self._connections.consuming.up:
                await self._connections.consuming.delete_queue(self._queue)
        with suppress(ChatlabError):
            await self._enter(connected=False)

    # -------------------------------------------------------------------- receiving

    async def _receive(self, consumer: Consumer) -> None:
        """Show what comes until the consumer is stopped or ends."""
        life = self._life
        try:
            while batch := await consumer.take():
                ids = []
                for delivery in batch:
                    if not life.gate.is_set():
                        await life.gate.wait()
                        await consumer.check(delivery)
                    if delivery.stale:
                        break
                    ids.append(self._show(delivery))
                if consumer.ack(batch[-1], len(batch)):
                    for id in ids:
                        life.fact("Acked", self._chat, id)
        except ChatlabError as error:
            self._ended(error)

    def _show(self, delivery: Delivery) -> str:
        message = incoming(delivery, self.group)
        if not self._seen.add(message.id):
            self._life.fact("Discarded", self._chat, message.id)
            return message.id
        self._life.clock.see(message.clock)
        self._last_ids[message.sender] = message.id
        self._life.fact("Delivered", self._chat, message, delivery.redelivered)
        self._on_message(message, delivery.redelivered)
        return message.id

    def _came(self) -> None:
        self.connected = True
        self._life.fact("Connected", self._chat, self.backend, "member")

    def _gone(self, reason: str) -> None:
        if self.connected:
            self.connected = False
            self._life.fact("Disconnected", self._chat, reason)

    def _lost(self, error: ChatlabError) -> None:
        self._gone(error.what)

    def _back(self) -> None:
        self._came()

    def _ended(self, error: ChatlabError) -> None:
        """The queue was deleted, or RabbitMQ refused it after a reconnect."""
        self._consumer = self._receiver = None
        self._gone(error.what)
        self._connections.consuming.topology.forget_queue(self._queue)
        if isinstance(error, ChatClosed):  # the queue is gone: a new one is a new beginning
            self.subscribed = False
        if self._on_end is not None:
            self._on_end(error)

    # ---------------------------------------------------------------------- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """See :class:`chatlab.groups.GroupMember`."""
        for message in messages:
            self._life.fact("Sent", self._chat, message)
        outcomes = await self._publish(messages)
        accepted = any(outcome.kind == "acked" for outcome in outcomes)
        look = await self._look() if accepted else UNKNOWN
        return [
            self._receipt(message, outcome, look)
            for message, outcome in zip(messages, outcomes, strict=True)
        ]

    async def _publish(self, messages: Sequence[Message]) -> list[Outcome]:
        connection = self._connections.publishing
        items = [
            outgoing(message, self.group, "", persistent=self._kind.persistent)
            for message in messages
        ]
        async with self._turn:  # a first send that waits is not overtaken
            try:
                await connection.ensure(self._exchange)
            except ChatlabError as error:
                return [Outcome("failed", error.what)] * len(items)
            submitted = connection.submit(items)
        return await connection.outcomes(submitted, self._life.settings.send_seconds)

    async def _look(self) -> Look:
        """Ask the queues of the other members who listens and how much waits."""
        user = self._life.user
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                members = await self._registry.group_members(self.group)
                others = [member for member in members if member != user]
                if len(others) > LOOK_MEMBERS:
                    return UNKNOWN
                depths = await self._connections.publishing.depths(
                    [queue_name(self.group, other) for other in others]
                )
        except (TimeoutError, ChatlabError):
            return UNKNOWN  # the message was confirmed; only who listens is not known
        listeners, waiting, unknown, queues = 0, 0, False, 0
        for other, depth in zip(others, depths, strict=True):
            if depth is None:
                continue
            queues += 1
            if depth.consumers is None:  # exclusive: its member's connection lives
                listeners += members[other]
                unknown |= not members[other]
            elif depth.consumers:
                listeners += 1
            else:
                waiting += depth.messages or 0
        # Who is no member knows by the return; a member's own queue takes the message.
        nobody = not queues and user in members
        return Look(listeners, None if unknown else waiting, nobody)

    def _receipt(self, message: Message, outcome: Outcome, look: Look) -> Receipt:
        life, chat, id = self._life, self._chat, message.id
        if outcome.kind == "returned" or (outcome.kind == "acked" and look.nobody):
            reason = f"nobody else listens to {self.group}"
            life.settled(id)
            life.fact("Returned", chat, id, reason)
            return Receipt(id, "unroutable", 0, 0, reason)
        if outcome.kind == "acked":
            life.settled(id)
            life.fact("Confirmed", chat, id, look.waiting, look.listeners)
            return Receipt(id, "confirmed", look.waiting, look.listeners)
        if outcome.kind == "failed":
            life.settled(id)
            life.fact("Failed", chat, id, outcome.reason)
            return Receipt(id, "failed", reason=outcome.reason, error=outcome.error)
        life.unsettled(message)
        life.fact("Uncertain", chat, id, outcome.reason)
        return Receipt(id, "uncertain", reason=outcome.reason, error="SendUncertain")
