"""Receiving from one queue: batches of what is there, acknowledgements, and every end said.

RabbitMQ hands out at most ``prefetch`` unacknowledged messages; they wait here until
:meth:`Consumer.take` is called. After a lost connection the consumer is attached to the new
one; what waited here is dropped first, for RabbitMQ hands it out again in its old order.
An end that nobody asked for (queue deleted, channel closed by RabbitMQ) is raised by
``take``, after what had arrived before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from chatlab.amqp.wire import CLOSE_SECONDS, Channel, Properties
from chatlab.errors import ChatClosed, ChatlabError

#: Most messages handled without a chance for others on the loop.
TAKE = 100


class Delivery(NamedTuple):
    """One message as it came."""

    tag: int
    #: Handed out before to somebody who did not acknowledge it.
    redelivered: bool
    properties: Properties
    body: bytes
    #: Where it came from; an acknowledgement is only good there.
    channel: Channel
    #: Its routing key.
    key: str = ""

    @property
    def attempt(self) -> int:
        """Which delivery of this message it is, from 1, as far as its queue counts (a
        quorum queue does)."""
        headers: dict[str, Any] = self.properties.headers or {}
        earlier = headers.get("x-delivery-count", 0)
        return 1 + (earlier if isinstance(earlier, int) else 0)

    @property
    def stale(self) -> bool:
        """Its connection is gone: RabbitMQ hands it out again, here or to a successor."""
        return self.channel.closed is not None


class Consumer:
    """A consumer of one queue. Made by :meth:`chatlab.amqp.Connection.consume`.

    Args:
        queue: its name.
        prefetch: most messages handed out and not acknowledged; 0: no limit.
        auto_ack: RabbitMQ forgets a message when it hands it out (and ignores prefetch).
        sole: nobody else may consume this queue: a ghost of the same user is evicted.
        stream: the queue is a stream: nothing can be given back to it. A consumer that is
            cancelled gives back what still comes (pika does), and RabbitMQ would end the
            whole connection for it (540); so this one is not cancelled before it is closed.
        lock: an exclusive queue that was declared before; when another connection holds it
            after a reconnect, this consumer ends with it.
        arguments: of ``basic.consume``, asked for at each attachment.
        on_lost: called when the connection is lost; the consumer comes back by itself.
        on_back: called when it has come back.
    """

    def __init__(
        self,
        queue: str,
        *,
        prefetch: int,
        auto_ack: bool = False,
        sole: bool = False,
        stream: bool = False,
        lock: str = "",
        arguments: Callable[[], dict[str, Any]] = dict,
        on_lost: Callable[[ChatlabError], None] | None = None,
        on_back: Callable[[], None] | None = None,
    ) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.auto_ack = auto_ack
        self.sole = sole
        self.stream = stream
        self.lock = lock
        #: Taken and not yet acknowledged.
        self.unacked = 0
        self._arguments = arguments
        self._on_lost = on_lost
        self._on_back = on_back
        self._buffer: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._channel: Channel | None = None
        self._tag = ""
        self._stopped = False
        self._end: ChatlabError | None = None
        self._attached = False

    @property
    def waiting(self) -> int:
        """Arrived, and not yet taken."""
        return len(self._buffer)

    @property
    def held(self) -> int:
        """Taken or arrived, and not yet acknowledged."""
        return self.unacked + (0 if self.auto_ack else self.waiting)

    async def take(self, most: int = TAKE) -> list[Delivery]:
        """What has arrived, at least one message and at most ``most``, oldest first.

        Returns an empty list when :meth:`stop` was called and nothing is left.

        Raises:
            ChatClosed: the queue is gone.
            ChatlabError: RabbitMQ closed the channel, or refused it after a reconnect.
        """
        while not self._buffer:
            if self._end is not None:
                raise self._end
            if self._stopped:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        buffer = self._buffer
        taken = [buffer.popleft() for _ in range(min(most, len(buffer)))]
        if not self.auto_ack:
            self.unacked += len(taken)
        return taken

    def ack(self, last: Delivery, count: int = 1) -> bool:
        """Acknowledge ``last`` and all taken before it (``count`` in all) in one frame.

        False when their connection is gone: RabbitMQ will hand them out again.
        """
        if last.channel is self._channel:
            self.unacked -= count
        return last.channel.send("basic_ack", last.tag, multiple=count > 1)

    def reject(self, delivery: Delivery) -> bool:
        """Give one back, to be handed out again: a quorum queue counts it, and after its
        ``x-delivery-limit`` makes it a dead letter. (From RabbitMQ 4.3 on a nack does not
        count.) False when its connection is gone: then it was given back already."""
        if delivery.channel is self._channel:
            self.unacked -= 1
        return delivery.channel.send("basic_reject", delivery.tag, requeue=True)

    async def check(self, delivery: Delivery) -> None:
        """Hear from RabbitMQ: afterwards ``delivery.stale`` is the truth. For a client that
        was frozen: meanwhile its messages may have been given to a successor."""
        with suppress(ChatlabError):
            await delivery.channel.call("basic_qos", prefetch_count=self.prefetch)

    async def stop(self) -> None:
        """No new messages; what has arrived can still be taken and acknowledged."""
        channel = self._channel
        self._stopped = True
        if channel is not None and self._tag and not self.stream:
            with suppress(ChatlabError, TimeoutError):  # lost: it gives us nothing more
                async with asyncio.timeout(CLOSE_SECONDS):
                    await channel.call("basic_cancel", consumer_tag=self._tag)
        self._arrived.set()

    async def close(self) -> None:
        """Give back what was not acknowledged."""
        self.abandon()
        if self._channel is not None:
            await self._channel.close()

    def abandon(self) -> None:
        """Forget everything; say nothing."""
        self._stopped = True
        self._on_lost = self._on_back = None
        self._buffer.clear()
        self._arrived.set()

    # ------------------------------------------------- called by the connection

    @property
    def finished(self) -> bool:
        """It need not be attached again."""
        return self._stopped or self._end is not None

    async def attach(self, channel: Channel) -> None:
        """Consume on this new channel."""
        channel.raw.add_on_cancel_callback(self._cancelled)
        self._channel, self._tag = channel, ""
        if self.prefetch and not self.auto_ack:
            await channel.call("basic_qos", prefetch_count=self.prefetch)

        def arrived(_: object, method: Any, properties: Properties, body: bytes) -> None:
            if self.stream and self._stopped:
                return  # it will be read again
            delivery = Delivery(
                *(method.delivery_tag, method.redelivered, properties, body, channel),
                method.routing_key,
            )
            self._buffer.append(delivery)
            self._arrived.set()

        answer = await channel.call(
            "basic_consume",
            queue=self.queue,
            on_message_callback=arrived,
            auto_ack=self.auto_ack,
            arguments=self._arguments(),
        )
        self._tag = answer.consumer_tag
        channel.on_closed = self._channel_closed  # a refusal before is the caller's matter
        if self._attached and self._on_back is not None:
            self._on_back()
        self._attached = True

    def detach(self, error: ChatlabError) -> None:
        """The connection is lost."""
        self._channel, self._tag = None, ""
        if not self.auto_ack:
            self._buffer.clear()
            self.unacked = 0
        if self._attached and not self.finished and self._on_lost is not None:
            self._on_lost(error)

    def end(self, error: ChatlabError) -> None:
        """It is over for good: ``take`` raises ``error``."""
        if self._end is None:
            self._end = error
            self._arrived.set()

    def _cancelled(self, _: object) -> None:
        self.end(ChatClosed(f"The queue {self.queue} was deleted."))

    def _channel_closed(self, error: ChatlabError) -> None:
        if self._channel is not None and self._channel.wire.alive:
            self.end(error)
