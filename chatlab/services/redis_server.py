"""A private Redis (or Valkey) as an ordinary child process.

Its configuration, the password included, is a file that only we can read: arguments are
visible to everybody on the machine. It listens on loopback only and appends every command to
a file before it answers, so that a killed server comes back with its data. When that file goes
to the disk is left to the operating system (``appendfsync no``): a power failure may cost
seconds. ``everysec`` would ask for the disk once a second, and put writes off for up to two
seconds while the disk is busy with that (``flushAppendOnlyFile`` in Redis' ``aof.c``): what was
answered meanwhile is lost to a SIGKILL.
(https://redis.io/docs/latest/operate/oss_and_stack/management/config/)

It answers when it is past loading and has told its version.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from chatlab.errors import ServiceUnavailable
from chatlab.services.addresses import RedisAddress
from chatlab.services.broker import Broker
from chatlab.services.find import RedisProgram, find_redis
from chatlab.services.ports import LOOPBACK
from chatlab.services.processes import Child
from chatlab.settings import child_environ

#: A server that is there answers within milliseconds.
ANSWER_SECONDS = 2.0

CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir "{folder}"
appendonly yes
appendfsync no
save ""
"""


class RedisServer(Broker):
    """One Redis."""

    name = "redis"
    title = "Redis"

    def __init__(self, folder: Path, *, ledger: Path, limit: float) -> None:
        super().__init__(folder, ledger=ledger, limit=limit)
        self._program: RedisProgram | None = None
        self._address: RedisAddress | None = None

    @property
    def program(self) -> RedisProgram:
        """The server that is started; known once a start has begun."""
        if self._program is None:
            raise ServiceUnavailable("Redis has not been started.")
        return self._program

    @property
    def address(self) -> RedisAddress:
        """Where it listens, with its password."""
        if self._address is None:
            raise ServiceUnavailable("Redis has not been started.")
        return self._address

    async def prepare(self) -> None:
        self._program = await asyncio.to_thread(find_redis)

    def configure(self) -> None:
        self._address = RedisAddress(
            host=LOOPBACK,
            port=self.ports[0].number,
            password=secrets.token_hex(16),
            version=self.program.version,
            product=self.program.product,
        )
        (self.folder / "data").mkdir()
        file = self.folder / "redis.conf"
        file.touch(mode=0o600)
        text = CONFIG.format(
            host=LOOPBACK,
            port=self._address.port,
            password=self._address.password,
            folder=self.folder / "data",
        )
        file.write_text(text, encoding="utf-8")

    async def launch(self) -> Child:
        return await Child.start(
            f"{self.name}-{self.folder.parent.name}",
            [self.program.path, self.folder / "redis.conf"],
            environ=child_environ(),
            log=self.folder / "redis.log",
            ledger=self.ledger,
        )

    async def answers(self) -> bool:
        facts = await _info(self.address)
        if facts is None:
            return False
        valkey = facts.get("valkey_version")
        self._address = replace(
            self.address,
            version=valkey or facts.get("redis_version", ""),
            product="Valkey" if valkey else "Redis",
        )
        return True

    async def limit_memory(self, on: bool) -> None:
        # Without a policy to evict keys, writes are refused (OOM); 0: no limit.
        if not await _config(self.address, "maxmemory", "1" if on else "0"):
            raise ServiceUnavailable("Redis does not take a memory limit.")

    def port_taken(self, log: str) -> bool:
        return "Address already in use" in log


async def _config(address: RedisAddress, name: str, value: str) -> bool:
    """Whether ``CONFIG SET`` was done."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(
                    f"AUTH {address.password}\r\nCONFIG SET {name} {value}\r\n".encode()
                )
                return [await reader.readline() for _ in range(2)] == [b"+OK\r\n"] * 2
            finally:
                writer.transport.abort()
    return False


async def _info(address: RedisAddress) -> dict[str, str] | None:
    """What ``INFO server`` says; None while the server is not there or still loading.

    PING is what a loading server refuses. Three commands whose replies have a known shape
    need no driver, and a cold start need not wait until one is imported.
    """
    with suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(f"AUTH {address.password}\r\nPING\r\nINFO server\r\n".encode())
                if (await reader.readline(), await reader.readline()) != (
                    b"+OK\r\n",
                    b"+PONG\r\n",
                ):
                    return None
                length = int((await reader.readline()).removeprefix(b"$"))
                text = (await reader.readexactly(length)).decode()
            finally:
                writer.transport.abort()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return None
