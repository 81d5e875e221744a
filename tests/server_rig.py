"""``chatlab server`` as a process, and clients of its lab on the loop of a test."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from private_rig import PATIENCE_SECONDS, SECRET, Person, Rig, quick_settings

from chatlab.discovery.redis import Registry
from chatlab.errors import ServiceUnavailable
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.mailbox import Limits
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.services import place
from chatlab.services.addresses import ServerAddress
from chatlab.services.find import find_redis
from chatlab.services.place import Place
from chatlab.settings import Settings, child_environ

ROOT = Path(__file__).parents[1]


class Served:
    """A running ``chatlab server``, and what it says."""

    def __init__(self, process: Process) -> None:
        self.process = process
        #: Lines of its standard output.
        self.said: list[str] = []
        #: Lines of its standard error; those of the log also as values.
        self.errors: list[str] = []
        self.log: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._listening = [
            asyncio.create_task(self._listen(process.stdout, self.said.append)),
            asyncio.create_task(self._listen(process.stderr, self._error)),
        ]

    async def _listen(
        self, stream: asyncio.StreamReader | None, take: Callable[[str], None]
    ) -> None:
        assert stream is not None
        async for line in stream:
            take(line.decode().rstrip("\n"))
            self._changed.set()
        self._changed.set()

    def _error(self, line: str) -> None:
        self.errors.append(line)
        if line.startswith("{"):
            self.log.append(json.loads(line))

    @property
    def address(self) -> str:
        """``host:port``, as it says itself."""
        found = re.search(r" serves at (\S+) ", "\n".join(self.said))
        assert found is not None, self.said
        return found[1]

    @property
    def complaint(self) -> list[str]:
        """What is on standard error and not of the log."""
        return [line for line in self.errors if not line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in self.log if record["event"] == name]

    async def until(self, condition: Callable[[], object], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition() and not all(task.done() for task in self._listening):
                self._changed.clear()
                await self._changed.wait()
        assert condition(), [*self.said, *self.errors[-20:]]

    async def until_it_serves(self) -> None:
        # The first one starts RabbitMQ.
        await self.until(lambda: self.said[-1:] == ["Ctrl-C stops it."], 6 * PATIENCE_SECONDS)

    async def event(self, name: str) -> dict[str, Any]:
        """The first one of that name, once it is there."""
        await self.until(lambda: self.events(name), PATIENCE_SECONDS)
        return self.events(name)[0]

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait(self._listening)
            return await self.process.wait()


class Town:
    """The place of a lab: servers and people may come and go."""

    def __init__(self, here: Place, redis: Redis, settings: Settings, backend: str) -> None:
        self.place = here
        self.redis = redis
        self.registry = Registry(redis, settings.lease_seconds)
        self.settings = settings
        store = RedisMailboxes(redis)
        accounts = RegisteredAccounts(self.registry, redis)
        self.rig = Rig(store, accounts, settings, Limits())
        self.rig.backend = self.backend = backend
        self.rig.locate = self.locate  # type: ignore[method-assign]
        #: Rather this one (``host:port``), unless it is to be avoided.
        self.rather = ""

    async def locate(self, avoid: Collection[str] = ()) -> ServerAddress:
        for address in (await self.registry.servers_of(self.backend)).values():
            if str(address) == self.rather and self.rather not in avoid:
                return address
        found = await self.registry.find_server(self.backend, avoid)
        if found is None:
            raise ServiceUnavailable("No chat server is registered.")
        return found

    async def account(self, *names: str) -> None:
        for name in names:
            await self.registry.create_account(name, SECRET)

    async def online(self, name: str, incarnation: int = 1, **changes: object) -> Person:
        return await self.rig.online(name, incarnation, **changes)

    @asynccontextmanager
    async def server(self, *options: str) -> AsyncIterator[Served]:
        async with command(self.settings, *options) as served:
            await served.until_it_serves()
            yield served


@asynccontextmanager
async def command(settings: Settings, *options: str) -> AsyncIterator[Served]:
    """``chatlab server``; gone afterwards, whatever was done to it."""
    environ = child_environ(settings.as_environ())
    environ.pop("GRPC_VERBOSITY", None)  # of this process, not of a shell
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatlab", "server", "--log-level", "debug", *options),
        cwd=ROOT,
        env=environ,
        stdout=PIPE,
        stderr=PIPE,
    )
    served = Served(made)
    try:
        yield served
    finally:
        if made.returncode is None:
            made.kill()
        await served.ended()


@asynccontextmanager
async def town(lab: str, backend: str = "mailbox-redis", **changes: Any) -> AsyncIterator[Town]:
    """A lab of the test's own, on the session's brokers unless ``changes`` name others."""
    settings = quick_settings(**changes, **_brokers(), lab=lab)
    async with place.enter(settings) as here:
        redis = Redis(here.redis, name="test")
        made = Town(here, redis, settings, backend)
        try:
            yield made
        finally:
            for person in made.rig.people:
                await person.client.close()
            await redis.close()


def _brokers() -> dict[str, Any]:
    """What the session's settings say of its brokers and folders."""
    found = Settings.load()
    names = ("folder", "my_folder", "idle_seconds", "start_seconds")
    return {name: getattr(found, name) for name in names}


class OwnRedis:
    """A Redis that a test may kill and freeze; it keeps its data. Made by :func:`own_redis`."""

    def __init__(self, folder: Path, password: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://:{quote(password, safe='')}@127.0.0.1:{self.port}/0"
        self._file = folder / "redis.conf"
        self._file.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass "{password}"\ndir "{folder}"\n'
            'appendonly yes\nappendfsync always\nsave ""\n',
            encoding="utf-8",
        )
        self.process: Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(find_redis().path, self._file), stdout=DEVNULL
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._listens():  # noqa: ASYNC110 (nothing else to wait for)
                await asyncio.sleep(0.02)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def own_redis(folder: Path, password: str) -> AsyncIterator[OwnRedis]:
    made = OwnRedis(folder, password)
    await made.start()
    try:
        yield made
    finally:
        await made.kill()
