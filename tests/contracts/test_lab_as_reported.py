"""``as-reported`` private chats through the public face: what a cell of a notebook sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from chatlab.backends import PRIVATE
from chatlab.errors import ChatClosed, InvalidInput
from chatlab.journal import Acked, Connected, Disconnected
from chatlab.lab import Lab
from chatlab.lab.users import PRIVATE_BACKENDS
from chatlab.private.as_reported_client import EXITED
from chatlab.settings import Settings

REPORTED = "as-reported"


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("reported", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def queues(lab: Lab) -> dict[str, int]:
    return {row["name"]: row["value"] for row in lab.state() if row["thing"] == "queue"}


def test_a_message_arrives_and_its_receipt_knows_only_the_length_of_the_queue(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    receipt = ana.private_chat("bob", REPORTED).send("hola")
    assert (receipt.outcome, receipt.waiting, receipt.listeners) == ("confirmed", 0, None)
    message = bob.private_chat("ana", REPORTED).wait_for(receipt)
    assert (message.id, message.sender, message.to, message.body, message.seq) == (
        *(receipt.id, "ana", "bob", "hola", 1),
    )
    assert lab.settle().done
    assert list(lab.journal.facts(Acked)) == []


def test_messages_wait_for_who_is_away_and_come_in_order(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", REPORTED)
    with bob.away():
        receipts = chat.send_many(["a", "b", "c"])
        assert queues(lab) == {"ana": 0, "bob": 3, "eva": 0}
    assert [receipt.waiting for receipt in receipts] == [0, 1, 2]
    inbox = bob.private_chat("ana", REPORTED)
    assert [message.body for message in inbox.wait(3)] == ["a", "b", "c"]
    assert lab.settle().done


def test_leaving_and_coming_back_is_possible_any_number_of_times(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", REPORTED), bob.private_chat("ana", REPORTED)
    for _ in range(10):
        with bob.away():
            waits = chat.send("waits")
        inbox.wait_for(waits)
        inbox.wait_for(chat.send("seen"))
    assert queues(lab)["bob"] == 0


def test_a_user_that_types_exit_is_deaf_and_mute_until_it_comes_online_again(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", REPORTED), bob.private_chat("ana", REPORTED)
    assert chat.send("EXIT").outcome == "confirmed"
    waits = inbox.send("are you there?")
    began = time.monotonic()
    assert lab.settle().done
    assert time.monotonic() - began < 1, "nobody waits for her to come back by herself"
    assert (chat.received, inbox.received) == ([], [])
    assert [f.reason for f in lab.journal.facts(Disconnected) if f.user == "ana"] == [EXITED]
    with pytest.raises(ChatClosed, match="EXIT"):
        chat.send("me again")
    ana.private_chat("bob", REPORTED)  # the same handle; opens nothing anew
    with ana.away():
        pass
    assert chat.wait_for(waits).body == "are you there?"
    inbox.wait_for(chat.send("me again"))


def test_a_crashed_user_comes_back_as_a_new_incarnation(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    life = bob.incarnation
    chat = ana.private_chat("bob", REPORTED)
    bob.crash()
    until(lambda: "bob (as-reported)" not in streams(lab))
    chat.send("while you were gone")
    bob.online()
    assert bob.incarnation == life + 1
    assert bob.private_chat("ana", REPORTED).next().body == "while you were gone"


def streams(lab: Lab) -> list[str]:
    return [row["name"] for row in lab.state() if row["thing"] == "streams"]


def test_what_was_sent_to_a_frozen_user_is_lost_when_it_crashes(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", REPORTED), bob.private_chat("ana", REPORTED)
    bob.freeze()
    receipts = chat.send_many([str(n) for n in range(200)])
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    until(lambda: queues(lab)["bob"] == 0)
    bob.crash()
    until(lambda: "bob (as-reported)" not in streams(lab))
    bob.online()
    inbox.wait_for(chat.send("after"))
    assert [message.body for message in inbox.received] == ["after"]
    settled = lab.settle(timeout=0.1)
    assert sum(row["messages"] for row in settled.late) == 200


def test_a_scene_begins_with_empty_queues(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", REPORTED)
    bob.offline()
    chat.send_many(["a", "b"])
    lab.scene("after")
    assert queues(lab) == {}
    inbox = bob.private_chat("ana", REPORTED)
    inbox.wait_for(ana.private_chat("bob", REPORTED).send("new"))
    assert [message.body for message in inbox.received] == ["new"]


def test_an_unknown_receiver_is_not_noticed(lab: Lab) -> None:
    (ana,) = lab.users("ana")
    assert ana.private_chat("nobody", REPORTED).send("hola?").outcome == "confirmed"
    assert queues(lab)["nobody"] == 1


def test_the_largest_body_arrives_whole(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    body = "ü" * (32 * 1024)
    receipt = ana.private_chat("bob", REPORTED).send(body)
    assert bob.private_chat("ana", REPORTED).wait_for(receipt).body == body


def test_the_link_to_its_server_can_be_cut_and_healed(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", REPORTED), bob.private_chat("ana", REPORTED)
    lab.cut(bob, "server")
    until(lambda: "bob (as-reported)" not in streams(lab))
    waits = chat.send("waits")
    lab.heal(bob)
    assert inbox.wait_for(waits).body == "waits"
    backends = [f.backend for f in lab.journal.facts(Connected) if f.user == "bob" and f.chat]
    assert backends.count(REPORTED) == 2


def test_the_face_offers_what_the_table_of_backends_lists(lab: Lab) -> None:
    assert tuple(PRIVATE) == PRIVATE_BACKENDS
    assert PRIVATE_BACKENDS[0] == "mailbox-redis"
    with pytest.raises(InvalidInput, match=REPORTED):
        lab.user("ana").private_chat("bob", "carrier-pigeon")
