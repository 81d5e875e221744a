"""Observer: the lab itself as one who asks who is there. It is no user, so nobody sees it."""

from __future__ import annotations

import secrets

from chatlab.amqp import Connections
from chatlab.discovery import Inquirer, Registry
from chatlab.discovery.broker_events import BrokerView
from chatlab.services.addresses import RabbitAddress
from chatlab.settings import Settings


class Observer:
    """Asks for one lab, in one scene; connects to RabbitMQ when it first has to.

    Args:
        lab: the name that the lab's namespace has.
        rabbitmq: past all links.
        view: what RabbitMQ's own events tell, in all scenes.
    """

    def __init__(
        self,
        lab: str,
        rabbitmq: RabbitAddress,
        settings: Settings,
        registry: Registry,
        view: BrokerView,
    ) -> None:
        self.rabbitmq = rabbitmq
        self.settings = settings
        # Several kernels may share a lab, and any name may be a user's: this is one that no
        # user can have, and no two observers, or they would evict each other.
        self.connection_name = f"{lab}/observer:{secrets.token_hex(3)}/0"
        self._connections = Connections(self)
        self.inquirer = Inquirer(registry, rabbitmq, self._connections, view)
        self.discover = self.inquirer.discover

    async def close(self) -> None:
        """Give up what was opened."""
        await self.inquirer.close()
        await self._connections.close()
