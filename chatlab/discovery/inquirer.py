"""Asking in any way by its name, for a user or for the lab itself.

What one way needs is opened at its first question and kept until :meth:`Inquirer.close`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from chatlab.amqp import Connections
from chatlab.discovery import as_reported, broker_events, management
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.events import TIMEOUT, Asker
from chatlab.discovery.presence import Presences
from chatlab.discovery.redis import Registry
from chatlab.discovery.watching import BrokerSource, RegistrySource, Source
from chatlab.errors import InvalidInput
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management

#: The ways there are, the default first.
WAYS = ("registry", "management", "events", "broker-events", "as-reported")
#: Those that follow what changes.
LIVE_WAYS = ("broker-events", "registry")
#: The options of those ways that have any.
OPTIONS = {"events": ("timeout", "expect")}


class Inquirer:
    """Asks who is there.

    Args:
        registry: the name server, reached by the asker's own way.
        rabbitmq: the lab's RabbitMQ, reached by the asker's own way.
        connections: the asker's own, used by ``events``; they stay the caller's to close.
        view: what RabbitMQ's own events tell; the caller's to close, too.
    """

    def __init__(
        self,
        registry: Registry,
        rabbitmq: RabbitAddress,
        connections: Connections,
        view: BrokerView,
    ) -> None:
        self._registry = registry
        self._view = view
        self._vhost = rabbitmq.vhost
        self._management = Management(rabbitmq.watched())
        listing = self._management if rabbitmq.management_url else None
        self._asker = Asker(connections, listing, rabbitmq.vhost)
        self._ways: dict[str, Callable[..., Awaitable[Presences]]] = {
            "registry": self._by_registry,
            "management": self._by_management,
            "events": self._by_events,
            "broker-events": self._by_broker_events,
            "as-reported": self._as_reported,
        }

    async def discover(self, via: str = WAYS[0], **options: Any) -> Presences:
        """Who is there, by one of :data:`WAYS`.

        Args:
            options: of ``events``: ``timeout`` and ``expect``, see :meth:`Asker.ask`.

        Raises:
            InvalidInput: there is no such way, or it has no such option.
            ServiceUnavailable: what that way needs is not there.
        """
        if via not in self._ways:
            raise InvalidInput(
                f"There is no way {via!r}.", todo=f"There are: {', '.join(WAYS)}."
            )
        for option in options:
            if option not in OPTIONS.get(via, ()):
                raise InvalidInput(
                    f"The way {via!r} has no {option}: it does not wait for anybody.",
                    todo=f"Leave {option} out, or ask via 'events'.",
                )
        return await self._ways[via](**options)

    async def _by_registry(self) -> Presences:
        return await self._registry.discover()

    async def _by_management(self) -> Presences:
        return await management.discover(self._management, self._vhost)

    async def _by_events(
        self, timeout: float = TIMEOUT, expect: Collection[str] | None = None
    ) -> Presences:
        return await self._asker.ask(timeout, expect)

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
        await self._asker.close()

    def abandon(self) -> None:
        """The same without a goodbye."""
        self._asker.abandon()
