"""What is RabbitMQ's own in the insult channel; test_insults_contract has the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from rabbit_rig import Person, Rig, eventually, eventually_is

from chatlab.amqp import connection, topology
from chatlab.amqp.wire import Channel
from chatlab.client import Life
from chatlab.discovery import Registry
from chatlab.errors import ChatClosed
from chatlab.insults import DEAD, QUEUE
from chatlab.insults.rabbitmq import RabbitLine
from chatlab.journal import Journal
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

Namespace = tuple[RabbitAddress, RedisAddress]


@pytest.fixture
async def rig(
    namespace: Namespace, new_life: Callable[..., Life], settings: Settings
) -> AsyncIterator[Rig]:
    redis = Redis(namespace[1])
    rig = Rig(new_life, Registry(redis, settings.lease_seconds))
    yield rig
    await rig.close()
    await redis.close()


async def attach(people: list[Person], **options: Any) -> None:
    for person in people:
        await person.insults.join("consumer", **options)


async def all_seen(people: list[Person], total: int) -> list[int]:
    await eventually(lambda: sum(len(person.shown) for person in people) >= total)
    return [len(person.shown) for person in people]


async def test_prefetch_without_limit_gives_a_slow_member_its_full_third(rig: Rig) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    await members[0].insults.join("consumer", work=0.03, prefetch=0)
    await attach(members[1:], work=0.01, prefetch=0)
    await ana.insult(*map(str, range(30)))
    assert await all_seen(members, 30) == [10, 10, 10]


async def test_automatic_acks_record_none_and_no_work_is_handled_at_once(
    rig: Rig, journal: Journal
) -> None:
    (ana,) = rig.people("ana")
    await ana.insults.join(ack="auto")
    await ana.insult("a")
    assert await ana.sees(1) == ["a"]  # plainly one queue: one's own may come back
    await eventually(lambda: "Handled" in journal.counts())
    assert "Acked" not in journal.counts()


async def test_with_automatic_acks_a_crash_loses_what_was_handed_out(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer")
    await bob.insults.join("consumer", ack="auto", work=60)
    await ana.insult(*"abc")
    await bob.sees(1)
    line = bob.insults._line
    assert isinstance(line, RabbitLine)
    await eventually(lambda: len(line._consumer._buffer) == 2)  # type: ignore[union-attr]
    bob.crash()
    await eva.insults.join("consumer")
    await ana.insult("d")
    assert await eva.sees(1) == ["d"]


async def test_the_queue_deleted_under_all_is_said(rig: Rig, namespace: Namespace) -> None:
    ana, bob = rig.people("ana", "bob")
    management = Management(namespace[0])
    await ana.insults.join("producer")
    await bob.insults.join("consumer")
    await ana.insult("a")
    await bob.sees(1)
    await management.delete("queues", namespace[0].vhost, QUEUE)
    await eventually(lambda: bob.ends)
    assert isinstance(bob.ends[0], ChatClosed)
    (receipt,) = await ana.insult("b")
    assert (receipt.outcome, receipt.reason) == ("unroutable", "the insult queue is gone")
    (receipt,) = await ana.insult("c")  # makes it anew
    assert (receipt.outcome, receipt.waiting) == ("confirmed", 1)


async def test_only_a_queue_that_may_be_new_is_made_to_be_written_down(
    rig: Rig, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[Channel] = []

    async def noted(channel: Channel) -> None:
        settled.append(channel)
        await topology.settled(channel)

    monkeypatch.setattr(connection, "settled", noted)
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer")
    await ana.insult("a")
    assert len(settled) == 1
    await bob.insults.join("consumer")  # something waits there
    await bob.sees(1)
    await eva.insults.join("consumer")  # bob listens
    assert len(settled) == 1
    queues = await Management(namespace[0]).get("queues", namespace[0].vhost)
    assert {queue["name"] for queue in queues} == {QUEUE, DEAD}  # nothing is left behind


async def test_leaving_frees_the_consumer(rig: Rig, namespace: Namespace) -> None:
    (ana,) = rig.people("ana")
    await ana.insults.join("both")
    await ana.insults.leave()
    management = Management(namespace[0])

    async def none_left() -> bool:
        queue = await management.get("queues", namespace[0].vhost, QUEUE)
        return queue.get("consumers", 0) == 0

    await eventually_is(none_left)
