"""A rig for the tests of groups and insults: people with inboxes on a real RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from chatlab import messages as m
from chatlab.amqp import Connections
from chatlab.client import Life
from chatlab.discovery import Registry
from chatlab.errors import ChatlabError
from chatlab.groups import GroupMember, open_group
from chatlab.groups.rabbitmq import RabbitMember
from chatlab.insults import InsultMember
from chatlab.insults.redis import closing
from chatlab.messages import Message, Receipt
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.links import Link
from chatlab.services.management import Management
from chatlab.settings import Settings


async def eventually(look: Callable[[], Any], timeout: float = 10.0) -> Any:
    """What ``look`` finds, as soon as it is true; fails after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not (found := look()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return found


async def eventually_is(look: Callable[[], Awaitable[Any]], timeout: float = 10.0) -> Any:
    """As :func:`eventually`, for an awaitable look."""
    async with asyncio.timeout(timeout):
        while not (found := await look()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return found


class Person:
    """One life of a user, its connections, handles, and what it was shown."""

    def __init__(self, life: Life, registry: Any) -> None:
        self.life = life
        self.connections = Connections(life)
        self.shown: list[Message] = []
        self.redelivered: list[str] = []
        self.ends: list[ChatlabError] = []
        self._registry = registry
        self._groups: dict[str, GroupMember] = {}
        self.insults = InsultMember(
            life, self.connections, registry, self._show, self.ends.append
        )

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.shown]

    def _show(self, message: Message, redelivered: bool) -> None:
        self.shown.append(message)
        if redelivered:
            self.redelivered.append(message.id)

    async def group(self, name: str, backend: str | None = None) -> GroupMember:
        """A handle, the same one each time."""
        if name not in self._groups:
            self._groups[name] = await open_group(
                *(self.life, self.connections, self._registry, name, backend),
                *(self._show, self.ends.append),
            )
        return self._groups[name]

    async def join(self, name: str, backend: str | None = None) -> GroupMember:
        """Subscribe and connect."""
        member = await self.group(name, backend)
        await member.connect()
        return member

    async def say(self, name: str, *bodies: str) -> list[Receipt]:
        """Send to a group."""
        member = await self.group(name)
        chat = m.group(name)
        return await member.send([self.life.message(chat, name, body) for body in bodies])

    async def insult(self, *bodies: str, **how: Any) -> list[Receipt]:
        """Send to the insult channel."""
        batch = [self.life.message(m.INSULTS, m.INSULTS, body) for body in bodies]
        return await self.insults.send(batch, **how)

    async def sees(self, count: int, timeout: float = 10.0) -> list[str]:
        """The bodies shown, as soon as there are ``count``."""
        await eventually(lambda: len(self.shown) >= count, timeout)
        return self.bodies

    def crash(self) -> None:
        """No goodbye. (The lab resets the links, too.)"""
        for member in self._groups.values():
            member.abandon()
        self.insults.abandon()
        self.connections.abandon()

    async def close(self) -> None:
        for member in self._groups.values():
            if not isinstance(member, RabbitMember):  # those go with their connections
                await member.close()
        self.insults.abandon()
        await asyncio.gather(self.connections.close(), *closing)


class Rig:
    """Makes people; closes them at the end."""

    def __init__(self, new_life: Callable[..., Life], registry: Registry) -> None:
        self.registry = registry
        self._new_life = new_life
        self._people: list[Person] = []

    def person(self, name: str, **changes: Any) -> Person:
        """A new life of that user; ``changes`` to its fields (addresses through links)."""
        person = Person(self._new_life(name, **changes), self.registry)
        self._people.append(person)
        return person

    def people(self, *names: str) -> list[Person]:
        return [self.person(name) for name in names]

    async def close(self) -> None:
        await asyncio.gather(*(person.close() for person in self._people))


class LinkedRig(Rig):
    """A person may be behind links of its own, one to each broker."""

    def __init__(
        self,
        new_life: Callable[..., Life],
        registry: Registry,
        namespace: tuple[RabbitAddress, RedisAddress],
    ) -> None:
        super().__init__(new_life, registry)
        self._namespace = namespace
        self._links: list[Link] = []

    async def linked(self, name: str, **changes: Any) -> tuple[Person, list[Link]]:
        """That person, and its links: to RabbitMQ, to Redis."""
        links, ways = [], []
        for service, address in zip(("rabbitmq", "redis"), self._namespace, strict=True):
            link = Link((address.host, address.port), user=name, service=service)
            links.append(link)
            ways.append(address.through("127.0.0.1", await link.open()))
        self._links += links
        return self.person(name, rabbitmq=ways[0], redis=ways[1], **changes), links

    async def close(self) -> None:
        for link in self._links:
            link.heal()
        await super().close()
        for link in self._links:
            await link.close()


@asynccontextmanager
async def linked_rig(
    namespace: tuple[RabbitAddress, RedisAddress],
    new_life: Callable[..., Life],
    settings: Settings,
) -> AsyncIterator[LinkedRig]:
    """A rig in this namespace; closed at the end."""
    redis = Redis(namespace[1])
    made = LinkedRig(new_life, Registry(redis, settings.lease_seconds), namespace)
    try:
        yield made
    finally:
        await made.close()
        await redis.close()


async def connections_of(management: Management, vhost: str, user: str) -> list[str]:
    """The broker's names of the connections of a user."""
    rows = await management.get("vhosts", vhost, "connections") or []
    return [
        row["name"]
        for row in rows
        if f"/{user}/" in str(row.get("client_properties", {}).get("connection_name"))
    ]
