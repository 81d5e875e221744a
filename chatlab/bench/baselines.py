"""The bare libraries, as plainly as they can be used. No chatlab in here.

Each baseline is what a careful user of the library writes first, and does the same work as the
figure it stands beside: same machine, same sizes, same durability.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio


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
