"""Discovery by the events of a real RabbitMQ."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from rabbit_rig import eventually, eventually_is

from chatlab.amqp import Binding, Connection, Connections, Exchange, Outgoing, Queue
from chatlab.amqp.errors import AccessRefused
from chatlab.amqp.wire import Properties
from chatlab.client import Life
from chatlab.discovery import Inquirer, Registry, broker_events, event_feed
from chatlab.discovery.announcement import Announcement
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.management import discover as discover_by_management
from chatlab.errors import LabClosed, NotPossible, ServiceUnavailable
from chatlab.services import namespaces
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.links import Link
from chatlab.services.management import Management
from chatlab.services.namespaces import EVENTS_VHOST, TO_WATCH, events_of

NewLife = Callable[..., Life]


@pytest.fixture
def rabbitmq(namespace: tuple[RabbitAddress, RedisAddress]) -> RabbitAddress:
    return namespace[0]


@pytest.fixture
async def view(rabbitmq: RabbitAddress) -> AsyncIterator[BrokerView]:
    made = BrokerView(rabbitmq, heartbeat=3)
    await made.open()
    yield made
    await made.close()
    await eventually_is(lambda: nothing_left(rabbitmq))


async def left(rabbitmq: RabbitAddress) -> list[str]:
    """What a lab has in the default virtual host."""
    management = Management(rabbitmq)
    rows = [
        *(await management.get("exchanges", EVENTS_VHOST, columns="name")),
        *(await management.get("queues", EVENTS_VHOST, columns="name")),
    ]
    return [row["name"] for row in rows if row["name"].startswith(events_of(rabbitmq))]


async def nothing_left(rabbitmq: RabbitAddress) -> bool:
    return not await left(rabbitmq)


@asynccontextmanager
async def connected(rabbitmq: RabbitAddress, name: str = "tool") -> AsyncIterator[Connection]:
    connection = Connection(rabbitmq, name)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def online(life: Life) -> AsyncIterator[Connection]:
    async with connected(life.rabbitmq, life.connection_name) as connection:
        await connection.declare(*Announcement(connection, life, "127.0.0.1:4711")._things())
        yield connection


def group(name: str, *members: str) -> list[Any]:
    queues = [f"chatlab/{name}/{member}" for member in members]
    return [
        Exchange(name),
        *(Queue(queue, settle=False) for queue in queues),
        *(Binding(queue, name) for queue in queues),
    ]


def facts(entries: list[Any]) -> list[tuple[Any, ...]]:
    return [(e.name, e.address, e.members, e.away, e.since, e.incarnation) for e in entries]


async def agrees(view: BrokerView, rabbitmq: RabbitAddress) -> bool:
    """Whether the view has what RabbitMQ lists."""
    listed = await discover_by_management(Management(rabbitmq), rabbitmq.vhost)
    return facts(listed) == facts(view.presences())


async def test_who_announces_itself_is_there_and_goes_with_its_connection(
    view: BrokerView, new_life: NewLife
) -> None:
    assert view.presences() == []
    async with online(new_life("bob")) as connection:
        await eventually(lambda: view.presences().users == ["bob"])
        (bob,) = found = view.presences()
        assert (bob.address, bob.incarnation, bob.source) == ("127.0.0.1:4711", 1, found.via)
        assert (found.via, found.messages, bob.age) == ("broker-events", 0, broker_events.AGE)
        connection.abandon()  # no goodbye
        await eventually(lambda: view.presences() == [])
    assert view.events > 0
    assert view.questions == 1


async def test_groups_are_followed_as_the_management_api_lists_them(
    view: BrokerView, rabbitmq: RabbitAddress, new_life: NewLife
) -> None:
    async with connected(rabbitmq) as tool, online(new_life("bob")):
        await tool.declare(*group("sd", "ana", "bob"), *group("zoë", "zoë"))
        await tool.declare(Exchange("direct", "direct"), Queue("own", settle=False))
        await eventually(lambda: len(view.presences().groups) == 2)
        await eventually_is(lambda: agrees(view, rabbitmq))
        (_, sd, zoe) = view.presences()
        assert (sd.members, sd.away, zoe.away) == (("bob",), ("ana",), ("zoë",))
        await tool.delete_queue("chatlab/sd/bob")
        await Management(rabbitmq).delete("exchanges", rabbitmq.vhost, "zoë")
        await eventually(lambda: view.presences().groups == ["sd"])
        await eventually(lambda: view.presences()[-1].away == ("ana",))
        assert await agrees(view, rabbitmq)
    assert view.questions == 1


async def test_a_view_that_begins_late_knows_what_was_there_and_asks_only_once(
    rabbitmq: RabbitAddress, new_life: NewLife
) -> None:
    view = BrokerView(rabbitmq)
    async with connected(rabbitmq) as tool, online(new_life("bob")):
        await tool.declare(*group("sd", "ana", "bob"))
        await view.open()
        assert await agrees(view, rabbitmq)
        assert len(view.presences()) == 2
        await view.open()
    await eventually(lambda: view.presences().users == [])  # what it did not see come
    assert (view.questions, view.presences()[0].away) == (1, ("ana", "bob"))
    await view.close()


async def test_what_happens_while_it_asks_is_not_missed_and_not_undone(
    rabbitmq: RabbitAddress, new_life: NewLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = BrokerView(rabbitmq)
    ana, bob, eva, dan = (Connection(rabbitmq, name) for name in ("ana", "bob", "eva", "dan"))
    ask = broker_events.snapshot

    async def say(connection: Connection) -> None:
        await connection.declare(
            *Announcement(connection, new_life(connection.name), "127.0.0.1:4711")._things()
        )

    async def busy(*args: Any) -> Any:
        await say(eva)  # told, and listed
        await say(dan)
        await dan.close()  # came and went: told, and not listed
        found = await ask(*args)
        await say(bob)  # told, and not listed
        await ana.close()  # listed, and gone
        return found

    monkeypatch.setattr(broker_events, "snapshot", busy)
    await say(ana)
    await view.open()
    await eventually(lambda: view.presences().users == ["bob", "eva"])
    await eventually_is(lambda: agrees(view, rabbitmq))
    assert view.questions == 1
    await asyncio.gather(*(connection.close() for connection in (bob, eva)))
    await view.close()


async def test_a_lab_on_the_same_broker_is_not_heard(
    view: BrokerView, rabbitmq: RabbitAddress, management: Management
) -> None:
    other = f"test-{secrets.token_hex(4)}"
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    await management.put("vhosts", other, body={})
    await management.put("permissions", other, rabbitmq.user, body=everything)
    try:
        async with connected(replace(rabbitmq, vhost=other)) as stranger:
            await stranger.declare(*group("theirs", "bob"))
        async with connected(rabbitmq) as tool:
            await tool.declare(*group("ours", "bob"))
        await eventually(lambda: view.presences().groups == ["ours"])
        # one for the exchange, one for the binding: nothing else came here
        await eventually(lambda: view.events == 2)
        assert view.presences()[0].away == ("bob",)
    finally:
        await management.delete("vhosts", other)


async def test_what_somebody_else_sends_to_a_view_is_ignored(
    view: BrokerView, rabbitmq: RabbitAddress, new_life: NewLife
) -> None:
    (target,) = {name.removesuffix("/missed") for name in await left(rabbitmq)}
    garbage = [
        ("binding.created", {"source_name": 7, "arguments": {"a": [1]}}),
        ("binding.created", {}),
        ("exchange.created", {"name": ["x"], "type": "fanout"}),
        ("no.event", {"name": "x", "type": "fanout"}),
    ]
    async with (
        connected(replace(rabbitmq, vhost=EVENTS_VHOST)) as foreign,
        online(new_life("bob")),
    ):
        items = [
            Outgoing(target, key, b"\xff", Properties(headers={**h, "vhost": vhost}), False)
            for key, h in garbage
            for vhost in (rabbitmq.vhost, "elsewhere")
        ]
        await eventually(lambda: view.presences().users == ["bob"])
        before = view.events
        outcomes = await foreign.outcomes(foreign.submit(items), 5)
        assert {outcome.kind for outcome in outcomes} == {"acked"}
        await eventually(lambda: view.events >= before + len(garbage))
        assert await agrees(view, rabbitmq)
    assert (view.questions, view.trouble) == (1, None)


async def test_a_queue_that_overflows_makes_it_ask_again(
    rabbitmq: RabbitAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "QUEUE_EVENTS", 3)
    monkeypatch.setattr(event_feed, "PREFETCH", 1)
    link = Link((rabbitmq.host, rabbitmq.port), user="view", service="rabbitmq")
    view = BrokerView(rabbitmq.through("127.0.0.1", await link.open()))
    await view.open()
    async with connected(rabbitmq) as tool:
        await tool.declare(*group("old", "ana"))
        await eventually(lambda: view.presences().groups == ["old"])
        link.freeze()
        await tool.declare(*(thing for n in range(10) for thing in group(f"g{n}", "ana")))
        await tool.delete_queue("chatlab/g0/ana")
        link.heal()
        await eventually(lambda: view.questions == 2 and len(view.presences().groups) == 11)
        await eventually_is(lambda: agrees(view, rabbitmq))
        await tool.declare(*group("new"))
        await eventually(lambda: "new" in view.presences().groups)
    await view.close()
    await link.close()
    await eventually_is(lambda: nothing_left(rabbitmq))


async def test_a_virtual_host_that_is_made_anew_is_seen_as_it_is(
    view: BrokerView, rabbitmq: RabbitAddress, new_life: NewLife, management: Management
) -> None:
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    async with connected(rabbitmq) as tool, online(new_life("bob")) as bob:
        await tool.declare(*group("sd", "bob", "ana"))
        await eventually(lambda: len(view.presences()) == 2)
        bob.abandon()
        tool.abandon()
        await management.delete("vhosts", rabbitmq.vhost)
        await eventually(lambda: view.presences() == [])
        await management.put("vhosts", rabbitmq.vhost, body={})
        await management.put("permissions", rabbitmq.vhost, rabbitmq.user, body=everything)
    async with online(new_life("bob")):
        await eventually(lambda: view.presences().users == ["bob"])
        assert view.presences()[0].incarnation == 2
        assert await agrees(view, rabbitmq)
    assert (view.questions, view.trouble) == (1, None)


async def test_a_lost_connection_is_made_again_and_asks_what_was_missed(
    rabbitmq: RabbitAddress, new_life: NewLife
) -> None:
    link = Link((rabbitmq.host, rabbitmq.port), user="view", service="rabbitmq")
    view = BrokerView(rabbitmq.through("127.0.0.1", await link.open()))
    async with connected(rabbitmq) as tool, online(new_life("bob")) as bob:
        await view.open()
        link.cut()
        await eventually(lambda: view.trouble is not None)
        await tool.declare(*group("sd", "ana"))
        await bob.close()
        (before,) = view.presences()  # it still answers, and says how old that is
        assert before.name == "bob"
        await eventually(lambda: view.presences()[0].age > before.age > broker_events.AGE)
        link.heal()
        await eventually(lambda: view.presences().groups == ["sd"])
        assert (view.questions, view.trouble, view.presences().users) == (2, None, [])
        assert view.presences()[0].age == broker_events.AGE
    await view.close()
    await link.close()


async def test_nothing_is_left_when_a_view_is_closed_or_its_connection_breaks(
    rabbitmq: RabbitAddress,
) -> None:
    view = BrokerView(rabbitmq)
    await view.open()
    assert len(await left(rabbitmq)) == 4
    await view.close()
    await view.close()
    await eventually_is(lambda: nothing_left(rabbitmq))
    with pytest.raises(LabClosed):
        await view.open()
    view = BrokerView(rabbitmq)
    await view.open()
    assert view._feed._wire is not None
    view._feed._wire.drop()  # as when its process is killed
    await view.close()
    await eventually_is(lambda: nothing_left(rabbitmq))


async def test_an_exchange_whose_watcher_was_killed_at_once_goes_with_the_lab(
    rabbitmq: RabbitAddress, namespace: tuple[RabbitAddress, RedisAddress]
) -> None:
    made = namespaces.of_lab(f"test-{secrets.token_hex(4)}", rabbitmq, namespace[1])
    other = namespaces.of_lab(f"{made.rabbitmq.vhost[8:]}-2", rabbitmq, namespace[1])
    for space in (made, other):
        await namespaces.create(space)
        watcher = replace(space.rabbitmq.watched(), vhost=EVENTS_VHOST)
        async with connected(watcher) as killed:
            await killed.declare(Exchange(events_of(space.rabbitmq) + "x", durable=False))
    await namespaces.remove(made)
    assert await left(made.rabbitmq) == []
    assert len(await left(other.rabbitmq)) == 1
    await namespaces.remove(other)
    assert await left(other.rabbitmq) == []


async def test_the_account_that_looks_has_nothing_outside_its_names(
    rabbitmq: RabbitAddress,
) -> None:
    mine = f"{events_of(rabbitmq)}mine"
    watcher = replace(rabbitmq.watched(), vhost=EVENTS_VHOST)
    async with connected(watcher) as connection:
        await connection.declare(Queue(mine, exclusive=True))
        for things in (
            [Exchange("outside")],
            [Queue("outside", exclusive=True)],
            [Queue("chatlab/presence/bob", exclusive=True)],
            [Binding(mine, "amq.fanout")],
        ):
            with pytest.raises(AccessRefused):
                await connection.declare(*things)
    async with connected(rabbitmq.watched()) as connection:
        for thing in (Exchange("sd"), Queue(mine, exclusive=True)):
            with pytest.raises(AccessRefused):
                await connection.declare(thing)


async def test_a_broker_that_does_not_tell_its_events_is_refused_with_what_to_type(
    rabbitmq: RabbitAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "EVENTS_EXCHANGE", "not.enabled")
    view = BrokerView(replace(rabbitmq, monitor=""))  # as an administrator
    with pytest.raises(NotPossible, match="rabbitmq-plugins enable rabbitmq_event_exchange"):
        await view.open()
    await eventually_is(lambda: nothing_left(rabbitmq))
    await view.close()


@pytest.mark.parametrize("permissions", [None, {**TO_WATCH, "read": "^chatlab/events"}])
async def test_an_account_that_may_not_is_refused_with_what_to_type(
    rabbitmq: RabbitAddress, management: Management, permissions: dict[str, str] | None
) -> None:
    name = f"test-{secrets.token_hex(4)}"
    await management.put("users", name, body={"password": "x", "tags": "monitoring"})
    if permissions:
        await management.put("permissions", EVENTS_VHOST, name, body=permissions)
    view = BrokerView(replace(rabbitmq, monitor=name, monitor_password="x"))
    try:
        with pytest.raises(NotPossible, match=f"set_permissions -p / {name} .*rabbitmq") as e:
            await view.open()
        assert "password" not in str(e.value)
        await eventually_is(lambda: nothing_left(rabbitmq))
        # The very words that it says to type help.
        await management.put("permissions", EVENTS_VHOST, name, body=TO_WATCH)
        vhost = {"configure": "^$", "write": "^$", "read": "^$"}
        await management.put("permissions", rabbitmq.vhost, name, body=vhost)
        await view.open()
        assert view.presences() == []
    finally:
        await view.close()
        await management.delete("users", name)


async def test_without_the_management_api_it_cannot_begin_and_leaves_nothing(
    rabbitmq: RabbitAddress,
) -> None:
    view = BrokerView(replace(rabbitmq, management_url=""))
    with pytest.raises(ServiceUnavailable, match="CHATLAB_MANAGEMENT_URL"):
        await view.open()
    await eventually_is(lambda: nothing_left(rabbitmq))
    await view.close()


async def test_the_inquirer_opens_its_view_once_for_all_who_ask(
    registry: Registry, rabbitmq: RabbitAddress, new_life: NewLife
) -> None:
    view, connections = BrokerView(rabbitmq), Connections(new_life("ana"))
    inquirer = Inquirer(registry, rabbitmq, connections, view)
    assert await left(rabbitmq) == []

    async def ask(_: int) -> Awaitable[Any]:
        return await inquirer.discover("broker-events")

    async with online(new_life("bob")):
        answers = await asyncio.gather(*map(ask, range(5)))
        assert [answer.users for answer in answers] == [["bob"]] * 5
        assert len(await left(rabbitmq)) == 4
    await inquirer.close()
    await view.close()
    await eventually_is(lambda: nothing_left(rabbitmq))
