"""The group chats of the original report, their flaws included.

Two versions, as in the report. Both have a fanout exchange named after the group, take
messages with automatic acknowledgement into a buffer of their own, ask for no confirm and
show text only: the protocol has no sender.

===========================  ===================================  =======================
                             ``as-reported``                      ``…:persistent=yes``
===========================  ===================================  =======================
queue                        declared durable, and exclusive      durable
delivery mode                transient                            persistent
leaving for good             removes the queue                    removes only the binding
===========================  ===================================  =======================

What it does wrong, on purpose, and what shows it:

===========================  ===============================================================
automatic ack, local buffer  what RabbitMQ has handed out and the member has not shown is
                             lost when the member is killed: all that waited, mostly
durable, exclusive queue     RabbitMQ ignores the first word: gone with its connection,
                             persistent messages with it
non-durable exchange         a restart of RabbitMQ removes it with its bindings: what is
                             sent then reaches no queue of a member that is away
leave for good only unbinds  the queue stays, with what it holds
no confirms, not mandatory   a message to nobody, or to no exchange, is lost in silence
no sender                    nobody sees who wrote, and an echo looks like an answer
===========================  ===============================================================

The laboratory's part is small: connections come back after a loss, queues are bounded, and a
header that the protocol knows nothing of carries the label by which the journal recognises a
message. It is shown as from :data:`SOMEBODY`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatlab.amqp import Consumer, Delivery, Outgoing, labelled, unlabelled
from chatlab.groups.membership import Membership
from chatlab.groups.rabbitmq import RabbitMember
from chatlab.messages import Message

#: Stands where the sender's name would; no account can have this name.
SOMEBODY = "?"


class AsReportedMember(RabbitMember):
    """One user's handle on one group as reported."""

    def _new_consumer(self) -> Consumer:
        return Consumer(
            self._queue, prefetch=0, auto_ack=True, on_lost=self._lost, on_back=self._came
        )

    #: Taken from the consumer and not yet shown.
    _held: Sequence[Delivery] = ()

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        consumer = self._consumer
        buffer = len(self._held) + consumer.waiting if consumer is not None else 0
        return super().state() | {"local buffer": buffer}

    async def _show_all(self, consumer: Consumer, batch: list[Delivery]) -> list[str]:
        """RabbitMQ has forgotten them already: they are shown, wherever they came from."""
        self._held = batch
        await self._life.gate.wait()
        self._held = ()
        return self._show_batch(batch)

    async def _leave(self) -> None:
        if self._kind.exclusive:
            await super()._leave()
        else:
            await self._connections.consuming.unbind(self._binding)
            await Membership._leave(self)

    def _incoming(self, delivery: Delivery) -> Message:
        return unlabelled(delivery, self.group, SOMEBODY)

    def _outgoing(self, message: Message) -> Outgoing:
        return labelled(message, self.group, persistent=self._kind.persistent)
