"""The chat server, on this loop or as a process of its own.

:class:`ChatServer` serves one store of mailboxes at one address. :func:`announced` keeps it
in the name server, leased, so that clients find it under its backend's name. Any number of
servers may run over one Redis; a client goes to one of them, and to another when that one
does not answer.

As a process: ``python -m chatlab.private.server FILE``, where FILE (mode 0600; the process
deletes nothing) is JSON::

    {"backend": "mailbox-redis", "redis": {…}, "host": "127.0.0.1", "port": 0}

These are the fields of a :class:`Plan`; without FILE the same is read from standard input.
``host`` may be any address of this machine; one that is not loopback needs the lab's secret
(:mod:`chatlab.private.security`). Settings come from the environment, as everywhere. The
command ``chatlab server`` (:mod:`chatlab.serving`) does the same for people.

SIGTERM, SIGINT and SIGHUP drain it: it is forgotten in the name server and reports
NOT_SERVING; claims and new streams are refused; what it has read is stored and answered; then
all streams end with UNAVAILABLE, so that clients go to another server and send again there
what has no receipt. That takes no longer than ``drain_seconds`` and :data:`STOP_SECONDS`,
whatever clients or Redis do. A second signal stops it at once.

Beside the chats it serves ``grpc.health.v1`` (overall and for the service; NOT_SERVING from
when it begins to stop) and server reflection, for stock clients; neither asks for a session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chatlab import __version__, logs
from chatlab.backends import IN_MEMORY
from chatlab.errors import ChatlabError, InvalidInput, ServiceUnavailable, Taken
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
#: A server that was told to stop goes on no longer than this by default, seconds.
DRAIN_SECONDS = 5.0
#: How long handlers whose clients do not read may go on when all else has ended.
GRACE_SECONDS = 0.5

log = logs.of(__name__)


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
                f"{wanted} is taken by another program, or is no address of this machine.",
                todo="Choose another port, 0 for any free one, or an address of this machine.",
            ) from error

    def streams(self) -> dict[str, int]:
        """How many streams each connected user has open here."""
        return {user: len(some) for user, some in sorted(self._service.streams.items())}

    async def wipe(self) -> None:
        """Forget all mailboxes; connected clients reconnect to empty ones."""
        await self.store.wipe()

    @property
    def counts(self) -> dict[str, int]:
        """What it has done so far: claims, streams, letters stored, …"""
        return dict(sorted(self._service.counts.items()))

    async def drain(self, seconds: float) -> None:
        """Report NOT_SERVING, finish what has begun and end all streams; then :meth:`stop`.

        Args:
            seconds: at the end of this time it is left unfinished.
        """
        until = asyncio.get_running_loop().time() + seconds
        self._service.stopping = True
        await self._report_not_serving(min(seconds, STOP_SECONDS / 2))
        await self._service.drain(max(0.0, until - asyncio.get_running_loop().time()))

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
        await self._report_not_serving(STOP_SECONDS / 2)
        await self._server.stop(grace)

    async def _report_not_serving(self, seconds: float) -> None:
        with suppress(TimeoutError):  # who watches health may be frozen
            async with asyncio.timeout(seconds):
                await self._health.enter_graceful_shutdown()


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
    on_lost: Callable[[ChatlabError], None] | None = None,
) -> AsyncIterator[None]:
    """Keep a server in the name server while the body runs.

    A name server that is away is tried again; once it is back, the server is listed again.
    Of a kind whose mailboxes are in the server's own memory there is one at a time: a newer
    one takes its place.

    Args:
        names: the name server.
        kind: what clients ask for: the backend's name.
        address: where it serves.
        lease_seconds: the entry's lease; renewed at a third of it.
        token: the server's own; empty: a random one.
        on_lost: called once when a newer one has taken its place; it is renewed no more then.
    """
    token = token or secrets.token_hex(8)
    await names.register_server(kind, address, token, sole=kind in IN_MEMORY)
    renewing = asyncio.create_task(_renew(names, kind, token, lease_seconds / 3, on_lost))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(ChatlabError, TimeoutError):  # the entry expires by itself
            async with asyncio.timeout(STOP_SECONDS):
                await names.forget_server(kind, token)


async def _renew(
    names: NameServer,
    kind: str,
    token: str,
    seconds: float,
    on_lost: Callable[[ChatlabError], None] | None,
) -> None:
    good = True
    while True:
        await asyncio.sleep(seconds)
        try:
            await names.renew_server(kind, token)
        except Taken as error:
            if on_lost is not None:
                on_lost(error)
                return
        except ChatlabError as error:  # the name server is away: try again
            if good:
                log.warning("not renewed", store=kind, why=error.what)
            good = False
        else:
            if not good:
                log.warning("renewed again", store=kind)
            good = True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a server process serves, and where."""

    backend: str
    redis: RedisAddress
    #: As for :class:`ChatServer`.
    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = False
    #: Its own in the name server; empty: a random one.
    token: str = field(default="", repr=False)
    drain_seconds: float = DRAIN_SECONDS
    #: The lab's name, for the log.
    lab: str = ""


class Ending:
    """When a server process ends, and why.

    To be asked once is to drain, to be asked again is to stop at once.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        #: Why, unless somebody wanted it.
        self.error: ChatlabError | None = None

    def ask(self) -> None:
        """Somebody wants it to end."""
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    def fail(self, error: ChatlabError) -> None:
        """It has to end because of ``error``."""
        if not self.asked.is_set():
            self.error = error
            self.asked.set()

    def on_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP ask."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask)

    async def unless_hurried(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, or leave it when there is no more time."""
        task = asyncio.create_task(work)
        await either(task, self.hurried)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        else:
            task.result()


async def serve(
    settings: Settings,
    plan: Plan,
    ending: Ending,
    on_serving: Callable[[ServerAddress], None] | None = None,
) -> None:
    """Serve as planned until ``ending``; then drain, and stop.

    Args:
        on_serving: called once clients find the server.

    Raises:
        ChatlabError: it could not begin, or :meth:`Ending.fail` was called.
    """
    from chatlab.discovery.redis import Registry

    redis = Redis(plan.redis, name="chat-server")
    registry = Registry(redis, settings.lease_seconds)
    where = {"host": plan.host, "port": plan.port, "tls": plan.tls}
    server = make_server(plan.backend, redis, registry, settings, **where)
    try:
        address = await server.start()
        try:
            lease = settings.lease_seconds
            async with announced(
                registry, plan.backend, address, lease, plan.token, ending.fail
            ):
                _log_serving(plan, address)
                if on_serving is not None:
                    on_serving(address)
                await ending.asked.wait()
                until = asyncio.get_running_loop().time() + plan.drain_seconds
                log.info("draining", seconds=plan.drain_seconds)
            await ending.unless_hurried(_drain(server, until))
        finally:
            await _stop(server, hurried=ending.hurried.is_set())
    finally:
        await redis.close()
    if ending.error is not None:
        raise ending.error


def _log_serving(plan: Plan, address: ServerAddress) -> None:
    log.info(
        "serving",
        address=str(address),
        lab=plan.lab,
        store=plan.backend,
        tls=bool(address.certificate),
        version=__version__,
    )


async def _drain(server: ChatServer | AsReportedServer, until: float) -> None:
    if isinstance(server, ChatServer):  # the report's own ends as it ended
        await server.drain(max(0.0, until - asyncio.get_running_loop().time()))


async def _stop(server: ChatServer | AsReportedServer, *, hurried: bool) -> None:
    if isinstance(server, ChatServer):
        await server.stop(0.0 if hurried else GRACE_SECONDS)
        log.info("stopped", hurried=hurried, **server.counts)
    else:
        await server.stop()
        log.info("stopped", hurried=hurried)


def until_signalled(
    drain_seconds: float, work: Callable[[Ending], Coroutine[Any, Any, None]]
) -> None:
    """Be a server process: run ``work`` until it ends, which signals ask it to.

    Whatever it waits for then, the process ends :data:`STOP_SECONDS` after the drain's time,
    or after the second signal.
    """
    asyncio.run(_until_signalled(drain_seconds, work))


async def _until_signalled(
    drain_seconds: float, work: Callable[[Ending], Coroutine[Any, Any, None]]
) -> None:
    ending = Ending()
    ending.on_signals()
    task = asyncio.create_task(work(ending))
    await either(task, ending.asked)
    await either(task, ending.hurried, drain_seconds)
    await asyncio.wait({task}, timeout=STOP_SECONDS)
    if task.done():
        return task.result()
    log.warning("stopped", unfinished=True)
    if ending.error is not None:
        print(ending.error, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Brokers notice that the connections are gone; entries in the name server expire.
    os._exit(0 if ending.error is None else 1)


async def either(
    task: asyncio.Task[Any], event: asyncio.Event, timeout: float | None = None
) -> None:
    """Until the task is done, the event is set or the time is over."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({task, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


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


def plan_of(text: str) -> Plan:
    """A plan from JSON (module docstring)."""
    config = json.loads(text)
    return Plan(**config | {"redis": RedisAddress(**config["redis"])})


def main(argv: list[str] | None = None) -> int:
    """The process; exit status 1 and three lines on stderr for an error of chatlab."""
    parser = argparse.ArgumentParser(prog="chatlab.private.server", description="chat server")
    parser.add_argument("file", nargs="?", type=Path, help="JSON; default: standard input")
    file = parser.parse_args(argv).file
    try:
        settings = Settings.load()
        logs.begin(settings)
        plan = plan_of(file.read_text("utf-8") if file else sys.stdin.read())
        logs.hide(plan.redis.password)
        until_signalled(plan.drain_seconds, partial(serve, settings, plan))
    except ChatlabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
