"""Discovery by the management API of a real RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from chatlab.amqp import Binding, Connection, Queue
from chatlab.discovery import Presence, discover_by_management
from chatlab.errors import ServiceUnavailable
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management

Declare = Callable[..., Awaitable[None]]

#: The API lists bindings at once and connections a moment late.
SECONDS = 8.0


@pytest.fixture
def rabbitmq(namespace: tuple[RabbitAddress, RedisAddress]) -> RabbitAddress:
    return namespace[0]


@pytest.fixture
def management(rabbitmq: RabbitAddress) -> Management:
    return Management(rabbitmq)


@pytest.fixture
def group(management: Management, rabbitmq: RabbitAddress) -> Declare:
    """Declare a group with durable queues for members, as a broker's own tools would."""

    async def declare(name: str, *members: str) -> None:
        vhost = rabbitmq.vhost
        fanout = {"type": "fanout", "durable": True}
        await management.put("exchanges", vhost, name, body=fanout)
        for member in members:
            queue = f"chatlab/{name}/{member}"
            await management.put("queues", vhost, queue, body={"durable": True})
            await management.post("bindings", vhost, "e", name, "q", queue)

    return declare


@asynccontextmanager
async def online(rabbitmq: RabbitAddress, name: str) -> AsyncIterator[Connection]:
    connection = Connection(rabbitmq, name)
    try:
        await connection.depths(["no such queue"])  # it opens at its first use
        yield connection
    finally:
        await connection.close()


async def until(
    management: Management, vhost: str, condition: Callable[[list[Presence]], bool]
) -> list[Presence]:
    found: list[Presence] = []
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                found = await discover_by_management(management, vhost)
                if condition(found):
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"still {found}")


async def test_an_empty_lab_has_nobody(management: Management, rabbitmq: RabbitAddress) -> None:
    assert await discover_by_management(management, rabbitmq.vhost) == []


async def test_groups_and_their_members_are_seen_at_once(
    management: Management,
    rabbitmq: RabbitAddress,
    group: Declare,
) -> None:
    await group("sd", "bob", "ana")
    await group("news")
    await group("zoë", "zoë")
    await management.put("exchanges", rabbitmq.vhost, "direct", body={"type": "direct"})
    await management.put("exchanges", rabbitmq.vhost, "chatlab/x", body={"type": "fanout"})
    await management.put("queues", rabbitmq.vhost, "own/queue", body={"durable": True})
    await management.post("bindings", rabbitmq.vhost, "e", "sd", "q", "own/queue")
    found = await discover_by_management(management, rabbitmq.vhost)
    assert [(entry.name, entry.kind, entry.address, entry.away) for entry in found] == [
        ("news", "group", "news", ()),
        ("sd", "group", "sd", ("ana", "bob")),
        ("zoë", "group", "zoë", ("zoë",)),
    ]
    assert {(entry.source, entry.members) for entry in found} == {("management", ())}
    assert all(entry.age > 0 for entry in found)
    await management.delete("queues", rabbitmq.vhost, "chatlab/sd/bob")
    found = await discover_by_management(management, rabbitmq.vhost)
    assert [entry.away for entry in found if entry.name == "sd"] == [("ana",)]


async def test_a_connection_tells_who_is_online_and_its_end_who_is_not(
    management: Management,
    rabbitmq: RabbitAddress,
    group: Declare,
) -> None:
    await group("sd", "bob", "ana")
    vhost = rabbitmq.vhost
    async with online(rabbitmq, "lab/bob/3"), online(rabbitmq, "some tool"):
        found = await until(management, vhost, lambda f: f[0].name == "bob")
        bob, sd = found
        assert (bob.kind, bob.source) == ("private", "management")
        assert bob.address.startswith("127.0.0.1:")
        assert bob.since is not None
        assert (sd.members, sd.away) == (("bob",), ("ana",))
    await until(management, vhost, lambda f: [entry.name for entry in f] == ["sd"])


async def test_an_exclusive_presence_queue_tells_who_is_online_at_once(
    management: Management, rabbitmq: RabbitAddress
) -> None:
    async with online(rabbitmq, "some tool") as connection:
        await connection.declare(Queue("chatlab/presence/bob", exclusive=True))
        (found,) = await discover_by_management(management, rabbitmq.vhost)
        assert (found.name, found.kind) == ("bob", "private")


async def test_a_group_called_presence_does_not_make_its_members_present(
    management: Management, rabbitmq: RabbitAddress, group: Declare
) -> None:
    await group("presence")
    async with online(rabbitmq, "some tool") as connection:
        queue = "chatlab/presence/bob"
        await connection.declare(Queue(queue, exclusive=True), Binding(queue, "presence"))
        (found,) = await discover_by_management(management, rabbitmq.vhost)
        assert (found.name, found.kind, found.members) == ("presence", "group", ("bob",))


async def test_what_cannot_be_asked_is_said(
    management: Management, rabbitmq: RabbitAddress
) -> None:
    with pytest.raises(ServiceUnavailable, match="no virtual host nowhere"):
        await discover_by_management(management, "nowhere")
    stranger = Management(replace(rabbitmq, password="wrong"))
    with pytest.raises(ServiceUnavailable, match="credentials"):
        await discover_by_management(stranger, rabbitmq.vhost)
