"""A pair of brokers: one private RabbitMQ and one private Redis, started on demand.

The pair ``shared`` serves all ordinary labs. A breakable lab has a pair to itself
(``breakable-1`` …), since it may kill what is in it; when the lab is gone the pair stays
warm for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

from chatlab.services.broker import Broker
from chatlab.services.rabbitmq_node import Finder, Mapper, RabbitNode
from chatlab.services.redis_server import RedisServer

SHARED = "shared"


class Pair:
    """Two brokers and, if breakable, the lab that has them."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        ledger: Path,
        limit: float,
        find: Finder,
        mapper: Mapper,
    ) -> None:
        self.name = name
        #: The lab that has this breakable pair to itself; empty: it is free.
        self.lab = ""
        self.rabbitmq = RabbitNode(
            folder / "rabbitmq", ledger=ledger, limit=limit, find=find, mapper=mapper
        )
        self.redis = RedisServer(folder / "redis", ledger=ledger, limit=limit)
        self.brokers: dict[str, Broker] = {"rabbitmq": self.rabbitmq, "redis": self.redis}
        self._starts: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, services: Collection[str]) -> None:
        """Return when these services answer.

        A start goes on when the one who waits for it goes away: others may wait too.

        Raises:
            ServiceUnavailable: one does not start.
        """
        await asyncio.gather(*(asyncio.shield(self.start(name)) for name in services))

    def start(self, service: str) -> asyncio.Task[None]:
        """The start of a service that is under way, or a new one."""
        task = self._starts.get(service)
        if task is None or task.done():
            task = asyncio.create_task(self.brokers[service].start())
            # Its outcome may interest nobody any more.
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            self._starts[service] = task
        return task

    def healthy(self, services: Collection[str]) -> bool:
        """Whether each of these is up and well, or was never started."""
        found = [self.brokers[name] for name in services]
        return all(broker.state in ("up", "cold") and not broker.alarmed for broker in found)

    async def stop(self, seconds: float) -> None:
        """End both for good: SIGTERM, and SIGKILL ``seconds`` later."""
        for task in self._starts.values():
            task.cancel()
        if self._starts:
            await asyncio.wait(self._starts.values())
        await asyncio.gather(*(broker.stop(seconds) for broker in self.brokers.values()))
        for broker in self.brokers.values():
            broker.release()

    def describe(self) -> dict[str, Any]:
        """State, process and ports of both; no secrets."""
        return {name: _describe(broker) for name, broker in self.brokers.items()}


def _describe(broker: Broker) -> dict[str, Any]:
    facts: dict[str, Any] = {"state": broker.state}
    if broker.child is not None and not broker.child.ended:
        facts |= {
            "pid": broker.child.pid,
            "ports": [port.number for port in broker.ports],
            "boot_seconds": broker.boot_seconds,
        }
    if isinstance(broker, RabbitNode) and "pid" in facts:
        facts |= {
            "version": broker.address.version,
            "origin": broker.program.origin,
            "management_url": broker.address.management_url,
        }
    if isinstance(broker, RedisServer) and "pid" in facts:
        facts |= {
            "version": broker.address.version,
            "origin": broker.program.origin,
            "product": broker.address.product,
        }
    return facts
