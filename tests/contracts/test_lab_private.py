"""What is said about private messages through the public face: delivered, presence, history,
and direct chats as a cell sees them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from chatlab.errors import (
    ChatlabError,
    ChatRefused,
    InvalidInput,
    NotPossible,
    PeerAway,
    SendUncertain,
    Taken,
    UnknownAccount,
    WaitTimeout,
)
from chatlab.journal import (
    Acked,
    Confirmed,
    Connected,
    Delivered,
    Disconnected,
    Journal,
    Reached,
)
from chatlab.lab import Lab
from chatlab.lab.client import Client, Ticket
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.settings import Settings

MAILBOXES = ("mailbox-redis", "mailbox-memory")
TELLING = (*MAILBOXES, "direct")
PAIR = "private:ana:bob"


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("private", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


def bodies(messages: object) -> list[str]:
    return [m.body for m in messages]  # type: ignore[attr-defined]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- delivered


@pytest.mark.parametrize("backend", TELLING)
def test_delivered_says_what_the_peers_client_has_acknowledged(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
    receipts = chat.send_many([str(n) for n in range(300)])
    assert chat.wait_delivered(receipts[-1]).body == "299"
    assert bodies(chat.delivered) == bodies(inbox.received) == [str(n) for n in range(300)]
    assert inbox.delivered == []
    assert chat.wait_delivered(receipts[0].id, timeout=0).body == "0"
    facts = [f for f in lab.journal.facts(Delivered, Reached) if f.chat == PAIR]
    assert isinstance(facts[-1], Reached) and facts[-1].id == receipts[-1].id
    assert {f.user for f in facts if isinstance(f, Reached)} == {"ana"}


@pytest.mark.parametrize("backend", MAILBOXES)
def test_what_waits_is_confirmed_and_not_delivered(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", backend)
    with bob.away():
        receipt = chat.send("hola")
        assert receipt.outcome == "confirmed"
        with pytest.raises(WaitTimeout, match="bob is offline"):
            chat.wait_delivered(receipt, timeout=0.1)
        assert chat.delivered == []
    assert chat.wait_delivered(receipt).body == "hola"


@pytest.mark.parametrize("backend", MAILBOXES)
@pytest.mark.parametrize("crash", [False, True], ids=["left", "crashed"])
def test_delivered_comes_also_after_the_receiver_came_back_and_the_sender_was_away_meanwhile(
    lab: Lab, backend: str, crash: bool
) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
    bob.crash() if crash else bob.offline()
    receipt = chat.send("while both are away")
    ana.offline()
    bob.online()
    inbox.wait_for(receipt)
    until(lambda: any(f.user == "bob" for f in lab.journal.facts(Acked)))
    assert chat.delivered == []
    ana.online()
    assert chat.wait_delivered(receipt).body == "while both are away"


def test_a_direct_message_in_doubt_is_not_delivered_until_it_is_sent_again(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    first = chat.send("hola")
    assert chat.wait_delivered(first, timeout=0).body == "hola", "its receipt said so"
    assert (first.waiting, first.listeners) == (0, 1)
    assert bodies(inbox.received) == ["hola"]
    kinds = [type(f) for f in lab.journal.facts(Delivered, Confirmed, Reached)]
    assert kinds == [Delivered, Confirmed, Reached]


# -- presence


@pytest.mark.parametrize("backend", TELLING)
def test_presence_tells_who_receives_and_when_it_last_did(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", backend)
    assert chat.presence()[:2] == ("bob", True)
    assert "online" in repr(chat.presence())
    left = time.time()
    bob.offline()
    away = chat.presence()
    assert not away.online
    assert left - 1 <= away.last_seen <= time.time() + 1
    assert "last seen" in repr(away)
    assert chat.presence() == away, "it stays the same while nobody is there"
    bob.online()
    assert chat.presence().online


@pytest.mark.parametrize("backend", TELLING)
def test_the_presence_of_nobody_is_an_unknown_account(lab: Lab, backend: str) -> None:
    (ana,) = lab.users("ana")
    with pytest.raises(UnknownAccount, match="nobody"):
        ana.private_chat("nobody", backend).presence()


def test_presence_by_the_name_server_ends_with_the_lease_of_who_crashed(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", "direct")
    bob.crash()
    assert chat.presence().online, "nobody has said goodbye"
    until(lambda: not chat.presence().online)
    assert "last seen" in repr(chat.presence())


# -- history


@pytest.mark.parametrize("backend", MAILBOXES)
def test_history_is_the_conversation_so_far_from_both_ends(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    here, there = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
    assert here.history() == []
    for number in range(3):
        here.wait_for(there.send(f"b{number}"))
        there.wait_for(here.send(f"a{number}"))
    expected = ["b0", "a0", "b1", "a1", "b2", "a2"]
    # The last acknowledgements are on their way when the last message has been shown.
    until(lambda: bodies(there.history()) == bodies(here.history()) == expected)
    assert [m.sender for m in here.history(2)] == ["bob", "ana"]
    assert bodies(here.history(limit=3)) == expected[-3:]
    assert here.history(1000) == there.history(1000)
    assert here.history()[0] == here.received[0]


@pytest.mark.parametrize("backend", MAILBOXES)
def test_history_goes_back_to_earlier_lives(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob", backend)
    chat.wait_delivered(chat.send("to your first life"))
    bob.crash()
    bob.online()
    chat.wait_delivered(chat.send("to your second"))
    history = bob.private_chat("ana", backend).history()
    assert bodies(history) == ["to your first life", "to your second"]


@pytest.mark.parametrize("backend", MAILBOXES)
def test_what_waits_for_a_user_is_in_the_senders_history_and_not_yet_in_its_own(
    lab: Lab, backend: str
) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
    chat.wait_delivered(chat.send("seen"))
    lab.slow(bob, "server", 0.3)
    # His question is on its way when her message is stored, and his acknowledgement of it is
    # not when the question arrives: both are as slow.
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(inbox.history)
        receipt = chat.send("waits")
        assert bodies(asking.result()) == ["seen"]
    assert bodies(chat.history()) == ["seen", "waits"]
    lab.heal(bob)
    chat.wait_delivered(receipt)
    assert bodies(inbox.history()) == ["seen", "waits"]


@pytest.mark.parametrize("backend", MAILBOXES)
def test_a_conversation_between_two_others_is_never_shown(lab: Lab, backend: str) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    chat = ana.private_chat("bob", backend)
    chat.wait_delivered(chat.send("a secret of ours"))
    for peer in ("ana", "bob"):
        assert eva.private_chat(peer, backend).history(1000) == []
    assert bob.private_chat("eva", backend).history(1000) == []


@pytest.mark.parametrize("backend", MAILBOXES)
def test_history_has_bounds_which_are_named(lab: Lab, backend: str) -> None:
    (ana,) = lab.users("ana")
    chat = ana.private_chat("bob", backend)
    for limit in (0, -1, 1001, True, 2.5, "10", None):
        with pytest.raises(InvalidInput, match="1 to 1,000"):
            chat.history(limit)  # type: ignore[arg-type]
    assert chat.history(1) == chat.history(1000) == []


@pytest.mark.parametrize("backend", MAILBOXES)
def test_a_new_scene_has_no_history(lab: Lab, backend: str) -> None:
    (ana,) = lab.users("ana")
    ana.private_chat("bob", backend).send("in the first")
    lab.scene("second")
    assert ana.private_chat("bob", backend).history() == []


@pytest.mark.parametrize("backend", ["direct", "as-reported"])
def test_where_nobody_keeps_it_history_is_refused_by_name(lab: Lab, backend: str) -> None:
    (ana,) = lab.users("ana")
    with pytest.raises(NotPossible) as caught:
        ana.private_chat("bob", backend).history()
    assert caught.value.todo or "history" in caught.value.what


# -- direct chats, as a cell sees them


def test_direct_chats_go_both_ways_over_one_conversation(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    here, there = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    receipt = here.send("hola")
    message = there.wait_for(receipt)
    assert (message.id, message.sender, message.to, message.body, message.seq) == (
        *(receipt.id, "ana", "bob", "hola", 1),
    )
    here.wait_for(there.send("EXIT"))
    assert [r.outcome for r in here.send_many([str(n) for n in range(500)])] == (
        ["confirmed"] * 500
    )
    assert lab.settle().done
    backends = [f.backend for f in lab.journal.facts(Connected) if f.chat == PAIR]
    assert backends == ["direct"] * 2
    talks = [row for row in lab.state() if row["thing"] == "conversations"]
    assert [row["value"] for row in talks] == [["bob"], ["ana"], []]


def test_a_peer_that_is_away_is_said_at_once_and_talked_to_when_it_is_back(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    chat.send("before")
    with bob.away():
        began = time.monotonic()
        with pytest.raises(PeerAway, match="bob") as caught:
            chat.send("are you there?")
        assert time.monotonic() - began < 1
        assert caught.value.receipt.outcome == "failed"
        assert [r.outcome for r in chat.send_many(["a", "b"])] == ["failed"] * 2
    assert chat.send("after").outcome == "confirmed"
    assert bodies(inbox.received) == ["before", "after"]
    with pytest.raises(UnknownAccount, match="nobody"):
        ana.private_chat("nobody", "direct").send("hola?")
    assert lab.settle().done
    reasons = {f.reason for f in lab.journal.facts(Disconnected) if f.chat == PAIR}
    assert reasons == {"", "bob left"}


def test_who_refuses_says_why_also_to_those_it_talks_with_and_after_it_was_away(
    lab: Lab,
) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    chat.send("before")
    bob.refuse_chats("I am asleep.")
    with pytest.raises(ChatRefused, match="asleep"):
        chat.send("hola?")
    with bob.away():
        pass
    with pytest.raises(ChatRefused, match="asleep"):
        chat.send("and now?")
    bob.crash()
    bob.online()
    with pytest.raises(ChatRefused, match="asleep"):
        chat.send("and in your new life?")
    bob.accept_chats()
    assert chat.send("after").outcome == "confirmed"
    assert bodies(inbox.received) == ["before", "after"]
    with pytest.raises(InvalidInput):
        bob.refuse_chats("")
    ana.private_chat("bob").send("a mailbox does not ask")


def test_a_crashed_peer_is_noticed_at_once_and_comes_back_as_a_new_life(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", "direct"), bob.private_chat("ana", "direct")
    chat.send("before")
    bob.crash()
    began = time.monotonic()
    with pytest.raises((PeerAway, SendUncertain)):  # it may have left on the line that broke
        chat.send("are you there?")
    with pytest.raises(PeerAway):
        chat.send("so you are not")
    assert time.monotonic() - began < 1
    bob.online()
    assert chat.send("after").outcome == "confirmed"
    assert [m.body for m in inbox.received] == ["before", "after"]
    lives = [f.incarnation for f in lab.journal.facts(Delivered) if f.user == "bob"]
    assert lives[1] == lives[0] + 1
    assert bodies(chat.delivered) == ["before", "after"]


def test_a_scene_ends_direct_chats_and_the_next_one_has_them_anew(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.private_chat("bob", "direct").send("in the first")
    bob.refuse_chats("no")
    lab.scene("second")
    assert ana.private_chat("bob", "direct").send("in the second").outcome == "confirmed"
    assert bodies(bob.private_chat("ana", "direct").received) == ["in the second"]


def test_direct_chats_work_without_links(lab: Lab, lab_settings: Settings) -> None:
    with Lab.start("bare", links=False, settings=lab_settings) as bare:
        ana, bob = bare.users("ana", "bob")
        chat = ana.private_chat("bob", "direct")
        assert chat.send("hola").outcome == "confirmed"
        with bob.away(), pytest.raises(PeerAway):
            chat.send("are you there?")
        assert chat.send("after").outcome == "confirmed"
        assert bodies(bob.private_chat("ana", "direct").received) == ["hola", "after"]
        with pytest.raises(NotPossible, match="links"):
            bare.cut(bob, "direct")


# -- a second window


class Window:
    """A client without a lab around it, as a second kernel or a terminal has one."""

    def __init__(self, ticket: Ticket) -> None:
        self.journal = Journal(tier="real")
        self.ended: list[ChatlabError] = []
        self.client = Client(ticket, self.journal.append, self, self._end)

    def _end(self, chat: str, error: ChatlabError) -> None:
        self.ended.append(error)

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        return address

    async def expose(self, port: int) -> str:
        return f"127.0.0.1:{port}"

    @property
    def shown(self) -> list[str]:
        return [fact.message.body for fact in self.journal.facts(Delivered)]


@asynccontextmanager
async def windows(
    namespace: tuple[RabbitAddress, RedisAddress], settings: Settings, *users: str
) -> AsyncIterator[list[Window]]:
    made = [
        Window(
            Ticket(
                lab="windows",
                user=user,
                secret=f"secret of {user}",
                settings=settings,
                rabbitmq=namespace[0],
                redis=namespace[1],
            )
        )
        for user in users
    ]
    try:
        yield made
    finally:
        for window in made:
            await window.client.end()


async def test_a_second_window_takes_over_at_once_and_nothing_is_split(
    namespace: tuple[RabbitAddress, RedisAddress], settings: Settings
) -> None:
    # A lease so long that nothing is noticed by its renewal.
    settings = replace(settings, lease_seconds=600.0)
    async with windows(namespace, settings, "ana", "bob", "bob") as (ana, first, second):
        await ana.client.begin()
        assert await first.client.begin() == 1

        async def send(*texts: str) -> list[Any]:
            return await ana.client.send(PAIR, "bob", "direct", texts)

        await send("one")
        assert await second.client.begin() == 2
        assert second.client._succeeding is not None
        await second.client._succeeding
        assert [type(error) for error in first.ended] == [Taken]
        receipts = await send(*(str(n) for n in range(100)))
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        assert (first.shown, second.shown) == (["one"], [str(n) for n in range(100)])
        (late,) = await first.client.send("private:ana:bob", "ana", "direct", ["too late"])
        assert (late.outcome, late.error) == ("failed", "Taken")
        assert second.ended == []


async def test_who_comes_back_with_its_life_calls_nobody(
    namespace: tuple[RabbitAddress, RedisAddress], settings: Settings
) -> None:
    async with windows(namespace, settings, "ana") as (ana,):
        await ana.client.begin()
        assert ana.client._succeeding is None
