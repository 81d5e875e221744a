"""Doors: the ways in to brokers on loopback from other computers, by TLS only.

A door listens at one address of this computer. What comes in through TLS it forwards as it is
to its broker, which itself stays on loopback::

    other computers ──TLS──▶ door at 192.0.2.1 ──▶ broker at 127.0.0.1

Who one is, the broker asks, by an account made for guests (``guests.py``). Whoever does not
finish the handshake in time is sent away; a connection counts from its first packet on, so that
no more than :data:`CONNECTIONS` are held open, and further ones wait in the system's own queue.
Each direction reads on only when what it read has been taken, so memory is bounded. TLS cannot
close one direction alone (RFC 8446 could, asyncio does not): when either end closes, both
are over, and what it had said before still arrives.

A broker that takes a password that everybody knows would let in everybody. So
:func:`check_locked` tries those first, and a lab with such a broker is not opened to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from chatlab import logs
from chatlab.amqp.errors import AccessRefused, NotAllowed
from chatlab.amqp.wire import Wire
from chatlab.errors import NotPossible, ServiceUnavailable
from chatlab.services.addresses import RabbitAddress, RedisAddress, join_host_port, trust

log = logs.of(__name__)

#: Most connections of one door at once.
CONNECTIONS = 1_000
#: A TLS handshake that takes longer is given up.
HANDSHAKE_SECONDS = 5.0
#: A broker that has not taken a connection by then is not there.
CONNECT_SECONDS = 5.0
#: A computer is asked for a sign of life after so many quiet seconds, and again every so many
#: seconds, and is gone after so many without an answer.
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
#: What is on its way when a connection ends gets so long.
CLOSE_SECONDS = 5.0
#: After an accept that failed (no file descriptor left), before the next one.
PAUSE_SECONDS = 0.1
#: Bytes read at once; each direction holds a few times as many.
CHUNK_BYTES = 64 * 1024
#: Connections that the system holds for a door until it takes them.
BACKLOG = 128
#: What has a door.
NAMES = ("rabbitmq", "management", "redis")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A broker's own listener."""

    host: str
    port: int
    #: For a broker that is reached by TLS itself.
    context: ssl.SSLContext | None = None
    named: str = ""


class Door:
    """One TLS listener. :meth:`open` it; :meth:`close` ends all connections through it.

    Args:
        target: where it leads.
        context: its certificate and key.
    """

    def __init__(self, target: Target, context: ssl.SSLContext) -> None:
        self.target = target
        self.port = 0
        self._context = context
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Args:
            port: 0 for any free one.

        Raises:
            NotPossible: ``host`` is no address of this computer.
            ServiceUnavailable: the port is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, *_, address = found[0]
            self._listening = socket.create_server(
                (address[0], port), family=family, backlog=BACKLOG
            )
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise NotPossible(
                    f"{host} is no address of this computer.",
                    todo="Name one that it has: `ip address` lists them.",
                ) from error
            raise ServiceUnavailable(
                f"{join_host_port(host, port)} is taken by another program.",
                todo="Choose another port: --port N takes N and the next three.",
            ) from error
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept(self._listening))
        return self.port

    async def close(self) -> None:
        """Listen no more, and drop all connections. Idempotent."""
        tasks = [*self._passing, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        await asyncio.sleep(0)  # the loop closes what was aborted

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                self._room.release()
                log.warning("not accepted", why=str(error))
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            task = loop.create_task(self._serve(connection))
            self._passing.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._passing.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connection failed", why=repr(error))

    async def _serve(self, connection: socket.socket) -> None:
        """Handshake, connect to the broker, and pass on until it is over."""
        with contextlib.suppress(OSError):  # a peer that is gone, or speaks no TLS
            outside = await self._welcome(connection)
            try:
                inside = await self._connect()
            except (OSError, ServiceUnavailable):
                outside[1].transport.abort()
                return
            await _join(outside, inside)

    async def _welcome(self, connection: socket.socket) -> _Ends:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            _watch(connection)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except BaseException:
            connection.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _connect(self) -> _Ends:
        to = self.target
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(
                to.host,
                to.port,
                limit=CHUNK_BYTES,
                ssl=to.context,
                server_hostname=to.named if to.context else None,
            )


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _watch(connection: socket.socket) -> None:
    """Send small packets at once, and notice a computer that is gone (tcp(7)): the broker
    cannot, since its own connection, to the door, is fine."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _join(outside: _Ends, inside: _Ends) -> None:
    """Pass on both ways until one end closes; what it had said by then still arrives."""
    both = [
        asyncio.create_task(_pass(outside[0], inside[1])),
        asyncio.create_task(_pass(inside[0], outside[1])),
    ]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(_part(outside[1]), _part(inside[1]))
    finally:
        for task in both:
            task.cancel()
        for _, writer in (outside, inside):
            writer.transport.abort()
        await asyncio.gather(*both, return_exceptions=True)


async def _pass(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    """All that comes."""
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK_BYTES):
            to.write(data)
            await to.drain()


async def _part(writer: asyncio.StreamWriter) -> None:
    """Close when what was written has been taken; wait no longer than that may take."""
    with contextlib.suppress(OSError):  # a time-out is one, too
        async with asyncio.timeout(CLOSE_SECONDS):
            writer.close()
            await writer.wait_closed()


# -- what must not be found behind a door


async def check_locked(rabbitmq: RabbitAddress, redis: RedisAddress) -> None:
    """Whether it is safe to let others knock: neither takes a password that all know.

    Raises:
        NotPossible: one does; says which.
        ServiceUnavailable: one does not answer.
    """
    if await _takes_guest(rabbitmq):
        raise NotPossible(
            f"RabbitMQ at {rabbitmq.host}:{rabbitmq.port} lets guest/guest in, so this lab is "
            "not opened to other computers.",
            todo="Remove that account (rabbitmqctl delete_user guest) and use one of your own.",
        )
    if await _takes_anybody(redis):
        raise NotPossible(
            f"{redis.product} at {redis.host}:{redis.port} asks for no password, so this lab "
            "is not opened to other computers.",
            todo="Give it one (requirepass), here in CHATLAB_REDIS_URL.",
        )


async def _takes_guest(rabbitmq: RabbitAddress) -> bool:
    guest = replace(rabbitmq, user="guest", password="guest")  # noqa: S106
    try:
        wire = await Wire.open(
            guest, {}, heartbeat=0, timeout=CONNECT_SECONDS, on_lost=lambda _: None
        )
    except AccessRefused:
        return False
    except NotAllowed:  # the password is right, the virtual host is another's
        return True
    await wire.close()
    return True


async def _takes_anybody(redis: RedisAddress) -> bool:
    """Whether ``PING`` is answered without a login."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                redis.host,
                redis.port,
                ssl=trust(redis.authority) if redis.tls else None,
                server_hostname=redis.certificate_host if redis.tls else None,
            )
            try:
                writer.write(b"PING\r\n")
                return not (await reader.readline()).startswith(b"-NOAUTH")
            finally:
                writer.transport.abort()
    except OSError as error:
        raise ServiceUnavailable(
            f"{redis.product} at {redis.host}:{redis.port} does not answer."
        ) from error


class Doors:
    """One door each to a lab's RabbitMQ, its management API and its Redis.

    Args:
        rabbitmq, redis: as they are reached here; their credentials are not used.
        context: the certificate for the host, and its key.
    """

    def __init__(
        self, rabbitmq: RabbitAddress, redis: RedisAddress, context: ssl.SSLContext
    ) -> None:
        self._doors = [Door(target, context) for target in _targets(rabbitmq, redis)]

    @property
    def ports(self) -> list[int]:
        """In the order of :data:`NAMES`."""
        return [door.port for door in self._doors]

    async def open(self, host: str, ports: Sequence[int]) -> None:
        """Open all of them.

        Args:
            ports: in the order of :data:`NAMES`.

        Raises:
            NotPossible, ServiceUnavailable: as :meth:`Door.open`; then all are closed.
        """
        try:
            for door, port in zip(self._doors, ports, strict=True):
                await door.open(host, port)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all of them. Idempotent."""
        await asyncio.gather(*(door.close() for door in self._doors))


def _targets(rabbitmq: RabbitAddress, redis: RedisAddress) -> list[Target]:
    """Of :data:`NAMES`."""
    api = urlsplit(rabbitmq.management_url)
    secure = api.scheme == "https"
    asked = trust(rabbitmq.authority) if secure else None
    host = api.hostname or ""
    return [
        _target(rabbitmq),
        Target(host=host, port=api.port or (443 if secure else 80), context=asked, named=host),
        _target(redis),
    ]


def _target(address: RabbitAddress | RedisAddress) -> Target:
    return Target(
        host=address.host,
        port=address.port,
        context=trust(address.authority) if address.tls else None,
        named=address.certificate_host,
    )
