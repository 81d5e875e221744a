"""What distinguishes the RabbitMQ group backends from each other, as values.

A group is an exchange of its name; what is bound to it and how messages are marked is the
:class:`Kind`. Only durable and exclusive queues are declared (RabbitMQ 4.3 refuses others)
and every queue is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatlab.amqp import Exchange, Queue

#: Most messages that wait in one member's queue.
QUEUE_MESSAGES = 100_000
#: Deliveries of one message after which a quorum queue drops it. RabbitMQ 4 counts to 20 by
#: itself; a member that crashes often would lose messages by that.
DELIVERY_LIMIT = 1_000_000
#: A log forgets its oldest messages, a whole segment at a time, when it is longer …
LOG_BYTES = 200_000_000
#: … and this is a segment, in bytes.
SEGMENT_BYTES = 20_000_000

_BOUNDED = {"x-max-length": QUEUE_MESSAGES, "x-overflow": "reject-publish"}
_SOLE = {"x-single-active-consumer": True}


@dataclass(frozen=True)
class Kind:
    """One RabbitMQ backend with its options."""

    #: The queue belongs to its member's connection and goes with it.
    exclusive: bool
    #: Messages survive a restart of RabbitMQ, if their queue does.
    persistent: bool
    #: The sender is told what became of a message.
    confirms: bool = True
    #: The exchange and what is bound to it survive a restart.
    durable_exchange: bool = True
    #: The queue is declared durable although it is exclusive.
    durable_queue: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def queue(self, name: str) -> Queue:
        """A member's queue."""
        return Queue(
            name,
            exclusive=self.exclusive,
            durable=self.durable_queue,
            arguments=_BOUNDED | self.arguments,
        )

    def exchange(self, group: str) -> Exchange:
        """The group's exchange."""
        return Exchange(group, durable=self.durable_exchange)


def transient(persistent: bool) -> Kind:
    """``rabbitmq-transient``: who is not there misses it, persistent or not."""
    return Kind(exclusive=True, persistent=persistent)


def durable(persistent: bool, confirms: bool, exchange: str) -> Kind:
    """``rabbitmq-durable``: who is not there finds it waiting; what of it outlives a restart
    of RabbitMQ, and whether the sender learns of a loss, is up to the options."""
    return Kind(
        exclusive=False,
        persistent=persistent,
        confirms=confirms,
        durable_exchange=exchange == "durable",
        arguments=_SOLE,
    )


def quorum() -> Kind:
    """``rabbitmq-quorum``: as durable, and always persistent. What is given back when a
    member goes counts as a delivery, hence the explicit limit."""
    arguments = _SOLE | {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    return Kind(exclusive=False, persistent=True, arguments=arguments)


def log() -> Kind:
    """``rabbitmq-log``: what a member has is its seat, an exclusive queue that nothing is
    bound to; the messages are in :func:`log_queue`."""
    return Kind(exclusive=True, persistent=True)


def as_reported(persistent: bool) -> Kind:
    """``as-reported``: see :mod:`chatlab.groups.as_reported`."""
    return Kind(
        exclusive=not persistent,
        persistent=persistent,
        confirms=False,
        durable_exchange=False,
        durable_queue=True,
    )


#: Backend name -> its kind, made from the options that all members share.
KINDS: dict[str, Callable[..., Kind]] = {
    "rabbitmq-transient": transient,
    "rabbitmq-durable": durable,
    "rabbitmq-quorum": quorum,
    "rabbitmq-log": log,
    "as-reported": as_reported,
}


def queue_name(group: str, user: str) -> str:
    """The queue of one member; neither name may hold a slash, so no two pairs collide."""
    return f"chatlab/{group}/{user}"


def log_queue(group: str) -> Queue:
    """The stream that holds a group's messages; no member's queue has such a name."""
    return Queue(
        f"chatlab/{group}",
        arguments={
            "x-queue-type": "stream",
            "x-max-length-bytes": LOG_BYTES,
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        },
    )
