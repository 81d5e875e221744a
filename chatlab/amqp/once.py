"""Publishing as in many a tutorial: a connection for each message, and no confirms.

Kept as the baseline that it is (about 95 messages a second instead of thousands); everything
else publishes through :class:`~chatlab.amqp.publisher.Publisher`.
"""

from __future__ import annotations

from chatlab.amqp.connection import Depth
from chatlab.amqp.publisher import Outgoing
from chatlab.amqp.topology import Queue
from chatlab.amqp.wire import Wire
from chatlab.errors import ChatlabError
from chatlab.services.addresses import RabbitAddress


async def publish_once(
    address: RabbitAddress, name: str, queue: Queue, item: Outgoing, *, timeout: float
) -> Depth:
    """Connect, declare ``queue``, publish, and ask the queue how full it is: its answer also
    says that RabbitMQ has read what came before.

    Raises:
        ServiceUnavailable: not reached within ``timeout`` seconds, or the connection broke.
        ChatlabError: RabbitMQ refused.
    """
    wire = await Wire.open(
        address, {"connection_name": name}, heartbeat=0, timeout=timeout, on_lost=_ignore
    )
    try:
        channel = await wire.channel()
        await queue.declare(channel)
        exchange, key, body, properties, _ = item
        channel.send("basic_publish", exchange, key, body, properties)
        answer = await channel.call("queue_declare", queue=queue.name, passive=True)
        return Depth(answer.message_count, answer.consumer_count)
    finally:
        await wire.close()


def _ignore(_: ChatlabError) -> None:
    """The caller sees the loss at what it does next."""
