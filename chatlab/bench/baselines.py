"""The bare libraries, as plainly as they can be used. No chatlab in here.

Each baseline is what a careful user of the library writes first, and does the same work as the
figure it stands beside: same machine, same sizes, same durability.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pika  # type: ignore[import-untyped]
import redis.asyncio
from pika.adapters.asyncio_connection import (  # type: ignore[import-untyped]
    AsyncioConnection,
)


async def _echo(request: bytes, _context: object) -> bytes:
    return request


@asynccontextmanager
async def grpc_unary() -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable]:
    """A grpc.aio server with one unary method on loopback, and a channel to it."""
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bare.Echo", {"Echo": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary("/bare.Echo/Echo")
    await server.stop(0)


async def grpc_unary_calls(
    call: grpc.aio.UnaryUnaryMultiCallable, body: bytes, number: int
) -> list[float]:
    """Seconds of each of ``number`` calls, one after the other."""
    seconds = []
    for _ in range(number):
        began = time.perf_counter()
        await call(body)
        seconds.append(time.perf_counter() - began)
    return seconds


# ---------------------------------------------------------------------------- RabbitMQ, pika

#: Unacknowledged or unconfirmed messages at a time.
WINDOW = 1_000
#: Deliveries acknowledged with one frame, and handed out at a time.
ACK_EVERY = 100
PREFETCH = 500


def _parameters(host: str, port: int, vhost: str, user: str, password: str) -> Any:
    return pika.ConnectionParameters(
        host, port, vhost, pika.PlainCredentials(user, password), heartbeat=30
    )


def _message(number: int) -> Any:
    """The properties of one message: as many, and of the same kinds, as chatlab's."""
    now = time.time()
    return pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers={
            "sender": "ana",
            "incarnation": 1,
            "seq": number,
            "sent_at": repr(now),
            "clock": number,
        },
        delivery_mode=2,
        message_id=f"ana:1:{number}",
        timestamp=int(now),
        app_id="bare",
    )


class Blocking:
    """pika's BlockingConnection: each message persistent, and confirmed before the next."""

    def __init__(self, *where: Any) -> None:
        self._connection = pika.BlockingConnection(_parameters(*where))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def group(self, exchange: str, queue: str) -> None:
        """A durable fanout exchange, and a durable queue bound to it."""
        self._channel.exchange_declare(exchange, "fanout", durable=True)
        self._channel.queue_declare(queue, durable=True)
        self._channel.queue_bind(queue, exchange)

    def send(self, exchange: str, body: bytes, number: int) -> float:
        """Seconds for ``number`` messages."""
        began = time.perf_counter()
        for n in range(number):
            self._channel.basic_publish(exchange, "", body, _message(n), mandatory=True)
        return time.perf_counter() - began

    def delete(self, exchange: str, *queues: str) -> None:
        """Take away what was declared."""
        for queue in queues:
            self._channel.queue_delete(queue)
        self._channel.exchange_delete(exchange)

    def close(self) -> None:
        self._connection.close()


class Async:
    """pika's asyncio adapter on the running loop; publishing in a window of confirms."""

    async def open(self, *where: Any) -> Async:
        self._loop = asyncio.get_running_loop()
        opened = self._loop.create_future()
        self._connection = AsyncioConnection(
            _parameters(*where),
            on_open_callback=opened.set_result,
            on_open_error_callback=lambda _, error: opened.set_exception(error),
            custom_ioloop=self._loop,
        )
        await opened
        ready = self._loop.create_future()
        self._connection.channel(on_open_callback=ready.set_result)
        self._channel = await ready
        return self

    async def call(self, method: str, *args: Any, **options: Any) -> None:
        """One of the channel's methods that RabbitMQ answers."""
        answer = self._loop.create_future()
        getattr(self._channel, method)(*args, **options, callback=answer.set_result)
        await answer

    async def confirm(self) -> None:
        """Ask for confirms from now on."""
        answer = self._loop.create_future()
        self._channel.confirm_delivery(self._on_confirm, callback=answer.set_result)
        await answer
        self._sent = self._confirmed = self._last = 0

    async def send(self, exchange: str, body: bytes, number: int) -> float:
        """Seconds until ``number`` persistent messages are confirmed."""
        began = time.perf_counter()
        self._done = self._loop.create_future()
        self._exchange, self._body, self._last = exchange, body, self._last + number
        self._fill()
        await self._done
        return time.perf_counter() - began

    def _fill(self) -> None:
        while self._sent < self._last and self._sent - self._confirmed < WINDOW:
            self._sent += 1
            self._channel.basic_publish(
                self._exchange, "", self._body, _message(self._sent), mandatory=True
            )

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        self._confirmed = tag if multiple else self._confirmed + 1
        self._fill()
        if self._confirmed == self._last and not self._done.done():
            self._done.set_result(None)

    async def receive(self, queue: str, number: int) -> list[tuple[Any, bytes]]:
        """The next ``number`` messages of a queue, acknowledged many at a time."""
        found: list[tuple[Any, bytes]] = []
        done = self._loop.create_future()

        def arrived(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            found.append((properties, body))
            if len(found) == number or not len(found) % ACK_EVERY:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if len(found) == number:
                done.set_result(None)

        await self.call("basic_qos", prefetch_count=PREFETCH)
        self._channel.basic_consume(queue, arrived)
        await done
        return found

    async def close(self) -> None:
        self._connection.close()
        while not self._connection.is_closed:  # noqa: ASYNC110 (pika has a callback, no event)
            await asyncio.sleep(0.01)


# -------------------------------------------------------------------------- Redis, redis-py

#: Commands in one pipeline.
PIPELINE = 100


async def redis_pipelines(url: str, stream: str, body: str, number: int) -> float:
    """Seconds for ``number`` entries with the same fields as a message of chatlab, by
    pipelines of XADD."""
    client = redis.asyncio.Redis.from_url(url)
    await client.ping()
    began = time.perf_counter()
    for first in range(0, number, PIPELINE):
        async with client.pipeline(transaction=False) as pipeline:
            for n in range(first, first + PIPELINE):
                now = time.time()
                fields: dict[Any, Any] = {"id": f"ana:1:{n}", "sender": "ana", "body": body}
                fields |= {"incarnation": 1, "seq": n, "sent_at": repr(now), "clock": n}
                pipeline.xadd(stream, fields)
            await pipeline.execute()
    seconds = time.perf_counter() - began
    await client.delete(stream)
    await client.aclose()
    return seconds
