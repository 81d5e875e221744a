"""The chat server, on this loop or as a process of its own.

:class:`ChatServer` serves one store of mailboxes on a loopback port. :func:`announced` keeps
it in the name server, leased, so that clients find it under its backend's name.

As a process: ``python -m chatlab.private.server FILE``, where FILE (mode 0600; the process
deletes nothing) is JSON::

    {"backend": "mailbox-redis", "redis": {…}, "host": "127.0.0.1", "port": 0}

``redis`` holds the fields of :class:`~chatlab.services.addresses.RedisAddress`; without FILE
the same is read from standard input. Settings come from the environment, as everywhere.
SIGTERM and SIGINT end its streams with UNAVAILABLE and stop it within two seconds.
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

from chatlab.errors import ChatlabError, InvalidInput, ServiceUnavailable
from chatlab.private.accounts import AccountRegistry, Accounts, RegisteredAccounts
from chatlab.private.as_reported import AS_REPORTED, AsReportedServer
from chatlab.private.channel import check_loopback, server_options
from chatlab.private.mailbox import Limits, Mailboxes
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.private.service import PrivateChat
from chatlab.resp import Redis
from chatlab.services.addresses import RedisAddress
from chatlab.settings import Settings
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

#: After its grace a stopping server waits no longer than this for gRPC itself, seconds.
STOP_SECONDS = 1.0


class ChatServer:
    """A chat server on this loop.

    Args:
        store: the mailboxes; opened and closed with the server.
        accounts: who exists.
        settings: keepalive.
        host: a loopback address.
        port: 0 for any free one.
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
    ) -> None:
        self.store = store
        self.address = ""
        self._settings = settings
        self._host = check_loopback(host)
        self._port = port
        self._service = PrivateChat(store, accounts, limits or Limits())
        self._server: Any = None
        self._stop: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Begin to serve. Returns ``host:port``.

        Raises:
            ServiceUnavailable: the port is taken, or the store cannot be reached.
        """
        await self.store.open()
        self._server = grpc.aio.server(options=server_options(self._settings))
        pb_grpc.add_PrivateChatServicer_to_server(self._service, self._server)  # type: ignore[no-untyped-call]
        wanted = f"{self._host}:{self._port}"
        try:
            port = self._server.add_insecure_port(wanted)
        except RuntimeError as error:
            await self.store.close()
            raise ServiceUnavailable(f"{wanted} is taken by another program.") from error
        await self._server.start()
        self.address = f"{self._host}:{port}"
        return self.address

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
        self._stop = asyncio.ensure_future(self._server.stop(grace))
        await asyncio.wait({self._stop}, timeout=grace + STOP_SECONDS)
        await self.store.close()


class NameServer(Protocol):
    """The part of the name server's registry that is used here."""

    async def register_server(self, kind: str, address: str, token: str) -> None: ...

    async def renew_server(self, kind: str, token: str) -> None: ...

    async def forget_server(self, kind: str, token: str) -> None: ...


@asynccontextmanager
async def announced(
    names: NameServer, kind: str, address: str, lease_seconds: float
) -> AsyncIterator[None]:
    """Keep a server in the name server while the body runs.

    Args:
        names: the name server.
        kind: what clients ask for: the backend's name.
        address: ``host:port``.
        lease_seconds: the entry's lease; renewed at a third of it.
    """
    token = secrets.token_hex(8)
    await names.register_server(kind, address, token)
    renewing = asyncio.create_task(_renew(names, kind, address, token, lease_seconds / 3))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(ChatlabError):  # the entry expires by itself
            await names.forget_server(kind, token)


async def _renew(
    names: NameServer, kind: str, address: str, token: str, seconds: float
) -> None:
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
    place = {name: config[name] for name in ("host", "port") if name in config}
    server = make_server(backend, redis, registry, settings, **place)
    try:
        address = await server.start()
        try:
            async with announced(registry, backend, address, settings.lease_seconds):
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
        place: ``host`` and ``port``, as for :class:`ChatServer`.

    Raises:
        InvalidInput: no such backend.
    """
    if backend == AS_REPORTED:
        return AsReportedServer(**place)
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
