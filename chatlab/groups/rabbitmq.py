"""Groups on RabbitMQ: a fanout exchange per group, a queue per member.

=======================  ======================  ======================  ==================
                         ``rabbitmq-transient``  ``rabbitmq-durable``    ``rabbitmq-quorum``
=======================  ======================  ======================  ==================
exchange ``<group>``     durable fanout          durable fanout (*)      durable fanout
queue                    exclusive: goes with    durable, one active     a replicated one,
``chatlab/<group>/       its member's            consumer                one active
<user>``                 connection                                      consumer
messages                 transient (*)           persistent (*)          persistent
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

``rabbitmq-transient:persistent=yes`` marks messages as persistent, which buys nothing: the
queue that they wait in goes with its member's connection.

Deliveries are acknowledged by hand, many at a time. One active consumer
(``x-single-active-consumer``) keeps the order over a reconnect, when RabbitMQ still hands
messages to the connection that was lost. Every queue is bounded and refuses what is too
much. Two relatives are made of the same parts: :mod:`chatlab.groups.rabbitmq_log` and
:mod:`chatlab.groups.as_reported`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatlab.amqp import (
    Binding,
    Consumer,
    Delivery,
    Outgoing,
    incoming,
    outgoing,
)
from chatlab.backends import GROUPS, parse_backend
from chatlab.errors import ChatlabError
from chatlab.groups.membership import Membership
from chatlab.groups.rabbitmq_kinds import KINDS, Kind, queue_name
from chatlab.groups.rabbitmq_sender import Meaning, Sender, of_queues
from chatlab.messages import Message, Receipt

#: Messages handed out before the first of them must be acknowledged.
PREFETCH = 500


class RabbitMember(Membership):
    """One user's handle on one group on RabbitMQ; see :class:`chatlab.groups.GroupMember`."""

    #: How a look at the other members' queues is read.
    _meaning: Meaning = staticmethod(of_queues)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kind = kind_of(self.backend)
        self._queue = queue_name(self.group, self._life.user)
        self._consumer: Consumer | None = None
        self._sender = Sender(
            *(self._life, self._connections, self._registry, self.group),
            *(self._kind, self._outgoing, self._meaning),
        )

    # ------------------------------------------------------------------- membership

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        consumer = self._consumer
        return super().state() | {"unacked": consumer.held if consumer is not None else 0}

    async def _enrol(self) -> None:
        await self._declare()

    async def _declare(self) -> None:
        """What a member needs."""
        await self._connections.consuming.ensure(
            self._kind.exchange(self.group),
            self._kind.queue(self._queue),
            self._binding,
        )

    @property
    def _binding(self) -> Binding:
        return Binding(self._queue, self.group)

    async def _attach(self) -> None:
        await self._declare()  # a transient queue is gone since the last disconnect
        consumer = self._new_consumer()
        await self._connections.consuming.consume(consumer)
        self._consumer = consumer

    def _new_consumer(self) -> Consumer:
        return Consumer(
            self._queue,
            prefetch=PREFETCH,
            sole=not self._kind.exclusive,
            on_lost=self._lost,
            on_back=self._came,
        )

    async def _stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def _detach(self) -> None:
        consumer = self._consumer
        self._drop()
        try:
            # A lost connection takes an exclusive queue with it.
            if self._kind.exclusive and self._connections.consuming.up:
                await self._connections.consuming.delete_queue(self._queue)
        finally:
            if consumer is not None:
                await consumer.close()

    async def _leave(self) -> None:
        await self._connections.consuming.delete_queue(self._queue)
        await super()._leave()

    def _drop(self) -> None:
        if self._consumer is not None:
            self._consumer.abandon()
        self._consumer = None

    # -------------------------------------------------------------------- receiving

    async def _until_the_end(self) -> None:
        consumer = self._consumer
        await super()._until_the_end()
        if consumer is not None and self._consumer is None:  # the channel is still there
            await consumer.close()

    async def _receive(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while batch := await consumer.take():
            ids = await self._show_all(consumer, batch)
            if consumer.auto_ack:
                continue  # an ack of what is acknowledged would close the channel
            if consumer.ack(batch[-1], len(batch)) and ids:
                self._life.facts("Acked", self._chat, ids)

    async def _show_all(self, consumer: Consumer, batch: list[Delivery]) -> list[str]:
        """Show a batch if it is still ours to show. Returns the ids."""
        life = self._life
        if not life.gate.is_set():
            await life.gate.wait()
            await consumer.check(batch[0])
        return [] if batch[0].stale else self._show_batch(batch)

    def _show_batch(self, batch: list[Delivery]) -> list[str]:
        return self._show(list(map(self._incoming, batch)), list(map(self._redelivered, batch)))

    def _incoming(self, delivery: Delivery) -> Message:
        return incoming(delivery, self.group)

    def _redelivered(self, delivery: Delivery) -> bool:
        return delivery.redelivered

    def _lost(self, error: ChatlabError) -> None:
        self._gone(error.what)

    def _ended(self, error: ChatlabError) -> None:
        self._connections.consuming.topology.forget_queue(self._queue)
        super()._ended(error)

    # ---------------------------------------------------------------------- sending

    async def _send(self, messages: Sequence[Message]) -> list[Receipt]:
        return self._told(messages, await self._sender.send(messages))

    def _outgoing(self, message: Message) -> Outgoing:
        return outgoing(message, self.group, "", persistent=self._kind.persistent)


def kind_of(backend: str) -> Kind:
    """The kind that a group's backend names."""
    name, options = parse_backend(backend)
    shared = {key: value for key, value in options.items() if not GROUPS[name][key].personal}
    return KINDS[name](**shared)
