"""The lab's chat servers: one per private backend in use, started at its first use.

In an ordinary lab a server runs on the kernel's loop. In a breakable one it is a process of
its own under the supervisor, so that it can be killed; clients find the new one through the
name server, as they found the first. The kernels of a shared lab bring a server each.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatlab.backends import IN_MEMORY
from chatlab.errors import ChatlabError, NotPossible, ServiceUnavailable
from chatlab.services.addresses import ServerAddress, to_dict

if TYPE_CHECKING:
    from chatlab.discovery import Registry
    from chatlab.private.as_reported import AsReportedServer
    from chatlab.private.server import ChatServer
    from chatlab.services import Lease
    from chatlab.settings import Settings

#: How often a starting process is looked for in the name server.
LOOK_SECONDS = 0.02


@dataclass
class _Running:
    address: ServerAddress | None = None
    #: Its own, in the name server.
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    #: In this kernel: the server and what closes it.
    server: ChatServer | AsReportedServer | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    #: In a process of its own: its name under the lease.
    child: str = ""
    up: bool = True


class Servers:
    """Starts, finds and (in a breakable lab) breaks the chat servers. All coroutines."""

    def __init__(self, lease: Lease, registry: Registry, settings: Settings) -> None:
        self._lease = lease
        self._registry = registry
        self._settings = settings
        self._running: dict[str, _Running] = {}
        self._children = 0
        self._starting = asyncio.Lock()

    async def ensure(self, kind: str) -> None:
        """Start the server of a kind (``mailbox-redis``) unless there is one."""
        async with self._starting:
            if kind not in self._running:
                self._running[kind] = await self._start(kind)

    def addresses(self) -> dict[str, str]:
        """Kind -> ``host:port`` of those that were started."""
        return {kind: str(entry.address) for kind, entry in self._running.items()}

    def streams(self) -> dict[str, dict[str, int]]:
        """Kind -> user -> open streams, of the servers in this kernel."""
        return {kind: e.server.streams() for kind, e in self._running.items() if e.server}

    def queues(self) -> dict[str, int]:
        """Client -> messages in its queue, of an as-reported server in this kernel."""
        found = self._running.get("as-reported")
        server: Any = found.server if found else None
        return server.waiting() if server else {}

    async def _start(self, kind: str) -> _Running:
        running = _Running()
        try:
            await (self._spawn if self._lease.breakable else self._serve)(kind, running)
        except BaseException:
            with suppress(ChatlabError):  # the process has ended already
                await self._end(running)
            raise
        return running

    async def _serve(self, kind: str, running: _Running) -> None:
        from chatlab.private.server import announced, make_server
        from chatlab.resp import Redis

        redis = Redis(self._lease.redis, name="chat-server")
        running.stack.push_async_callback(redis.close)
        server = make_server(kind, redis, self._registry, self._settings)
        running.address = await server.start()
        running.server = server
        running.stack.push_async_callback(server.stop)
        await running.stack.enter_async_context(
            announced(
                *(self._registry, kind, running.address),
                *(self._settings.lease_seconds, running.token),
            )
        )

    async def _spawn(self, kind: str, running: _Running) -> None:
        self._children += 1
        child = f"{kind}-{self._children}"
        redis = to_dict(self._lease.redis)
        config = {"backend": kind, "redis": redis, "token": running.token}
        with tempfile.TemporaryDirectory(prefix="chatlab-") as folder:  # mode 0700
            file = Path(folder) / "server.json"
            file.write_text(json.dumps(config), encoding="utf-8")
            argv = [sys.executable, "-m", "chatlab.private.server", str(file)]
            await self._lease.spawn(child, argv, self._settings.as_environ())
            running.child = child
            running.address = await self._registered(kind, running.token)

    async def _registered(self, kind: str, token: str) -> ServerAddress:
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                while token not in (found := await self._registry.servers_of(kind)):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise ServiceUnavailable(f"The chat server {kind} did not start.") from None
        return found[token]

    async def _start_again(self, kind: str) -> None:
        """In place of one that is down: nobody is sent to that one any more."""
        await self._registry.forget_server(kind, self._running[kind].token)
        self._running[kind] = await self._start(kind)

    # -- breaking them (in a breakable lab)

    async def kill(self) -> None:
        """SIGKILL all of them."""
        await self._signal("kill", up=False)

    async def stop(self) -> None:
        """SIGTERM all of them and wait until they have ended."""
        await self._signal("terminate", up=False)

    async def pause(self) -> None:
        """SIGSTOP all of them."""
        await self._signal("pause")

    async def resume(self) -> None:
        """All go on."""
        await self._signal("resume")

    async def start(self) -> None:
        """Start again those that are down; returns when they are registered."""
        for kind, running in list(self._running.items()):
            if not running.up:
                await self._start_again(kind)

    async def running(self) -> bool:
        """Whether all that were started are up."""
        return all(entry.up for entry in self._running.values())

    async def _signal(self, action: Any, up: bool = True) -> None:
        for entry in self._running.values():
            if not entry.up:
                raise NotPossible("The chat server is down.", todo="lab.server.start() first.")
            await self._lease.signal(entry.child, action)
            if not up:
                await self._lease.ended(entry.child, self._settings.start_seconds)
                entry.up = False

    async def empty(self) -> None:
        """No mailbox holds anything any more; servers that are down are started again."""
        for kind, running in list(self._running.items()):
            if running.server is not None:
                await running.server.wipe()
            elif not running.up:
                await self._start_again(kind)
            elif kind in IN_MEMORY:  # its messages are in that process
                await self._end(running)
                del self._running[kind]

    async def close(self) -> None:
        """Stop all of them; nothing is kept."""
        for entry in self._running.values():
            await self._end(entry)
        self._running.clear()

    async def _end(self, entry: _Running) -> None:
        if entry.child and entry.up:
            await self._lease.signal(entry.child, "terminate")
            await self._lease.ended(entry.child, self._settings.start_seconds)
        await entry.stack.aclose()
