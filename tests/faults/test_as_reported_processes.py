"""What the report's private chats lose when real processes are killed and stopped.

A test of a loss fails when nothing was lost: then the baseline is none any more.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from as_reported_rig import ReportedRig, reported
from process_rig import receiver

from chatlab.errors import SendFailed, SendUncertain, WaitTimeout
from chatlab.journal import Crashed
from chatlab.lab import Lab
from chatlab.settings import Settings

REPORTED = "as-reported"
#: Little enough for the buffers of one connection: all of it leaves the queue.
MANY = [str(n) for n in range(300)]


async def taken_and_gone(r: ReportedRig) -> list[str]:
    """What bob finds when he comes back, but for a last message that says so."""
    await r.until(lambda: "bob" not in r.reported.streams())
    bob = await r.online("bob", 9)
    await r.forge("ana", "bob", "the end")
    while bob.bodies[-1:] != ["the end"]:
        await bob.wait_for(len(bob.shown) + 1)
    return bob.bodies[:-1]


async def test_all_that_was_sent_to_a_frozen_reader_is_lost_when_it_is_killed() -> None:
    async with reported() as r, receiver(r, "bob", 1) as child:
        ana = await r.online("ana")
        child.process.send_signal(signal.SIGSTOP)
        receipts = await ana.send("bob", *MANY)
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        await r.until(lambda: r.waiting("bob") == 0)
        assert await child.killed() == []
        assert await taken_and_gone(r) == []


async def test_a_frozen_reader_that_thaws_in_time_finds_everything() -> None:
    async with reported() as r, receiver(r, "bob", 1) as child:
        ana = await r.online("ana")
        child.process.send_signal(signal.SIGSTOP)
        await ana.send("bob", *MANY)
        await r.until(lambda: r.waiting("bob") == 0)
        child.process.send_signal(signal.SIGCONT)
        assert await child.wait_for(len(MANY)) == MANY


async def test_a_slow_reader_that_is_killed_loses_what_it_had_not_shown() -> None:
    async with reported() as r, receiver(r, "bob", 1, work=0.05) as child:
        ana = await r.online("ana")
        await ana.send("bob", *MANY)
        await child.wait_for(3)
        await r.until(lambda: r.waiting("bob") == 0)
        shown = await child.killed()
        assert await taken_and_gone(r) == []
        assert shown == MANY[: len(shown)]
        assert len(shown) < len(MANY) - 100


async def test_two_processes_of_one_user_get_a_part_each() -> None:
    async with (
        reported() as r,
        receiver(r, "bob", 1) as one,
        receiver(r, "bob", 2) as two,
    ):
        ana = await r.online("ana")
        await ana.send("bob", *MANY)
        await r.until(lambda: len(one.bodies) + len(two.bodies) == len(MANY))
        assert sorted([*one.bodies, *two.bodies], key=int) == MANY
        assert min(len(one.bodies), len(two.bodies)) >= 50


# -- through the lab, its server a process of its own


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("reported-faults", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob")
        yield running


@pytest.fixture
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


@pytest.mark.usefixtures("scene")
def test_what_a_killed_server_had_confirmed_is_lost_and_its_successor_serves(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", REPORTED), bob.private_chat("ana", REPORTED)
    inbox.wait_for(chat.send("before"))
    bob.offline()
    receipts = chat.send_many(MANY)
    assert [receipt.waiting for receipt in receipts] == list(range(len(MANY)))
    with lab.server.killed():
        assert not lab.server.running
        with pytest.raises((SendFailed, SendUncertain)):
            chat.send("to nobody")
    bob.online()
    lab.settle(timeout=0.1)
    inbox.wait_for(send_patiently(chat, "after"), timeout=20)
    assert [message.body for message in inbox.received] == ["before", "after"]


def send_patiently(chat, body: str):  # type: ignore[no-untyped-def]
    """The report's client does not wait for its connection; this one asks again."""
    while True:
        try:
            return chat.send(body)
        except SendFailed:
            chat.user.lab.settle(timeout=0.2)


@pytest.mark.usefixtures("scene")
def test_a_new_scene_begins_with_a_server_that_remembers_nothing(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", REPORTED)
    bob.offline()
    chat.send_many(["a", "b"])
    lab.scene("after")
    inbox = bob.private_chat("ana", REPORTED)
    inbox.wait_for(ana.private_chat("bob", REPORTED).send("new"))
    assert [message.body for message in inbox.received] == ["new"]


@pytest.mark.usefixtures("scene")
def test_a_user_in_a_process_of_its_own_is_frozen_killed_and_comes_back(lab: Lab) -> None:
    ana, dan = lab.user("ana"), lab.user("dan", process=True)
    chat, inbox = ana.private_chat("dan", REPORTED), dan.private_chat("ana", REPORTED)
    inbox.wait_for(chat.send("one"))
    assert chat.wait_for(inbox.send("two")).body == "two"
    with dan.frozen():
        receipt = chat.send("three")
        with pytest.raises(WaitTimeout, match="dan is frozen"):
            inbox.wait_for(receipt, timeout=0.2)
    inbox.wait_for(receipt)
    with dan.away():
        chat.send("four")
    inbox.wait(3)
    dan.freeze()
    chat.send_many(MANY)
    dan.crash()
    dan.online()
    assert [f.user for f in lab.journal.facts(Crashed)] == ["dan"]
    inbox.wait_for(chat.send("five"))
    seen = [message.body for message in inbox.received]
    assert seen[:3] == ["one", "three", "four"]
    assert len(seen) < 100, "what was taken for the frozen one is lost"
    assert inbox.send("EXIT").outcome == "confirmed"
    assert lab.settle(timeout=0.1).reconnecting.table() == []
