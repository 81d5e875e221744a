"""Discovery by events over a real RabbitMQ: clients that announce themselves, and askers."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from rabbit_rig import eventually, eventually_is

from chatlab.amqp import (
    Binding,
    Connection,
    Connections,
    Consumer,
    Delivery,
    Exchange,
    Outgoing,
    Properties,
    Queue,
)
from chatlab.client import Life
from chatlab.discovery import Presences
from chatlab.discovery.announcement import EAR_MESSAGES, PREFETCH, Announcement
from chatlab.discovery.events import Asker
from chatlab.discovery.management import discover as discover_by_management
from chatlab.discovery.questions import MOST_GROUPS, Answer, Question, Told
from chatlab.errors import InvalidInput, NotPossible, ServiceUnavailable
from chatlab.journal import now
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management

#: A deadline that no test waits for.
LONG = 30.0
EXCHANGE = "chatlab/discovery"


class Listener:
    """One user as far as discovery goes: a connection, an announcement, a way to freeze."""

    def __init__(self, life: Life, groups: Iterable[Told]) -> None:
        self.life = life
        self.name = life.user
        self.connection = Connection(
            life.rabbitmq, life.connection_name, role="consuming", deadline=LONG
        )
        self.announcement = Announcement(
            self.connection, life, f"127.0.0.1:{len(life.user)}", lambda: groups
        )

    async def start(self) -> Listener:
        await self.announcement.start()
        return self

    async def close(self) -> None:
        await self.announcement.close()
        await self.connection.close()

    def crash(self) -> None:
        self.announcement.abandon()
        self.connection.abandon()


class Crowd:
    """Listeners and askers in one virtual host; closed at the end."""

    def __init__(self, new_life: Callable[..., Life], rabbitmq: RabbitAddress) -> None:
        self.rabbitmq = rabbitmq
        self._new_life = new_life
        self._listeners: list[Listener] = []
        self._askers: list[tuple[Asker, Connections]] = []

    def life(self, name: str) -> Life:
        return self._new_life(name)

    async def listener(self, name: str, *groups: Told) -> Listener:
        self._listeners.append(Listener(self._new_life(name), groups))
        return await self._listeners[-1].start()

    async def listeners(self, *names: str) -> list[Listener]:
        return list(await asyncio.gather(*map(self.listener, names)))

    def asker(self, *, listing: bool = True) -> Asker:
        """``listing``: with the management API."""
        connections = Connections(self._new_life("asker"))
        management = Management(self.rabbitmq.watched()) if listing else None
        asker = Asker(connections, management, self.rabbitmq.vhost)
        self._askers.append((asker, connections))
        return asker

    async def asked(self, *, timeout: float = LONG, **options: Any) -> Presences:
        return await self.asker(**options).ask(timeout=timeout)

    async def close(self) -> None:
        for asker, connections in self._askers:
            await asker.close()
            await connections.close()
        await asyncio.gather(*(listener.close() for listener in self._listeners))


@pytest.fixture
async def crowd(
    namespace: tuple[RabbitAddress, RedisAddress], new_life: Callable[..., Life]
) -> AsyncIterator[Crowd]:
    made = Crowd(new_life, namespace[0])
    yield made
    await made.close()


@pytest.fixture
async def tool(namespace: tuple[RabbitAddress, RedisAddress]) -> AsyncIterator[Connection]:
    """A connection of somebody who publishes what it likes."""
    connection = Connection(namespace[0], "some tool", deadline=LONG)
    yield connection
    await connection.close()


def question(**changes: Any) -> Outgoing:
    """A question as chatlab asks it, and then changed."""
    asked = Question(secrets.token_hex(8), f"chatlab/answers/{secrets.token_hex(8)}", now(), 5)
    outgoing = asked.outgoing()
    body = changes.pop("body", outgoing.body)
    properties = {
        name: getattr(outgoing.properties, name)
        for name in ("reply_to", "correlation_id", "message_id", "expiration")
    }
    return outgoing._replace(body=body, properties=Properties(**properties | changes))


async def waiting(listener: Listener, messages: int) -> bool:
    """Whether so many questions wait in a listener's queue, beside those handed out."""
    (depth,) = await listener.connection.depths([f"chatlab/presence/{listener.name}"])
    return depth is not None and depth.messages == messages


async def published(connection: Connection, *items: Outgoing) -> list[str]:
    batch = connection.submit(items)
    return [outcome.kind for outcome in await connection.outcomes(batch, LONG)]


# -- a question and its answers


async def test_everybody_answers_with_what_it_takes_to_reach_it(crowd: Crowd) -> None:
    await crowd.listeners("bob", "eva", "zoë")
    found = await crowd.asked()
    assert [(entry.name, entry.kind, entry.address) for entry in found] == [
        ("bob", "private", "127.0.0.1:3"),
        ("eva", "private", "127.0.0.1:3"),
        ("zoë", "private", "127.0.0.1:3"),
    ]
    assert {(entry.source, entry.incarnation) for entry in found} == {("events", 1)}
    assert all(entry.since == pytest.approx(now(), abs=30) for entry in found)
    assert all(0 <= entry.age <= found.seconds < LONG for entry in found)
    # The question, its copy for each, and the answer of each.
    assert (found.via, found.messages, found.silent) == ("events", 7, ())


async def test_groups_are_put_together_from_what_their_members_say(crowd: Crowd) -> None:
    sd = {there: Told("sd", "rabbitmq-durable", there) for there in (True, False)}
    await crowd.listener("bob", sd[True], Told("news", "redis-stream", False))
    await crowd.listener("ana", sd[True])
    await crowd.listener("eva", sd[False])
    news, group = (entry for entry in await crowd.asked() if entry.kind == "group")
    assert (group.name, group.address, group.backend) == ("sd", "sd", "rabbitmq-durable")
    assert (group.members, group.away, group.since) == (("ana", "bob"), ("eva",), None)
    assert (news.members, news.away, news.backend) == ((), ("bob",), "redis-stream")


async def test_nobody_online_is_said_at_once(crowd: Crowd) -> None:
    assert await crowd.asked() == []
    found = await crowd.asked(listing=False)
    assert (found, found.messages, found.silent) == ([], 1, ())
    assert found.seconds < LONG


async def test_without_the_management_api_answers_are_collected_until_the_deadline(
    crowd: Crowd,
) -> None:
    await crowd.listeners("bob", "eva")
    found = await crowd.asked(listing=False, timeout=0.5)
    assert (found.users, found.silent) == (["bob", "eva"], ())
    assert found.seconds >= 0.5


async def test_a_management_api_that_does_not_answer_is_as_good_as_none(
    crowd: Crowd, new_life: Callable[..., Life]
) -> None:
    await crowd.listener("bob")
    nowhere = replace(crowd.rabbitmq, management_url="http://127.0.0.1:9")
    connections = Connections(new_life("asker"))
    asker = Asker(connections, Management(nowhere), crowd.rabbitmq.vhost)
    found = await asker.ask(timeout=0.5)
    assert (found.users, found.silent) == (["bob"], ())
    assert found.seconds >= 0.5
    await asker.close()
    await connections.close()


async def test_who_is_expected_may_be_said_instead(crowd: Crowd) -> None:
    await crowd.listeners("bob", "eva")
    asker = crowd.asker(listing=False)
    found = await asker.ask(timeout=LONG, expect=["bob", "eva"])
    assert (found.users, found.silent) == (["bob", "eva"], ())
    found = await asker.ask(timeout=0.3, expect=["bob", "ghost"])
    assert found.silent == ("ghost",)
    assert "bob" in found.users


@pytest.mark.parametrize("timeout", [0, -1, 61, float("nan"), float("inf"), "1", True, None])
async def test_a_time_that_cannot_be_is_refused(crowd: Crowd, timeout: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        await crowd.asker().ask(timeout=timeout)


@pytest.mark.parametrize("expect", ["bob", ["a/b"], [7]])
async def test_a_name_that_cannot_be_is_not_expected(crowd: Crowd, expect: Any) -> None:
    with pytest.raises(InvalidInput):
        await crowd.asker().ask(expect=expect)


# -- who does not answer


async def test_a_frozen_client_is_silent_and_answers_again_when_thawed(crowd: Crowd) -> None:
    bob, _ = await crowd.listeners("bob", "eva")
    asker = crowd.asker()
    bob.life.gate.clear()
    found = await asker.ask(timeout=0.4)
    assert (found.users, found.silent) == (["eva"], ("bob",))
    bob.life.gate.set()
    assert (await asker.ask(timeout=LONG)).users == ["bob", "eva"]
    # The question that had been handed to it was over, and RabbitMQ knew that, too.
    assert (bob.announcement.counts["answered"], bob.announcement.counts["over"]) == (1, 1)
    assert asker.dropped.total() == 0


async def test_questions_that_a_frozen_client_missed_are_forgotten_when_they_are_over(
    crowd: Crowd,
) -> None:
    bob = await crowd.listener("bob")
    bob.life.gate.clear()
    asker = crowd.asker()
    rounds = [asker.ask(timeout=1.0) for _ in range(2 * EAR_MESSAGES)]
    assert {found.silent for found in await asyncio.gather(*rounds)} == {("bob",)}
    # Their time began in the queue a moment after they were asked.
    await eventually_is(lambda: waiting(bob, 0))
    bob.life.gate.set()
    assert (await asker.ask(timeout=LONG)).users == ["bob"]
    # Only what had been handed out was looked at.
    assert bob.announcement.counts == {"over": PREFETCH, "answered": 1}


async def test_a_clock_that_is_hours_ahead_does_not_make_its_user_invisible(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await crowd.listener("bob")
    monkeypatch.setattr("chatlab.discovery.questions.now", lambda: now() + 7200)
    assert (await crowd.asked()).users == ["bob"]
    assert bob.announcement.counts == {"over": 1, "answered": 1}


async def test_a_killed_client_is_not_waited_for(crowd: Crowd, management: Management) -> None:
    bob, _ = await crowd.listeners("bob", "eva")
    asker = crowd.asker()
    assert (await asker.ask(timeout=LONG)).users == ["bob", "eva"]
    bob.crash()
    async with asyncio.timeout(LONG):
        while "bob" in (await discover_by_management(management, crowd.rabbitmq.vhost)).users:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    found = await asker.ask(timeout=LONG)
    assert (found.users, found.silent) == (["eva"], ())


async def test_a_queue_that_somebody_else_bound_is_not_a_user(
    crowd: Crowd, tool: Connection
) -> None:
    await crowd.listener("bob")
    await tool.declare(Queue("a tool", exclusive=True), Binding("a tool", EXCHANGE))
    found = await crowd.asked()
    assert (found.users, found.silent, found.messages) == (["bob"], (), 4)


# -- late, repeated and forged answers


class Forger:
    """Answers questions as it likes, by the presence queue of a user that is not there."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self._task: asyncio.Task[None] | None = None

    async def start(self, *bodies: bytes, pause: float = 0.0) -> None:
        queue = f"chatlab/presence/{self.name}"
        ear = Consumer(queue, prefetch=0, auto_ack=True)
        await self.connection.declare(
            Exchange(EXCHANGE), Queue(queue, exclusive=True), Binding(queue, EXCHANGE)
        )
        await self.connection.consume(ear)
        self._task = asyncio.create_task(self._answer(ear, bodies, pause))

    async def _answer(self, ear: Consumer, bodies: Iterable[bytes], pause: float) -> None:
        for delivery in await ear.take():
            asked = delivery.properties
            await asyncio.sleep(pause)
            about = Properties(correlation_id=asked.correlation_id)
            await self.connection.tell(
                [Outgoing("", asked.reply_to, body, about, mandatory=False) for body in bodies]
            )

    async def done(self) -> None:
        assert self._task is not None
        await self._task


def said(**changes: Any) -> bytes:
    """An answer as a client gives it, and then changed."""
    body = {"name": "bob", "incarnation": 1, "address": "here:1", "since": 1.5, "groups": []}
    return json.dumps({**body, **changes}).encode()


async def test_a_late_answer_is_dropped_and_not_taken_for_one_to_the_next_question(
    crowd: Crowd, tool: Connection
) -> None:
    await crowd.listener("eva")
    forger, asker = Forger(tool, "bob"), crowd.asker()
    await forger.start(said(), pause=0.6)
    assert (await asker.ask(timeout=0.3)).silent == ("bob",)
    await forger.done()
    await eventually(lambda: asker.dropped["late"] == 1)
    assert (await asker.ask(timeout=0.3)).users == ["eva"]


async def test_of_repeated_answers_the_newest_life_counts(
    crowd: Crowd, tool: Connection
) -> None:
    await crowd.listener("eva")
    forger, asker = Forger(tool, "bob"), crowd.asker()
    lives = (2, 3, 1, 3)
    await forger.start(*(said(incarnation=n, address=f"here:{n}") for n in lives))
    found = await asker.ask(timeout=0.6, expect=["bob", "eva", "ghost"])
    assert [(e.name, e.incarnation, e.address) for e in found][:1] == [("bob", 3, "here:3")]
    assert found.users == ["bob", "eva"]
    assert asker.dropped == {"repeated": 3}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[" * 60_000,
        b"7",
        b"[]",
        b'{"name": NaN}',
        b'{"incarnation": ' + b"9" * 5_000 + b"}",
        said(name="a/b"),
        said(name=""),
        said(name=["bob"]),
        said(name="e\u0301va"),
        said(incarnation="1"),
        said(incarnation=True),
        said(incarnation=-1),
        said(incarnation=2**60),
        said(since=None),
        said(since=float("inf")),
        said(address=7),
        said(address="x" * 301),
        said(address="here\n"),
        said(groups={}),
        said(groups=["sd"]),
        said(groups=[["sd", "memory"]]),
        said(groups=[["sd", "memory", 1]]),
        said(groups=[["s d", "memory", True]]),
        said(groups=[["sd", None, True]]),
        said(padding="x" * 70_000),
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_an_answer_that_is_none_of_ours_is_counted_and_changes_nothing(
    crowd: Crowd, tool: Connection, body: bytes
) -> None:
    forger, asker = Forger(tool, "bob"), crowd.asker(listing=False)
    await forger.start(body, said(name="eva"))
    found = await asker.ask(timeout=LONG, expect=["eva"])
    assert (found.users, found.groups) == (["eva"], [])
    assert asker.dropped == {"bad": 1}


async def test_an_answer_to_a_question_that_nobody_asked_is_dropped(
    crowd: Crowd, tool: Connection
) -> None:
    await crowd.listener("bob")
    asker = crowd.asker()
    await asker.ask(timeout=LONG)
    queue = asker._queue
    await tool.tell([Outgoing("", queue, said(name="eva"), Properties(), mandatory=False)])
    await eventually(lambda: asker.dropped["late"] == 1)
    assert (await asker.ask(timeout=LONG)).users == ["bob"]


async def test_one_answer_tells_of_so_many_groups_and_no_more(crowd: Crowd) -> None:
    names = sorted(f"g{number}" for number in range(MOST_GROUPS + 5))
    await crowd.listener("bob", *(Told(name, "memory", True) for name in reversed(names)))
    assert (await crowd.asked()).groups == names[:MOST_GROUPS]


# -- forged questions


@pytest.mark.parametrize(
    "reply_to",
    [
        "chatlab/sd/bob",
        "chatlab/presence/eva",
        "chatlab/answers/",
        "chatlab/answers/../sd/bob",
        "chatlab/answers/0123456789abcdef/sd",
        "chatlab/answers/0123456789ABCDEF",
        "chatlab/answers/0123456789abcdef\n",
        "Xchatlab/answers/0123456789abcdef",
        "",
        None,
    ],
)
async def test_a_forged_reply_queue_gets_nothing(
    crowd: Crowd, tool: Connection, reply_to: str | None
) -> None:
    bob = await crowd.listener("bob")
    victim = (reply_to or "chatlab/sd/bob").rstrip()  # as RabbitMQ itself cuts a name
    await tool.declare(Queue(victim, exclusive=True))
    assert await published(tool, question(reply_to=reply_to)) == ["acked"]
    await eventually(lambda: bob.announcement.counts.total() == 1)
    assert bob.announcement.counts == {"bad": 1}
    assert (await crowd.asked()).users == ["bob"]  # whatever it had sent is there by now
    (depth,) = await tool.depths([victim])
    assert depth is not None
    assert depth.messages == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"correlation_id": None},
        {"correlation_id": "x" * 200},
        {"correlation_id": "0123456789abcdeg"},
        {"body": b""},
        {"body": b"who is there?"},
        {"body": b"{}"},
        {"body": b'{"asked_at": "now", "seconds": 1}'},
        {"body": b'{"asked_at": NaN, "seconds": 1}'},
        {"body": b'{"asked_at": 1, "seconds": true}'},
        {"body": b'{"asked_at": 1, "seconds": 1e9}'},
        {"body": b'{"asked_at": 1, "seconds": 1' + b" " * 1_000 + b"}"},
        {"body": b"[" * 100_000},
    ],
    ids=lambda changes: repr(changes)[:50],
)
async def test_a_question_that_is_none_of_ours_is_counted_and_closes_nothing(
    crowd: Crowd, tool: Connection, changes: dict[str, Any]
) -> None:
    bob = await crowd.listener("bob")
    serial = bob.connection.serial
    assert await published(tool, question(**changes)) == ["acked"]
    await eventually(lambda: bob.announcement.counts["bad"] == 1)
    assert (await crowd.asked()).users == ["bob"]
    assert bob.connection.serial == serial
    assert bob.announcement.counts == {"bad": 1, "answered": 1}


async def test_an_answer_to_a_queue_that_is_gone_closes_nothing(
    crowd: Crowd, tool: Connection
) -> None:
    bob = await crowd.listener("bob")
    serial = bob.connection.serial
    assert await published(tool, question()) == ["acked"]
    await eventually(lambda: bob.announcement.counts["answered"] == 1)
    assert (await crowd.asked()).users == ["bob"]
    assert bob.connection.serial == serial


# -- several questions at a time


async def test_several_questions_of_one_asker_and_of_two_do_not_mix(crowd: Crowd) -> None:
    names = [f"u{number}" for number in range(20)]
    await crowd.listeners(*names)
    first, second = crowd.asker(), crowd.asker()
    found = await asyncio.gather(
        *(asker.ask(timeout=LONG) for asker in (first, second) for _ in range(5))
    )
    assert [answer.users for answer in found] == [sorted(names)] * 10
    assert (first.dropped.total(), second.dropped.total()) == (0, 0)
    assert (first._rounds, second._rounds) == ({}, {})


async def test_who_waits_is_told_when_the_asker_ends(crowd: Crowd) -> None:
    await crowd.listener("bob")
    asker = crowd.asker()
    waiting = asyncio.create_task(asker.ask(timeout=LONG, expect=["nobody"]))
    await eventually(lambda: asker._rounds)
    await asker.close()
    with pytest.raises(ServiceUnavailable, match="ended"):
        await waiting


async def test_a_question_that_is_given_up_leaves_nothing_behind(crowd: Crowd) -> None:
    await crowd.listener("bob")
    asker = crowd.asker()
    waiting = asyncio.create_task(asker.ask(timeout=LONG, expect=["nobody"]))
    await eventually(lambda: asker._rounds)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (waiting.cancelled(), asker._rounds) == (True, {})
    assert (await asker.ask(timeout=LONG)).users == ["bob"]


async def test_a_closed_asker_leaves_no_queue(crowd: Crowd, tool: Connection) -> None:
    asker = crowd.asker()
    await asker.ask(timeout=LONG)
    await asker.close()
    assert await tool.depths([asker._queue]) == [None]


# -- the ground under it


async def test_a_virtual_host_made_anew_is_survived_by_both_sides(
    crowd: Crowd, management: Management
) -> None:
    bob = await crowd.listener("bob")
    asker = crowd.asker()
    assert (await asker.ask(timeout=LONG)).users == ["bob"]
    vhost, user = crowd.rabbitmq.vhost, crowd.rabbitmq.user
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    await management.delete("vhosts", vhost)
    await eventually(lambda: not bob.connection.up, LONG)
    with pytest.raises((ServiceUnavailable, NotPossible)):
        await asker.ask(timeout=0.3)
    await management.put("vhosts", vhost)
    await management.put("permissions", vhost, user, body=everything)
    async with asyncio.timeout(LONG):
        while (await asker.ask(timeout=1, expect=["bob"])).silent:
            pass


async def deleted(connection: Connection, queue: str) -> None:
    """Delete a queue behind the back of its connection, which alone may do so."""

    async def step(wire: Any) -> None:
        channel = await wire.channel()
        await channel.call("queue_delete", queue=queue)
        await channel.close()

    await connection.run(step)


async def test_an_ear_that_was_deleted_grows_again(crowd: Crowd) -> None:
    bob = await crowd.listener("bob")
    await deleted(bob.connection, "chatlab/presence/bob")
    async with asyncio.timeout(LONG):
        while (await crowd.asker().ask(timeout=0.5, expect=["bob"])).silent:
            pass


async def test_a_queue_for_answers_that_was_deleted_is_declared_again(crowd: Crowd) -> None:
    await crowd.listener("bob")
    asker = crowd.asker()
    await asker.ask(timeout=LONG)
    collector = asker._collector
    assert collector is not None
    await deleted(asker._connections.consuming, asker._queue)
    await asyncio.wait([collector])
    assert (await asker.ask(timeout=LONG)).users == ["bob"]


# -- how many


@pytest.mark.parametrize("clients", [100, 500])
async def test_every_one_of_many_clients_answers(crowd: Crowd, clients: int) -> None:
    names = [f"u{number}" for number in range(clients)]
    for first in range(0, clients, 50):  # so many connect at a time
        await crowd.listeners(*names[first : first + 50])
    asker = crowd.asker()
    for _ in range(2):
        found = await asker.ask(timeout=LONG)
        assert (found.users, found.silent) == (sorted(names), ())
        assert found.messages == 1 + 2 * clients
    assert asker.dropped.total() == 0


def test_a_question_and_an_answer_are_small() -> None:
    asked = Question("0" * 16, "chatlab/answers/" + "0" * 16, now(), 1.0)
    answer = Answer("bob", 1, "127.0.0.1:40000", now(), (Told("sd", "rabbitmq-durable", True),))
    assert len(asked.outgoing().body) < 100
    assert len(answer.outgoing(asked).body) < 200


def test_both_ends_of_an_answer_stop_at_so_many_groups() -> None:
    groups = tuple(Told(f"g{number}", "memory", True) for number in range(MOST_GROUPS + 5))
    asked = Question("0" * 16, "chatlab/answers/" + "0" * 16, now(), 1.0)
    sent = Answer("bob", 1, "here:1", 1.5, groups).outgoing(asked).body
    assert len(json.loads(sent)["groups"]) == MOST_GROUPS
    forged = said(groups=[list(told) for told in groups])
    came = Answer.read(Delivery(1, False, Properties(), forged, None))  # type: ignore[arg-type]
    assert came is not None
    assert len(came.groups) == MOST_GROUPS


async def test_an_older_life_gives_up_its_ear_to_a_newer_one_for_good(crowd: Crowd) -> None:
    older, newer = (Listener(crowd.life("bob"), ()) for _ in range(2))
    await newer.start()
    await older.start()
    try:
        keeper = older.announcement._keeper
        assert keeper is not None
        async with asyncio.timeout(LONG):
            await keeper  # it does not try again for ever
        (bob,) = await crowd.asked()
        assert bob.incarnation == newer.life.incarnation
    finally:
        await asyncio.gather(older.close(), newer.close())
