"""Awaitable AMQP 0-9-1 over pika's asyncio adapter, that recovers by itself.

How it works, from the outside in:

- :class:`Connections`: a user's two connections, one consuming, one publishing;
- :class:`Connection`: keeps one connection up. What was declared, consumed and published
  but not confirmed is data (:mod:`topology <chatlab.amqp.topology>`, :class:`Consumer`,
  :mod:`publisher <chatlab.amqp.publisher>`); after a loss it is replayed in that order;
- ``wire``: one TCP connection while it lives, the only importer of pika;
- ``errors``: what is retried (the connection was lost) and what is raised (RabbitMQ refused);
- ``ghosts``: closes older connections of the same user that RabbitMQ has not yet missed;
- ``codec``: a :class:`~chatlab.messages.Message` as an AMQP message and back.

Nothing ends silently: a queue deleted under a consumer, a channel that RabbitMQ closed and a
refusal after a reconnect are raised by :meth:`Consumer.take`; a message has an
:class:`Outcome`, whatever happens.
"""

from chatlab.amqp.codec import (
    OUTSIDER,
    incoming,
    is_mark,
    labelled,
    mark,
    outgoing,
    unlabelled,
)
from chatlab.amqp.connection import Connection, Depth
from chatlab.amqp.connections import Connections
from chatlab.amqp.consumer import Consumer, Delivery
from chatlab.amqp.once import publish_once
from chatlab.amqp.publisher import Outcome, Outgoing
from chatlab.amqp.topology import Binding, Exchange, ExchangeBinding, Queue
from chatlab.amqp.wire import Properties

__all__ = [
    "OUTSIDER",
    "Binding",
    "Connection",
    "Connections",
    "Consumer",
    "Delivery",
    "Depth",
    "Exchange",
    "ExchangeBinding",
    "Outcome",
    "Outgoing",
    "Properties",
    "Queue",
    "incoming",
    "is_mark",
    "labelled",
    "mark",
    "outgoing",
    "publish_once",
    "unlabelled",
]
