"""Asking in any way by its name, for a user or for the lab itself.

What one way needs is opened at its first question and kept until :meth:`Inquirer.close`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chatlab.discovery import as_reported, management
from chatlab.discovery.presence import Presences
from chatlab.discovery.redis import Registry
from chatlab.errors import InvalidInput
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management

#: The ways there are, the default first.
WAYS = ("registry", "management", "as-reported")


class Inquirer:
    """Asks who is there.

    Args:
        registry: the name server, reached by the asker's own way.
        rabbitmq: the lab's RabbitMQ, reached by the asker's own way.
    """

    def __init__(self, registry: Registry, rabbitmq: RabbitAddress) -> None:
        self._registry = registry
        self._vhost = rabbitmq.vhost
        self._management = Management(rabbitmq.watched())
        self._ways: dict[str, Callable[..., Awaitable[Presences]]] = {
            "registry": self._by_registry,
            "management": self._by_management,
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

    async def _as_reported(self) -> Presences:
        return await as_reported.discover(self._registry.redis)

    async def close(self) -> None:
        """Give up what was opened."""
