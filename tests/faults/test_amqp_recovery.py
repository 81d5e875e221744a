"""What survives a cut link, a frozen one, and a connection closed by the operator.

Each person talks to the real broker through links of its own. The proof is always the same:
what was confirmed is shown once, in its sender's order, whatever happened on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from rabbit_rig import LinkedRig, Person, connections_of, eventually, eventually_is

from chatlab import journal as j
from chatlab.amqp import Consumer
from chatlab.errors import ChatlabError, ServiceUnavailable
from chatlab.journal import Journal
from chatlab.messages import Receipt
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

Namespace = tuple[RabbitAddress, RedisAddress]
DURABLE, TRANSIENT = "rabbitmq-durable", "rabbitmq-transient"
CHAT = "group:sd"
#: Every stage of an experiment must end within this, in seconds.
BOUND_SECONDS = 60.0


def proven(journal: Journal, receipts: list[Receipt], user: str) -> None:
    """All confirmed, each shown once to ``user``, in the order sent."""
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    sent = [fact.message.id for fact in journal.facts(j.Sent)]
    shown = [fact.message.id for fact in journal.facts(j.Delivered) if fact.user == user]
    assert shown == sent
    assert [fact.message.seq for fact in journal.facts(j.Delivered) if fact.user == user] == (
        list(range(1, len(sent) + 1))
    )


async def stream(
    ana: Person, bob: Person, count: int, disturb: Callable[[], Awaitable[None]]
) -> list[Receipt]:
    """Send ``count`` messages in batches while ``disturb`` goes on, until both are done."""
    receipts: list[Receipt] = []
    disturbing = asyncio.create_task(disturb())
    number = 0
    while number < count or not disturbing.done():
        bodies = [str(n) for n in range(number, number + 50)]
        receipts += await ana.say("sd", *bodies)
        number += 50
    await disturbing
    await bob.sees(number, BOUND_SECONDS)
    return receipts


def during(person: Person, shown: int) -> Callable[[], Awaitable[None]]:
    """Wait until so many more are shown to ``person``."""

    async def wait() -> None:
        goal = len(person.shown) + shown
        await eventually(lambda: len(person.shown) >= goal, BOUND_SECONDS)

    return wait


# -------------------------------------------------------------------------------- the cuts


async def test_the_sender_s_link_is_cut_again_and_again_in_mid_stream(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, (link, _)), (bob, _) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)

    async def disturb() -> None:
        for _ in range(5):
            await during(bob, 60)()
            link.cut()
            await asyncio.sleep(0)  # at once: what was in flight is resent
            link.heal()

    receipts = await asyncio.wait_for(stream(ana, bob, 1000, disturb), BOUND_SECONDS)
    proven(journal, receipts, "bob")
    assert ana.connections.publishing.serial > bob.connections.consuming.serial


async def test_the_receiver_s_link_is_cut_again_and_again_in_mid_stream(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, _), (bob, (link, _)) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)

    async def disturb() -> None:
        for _ in range(5):
            await during(bob, 60)()
            link.cut()
            await eventually(lambda: not bob._groups["sd"].connected)
            link.heal()

    receipts = await asyncio.wait_for(stream(ana, bob, 1000, disturb), BOUND_SECONDS)
    proven(journal, receipts, "bob")
    gaps = [fact for fact in journal.facts(j.Disconnected) if fact.user == "bob"]
    assert len(gaps) == 5
    assert all("broke" in fact.reason for fact in gaps)
    assert len([f for f in journal.facts(j.Connected) if f.user == "bob"]) == 6


async def test_connections_closed_by_the_operator_come_back_without_loss(
    rig: LinkedRig, journal: Journal, management: Management, namespace: Namespace
) -> None:
    (ana, _), (bob, _) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    vhost = namespace[0].vhost

    async def close_all() -> bool:
        names = [
            name
            for user in ("ana", "bob")
            for name in await connections_of(management, vhost, user)
        ]
        for name in names:
            await management.delete("connections", name)
        return len(names) >= 2

    async def disturb() -> None:
        await eventually_is(close_all, BOUND_SECONDS)

    receipts = await asyncio.wait_for(stream(ana, bob, 500, disturb), BOUND_SECONDS)
    proven(journal, receipts, "bob")
    (gone, *_) = [fact for fact in journal.facts(j.Disconnected) if fact.user == "bob"]
    assert "320" in gone.reason


async def test_a_member_that_was_cut_off_finds_what_was_sent_meanwhile(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, _), (bob, (link, _)) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    await ana.say("sd", "0")
    await bob.sees(1)
    link.cut()

    async def noticed() -> bool:
        (receipt,) = await ana.say("sd", "?")
        return receipt.listeners == 0

    await eventually_is(noticed)
    receipts = await ana.say("sd", "1", "2")
    assert receipts[0].waiting is not None
    assert receipts[0].waiting >= 2
    link.heal()
    await eventually(lambda: bob.bodies[-1:] == ["2"])
    assert bob.bodies[0] == "0"
    assert bob.bodies[-2:] == ["1", "2"]


async def test_a_transient_membership_begins_anew_after_a_cut(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, _), (bob, (link, _)), (eva, _) = [await rig.linked(n) for n in ("ana", "bob", "eva")]
    await bob.join("sd", TRANSIENT)
    await eva.join("sd")
    await ana.say("sd", "before")
    await bob.sees(1)
    link.cut()
    room = await bob.group("sd")
    await eventually(lambda: not room.connected)

    async def gone() -> bool:
        (receipt,) = await ana.say("sd", "missed")
        return receipt.listeners == 1

    await eventually_is(gone)
    missed = len(bob.shown)
    await ana.say("sd", "missed for sure")
    link.heal()
    await eventually(lambda: room.connected)
    await ana.say("sd", "after")
    await eventually(lambda: "after" in bob.bodies)
    assert "missed for sure" not in bob.bodies
    assert len(bob.shown) == missed + 1
    assert "missed for sure" in await eva.sees(3)


# --------------------------------------------------------------- definite and uncertain


async def test_what_never_left_failed_and_what_left_is_uncertain(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, (link, _)), (bob, _) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    link.cut()
    (receipt,) = await ana.say("sd", "never left")
    assert receipt.outcome == "failed"
    assert "broke" in receipt.reason
    link.heal()
    (receipt,) = await ana.say("sd", "arrives")
    assert receipt.outcome == "confirmed"
    link.freeze()
    (receipt,) = await ana.say("sd", "left")
    assert (receipt.outcome, receipt.error) == ("uncertain", "SendUncertain")
    link.thaw()
    await bob.sees(2)  # it had left
    again = ana.life.message(CHAT, "sd", "", receipt.id)
    (receipt,) = await (await ana.group("sd")).send([again])
    assert receipt.outcome == "confirmed"
    await ana.say("sd", "last")
    assert await bob.sees(3) == ["arrives", "left", "last"]
    assert journal.counts()["Discarded"] == 1
    assert journal.counts()["Failed"] == journal.counts()["Uncertain"] == 1


async def test_a_send_waits_for_a_link_that_heals_in_time(rig: LinkedRig) -> None:
    (ana, (link, _)), (bob, _) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    await ana.say("sd", "0")
    link.cut()
    sending = asyncio.create_task(ana.say("sd", "1", "2"))
    following = asyncio.create_task(ana.say("sd", "3"))
    await eventually(lambda: not ana.connections.publishing.up)
    link.heal()
    outcomes = [receipt.outcome for receipt in await sending + await following]
    assert outcomes == ["confirmed"] * 3
    assert await bob.sees(4) == list("0123")


async def test_a_slow_link_delays_and_loses_nothing(rig: LinkedRig, journal: Journal) -> None:
    (ana, (one, _)), (bob, (other, _)) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    for link in (one, other):
        link.slow(0.05)
    receipts = await ana.say("sd", *map(str, range(300)))
    await bob.sees(300)
    proven(journal, receipts, "bob")


async def test_a_broker_that_is_not_there_is_said_within_the_deadline(
    rig: LinkedRig, namespace: Namespace, settings: Settings
) -> None:
    (ana, _) = await rig.linked("ana")
    lost = replace(namespace[0], port=1)
    bob = rig.person("bob", rabbitmq=lost)
    await ana.join("sd", DURABLE)
    room = await bob.group("sd")
    with pytest.raises(ServiceUnavailable, match="is not running"):
        await room.connect()
    assert not room.subscribed
    (receipt,) = await bob.say("sd", "x")
    assert receipt.outcome == "failed"
    assert "is not running" in receipt.reason


async def test_a_goodbye_through_a_dead_link_ends_soon(rig: LinkedRig) -> None:
    (bob, (link, _)) = await rig.linked("bob")
    room = await bob.join("sd", DURABLE)
    link.freeze()
    async with asyncio.timeout(10):  # each step is bounded; never a heartbeat's time-out
        await room.disconnect()
        await bob.connections.close()
    assert not room.connected


# ------------------------------------------------------------------- ends that are final


async def test_a_deleted_virtual_host_ends_everything_with_a_reason(
    rig: LinkedRig, management: Management, namespace: Namespace
) -> None:
    (ana, _), (bob, _) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    await ana.say("sd", "hola")
    await bob.sees(1)
    await management.delete("vhosts", namespace[0].vhost)
    await eventually(lambda: bob.ends)  # by the deleted queue, or by the refused return
    assert not (await bob.group("sd")).connected
    (receipt,) = await ana.say("sd", "to nowhere")
    assert receipt.outcome == "failed"
    assert f"vhost {namespace[0].vhost} not found" in receipt.reason
    await management.put("vhosts", namespace[0].vhost)


async def test_wrong_credentials_are_an_error_and_not_retried(
    rig: LinkedRig, namespace: Namespace
) -> None:
    bob = rig.person("bob", rabbitmq=replace(namespace[0], password="wrong"))
    room = await bob.group("sd")
    started = asyncio.get_running_loop().time()
    with pytest.raises(ChatlabError, match="403") as caught:
        await room.connect()
    assert "wrong" not in str(caught.value)
    assert asyncio.get_running_loop().time() - started < 2


async def test_a_channel_closed_behind_our_back_is_raised(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, _), (bob, _) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    consumer = bob._groups["sd"]._consumer  # type: ignore[attr-defined]
    assert isinstance(consumer, Consumer)
    assert consumer._channel is not None
    consumer._channel.send("basic_ack", 77)  # RabbitMQ closes the channel: unknown tag
    await eventually(lambda: bob.ends)
    assert "406" in bob.ends[0].what
    await ana.say("sd", "waits")
    room = await bob.group("sd")
    assert not room.connected
    await room.connect()
    assert await bob.sees(1) == ["waits"]


# --------------------------------------------------------------------------------- insults


async def test_insults_survive_a_cut_of_their_producer_and_of_a_consumer(
    rig: LinkedRig, journal: Journal
) -> None:
    people = [await rig.linked(name) for name in ("ana", "bob", "eva")]
    (ana, (one, _)), (bob, (other, _)), (eva, _) = people
    await ana.insults.join("producer")
    for person in (bob, eva):
        await person.insults.join("consumer", prefetch=5)
    receipts = []
    for number in range(20):
        sending = asyncio.create_task(ana.insult(*(f"{number}.{n}" for n in range(20))))
        if number in (5, 10):
            one.cut()
            one.heal()
        if number in (7, 12):
            other.cut()
            other.heal()
        receipts += await sending
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    ids = {receipt.id for receipt in receipts}
    await eventually(lambda: {m.id for p in (bob, eva) for m in p.shown} == ids)
    for person in (bob, eva):  # within one life nothing is shown twice
        assert len({message.id for message in person.shown}) == len(person.shown)


async def test_a_crashed_user_leaves_no_task_and_records_nothing(
    rig: LinkedRig, journal: Journal
) -> None:
    (ana, _), (bob, (link, _)) = await rig.linked("ana"), await rig.linked("bob")
    await bob.join("sd", DURABLE)
    await bob.insults.join("both")
    await bob.say("sd", "x")
    before = len([fact for fact in journal if fact.user == "bob"])
    bob.crash()
    link.reset()
    await ana.say("sd", "for nobody")
    mine = f"amqp {bob.life.connection_name}"
    await eventually(
        lambda: not [t for t in asyncio.all_tasks() if t.get_name().startswith(mine)]
    )
    assert len([fact for fact in journal if fact.user == "bob"]) == before
