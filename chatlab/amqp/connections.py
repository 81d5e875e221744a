"""A user's two connections, opened at their first use.

A memory alarm blocks connections that publish; receiving therefore has one of its own.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from chatlab.amqp.connection import Connection
from chatlab.services.addresses import RabbitAddress
from chatlab.settings import Settings


class Client(Protocol):
    """What is needed to know of a user's life (:class:`chatlab.client.Life` has it)."""

    @property
    def rabbitmq(self) -> RabbitAddress: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def connection_name(self) -> str: ...


class Connections:
    """The consuming and the publishing connection of one life."""

    def __init__(self, life: Client) -> None:
        self.consuming = _connection(life, "consuming")
        self.publishing = _connection(life, "publishing")

    async def close(self) -> None:
        """Say goodbye on both."""
        await asyncio.gather(self.consuming.close(), self.publishing.close())

    def abandon(self) -> None:
        """End both as in a crash."""
        self.consuming.abandon()
        self.publishing.abandon()


def _connection(life: Client, role: str) -> Connection:
    return Connection(
        life.rabbitmq,
        life.connection_name,
        role=role,
        heartbeat=life.settings.heartbeat_seconds,
        deadline=life.settings.send_seconds,
    )
