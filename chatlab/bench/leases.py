"""What it costs to renew the leases of many users: percent of a core, ours and Redis'.

=============  ==================================================================
``together``   one keeper for all, one round trip (a lab with ``links=False``)
``alone``      every user renews by itself, through a connection of its own
``links``      that, and through a link of its own (any other lab)
=============  ==================================================================

Nobody else is in the process, so its processor time is that of the renewals; in ``links`` that
is also what the forwarders take.

``python -m chatlab.bench.leases`` prints the table.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chatlab.bench.idle import SPARE_FILES, USERS, allow_files, name_of
from chatlab.bench.report import Figure
from chatlab.discovery import Registry
from chatlab.discovery.leases import LeaseKeeper
from chatlab.errors import ChatlabError
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RedisAddress
from chatlab.services.links import Link
from chatlab.services.redis_server import RedisServer
from chatlab.settings import Settings
from chatlab.tables import Table

WAYS = ("together", "alone", "links")
#: Ten leases long; every one is renewed thirty times.
SECONDS = 30.0
#: The promise for 1,000 leases, of one core.
MOST_PERCENT = 2.0
#: A user's own connection and, through a link, both ends of both of its halves.
FILES_A_USER = 4


@dataclass(frozen=True)
class Leases:
    """What renewing ``users`` leases costs."""

    way: str
    users: int
    #: Of one core: this process, the users'.
    percent: float
    #: Of one core: Redis.
    redis_percent: float

    def figure(self) -> Figure:
        """The goal: at most 2 % of a core for 1,000 leases."""
        most = MOST_PERCENT * self.users / USERS
        name = f"{self.users:,} leases renewed {self.way}"
        return Figure(name, [self.percent], [most], f"{most:g} %", at_most=1.0, unit="%")

    def row(self) -> dict[str, object]:
        """A row of the report."""
        return {
            "renewed": self.way,
            "users": self.users,
            "% of a core": f"{self.percent:.2f}",
            "Redis, % of a core": f"{self.redis_percent:.2f}",
        }


def leases(way: str = WAYS[0], users: int = USERS, seconds: float = SECONDS) -> Leases:
    """Measure one way, on a Redis of its own.

    Args:
        way: one of :data:`WAYS`.
        seconds: how long the processor time is counted.
    """
    return asyncio.run(_measure(way, users, seconds))


async def _measure(way: str, users: int, seconds: float) -> Leases:
    with tempfile.TemporaryDirectory(prefix="chatlab-") as folder:
        server = RedisServer(Path(folder, "redis"), ledger=Path(folder, "ledger"), limit=10)
        await server.start()
        try:
            async with AsyncExitStack() as stack:
                renewing = _together if way == "together" else _alone
                await renewing(stack, server.address, users, way == "links")
                return Leases(way, users, *await _percents(server.address, seconds))
        finally:
            await server.stop(5)
            server.release()


async def _together(
    stack: AsyncExitStack, address: RedisAddress, users: int, _linked: bool
) -> None:
    registry = await stack.enter_async_context(_registry(address))
    keeper = LeaseKeeper(registry)
    stack.push_async_callback(keeper.close)
    for number in range(users):
        name = name_of(number)
        keeper.keep(name, await registry.claim(name, name, _where(number)), _lost)


async def _alone(
    stack: AsyncExitStack, address: RedisAddress, users: int, linked: bool
) -> None:
    allow_files(FILES_A_USER * users + SPARE_FILES)
    for number in range(users):
        own, name = address, name_of(number)
        if linked:
            link = Link((address.host, address.port), user=name, service="redis")
            stack.push_async_callback(link.close)
            own = address.through("127.0.0.1", await link.open())
        registry = await stack.enter_async_context(_registry(own))
        life = await registry.claim(name, name, _where(number))
        task = asyncio.create_task(registry.keep_alive(name, life, _lost))
        stack.push_async_callback(partial(asyncio.wait, [task]))
        stack.callback(task.cancel)


@asynccontextmanager
async def _registry(address: RedisAddress) -> AsyncIterator[Registry]:
    redis = Redis(address)
    try:
        yield Registry(redis, Settings().lease_seconds)
    finally:
        await redis.close()


def _where(number: int) -> str:
    """The address of a user, as long as a real one."""
    return f"127.0.0.1:{20_000 + number}"


def _lost(error: ChatlabError) -> None:
    raise AssertionError("nobody else claims these names") from error


async def _percents(address: RedisAddress, seconds: float) -> tuple[float, float]:
    redis = Redis(address)
    try:
        ours, theirs = -time.process_time(), -await _redis_seconds(redis)
        await asyncio.sleep(seconds)
        ours, theirs = ours + time.process_time(), theirs + await _redis_seconds(redis)
    finally:
        await redis.close()
    return 100 * ours / seconds, 100 * theirs / seconds


async def _redis_seconds(redis: Redis) -> float:
    """Processor time of the server so far."""
    with mapped(redis.address):
        used = await redis.driver.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="chatlab.bench.leases", description=__doc__)
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--number", type=int, default=USERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    said = parser.parse_args(argv)
    found = (leases(way, said.number, said.seconds) for way in said.way or WAYS)
    print(Table((one.row() for one in found), "leases renewed"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
