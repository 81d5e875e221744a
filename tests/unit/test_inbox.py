"""Inboxes: fed from one thread, waited on from another."""

from __future__ import annotations

import threading

from chatlab.errors import Taken
from chatlab.lab.inbox import Inbox
from chatlab.messages import Message


def message(id: str, sender: str) -> Message:
    return Message(id, sender, 1, "bob", "hola", 1, 0.0, 1)


def test_received_holds_what_was_shown_and_messages_both_directions() -> None:
    inbox = Inbox("bob")
    inbox.feed("Delivered", [message("1", "ana")])
    inbox.feed("Sent", [message("2", "bob")])
    assert [m.id for m in inbox.received] == ["1"]
    assert [m.id for m in inbox.messages] == ["1", "2"]


def test_ones_own_copy_in_a_group_is_received_but_listed_once() -> None:
    inbox = Inbox("bob")
    inbox.feed("Sent", [message("1", "bob")])
    inbox.feed("Delivered", [message("1", "bob")])
    assert [m.id for m in inbox.received] == ["1"]
    assert [m.id for m in inbox.messages] == ["1"]


def test_a_waiter_is_woken_by_what_comes_from_another_thread() -> None:
    inbox = Inbox("bob")
    threading.Timer(0.02, inbox.feed, ["Delivered", [message("1", "ana")]]).start()
    assert inbox.wait(lambda: inbox.received[0] if inbox.received else None, 5) is not None


def test_waiting_ends_at_its_timeout() -> None:
    assert Inbox("bob").wait(lambda: None, 0.01) is None


def test_waiting_ends_when_nothing_more_will_come() -> None:
    inbox = Inbox("bob")
    threading.Timer(0.02, inbox.end, [Taken("bob is elsewhere")]).start()
    ended = threading.Event()
    threading.Thread(target=lambda: (inbox.wait(lambda: None, 30), ended.set())).start()
    assert ended.wait(5)
