"""``rabbitmq-not-me``: who consumes whose queue, as members come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from rabbit_rig import Rig, eventually, eventually_is

from chatlab.client import Life
from chatlab.discovery import Registry
from chatlab.errors import NotPossible
from chatlab.insults import guarantees, not_me
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

Namespace = tuple[RabbitAddress, RedisAddress]
NOT_ME = "rabbitmq-not-me"


@pytest.fixture
async def rig(
    namespace: Namespace, new_life: Callable[..., Life], settings: Settings
) -> AsyncIterator[Rig]:
    redis = Redis(namespace[1])
    rig = Rig(new_life, Registry(redis, settings.lease_seconds))
    yield rig
    await rig.close()
    await redis.close()


async def test_a_sender_that_comes_later_is_heard_by_all_who_listen(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    for person in (ana, bob):
        await person.insults.join(backend=NOT_ME)
    await eva.insults.join("both")
    (receipt,) = await eva.insult("late")  # it waited for them
    assert receipt.listeners == 2
    await eventually(lambda: ana.shown or bob.shown)
    assert eva.shown == []


async def test_of_two_senders_and_one_listener_each_none_gets_its_own(rig: Rig) -> None:
    people = rig.people(*(f"user{n}" for n in range(6)))
    for person in people:
        await person.insults.join(backend=NOT_ME)
    await asyncio.gather(*(p.insult(*(f"{n}" for n in range(30))) for p in people))
    await eventually(lambda: sum(len(person.shown) for person in people) == 180)
    for person in people:
        assert person.life.user not in {message.sender for message in person.shown}
    assert len({m.id for person in people for m in person.shown}) == 180


async def test_the_insults_of_a_sender_that_has_left_are_still_drawn(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer", backend=NOT_ME)
    await ana.insult("a", "b")
    await ana.insults.leave()
    await bob.insults.join("consumer")
    assert await bob.sees(2) == ["a", "b"]
    await ana.insults.join("consumer")  # its queue is still its own
    await ana.insults.join("producer")
    await ana.insult("c")
    await bob.sees(3)
    assert eva.shown == ana.shown == []


async def test_who_leaves_or_crashes_hears_no_more_and_holds_up_nobody(
    rig: Rig, namespace: Namespace
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join("producer", backend=NOT_ME)
    await bob.insults.join("consumer", work=60)
    await eva.insults.join("consumer")
    await ana.insult("1", "2", "3")
    await bob.sees(1)
    bob.crash()
    assert sorted(await eva.sees(3)) == ["1", "2", "3"]
    await eva.insults.leave()
    management = Management(namespace[0])

    async def nobody() -> bool:
        queue = await management.get("queues", namespace[0].vhost, "chatlab/insults/from/ana")
        return queue.get("consumers", 0) == 0

    await eventually_is(nobody)
    names = [q["name"] for q in await management.get("queues", namespace[0].vhost)]
    assert not [name for name in names if name.startswith(not_me.NEWS.name)]


async def test_one_member_more_than_fits_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not_me.MEMBERS == 32
    monkeypatch.setattr(not_me, "MEMBERS", 2)
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await ana.insults.join(backend=NOT_ME)
    await bob.insults.join("consumer")
    with pytest.raises(NotPossible, match="at most 2 members; eva"):
        await eva.insults.join()
    await ana.insults.join("consumer")  # who is in may change its role
    await bob.insults.leave()
    await eva.insults.join("consumer")  # a listener that leaves makes room


async def test_after_a_lost_connection_all_queues_are_heard_again(
    rig: Rig, namespace: Namespace
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await bob.insults.join("consumer", backend=NOT_ME)
    await ana.insults.join("producer")
    management = Management(namespace[0])

    async def cut() -> bool:
        rows = await management.get("vhosts", namespace[0].vhost, "connections") or []
        name = bob.life.connection_name
        mine = [
            row["name"]
            for row in rows
            if (row.get("client_properties") or {}).get("connection_name") == name
            and row["client_properties"].get("role") == "consuming"
        ]
        for found in mine:
            await management.delete("connections", found)
        return bool(mine)

    await eventually_is(cut)
    await eventually(lambda: not bob.insults.connected)
    await eva.insults.join("producer")  # news that bob cannot hear
    await eventually(lambda: bob.insults.connected)
    await ana.insult("from ana")
    await eva.insult("from eva")
    await bob.sees(2)
    assert sorted(bob.bodies) == ["from ana", "from eva"]


async def test_32_who_all_send_and_draw_reach_each_other_and_a_33rd_is_refused(
    rig: Rig, namespace: Namespace
) -> None:
    people = rig.people(*(f"user{n:02}" for n in range(not_me.MEMBERS)))
    await asyncio.gather(*(person.insults.join(backend=NOT_ME) for person in people))
    others = guarantees(NOT_ME).members - 1

    async def all_attached() -> bool:
        queues = [not_me.FROM + person.life.user for person in people]
        depths = await people[0].connections.publishing.depths(queues)
        return {depth.consumers if depth else 0 for depth in depths} == {others}

    await eventually_is(all_attached, 30)
    (late,) = rig.people("late")
    with pytest.raises(NotPossible, match="at most 32 members; late"):
        await late.insults.join("consumer")
    receipts = await asyncio.gather(*(p.insult(*map(str, range(10))) for p in people))
    assert {(r.outcome, r.listeners) for sent in receipts for r in sent} == {
        ("confirmed", others)
    }
    await eventually(lambda: sum(len(person.shown) for person in people) >= 320, 30)
    drawn = [message.id for person in people for message in person.shown]
    assert sorted(drawn) == sorted(receipt.id for sent in receipts for receipt in sent)
    for person in people:
        assert person.life.user not in {message.sender for message in person.shown}
