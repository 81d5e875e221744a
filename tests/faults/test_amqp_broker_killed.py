"""A broker killed with SIGKILL and started again, under members and senders at work."""

from __future__ import annotations

import asyncio

import pytest
from kill_rig import BACK_SECONDS, Killable
from rabbit_rig import Rig, eventually

from chatlab import journal as j
from chatlab.journal import Journal
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings


@pytest.fixture
def namespace(killable: Killable) -> tuple[RabbitAddress, RedisAddress]:
    """The lease's own; instead of that of the shared brokers."""
    return killable.namespace


async def test_what_was_confirmed_to_a_durable_queue_outlives_the_broker(
    rig: Rig,
    killable: Killable,
    journal: Journal,
    namespace: tuple[RabbitAddress, RedisAddress],
    lab_settings: Settings,
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    away = await bob.join("durable", "rabbitmq-durable")
    await away.disconnect()  # what is sent waits for bob
    listening = await eva.join("durable")
    passing = await eva.join("passing", "rabbitmq-transient")
    await eva.insults.join("consumer")
    await ana.insults.join("producer")
    # Transient messages in a durable queue, put there by hand, do not outlive it.
    management = Management(namespace[0])
    await management.put("queues", namespace[0].vhost, "by-hand", body={"durable": True})
    await management.post("bindings", namespace[0].vhost, "e", "passing", "q", "by-hand")

    receipts = await ana.say("durable", *map(str, range(300)))
    assert {(r.outcome, r.waiting, r.listeners) for r in receipts} == {("confirmed", 300, 1)}
    receipts = await ana.say("passing", *map(str, range(300)))
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    await eva.sees(600)

    await killable.kill()
    await eventually(lambda: not listening.connected and not passing.connected)
    (uncertain_or_failed,) = await ana.say("durable", "into the void")
    assert uncertain_or_failed.outcome in ("failed", "uncertain")
    await killable.start()
    await eventually(lambda: listening.connected and passing.connected, BACK_SECONDS)
    await eventually(lambda: ana.connections.publishing.up, BACK_SECONDS)
    depth, by_hand = await ana.connections.publishing.depths(["chatlab/durable/bob", "by-hand"])
    assert depth is not None
    assert depth.messages in (300, 301)  # an uncertain one may have got through
    assert by_hand is not None
    assert by_hand.messages == 0
    await away.connect()
    await ana.say("durable", "and on")
    await eventually(lambda: "and on" in bob.bodies, BACK_SECONDS)
    assert bob.bodies[:300] == [str(number) for number in range(300)]
    await eventually(lambda: eva.insults.connected, BACK_SECONDS)
    await ana.insult("¡sigue!")
    await eventually(lambda: "¡sigue!" in eva.bodies, BACK_SECONDS)


async def test_a_stream_through_a_restart_loses_nothing_that_was_confirmed(
    rig: Rig, killable: Killable, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("stream", "rabbitmq-durable")
    confirmed: list[str] = []
    restarted = asyncio.Event()

    async def disturb() -> None:
        await eventually(lambda: len(bob.shown) > 100, BACK_SECONDS)
        await killable.kill()
        await killable.start()
        await eventually(lambda: bob._groups["stream"].connected, BACK_SECONDS)
        restarted.set()

    disturbing = asyncio.create_task(disturb())
    while not restarted.is_set():
        receipts = await ana.say("stream", *map(str, range(20)))
        confirmed += [receipt.id for receipt in receipts if receipt.outcome == "confirmed"]
        await asyncio.sleep(0.01)  # a talker, not a flood
    await disturbing
    (receipt,) = await ana.say("stream", "last")
    assert receipt.outcome == "confirmed"
    await eventually(lambda: bob.bodies[-1] == "last", BACK_SECONDS)
    shown = [fact.message for fact in journal.facts(j.Delivered)]
    assert set(confirmed) <= {message.id for message in shown}
    assert len({message.id for message in shown}) == len(shown)
    seqs = [message.seq for message in shown]
    assert seqs == sorted(seqs)
