"""The forwarder between one user and one service, on plain sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from chatlab.errors import InvalidInput
from chatlab.services import links
from chatlab.services.links import Link

#: "Nothing comes" is seen by waiting; so long.
SILENCE = 0.1


@dataclass
class Service:
    """Says back what it hears, and remembers its connections."""

    greeting: bytes = b""
    deaf: bool = False
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    resets: int = 0
    ends: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(self.greeting)
        async with self.changed:
            self.changed.notify_all()
        try:
            if self.deaf:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            self.ends += 1
        except ConnectionError:
            self.resets += 1
        finally:
            writer.close()
            async with self.changed:
                self.changed.notify_all()

    async def until(self, condition: Callable[[Service], bool]) -> None:
        async with asyncio.timeout(2), self.changed:
            await self.changed.wait_for(lambda: condition(self))


@asynccontextmanager
async def serving(**options: object) -> AsyncIterator[Service]:
    service = Service(**options)  # type: ignore[arg-type]
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await service.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    service.port = server.sockets[0].getsockname()[1]
    yield service
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def linked(port: int) -> AsyncIterator[tuple[Link, int]]:
    link = Link(("127.0.0.1", port), user="bob", service="echo")
    own = await link.open()
    try:
        yield link, own
    finally:
        await link.close()


class Client:
    """One connection through the link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.hear(len(data))

    async def hear(self, size: int) -> bytes:
        async with asyncio.timeout(2):
            return await self.reader.readexactly(size)

    async def is_silent(self) -> bool:
        try:
            async with asyncio.timeout(SILENCE):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            async with asyncio.timeout(2):
                await self.reader.read()
        except ConnectionResetError:
            return True
        return False


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def talking(**options: object) -> AsyncIterator[tuple[Service, Link, int, Client]]:
    """A client connected through a link to a service."""
    async with (
        serving(**options) as service,
        linked(service.port) as (link, port),
        connected(port) as client,
    ):
        yield service, link, port, client


async def test_what_is_sent_arrives_unchanged_in_both_directions() -> None:
    async with talking() as (_, link, _, client):
        data = bytes(range(256)) * 8192  # 2 MiB: more than all buffers
        client.writer.write(data)
        assert await client.hear(len(data)) == data
        assert (link.state, link.connections) == ("open", 1)
        assert repr(link) == "<Link bob-echo: open, 1 open>"


async def test_a_service_may_speak_first() -> None:
    async with talking(greeting=b"hello") as (_, _, _, client):
        assert await client.hear(5) == b"hello"


async def test_the_end_of_one_direction_leaves_the_other_open() -> None:
    async with talking() as (service, link, _, client):
        client.writer.write(b"last words")
        client.writer.write_eof()
        async with asyncio.timeout(2):
            assert await client.reader.read() == b"last words"
        await service.until(lambda s: s.ends == 1)
        await asyncio.wait_for(link._empty.wait(), 2)  # neither end is kept


async def test_a_client_that_goes_ends_the_services_side() -> None:
    async with talking() as (service, _, _, client):
        await client.ask(b"a")
        client.writer.close()
        await service.until(lambda s: s.ends == 1)


async def test_a_service_that_resets_resets_the_client() -> None:
    async with talking() as (service, link, _, client):
        await client.ask(b"a")
        sock = service.writers[0].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        service.writers[0].transport.abort()
        assert await client.is_reset()
        assert link.connections == 0


async def test_a_service_that_refuses_resets_the_client_at_once() -> None:
    async with serving() as service:
        port_of_nobody = service.port
    async with linked(port_of_nobody) as (link, port), connected(port) as client:
        assert await client.is_reset()
        async with serving() as service:
            link.retarget(("127.0.0.1", service.port))
            async with connected(port) as again:
                assert await again.ask(b"a") == b"a"


async def test_a_retarget_leaves_present_connections_where_they_are() -> None:
    async with serving(greeting=b"new") as new, talking() as (_, link, port, first):
        await first.ask(b"a")
        link.retarget(("127.0.0.1", new.port))
        assert await first.ask(b"b") == b"b"
        async with connected(port) as second:
            assert await second.hear(3) == b"new"


async def test_a_cut_resets_both_sides_and_refuses_until_healed() -> None:
    async with talking() as (service, link, port, client):
        await client.ask(b"a")
        link.cut()
        assert link.state == "cut"
        assert await client.is_reset()
        await service.until(lambda s: s.resets == 1)
        async with connected(port) as other:
            assert await other.is_reset()
        assert len(service.writers) == 1, "the service has seen a connection while cut"
        link.heal()
        assert link.state == "open"
        async with connected(port) as other:
            assert await other.ask(b"b") == b"b"


async def test_a_crash_resets_both_sides_and_new_connections_are_fine() -> None:
    async with talking() as (service, link, port, client):
        await client.ask(b"a")
        link.reset()
        assert link.state == "open"
        assert await client.is_reset()
        await service.until(lambda s: s.resets == 1)
        async with connected(port) as other:
            assert await other.ask(b"b") == b"b"


async def test_a_frozen_link_is_silent_both_ways_and_loses_nothing() -> None:
    async with talking() as (service, link, _, client):
        await client.ask(b"a")
        link.freeze()
        assert link.state == "frozen"
        client.writer.write(b"up")
        service.writers[0].write(b"down")
        assert await client.is_silent()
        assert not client.reader.at_eof()
        link.thaw()
        assert sorted(await client.hear(6)) == sorted(b"downup")
        assert link.state == "open"


async def test_a_connection_made_while_frozen_is_accepted_and_silent() -> None:
    async with serving(greeting=b"hello") as service, linked(service.port) as (link, port):
        link.freeze()
        async with connected(port) as client:
            client.writer.write(b"up")
            assert await client.is_silent()
            assert service.writers == []
            link.heal()
            assert await client.hear(7) == b"helloup"


async def test_a_client_that_goes_while_frozen_is_noticed_when_thawed() -> None:
    async with talking() as (service, link, _, client):
        await client.ask(b"a")
        link.freeze()
        client.writer.close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.until(lambda s: s.ends == 1), SILENCE)
        link.thaw()
        await service.until(lambda s: s.ends == 1)


async def test_a_cut_ends_a_frozen_connection() -> None:
    async with talking() as (service, link, port, client):
        await client.ask(b"a")
        link.freeze()
        async with connected(port) as waiting:
            link.cut()
            assert link.state == "cut"
            assert await client.is_reset()
            assert await waiting.is_reset()
            await service.until(lambda s: s.resets == 1)


async def test_a_slow_link_delays_each_direction_by_as_much_and_keeps_order() -> None:
    async with talking() as (_, link, _, client):
        await client.ask(b"a")
        link.slow(0.1)
        assert link.state == "slow"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(20):
            client.writer.write(b"%02d" % number)
            await asyncio.sleep(0)
        heard = await client.hear(40)
        assert 0.2 <= loop.time() - begun < 0.6
        assert heard == b"".join(b"%02d" % number for number in range(20))


async def test_what_waits_on_a_slow_link_comes_first_when_it_is_slow_no_more() -> None:
    async with talking() as (_, link, _, client):
        await client.ask(b"a")
        link.slow(60)
        client.writer.write(b"first")
        assert await client.is_silent()
        link.slow(0)
        assert link.state == "open"
        client.writer.write(b"second")
        assert await client.hear(11) == b"firstsecond"
        for bad in (-1, float("inf"), float("nan")):
            with pytest.raises(InvalidInput):
                link.slow(bad)


async def test_what_comes_on_a_quicker_link_does_not_overtake_what_waits() -> None:
    async with talking() as (_, link, _, client):
        await client.ask(b"a")
        link.slow(0.1)
        client.writer.write(b"first")
        assert link.state == "slow"
        async with asyncio.timeout(2):
            while not any(end._queue for end in link._ends):  # noqa: ASYNC110
                await asyncio.sleep(0)
        link.slow(0.001)
        client.writer.write(b"second")
        assert await client.hear(11) == b"firstsecond"


async def test_an_end_on_a_slow_link_comes_after_the_data() -> None:
    async with talking() as (_, link, _, client):
        link.slow(0.05)
        client.writer.write(b"last words")
        client.writer.write_eof()
        async with asyncio.timeout(2):
            assert await client.reader.read() == b"last words"


@pytest.mark.parametrize("delay", [0.0, 30.0])
async def test_a_receiver_that_does_not_read_stops_the_sender(delay: float) -> None:
    async with serving(deaf=True) as service, linked(service.port) as (link, port):
        link.slow(delay)
        async with connected(port) as client:
            await service.until(lambda s: len(s.writers) == 1)
            block = b"x" * 65536
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    while True:
                        client.writer.write(block)
                        await client.writer.drain()
            held = sum(
                end._queued + end._transport.get_write_buffer_size() for end in link._ends
            )
            assert 0 < held < 4 * links.BUFFER_BYTES


async def test_closing_drops_everything_and_frees_the_port() -> None:
    async with talking() as (_, link, port, client):
        await client.ask(b"a")
        link.freeze()
        await link.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_hundred_connections_at_once_do_not_mix() -> None:
    async with serving() as service, linked(service.port) as (link, port):

        async def talk(number: int) -> bool:
            async with connected(port) as client:
                return await client.ask(b"%d" % number * 500) == b"%d" % number * 500

        assert all(await asyncio.gather(*(talk(number) for number in range(100))))
        await asyncio.wait_for(link._empty.wait(), 2)
