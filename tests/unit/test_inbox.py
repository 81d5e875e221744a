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


def test_all_who_wait_are_woken_each_by_what_it_waits_for() -> None:
    inbox = Inbox("bob")
    looks: list[int] = []

    def third() -> Message | None:
        looks.append(len(inbox.received))
        return inbox.received[2] if len(inbox.received) > 2 else None

    found: list[Message | None] = []
    waiting = [
        threading.Thread(target=lambda: found.append(inbox.wait(third, 5))) for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    while len(looks) < 4:  # each looks twice, and then waits
        pass
    for id in "123":
        inbox.feed("Delivered", [message(id, "ana")])
    for thread in waiting:
        thread.join(2)
    assert [one.id for one in found if one] == ["3", "3"]
    # Looked for where it was fed: nobody was woken in vain by the first two.
    assert looks == [0] * 4 + [1, 1, 2, 2, 3, 3]


def own(id: str, incarnation: int = 1) -> Message:
    return Message(id, "bob", incarnation, "ana", "hola", 1, 0.0, 1)


def delivered(inbox: Inbox) -> str:
    return "".join(message.id for message in inbox.delivered())


def test_what_was_reached_stands_for_what_was_sent_before_it() -> None:
    inbox = Inbox("bob")
    inbox.feed("Sent", [own("1"), own("2")])
    inbox.feed("Delivered", [message("a", "ana")])
    inbox.feed("Sent", [own("3")])
    assert delivered(inbox) == ""
    inbox.feed("Reached", ["2"])
    assert delivered(inbox) == "12"
    inbox.feed("Reached", ["3", "1"])  # an older one may be told later
    assert delivered(inbox) == "123"


def test_each_life_is_reached_by_itself() -> None:
    inbox = Inbox("bob")
    inbox.feed("Sent", [own("1"), own("2"), own("3", 2), own("4", 2)])
    inbox.feed("Reached", ["3"])
    assert delivered(inbox) == "3"
    inbox.feed("Reached", ["1"])
    assert delivered(inbox) == "13"


def test_what_was_not_accepted_is_not_delivered_by_what_came_after_it() -> None:
    inbox = Inbox("bob")
    inbox.feed("Sent", [own("1"), own("2"), own("3")])
    inbox.feed("Failed", ["1"])
    inbox.feed("Uncertain", ["2"])
    inbox.feed("Reached", ["3"])
    assert delivered(inbox) == "3"
    inbox.feed("Reached", ["2"])  # the doubt is over
    assert delivered(inbox) == "23"


def test_what_is_sent_again_counts_from_then_on() -> None:
    inbox = Inbox("bob")
    inbox.feed("Sent", [own("1")])
    inbox.feed("Uncertain", ["1"])
    inbox.feed("Sent", [own("2")])
    inbox.feed("Reached", ["2"])
    inbox.feed("Sent", [own("1")])
    assert delivered(inbox) == "2", "nobody has acknowledged the second copy"
    assert [m.id for m in inbox.messages] == ["1", "2"]
    inbox.feed("Sent", [own("3")])
    inbox.feed("Reached", ["3"])
    assert delivered(inbox) == "123"


def test_waiting_ends_at_its_timeout() -> None:
    assert Inbox("bob").wait(lambda: None, 0.01) is None


def test_waiting_ends_when_nothing_more_will_come() -> None:
    inbox = Inbox("bob")
    threading.Timer(0.02, inbox.end, [Taken("bob is elsewhere")]).start()
    ended = threading.Event()
    threading.Thread(target=lambda: (inbox.wait(lambda: None, 30), ended.set())).start()
    assert ended.wait(5)
