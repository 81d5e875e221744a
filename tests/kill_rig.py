"""Brokers of a test's own, to be stopped, killed and started again."""

from __future__ import annotations

import asyncio
import secrets

from chatlab import services
from chatlab.loop import BackgroundLoop
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.lease import Lease
from chatlab.settings import Settings

#: A killed RabbitMQ comes back in 5 to 15 s; connections then within a second or two.
BACK_SECONDS = 60.0


class Killable:
    """A lease on brokers of its own, held on a thread of its own. ``service`` is
    ``rabbitmq`` or ``redis``."""

    def __init__(self, settings: Settings) -> None:
        self._loop = BackgroundLoop("breakable services")
        name = f"kill-{secrets.token_hex(3)}"
        self.lease: Lease = self._loop.call(
            services.join(settings, lab=name, breakable=True), timeout=120
        )

    @property
    def namespace(self) -> tuple[RabbitAddress, RedisAddress]:
        """The lease's own virtual host and key prefix."""
        return self.lease.rabbitmq, self.lease.redis

    async def kill(self, service: str = "rabbitmq") -> None:
        """SIGKILL."""
        await asyncio.wrap_future(self._loop.start(self.lease.kill(service)))

    async def stop(self, service: str = "rabbitmq") -> None:
        """In order."""
        await asyncio.wrap_future(self._loop.start(self.lease.stop(service)))

    async def start(self, service: str = "rabbitmq") -> None:
        """Start it again, with the data it has left."""
        await asyncio.wrap_future(self._loop.start(self.lease.start(service)))

    def close(self) -> None:
        """Give the lease back."""
        self._loop.call(self.lease.close())
        self._loop.close()
