"""Discovery by the management API of a real RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from chatlab.amqp import Binding, Connection, Exchange, Queue
from chatlab.client import Life
from chatlab.discovery import Presence
from chatlab.discovery.announcement import Announcement
from chatlab.discovery.management import FEW_GROUPS
from chatlab.discovery.management import discover as discover_by_management
from chatlab.errors import ServiceUnavailable
from chatlab.journal import Journal, now
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

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


def life(rabbitmq: RabbitAddress, user: str, incarnation: int) -> Life:
    return Life(
        lab="lab",
        user=user,
        incarnation=incarnation,
        secret="",
        settings=Settings(),
        record=Journal().append,
        rabbitmq=rabbitmq,
        redis=RedisAddress(host="", port=0),
    )


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


async def test_who_announced_itself_is_there_until_its_connection_ends(
    management: Management, rabbitmq: RabbitAddress, group: Declare
) -> None:
    await group("sd", "bob", "ana")
    vhost = rabbitmq.vhost
    async with online(rabbitmq, "lab/bob/3") as connection:
        said = Announcement(connection, life(rabbitmq, "bob", 3), "127.0.0.1:4711")
        await said.start()
        bob, sd = await discover_by_management(management, vhost)
        assert (bob.name, bob.kind, bob.source) == ("bob", "private", "management")
        assert (bob.address, bob.incarnation) == ("127.0.0.1:4711", 3)
        assert bob.since == pytest.approx(now(), abs=30)
        assert (sd.members, sd.away) == (("bob",), ("ana",))
        await said.close()
    found = await until(management, vhost, lambda f: [entry.name for entry in f] == ["sd"])
    assert (found[0].members, found[0].away) == ((), ("ana", "bob"))


@pytest.mark.parametrize("groups", [1, FEW_GROUPS, FEW_GROUPS + 1])
async def test_few_groups_and_many_are_seen_alike(
    management: Management, rabbitmq: RabbitAddress, group: Declare, groups: int
) -> None:
    names = sorted(f"g{number}" for number in range(groups))
    for name in names:
        await group(name, "bob", "ana")
    async with online(rabbitmq, "lab/bob/3") as connection:
        said = Announcement(connection, life(rabbitmq, "bob", 3), "127.0.0.1:4711")
        await said.start()
        found = await discover_by_management(management, rabbitmq.vhost)
        await said.close()
    assert (found.users, found.groups) == (["bob"], names)
    assert {(entry.members, entry.away) for entry in found[1:]} == {(("bob",), ("ana",))}
    # The exchanges, and the bindings of each or of all: a request and an answer.
    assert found.messages == 2 + 2 * (groups + 1 if groups <= FEW_GROUPS else 1)


async def test_a_connection_alone_makes_nobody_present(
    management: Management, rabbitmq: RabbitAddress
) -> None:
    async with online(rabbitmq, "lab/bob/3") as connection:
        await connection.declare(Queue("chatlab/presence/bob", exclusive=True))
        assert await discover_by_management(management, rabbitmq.vhost) == []


async def test_what_a_foreign_binding_says_is_not_believed_blindly(
    management: Management, rabbitmq: RabbitAddress
) -> None:
    said = {"address": 7, "incarnation": "many", "since": [], "other": True}
    async with online(rabbitmq, "some tool") as connection:
        queue = "chatlab/presence/bob"
        await connection.declare(
            Exchange("chatlab/discovery"),
            Queue(queue, exclusive=True),
            Binding(queue, "chatlab/discovery", arguments=said),
        )
        (bob,) = await discover_by_management(management, rabbitmq.vhost)
        assert (bob.address, bob.incarnation, bob.since) == ("", None, None)


async def test_the_account_that_asks_may_change_nothing(
    rabbitmq: RabbitAddress, group: Declare
) -> None:
    await group("sd", "bob")
    watcher = Management(rabbitmq.watched())
    assert (await discover_by_management(watcher, rabbitmq.vhost)).groups == ["sd"]
    for change in (
        watcher.put("exchanges", rabbitmq.vhost, "mine", body={"type": "fanout"}),
        watcher.delete("queues", rabbitmq.vhost, "chatlab/sd/bob"),
        watcher.delete("vhosts", rabbitmq.vhost),
        watcher.put("users", "guest", body={"password": "guest", "tags": "administrator"}),
    ):
        with pytest.raises(ServiceUnavailable, match=r"refuses|40[13]"):
            await change
    assert (await discover_by_management(watcher, rabbitmq.vhost)).groups == ["sd"]


async def test_a_group_called_presence_does_not_make_its_members_present(
    management: Management, rabbitmq: RabbitAddress, group: Declare
) -> None:
    await group("presence")
    async with online(rabbitmq, "some tool") as connection:
        queue = "chatlab/presence/bob"
        await connection.declare(Queue(queue, exclusive=True), Binding(queue, "presence"))
        (found,) = await discover_by_management(management, rabbitmq.vhost)
        assert (found.name, found.kind, found.away) == ("presence", "group", ("bob",))


async def test_what_cannot_be_asked_is_said(
    management: Management, rabbitmq: RabbitAddress
) -> None:
    with pytest.raises(ServiceUnavailable, match="no virtual host nowhere"):
        await discover_by_management(management, "nowhere")
    stranger = Management(replace(rabbitmq, password="wrong"))
    with pytest.raises(ServiceUnavailable, match="credentials"):
        await discover_by_management(stranger, rabbitmq.vhost)
