"""Groups on RabbitMQ: a fanout exchange per group, a queue per member.

=======================  ======================  ======================  ==================
                         ``rabbitmq-transient``  ``rabbitmq-durable``    ``rabbitmq-quorum``
=======================  ======================  ======================  ==================
exchange ``<group>``     durable fanout          durable fanout (*)      durable fanout
queue                    exclusive: goes with    durable, one active     a replicated one,
``chatlab/<group>/       its member's            consumer                one active
<user>``                 connection                                      consumer
messages                 transient               persistent (*)          persistent
confirms                 yes                     yes (*)                 yes
an absent member         misses what is sent     finds it waiting        finds it waiting
RabbitMQ killed          gone                    all there               all there
=======================  ======================  ======================  ==================

(*) ``rabbitmq-durable`` has options that take one of its legs away:

- ``persistent=no``: messages wait for an absent member, and are gone when RabbitMQ restarts;
- ``confirms=no``: the sender is told nothing; see :mod:`chatlab.groups.rabbitmq_sender`;
- ``exchange=transient``: a restart removes the exchange and with it the bindings. A member
  that is there makes them anew when it reconnects; to the durable queue of one that is away
  nothing goes any more.

Deliveries are acknowledged by hand, many at a time. One active consumer
(``x-single-active-consumer``) keeps the order over a reconnect, when RabbitMQ still hands
messages to the connection that was lost. Every queue is bounded and refuses what is too
much. Two relatives are made of the same parts: :mod:`chatlab.groups.rabbitmq_log` and
:mod:`chatlab.groups.as_reported`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

from chatlab import messages as m
from chatlab.amqp import (
    Binding,
    Connections,
    Consumer,
    Delivery,
    Outgoing,
    incoming,
    outgoing,
)
from chatlab.backends import GROUPS, parse_backend, shared_text
from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError
from chatlab.groups.member import OnEnd, Registry
from chatlab.groups.rabbitmq_kinds import KINDS, Kind, queue_name
from chatlab.groups.rabbitmq_sender import Meaning, Sender, of_queues
from chatlab.messages import Message, Receipt

#: Messages handed out before the first of them must be acknowledged.
PREFETCH = 500
#: At a goodbye, what has already arrived here is shown within this time, in seconds.
DRAIN_SECONDS = 1.0


class RabbitMember:
    """One user's handle on one group on RabbitMQ; see :class:`chatlab.groups.GroupMember`."""

    #: How a look at the other members' queues is read.
    _meaning: Meaning = staticmethod(of_queues)

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
        self.backend = shared_text(backend)
        self.subscribed = False
        self.connected = False
        self._life = life
        self._connections = connections
        self._registry = registry
        self._kind = kind_of(self.backend)
        self._on_message = on_message
        self._on_end = on_end
        self._chat = m.group(group)
        self._queue = queue_name(group, life.user)
        self._seen = life.seen(self._chat)
        self._last_ids: dict[str, str] = {}
        self._consumer: Consumer | None = None
        self._receiver: asyncio.Task[None] | None = None
        #: One verb at a time.
        self._verb = asyncio.Lock()
        self._sender = Sender(
            *(life, connections, registry, group, self._kind),
            *(self._outgoing, self._meaning),
        )

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
            consumer = self._new_consumer()
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
            await self._leave()
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
            "unacked": consumer.held if consumer is not None else 0,
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
        """Declare what a member needs."""
        await self._connections.consuming.ensure(
            self._kind.exchange(self.group),
            self._kind.queue(self._queue),
            self._binding,
        )

    @property
    def _binding(self) -> Binding:
        return Binding(self._queue, self.group)

    async def _leave(self) -> None:
        """Remove what a member has, and its membership."""
        await self._connections.consuming.delete_queue(self._queue)
        await self._registry.leave_group(self.group, self._life.user)

    def _new_consumer(self) -> Consumer:
        return Consumer(
            self._queue,
            prefetch=PREFETCH,
            sole=not self._kind.exclusive,
            on_lost=self._lost,
            on_back=self._back,
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
        try:
            while batch := await consumer.take():
                ids = await self._show_all(consumer, batch)
                if consumer.auto_ack:
                    continue  # an ack of what is acknowledged would close the channel
                if consumer.ack(batch[-1], len(batch)) and ids:
                    self._life.facts("Acked", self._chat, ids)
        except ChatlabError as error:
            self._ended(error)

    async def _show_all(self, consumer: Consumer, batch: list[Delivery]) -> list[str]:
        """Show a batch if it is still ours to show. Returns the ids."""
        life = self._life
        if not life.gate.is_set():
            await life.gate.wait()
            await consumer.check(batch[0])
        return [] if batch[0].stale else self._show(batch)

    def _show(self, batch: list[Delivery]) -> list[str]:
        """Record and show, in order, with one call to the journal for each run of the same
        fact: Delivered, or Discarded where a message was shown already."""
        life, chat = self._life, self._chat
        messages = [self._incoming(delivery) for delivery in batch]
        ids = [message.id for message in messages]
        news = self._seen.add_all(ids)
        life.clock.see(*(x.clock for x, new in zip(messages, news, strict=True) if new))
        marks = [self._redelivered(delivery) for delivery in batch]
        for new, run in groupby(zip(news, messages, marks, strict=True), itemgetter(0)):
            _, shown, again = zip(*run, strict=True)
            if not new:
                life.facts("Discarded", chat, [message.id for message in shown])
                continue
            self._last_ids.update((message.sender, message.id) for message in shown)
            life.facts("Delivered", chat, shown, again)
            for message, mark in zip(shown, again, strict=True):
                self._on_message(message, mark)
        return ids

    def _incoming(self, delivery: Delivery) -> Message:
        return incoming(delivery, self.group)

    def _redelivered(self, delivery: Delivery) -> bool:
        return delivery.redelivered

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
        return await self._sender.send(messages)

    def _outgoing(self, message: Message) -> Outgoing:
        return outgoing(message, self.group, "", persistent=self._kind.persistent)


def kind_of(backend: str) -> Kind:
    """The kind that a group's backend names."""
    name, options = parse_backend(backend)
    shared = {key: value for key, value in options.items() if not GROUPS[name][key].personal}
    return KINDS[name](**shared)
