"""What the insult channel promises, with the real broker: each to one, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from rabbit_rig import Person, Rig, eventually, eventually_is

from chatlab import journal as j
from chatlab.client import Life
from chatlab.discovery import Registry
from chatlab.errors import ChatClosed, InvalidInput, NotPossible
from chatlab.insults import QUEUE
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


def fairness(counts: list[int]) -> float:
    """Jain's index: 1 when all have the same."""
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


async def test_insults_sent_10_ms_apart_go_to_idle_members_strictly_in_turn(rig: Rig) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    await attach(members)
    for number in range(30):
        (receipt,) = await ana.insult(str(number))
        assert (receipt.outcome, receipt.listeners) == ("confirmed", 3)
        await asyncio.sleep(0.01)  # the scenario itself: 10 ms apart
    assert await all_seen(members, 30) == [10, 10, 10]
    for index, member in enumerate(members):
        assert member.bodies == [str(number) for number in range(index, 30, 3)]


async def test_a_burst_with_work_is_even(rig: Rig) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    await attach(members, work=0.05)
    await ana.insult(*map(str, range(30)))
    assert await all_seen(members, 30) == [10, 10, 10]


@pytest.mark.parametrize(
    "options", [{"ack": "auto"}, {"prefetch": 0, "work": 0.02}, {"ack": "auto", "prefetch": 1}]
)
async def test_a_backlog_goes_to_the_first_without_a_limit(
    rig: Rig, options: dict[str, Any]
) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    receipts = await ana.insult(*map(str, range(30)))
    assert {(r.outcome, r.listeners, r.waiting) for r in receipts} == {("confirmed", 0, 30)}
    await attach(members, **options)
    assert await all_seen(members, 30) == [30, 0, 0]
    assert members[0].bodies == [str(number) for number in range(30)]


async def test_a_backlog_is_shared_with_prefetch_1_and_work(rig: Rig) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    await ana.insult(*map(str, range(30)))
    await attach(members, prefetch=1, work=0.05)
    assert fairness(await all_seen(members, 30)) >= 0.95


async def test_a_slow_member_gets_less_with_prefetch_1(rig: Rig) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    await members[0].insults.join("consumer", work=0.1)
    await attach(members[1:], work=0.01)
    await ana.insult(*map(str, range(30)))
    slow, *others = await all_seen(members, 30)
    assert slow <= 4
    assert abs(others[0] - others[1]) <= 4


async def test_prefetch_without_limit_gives_a_slow_member_its_full_third(rig: Rig) -> None:
    ana, *members = rig.people("ana", "bob", "eva", "dan")
    await ana.insults.join("producer")
    await members[0].insults.join("consumer", work=0.03, prefetch=0)
    await attach(members[1:], work=0.01, prefetch=0)
    await ana.insult(*map(str, range(30)))
    assert await all_seen(members, 30) == [10, 10, 10]


async def test_the_facts_of_an_insult_with_work(rig: Rig, journal: Journal) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.insults.join("consumer", work=0.02)
    await ana.insults.join()
    await ana.insults.join("producer")
    await ana.insult("¡necio!")
    await eventually(lambda: "Acked" in journal.counts())
    await bob.insults.leave()
    bob_s = [fact for fact in journal if fact.user == "bob"]
    assert [type(fact).__name__ for fact in bob_s] == [
        *("Connected", "Delivered", "Handled"),
        *("Acked", "Disconnected"),
    ]
    connected, delivered, handled = bob_s[:3]
    assert isinstance(connected, j.Connected)
    assert (connected.chat, connected.role) == ("insults", "consumer")
    assert connected.backend == "rabbitmq:prefetch=1,ack=manual,work=0.02"
    assert handled.at - delivered.at >= 0.019
    roles = [fact.role for fact in journal.facts(j.Connected) if fact.user == "ana"]
    assert roles == ["both", "producer"]


async def test_automatic_acks_record_none_and_no_work_is_handled_at_once(
    rig: Rig, journal: Journal
) -> None:
    (ana,) = rig.people("ana")
    await ana.insults.join(ack="auto")
    await ana.insult("a")
    assert await ana.sees(1) == ["a"]  # plainly one queue: one's own may come back
    await eventually(lambda: "Handled" in journal.counts())
    assert "Acked" not in journal.counts()


async def test_a_member_that_leaves_finishes_the_one_in_hand_and_gives_back_the_rest(
    rig: Rig, journal: Journal
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer")
    await bob.insults.join("consumer", prefetch=0, work=0.15)
    await ana.insult(*"abcde")
    await bob.sees(1)
    await bob.insults.leave()
    assert bob.bodies == ["a"]
    assert [fact.id for fact in journal.facts(j.Acked)] == [bob.shown[0].id]
    await eva.insults.join("consumer")
    assert await eva.sees(4) == list("bcde")


async def test_a_crash_with_one_in_hand_gives_it_to_another_marked(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer")
    await bob.insults.join("consumer", work=60)
    await ana.insult("hot")
    await bob.sees(1)
    bob.crash()
    await eva.insults.join("consumer")
    assert await eva.sees(1) == ["hot"]
    assert eva.redelivered == [eva.shown[0].id]


async def test_with_automatic_acks_a_crash_loses_what_was_handed_out(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer")
    await bob.insults.join("consumer", ack="auto", work=60)
    await ana.insult(*"abc")
    await bob.sees(1)
    await eventually(lambda: len(bob.insults._consumer._buffer) == 2)  # type: ignore[union-attr]
    bob.crash()
    await eva.insults.join("consumer")
    await ana.insult("d")
    assert await eva.sees(1) == ["d"]


async def test_roles_are_kept(rig: Rig) -> None:
    ana, bob = rig.people("ana", "bob")
    with pytest.raises(ChatClosed, match="takes no part"):
        await ana.insult("x")
    await ana.insults.join("consumer")
    with pytest.raises(NotPossible, match="only draws"):
        await ana.insult("x")
    await ana.insults.join("producer")
    await bob.insults.join("both")
    await ana.insult("a", "b")
    assert await bob.sees(2) == ["a", "b"]
    assert ana.shown == []
    await ana.insults.join("both")
    await bob.insults.leave()
    (receipt,) = await ana.insult("mine")
    assert receipt.listeners == 1
    assert await ana.sees(1) == ["mine"]
    for wrong in ({"role": "owner"}, {"prefetch": -1}, {"ack": "never"}, {"work": -1.0}):
        with pytest.raises(InvalidInput):
            await ana.insults.join(**wrong)  # type: ignore[arg-type]


async def test_joining_again_with_the_same_options_changes_nothing(
    rig: Rig, journal: Journal
) -> None:
    (ana,) = rig.people("ana")
    for _ in range(3):
        await ana.insults.join("both")
    (receipt,) = await ana.insult("x")
    assert receipt.listeners == 1
    assert journal.counts()["Connected"] == 1


async def test_nobody_listens_means_that_it_waits(rig: Rig) -> None:
    ana, bob = rig.people("ana", "bob")
    await ana.insults.join("producer")
    counts = []
    for body in "abc":
        (receipt,) = await ana.insult(body)
        counts.append((receipt.outcome, receipt.listeners, receipt.waiting))
    assert counts == [("confirmed", 0, 1), ("confirmed", 0, 2), ("confirmed", 0, 3)]
    await bob.insults.join("consumer")
    assert await bob.sees(3) == list("abc")


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


async def test_a_full_queue_fails_definitely(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from chatlab.insults import rabbitmq

    small = {"x-max-length": 2, "x-overflow": "reject-publish"}
    monkeypatch.setattr(rabbitmq, "QUEUE_MESSAGES", 2)
    monkeypatch.setattr(rabbitmq, "_QUEUE", rabbitmq.Queue(QUEUE, arguments=small))
    (ana,) = rig.people("ana")
    await ana.insults.join("producer")
    outcomes = [(await ana.insult(body))[0] for body in "abc"]
    assert [receipt.outcome for receipt in outcomes] == ["confirmed", "confirmed", "failed"]
    assert outcomes[-1].error == "MailboxFull"
    assert "2" in outcomes[-1].reason


async def test_a_frozen_member_draws_nothing_and_loses_nothing(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer")
    await attach([bob, eva])
    bob.life.gate.clear()
    await ana.insult("a", "b", "c")
    await eva.sees(2)  # bob holds the one that was his
    assert bob.shown == []
    bob.life.gate.set()
    await bob.sees(1)
    assert sorted(bob.bodies + eva.bodies) == ["a", "b", "c"]


async def test_leaving_frees_the_consumer(rig: Rig, namespace: Namespace) -> None:
    (ana,) = rig.people("ana")
    await ana.insults.join("both")
    await ana.insults.leave()
    management = Management(namespace[0])

    async def none_left() -> bool:
        queue = await management.get("queues", namespace[0].vhost, QUEUE)
        return queue.get("consumers", 0) == 0

    await eventually_is(none_left)
