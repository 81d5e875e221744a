"""The chat server, on this loop or as a process of its own.

:class:`ChatServer` serves one store of mailboxes at one address. :func:`announced` keeps it
in the name server, leased, so that clients find it under its backend's name. Any number of
servers may run over one Redis; a client goes to one of them, and to another when that one
does not answer.

As a process: ``python -m chatlab.private.server FILE``, where FILE (mode 0600; the process
deletes nothing) is JSON::

    {"backend": "mailbox-redis", "redis": {…}, "host": "127.0.0.1", "port": 0}

``redis`` holds the fields of :class:`~chatlab.services.addresses.RedisAddress`; without FILE
the same is read from standard input. ``host`` may be any address of this machine; one that is
not loopback needs the lab's secret (:mod:`chatlab.private.security`). ``"tls": true`` asks
for TLS on loopback, too; ``token`` is the server's own in the name server. Settings come from
the environment, as everywhere. SIGTERM and SIGINT end its streams with UNAVAILABLE and stop
it within two seconds.

Beside the chats it serves ``grpc.health.v1`` (overall and for the service; NOT_SERVING from
when it begins to stop) and server reflection, for stock clients; neither asks for a session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chatlab.backends import IN_MEMORY
from chatlab.errors import ChatlabError, InvalidInput, ServiceUnavailable
from chatlab.private.accounts import AccountRegistry, Accounts, RegisteredAccounts
from chatlab.private.as_reported import AS_REPORTED, AsReportedServer
from chatlab.private.channel import server_options
from chatlab.private.mailbox import Limits, Mailboxes
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.private.security import (
    check_host,
    check_name,
    doorkeepers,
    make_credentials,
)
from chatlab.private.service import PrivateChat
from chatlab.resp import Redis
from chatlab.services.addresses import RedisAddress, ServerAddress, join_host_port
from chatlab.services.machine import is_loopback
from chatlab.settings import Settings
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

#: The service's full name, for health and reflection.
SERVICE = pb.DESCRIPTOR.services_by_name["PrivateChatService"].full_name

#: After its grace a stopping server waits no longer than this for gRPC itself, seconds.
STOP_SECONDS = 1.0


class ChatServer:
    """A chat server on this loop.

    Args:
        store: the mailboxes; opened and closed with the server.
        accounts: who exists.
        settings: keepalive, and the lab's secret.
        host: an address of this machine.
        port: 0 for any free one.
        tls: also on loopback; elsewhere always.

    Raises:
        NotPossible: a wildcard, or an address that needs a lab secret.
    """

    def __init__(
        self,
        store: Mailboxes,
        accounts: Accounts,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        tls: bool = False,
    ) -> None:
        check_host(host, settings.lab_secret)
        self.store = store
        self._settings = settings
        self._host = host
        self._port = port
        self._tls = tls or not is_loopback(host)
        self._service = PrivateChat(store, accounts, limits or Limits())
        self._health = health.aio.HealthServicer()
        self._server: Any = None
        self._stop: asyncio.Task[None] | None = None
        self._address: ServerAddress | None = None

    @property
    def address(self) -> ServerAddress:
        """Where it serves, once started."""
        assert self._address is not None
        return self._address

    async def start(self) -> ServerAddress:
        """Begin to serve. Returns the address.

        Raises:
            NotPossible: the host is a name that leads nowhere, or everywhere.
            ServiceUnavailable: the port is taken, the host is not of this machine, or the
                store cannot be reached.
        """
        await check_name(self._host)
        await self.store.open()
        try:
            self._server = self._make_server()
            port, certificate = self._bind(self._server)
            await self._server.start()
        except BaseException:
            await self.store.close()
            raise
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._address = ServerAddress(host=self._host, port=port, certificate=certificate)
        return self._address

    def _make_server(self) -> Any:
        settings = self._settings
        server = grpc.aio.server(
            interceptors=doorkeepers(settings), options=server_options(settings)
        )
        pb_grpc.add_PrivateChatServiceServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    def _bind(self, server: Any) -> tuple[int, str]:
        """The port, and the PEM certificate that clients trust (empty without TLS)."""
        wanted, certificate = join_host_port(self._host, self._port), ""
        try:
            if not self._tls:
                return server.add_insecure_port(wanted), certificate
            credentials, certificate = make_credentials(self._host)
            return server.add_secure_port(wanted, credentials), certificate
        except RuntimeError as error:
            raise ServiceUnavailable(
                f"{wanted} is taken by another program, or is no address of this machine."
            ) from error

    def streams(self) -> dict[str, int]:
        """How many streams each connected user has open here."""
        return {user: len(some) for user, some in sorted(self._service.streams.items())}

    async def wipe(self) -> None:
        """Forget all mailboxes; connected clients reconnect to empty ones."""
        await self.store.wipe()

    async def stop(self, grace: float = 1.0) -> None:
        """End all streams with UNAVAILABLE and stop.

        Returns after ``grace`` + 1 seconds at the latest, even when a client is frozen: gRPC
        itself would wait for that one's keepalive.
        """
        if self._server is None:
            return
        self._service.end_all()
        self._stop = asyncio.ensure_future(self._end(grace))
        await asyncio.wait({self._stop}, timeout=grace + STOP_SECONDS)
        await self.store.close()

    async def _end(self, grace: float) -> None:
        with suppress(TimeoutError):  # who watches health may be frozen
            async with asyncio.timeout(STOP_SECONDS / 2):
                await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


class NameServer(Protocol):
    """The part of the name server's registry that is used here."""

    async def register_server(
        self, kind: str, address: ServerAddress, token: str, *, sole: bool
    ) -> None: ...

    async def renew_server(self, kind: str, token: str) -> None: ...

    async def forget_server(self, kind: str, token: str) -> None: ...


@asynccontextmanager
async def announced(
    names: NameServer,
    kind: str,
    address: ServerAddress,
    lease_seconds: float,
    token: str = "",
) -> AsyncIterator[None]:
    """Keep a server in the name server while the body runs.

    Of a kind whose mailboxes are in the server's own memory there is one at a time: a newer
    one takes its place.

    Args:
        names: the name server.
        kind: what clients ask for: the backend's name.
        address: where it serves.
        lease_seconds: the entry's lease; renewed at a third of it.
        token: the server's own; empty: a random one.
    """
    token = token or secrets.token_hex(8)
    await names.register_server(kind, address, token, sole=kind in IN_MEMORY)
    renewing = asyncio.create_task(_renew(names, kind, token, lease_seconds / 3))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(ChatlabError):  # the entry expires by itself
            await names.forget_server(kind, token)


async def _renew(names: NameServer, kind: str, token: str, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        with suppress(ChatlabError):  # the name server is away: try again
            await names.renew_server(kind, token)


async def serve(settings: Settings, config: dict[str, Any], stop: asyncio.Event) -> None:
    """Run a server as ``config`` says (module docstring) until ``stop`` is set."""
    from chatlab.discovery.redis import Registry

    redis = Redis(RedisAddress(**config["redis"]), name="chat-server")
    registry = Registry(redis, settings.lease_seconds)
    backend = config["backend"]
    place = {name: config[name] for name in ("host", "port", "tls") if name in config}
    server = make_server(backend, redis, registry, settings, **place)
    try:
        address = await server.start()
        lease, token = settings.lease_seconds, config.get("token", "")
        try:
            async with announced(registry, backend, address, lease, token):
                await stop.wait()
        finally:
            await server.stop()
    finally:
        await redis.close()


def make_server(
    backend: str, redis: Redis, registry: AccountRegistry, settings: Settings, **place: Any
) -> ChatServer | AsReportedServer:
    """The server of a backend, not started yet.

    Args:
        redis: where the lab's key and, if the backend has them there, its mailboxes are.
        registry: who exists.
        place: ``host``, ``port`` and ``tls``, as for :class:`ChatServer`.

    Raises:
        InvalidInput: no such backend.
        NotPossible: an address that this backend cannot have.
    """
    if backend == AS_REPORTED:
        return AsReportedServer(**{name: place[name] for name in place if name != "tls"})
    accounts = RegisteredAccounts(registry, redis)
    return ChatServer(open_store(backend, redis), accounts, settings, **place)


def open_store(backend: str, redis: Redis) -> Mailboxes:
    """The store of a backend.

    Raises:
        InvalidInput: no such backend.
    """
    if backend == MemoryMailboxes.backend:
        return MemoryMailboxes()
    if backend == RedisMailboxes.backend:
        return RedisMailboxes(redis)
    known = f"{MemoryMailboxes.backend}, {RedisMailboxes.backend}, {AS_REPORTED}"
    raise InvalidInput(f"There is no chat server {backend!r}.", todo=f"Known are: {known}.")


async def _until_signalled(settings: Settings, config: dict[str, Any]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, config, stop)


def main(argv: list[str] | None = None) -> int:
    """The process; exit status 1 and three lines on stderr for an error of chatlab."""
    parser = argparse.ArgumentParser(prog="chatlab.private.server", description="chat server")
    parser.add_argument("file", nargs="?", type=Path, help="JSON; default: standard input")
    file = parser.parse_args(argv).file
    try:
        config = json.loads(file.read_text("utf-8") if file else sys.stdin.read())
        asyncio.run(_until_signalled(Settings.load(), config))
    except ChatlabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
