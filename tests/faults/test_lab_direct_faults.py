"""Direct chats and histories of a lab whose users and servers are really killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from chatlab.errors import NotPossible, PeerAway, SendUncertain, WaitTimeout
from chatlab.journal import (
    Delivered,
    Discarded,
    Disconnected,
    FaultBegan,
    FaultEnded,
    Reached,
    Sent,
)
from chatlab.lab import Lab
from chatlab.lab.chats import PrivateChat
from chatlab.settings import Settings

PAIR = "private:ana:bob"
MANY = [str(n) for n in range(20_000)]


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    quick = replace(
        lab_settings, send_seconds=2.0, keepalive_seconds=1.0, keepalive_timeout_seconds=0.5
    )
    with Lab.start("direct", settings=quick) as running:
        running.user("ana")
        running.user("bob", process=True)
        running.user("dan")
        yield running


@pytest.fixture
def scene(lab: Lab, request: pytest.FixtureRequest) -> Lab:
    lab.scene(request.node.name)
    return lab


def bodies(messages: object) -> list[str]:
    return [m.body for m in messages]  # type: ignore[attr-defined]


def until(what: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told_at_once(chat: PrivateChat) -> None:
    """The peer was killed this very moment, so a first letter may still have left."""
    began = time.monotonic()
    with pytest.raises((PeerAway, SendUncertain)):
        chat.send("are you there?")
    with pytest.raises(PeerAway):
        chat.send("so you are not")
    assert time.monotonic() - began < 1


def listed(lab: Lab, name: str) -> bool:
    return name in {entry.name for entry in lab.discover()}


def test_a_killed_peer_is_told_within_a_second_although_its_lease_lives(scene: Lab) -> None:
    ana, bob = scene.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    chat.wait_for(inbox.send("from a process of its own"))
    chat.send("before")
    life = bob.incarnation
    bob.crash()
    told_at_once(chat)
    assert listed(scene, "bob")
    bob.online()
    assert bob.incarnation == life + 1
    assert chat.send("after").outcome == "confirmed"
    assert bodies(inbox.received) == ["before", "after"]


def test_a_peer_killed_in_mid_stream_leaves_receipts_that_are_right(scene: Lab) -> None:
    ana, bob = scene.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(chat.send_many, MANY)
        inbox.wait(500)
        bob.crash()
        receipts = sending.result(timeout=2)
    kinds = [receipt.outcome for receipt in receipts]
    confirmed, doubtful = kinds.count("confirmed"), kinds.count("uncertain")
    failed = len(MANY) - confirmed - doubtful
    assert confirmed > 0 and failed > 0, "it was killed in mid-stream"
    assert kinds == ["confirmed"] * confirmed + ["uncertain"] * doubtful + ["failed"] * failed
    shown = bodies(inbox.received)
    assert shown == MANY[: len(shown)]
    assert confirmed <= len(shown) <= confirmed + doubtful
    assert bodies(chat.delivered) == MANY[:confirmed]


def test_a_stopped_peer_leaves_a_doubt_and_nothing_is_doubled_when_it_goes_on(
    scene: Lab,
) -> None:
    ana, bob = scene.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    chat.send("before")
    with bob.frozen():
        began = time.monotonic()
        with pytest.raises(SendUncertain) as caught:
            chat.send("did you get it?")
        assert time.monotonic() - began < 3
        lost = [f for f in scene.journal.facts(Disconnected) if f.user == "ana" and f.chat]
        assert [f.reason for f in lost] == ["the line broke"], "keepalive noticed it"
        with pytest.raises(WaitTimeout, match="bob is frozen"):
            inbox.wait_for(caught.value.receipt, timeout=0.1)
    until(lambda: listed(scene, "bob"))  # its lease has ended meanwhile
    again = chat.send("did you get it?", id=caught.value.receipt.id)
    chat.send("after")
    assert bodies(inbox.received) == ["before", "did you get it?", "after"]
    assert chat.wait_delivered(again).id == again.id


def test_a_link_that_is_cut_hurts_one_user_and_heals(scene: Lab) -> None:
    ana, bob, _ = scene.users("ana", "bob", "dan")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    other = ana.private_chat("dan", "direct")
    chat.send("before")
    other.send("before")
    scene.cut(bob, "direct")
    for end in (chat, inbox):
        began = time.monotonic()
        with pytest.raises((PeerAway, SendUncertain)):
            end.send("through the cut")
        assert time.monotonic() - began < 1
    assert other.send("dan is not cut").outcome == "confirmed"
    assert scene.settle().done, "nobody waits for a line that nobody needs"
    scene.heal(bob)
    assert chat.send("after").outcome == inbox.send("back").outcome == "confirmed"
    assert [b for b in bodies(inbox.received) if b != "through the cut"] == ["before", "after"]
    faults = [(f.fault, f.target) for f in scene.journal.facts(FaultBegan, FaultEnded)]
    assert faults == [("cut", "bob-direct")] * 2


def test_after_a_cut_in_mid_stream_all_arrives_once_when_the_rest_is_sent_again(
    scene: Lab,
) -> None:
    ana, dan = scene.users("ana", "dan")
    chat, inbox = ana.private_chat("dan", "direct"), dan.private_chat("ana", "direct")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(chat.send_many, MANY)
        inbox.wait(500)
        scene.cut(dan, "direct")
        receipts = sending.result(timeout=2)
    scene.heal(dan)
    doubtful = [n for n, r in enumerate(receipts) if r.outcome == "uncertain"]
    rest = [body for body, r in zip(MANY, receipts, strict=True) if r.outcome == "failed"]
    assert rest, "it was cut in mid-stream"
    for number in doubtful[:50]:
        chat.send(MANY[number], id=receipts[number].id)
    shown = bodies(inbox.received)
    assert len(shown) == len(set(shown))
    assert shown[: len(shown)] == MANY[: len(shown)]
    assert len(shown) >= MANY.index(rest[0]) - len(doubtful[50:])
    copies = len(list(scene.journal.facts(Discarded)))
    new = len(shown) - sum(r.outcome == "confirmed" for r in receipts)
    assert copies + new >= len(doubtful[:50])


def test_a_slow_link_delays_a_receipt_and_changes_nothing_else(scene: Lab) -> None:
    ana, dan = scene.users("ana", "dan")
    chat = ana.private_chat("dan", "direct")
    chat.send("quick")
    scene.slow(dan, "direct", 0.2)
    began = time.monotonic()
    receipts = chat.send_many(MANY[:50])
    assert 0.4 <= time.monotonic() - began < 2
    assert {r.outcome for r in receipts} == {"confirmed"}
    scene.heal(dan)
    assert bodies(dan.private_chat("ana", "direct").received) == ["quick", *MANY[:50]]


def test_without_links_a_peer_in_a_process_of_its_own_is_killed_all_the_same(
    scene: Lab, lab_settings: Settings
) -> None:
    with Lab.start("bare", links=False, settings=lab_settings) as bare:
        ana, bob = bare.user("ana"), bare.user("bob", process=True)
        chat = ana.private_chat("bob", "direct")
        assert chat.send("hola").outcome == "confirmed"
        bob.crash()
        told_at_once(chat)
        bob.online()
        assert chat.send("after").outcome == "confirmed"
        assert bodies(bob.private_chat("ana", "direct").received) == ["hola", "after"]
        with pytest.raises(NotPossible, match="links"):
            bare.slow(ana, "direct", 0.1)


# -- history and delivered over the death of a chat server


@pytest.fixture(scope="module")
def breakable(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("histories", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob")
        yield running


def test_history_outlives_the_chat_server_where_redis_keeps_it_and_only_there(
    breakable: Lab,
) -> None:
    breakable.scene("history")
    ana, bob = breakable.users("ana", "bob")
    before = [*MANY[:150], "answer"]
    for backend in ("mailbox-redis", "mailbox-memory"):
        chat, inbox = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
        chat.wait_delivered(chat.send_many(MANY[:150])[-1])
        inbox.wait_delivered(inbox.send("answer"))
        assert bodies(chat.history(1000)) == before
    breakable.server.kill()
    breakable.server.start()
    for backend, kept in (("mailbox-redis", before), ("mailbox-memory", [])):
        chat, inbox = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
        chat.wait_delivered(chat.send("after"), timeout=20)  # both are connected again
        assert bodies(chat.history(1000)) == bodies(inbox.history(1000)) == [*kept, "after"]


def test_delivered_comes_also_when_the_chat_server_died_in_between(breakable: Lab) -> None:
    breakable.scene("delivered")
    ana, bob = breakable.users("ana", "bob")
    chat = ana.private_chat("bob")
    bob.offline()
    receipt = chat.send("across two servers")
    breakable.server.kill()
    breakable.server.start()
    bob.online()
    assert chat.wait_delivered(receipt, timeout=20).body == "across two servers"
    facts = list(breakable.journal.facts(Sent, Delivered, Reached))
    assert [type(f) for f in facts] == [Sent, Delivered, Reached]


def test_direct_chats_need_no_chat_server_and_find_nobody_new_without_redis(
    breakable: Lab,
) -> None:
    breakable.scene("no server")
    ana, bob = breakable.users("ana", "bob")
    chat = ana.private_chat("bob", "direct")
    with breakable.server.killed():
        assert chat.send("without a server").outcome == "confirmed"
        with breakable.redis.killed():
            assert chat.send("the line is open").outcome == "confirmed"
    with bob.away():
        pass
    until(lambda: listed(breakable, "bob"))
    assert chat.send("after").outcome == "confirmed"
    inbox = bob.private_chat("ana", "direct")
    assert bodies(inbox.received) == ["without a server", "the line is open", "after"]
