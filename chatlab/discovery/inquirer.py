"""Asking in any way by its name, for a user or for the lab itself.

What one way needs is opened at its first question and kept until :meth:`Inquirer.close`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chatlab.discovery import as_reported, broker_events, management
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.presence import Presences
from chatlab.discovery.redis import Registry
from chatlab.discovery.watching import BrokerSource, RegistrySource, Source
from chatlab.errors import InvalidInput
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management

#: The ways there are, the default first.
WAYS = ("registry", "management", "broker-events", "as-reported")
#: Those that follow what changes.
LIVE_WAYS = ("broker-events", "registry")


class Inquirer:
    """Asks who is there.

    Args:
        registry: the name server, reached by the asker's own way.
        rabbitmq: the lab's RabbitMQ, reached by the asker's own way.
        heartbeat: seconds, of connections to it.
    """

    def __init__(
        self, registry: Registry, rabbitmq: RabbitAddress, *, heartbeat: int = 30
    ) -> None:
        self._registry = registry
        self._view = BrokerView(rabbitmq, heartbeat=heartbeat)
        self._vhost = rabbitmq.vhost
        self._management = Management(rabbitmq.watched())
        self._ways: dict[str, Callable[..., Awaitable[Presences]]] = {
            "registry": self._by_registry,
            "management": self._by_management,
            "broker-events": self._by_broker_events,
            "as-reported": self._as_reported,
        }

    async def discover(self, via: str = WAYS[0], **options: Any) -> Presences:
        """Who is there, by one of :data:`WAYS`.

        Raises:
            InvalidInput: there is no such way, or it has no such option.
            ServiceUnavailable: what that way needs is not there.
        """
        if via not in self._ways:
            raise InvalidInput(
                f"There is no way {via!r}.", todo=f"There are: {', '.join(WAYS)}."
            )
        return await self._ways[via](**options)

    async def _by_registry(self) -> Presences:
        return await self._registry.discover()

    async def _by_management(self) -> Presences:
        return await management.discover(self._management, self._vhost)

    async def _by_broker_events(self) -> Presences:
        await self._view.open()
        return self._view.presences()

    async def _as_reported(self) -> Presences:
        return await as_reported.discover(self._registry.redis)

    async def source(self, via: str = LIVE_WAYS[0]) -> Source:
        """What a :class:`~chatlab.discovery.watching.Follower` needs to follow what changes,
        by one of :data:`LIVE_WAYS`.

        Raises:
            InvalidInput: that way cannot be followed.
            NotPossible, ServiceUnavailable: what it needs is not there.
        """
        if via not in LIVE_WAYS:
            raise InvalidInput(
                f"Changes cannot be followed by {via!r}.",
                todo=f"These ways can: {', '.join(LIVE_WAYS)}.",
            )
        if via == broker_events.SOURCE:
            await self._view.open()
            return BrokerSource(self._view)
        return RegistrySource(self._registry)

    async def close(self) -> None:
        """Give up what was opened."""
        await self._view.close()
