"""Processes that a test kills and stops: receiving clients and chat servers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from private_rig import PATIENCE_SECONDS, SECRET, Rig, quick_settings

from chatlab.discovery.redis import Registry
from chatlab.errors import ServiceUnavailable
from chatlab.private.mailbox import MailboxState
from chatlab.services.addresses import RedisAddress, ServerAddress, to_dict
from chatlab.settings import Settings, child_environ

ROOT = Path(__file__).parents[1]
#: Settings with which nobody notices that a client is frozen.
UNNOTICED = {"keepalive_seconds": 60.0, "keepalive_timeout_seconds": 60.0}


@asynccontextmanager
async def process(*arguments: str, settings: Settings | None = None) -> AsyncIterator[Process]:
    """A Python process of ours; gone afterwards, whatever was done to it."""
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        cwd=ROOT,
        env=child_environ((settings or quick_settings()).as_environ()),
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()
        made._transport.close()  # type: ignore[attr-defined]


class Shown(NamedTuple):
    """A message as a receiver showed it."""

    sender: str
    body: str
    redelivered: bool


class Child:
    """A receiving client in a process of its own (``private_child``), and what it said."""

    def __init__(self, made: Process) -> None:
        self.process = made
        self.ready = False
        #: What was shown in each incarnation.
        self.shown: defaultdict[int, list[Shown]] = defaultdict(list)
        #: How often each incarnation was opened, and cancelled.
        self.opened: defaultdict[int, int] = defaultdict(int)
        self.cancelled: defaultdict[int, int] = defaultdict(int)
        #: Incarnation -> class of the error that it ended with.
        self.ended: dict[int, str] = {}
        #: All that it said was read.
        self.silent = False
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Until the process is gone."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if not line.endswith(b"\n"):  # killed while it wrote
                break
            self._hear(*json.loads(line))
            self._changed.set()
        self.silent = True
        self._changed.set()

    def _hear(self, what: str, incarnation: int = 0, *rest: Any) -> None:
        match what:
            case "ready":
                self.ready = True
            case "open":
                self.opened[incarnation] += 1
            case "shown":
                self.shown[incarnation].append(Shown(*rest))
            case "cancelled":
                self.cancelled[incarnation] += 1
            case "ended":
                (self.ended[incarnation],) = rest

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def bodies(self) -> list[str]:
        """All that was shown, in whatever incarnation."""
        return [message.body for shown in self.shown.values() for message in shown]

    async def wait_for(self, count: int) -> list[str]:
        """The bodies shown, once there are ``count``."""
        await self.until(lambda: len(self.bodies) >= count)
        return self.bodies

    async def killed(self) -> list[str]:
        """SIGKILL; all that it had shown by then."""
        self.process.kill()
        await self.until(lambda: self.silent)
        return self.bodies

    def tell(self, *command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def open(self, address: ServerAddress, incarnation: int) -> None:
        """Receive; returns when the chat server holds the mailbox for it."""
        times = self.opened[incarnation]
        self.tell("open", to_dict(address), incarnation)
        await self.until(lambda: self.opened[incarnation] > times)


@asynccontextmanager
async def child(
    user: str = "bob",
    backend: str = "mailbox-redis",
    *,
    work: float = 0.0,
    settings: Settings | None = None,
) -> AsyncIterator[Child]:
    """A receiving process, ready to open; ``work`` seconds of work a message."""
    arguments = ("-m", "tests.private_child", user, SECRET, backend, str(work))
    async with process(*arguments, settings=settings) as made:
        its = Child(made)
        listening = asyncio.create_task(its.listen())
        try:
            await its.until(lambda: its.ready)
            yield its
        finally:
            if made.returncode is None:
                made.kill()
            await made.wait()
            await listening


@asynccontextmanager
async def receiver(
    r: Rig, user: str, incarnation: int, work: float = 0.0
) -> AsyncIterator[Child]:
    """A client in a process of its own, receiving."""
    async with child(user, r.backend, work=work, settings=r.settings) as its:
        await its.open(r.address, incarnation)
        yield its


async def mailbox(r: Rig, user: str) -> MailboxState:
    return next(state for state in await r.store.state() if state.user == user)


async def until_let_go(r: Rig, user: str) -> float:
    """Seconds until nobody holds the mailbox of ``user``."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await mailbox(r, user)).held:  # noqa: ASYNC110 (nothing else to wait for)
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def until_all_is_acknowledged(r: Rig, user: str) -> int:
    """How many messages were ever stored in the mailbox, once none waits in it."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while (state := await mailbox(r, user)).unacknowledged:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return state.stored


#: The chat server; it reads its configuration when its standard input is closed.
SERVER = ("-m", "chatlab.private.server")


class Lab:
    """The server as a process over a real Redis, and what its clients need to find it."""

    def __init__(self, r: Rig, registry: Registry, address: RedisAddress) -> None:
        self.rig = r
        self.registry = registry
        self.redis = address
        self.backend = "mailbox-redis"
        r.locate = self.locate  # type: ignore[method-assign]

    async def locate(self, avoid: Collection[str] = ()) -> ServerAddress:
        address = await self.registry.find_server(self.backend, avoid)
        if address is None:
            raise ServiceUnavailable("No chat server is registered.")
        return address

    async def begin(self, server: Process) -> None:
        """Let a process that was started with :data:`SERVER` serve. Its address is that of
        the rig from now on."""
        before = await self.registry.servers_of(self.backend)
        assert server.stdin is not None
        config = {"backend": self.backend, "redis": to_dict(self.redis), **self.rig.options}
        server.stdin.write(json.dumps(config).encode())
        server.stdin.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (new := await self._but(before)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (self.rig.address,) = new

    async def _but(self, before: Collection[str]) -> list[ServerAddress]:
        servers = await self.registry.servers_of(self.backend)
        return [address for token, address in servers.items() if token not in before]

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Process]:
        async with process(*SERVER, settings=self.rig.settings) as made:
            await self.begin(made)
            yield made
