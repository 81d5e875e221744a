"""What is due, deliverable and waiting, as functions of hand-written journals."""

from __future__ import annotations

from typing import Any

import pytest

from chatlab import messages as m
from chatlab.lab.settle import ANYONE, Due
from chatlab.messages import Message
from chatlab.private.as_reported_client import EXITED

PRIVATE = m.private("ana", "bob")
GROUP = m.group("sd")


def sent(id: str, chat: str, to: str, sender: str = "ana") -> tuple[Any, ...]:
    message = Message(id, sender, 1, to, "hola", 1, 0.0, 1)
    return ("Sent", 0.0, sender, 1, chat, message)


def confirmed(id: str, chat: str) -> tuple[Any, ...]:
    return ("Confirmed", 0.0, "ana", 1, chat, id, 0, 1)


def delivered(id: str, chat: str, user: str) -> tuple[Any, ...]:
    message = Message(id, "ana", 1, "x", "hola", 1, 0.0, 1)
    return ("Delivered", 0.0, user, 1, chat, message, False)


def handled(id: str, user: str) -> tuple[Any, ...]:
    return ("Handled", 0.0, user, 1, m.INSULTS, id)


def on(user: str, chat: str = "", role: str = "member") -> tuple[Any, ...]:
    return ("Connected", 0.0, user, 1, chat, "", role)


def off(user: str, chat: str = "") -> tuple[Any, ...]:
    return ("Disconnected", 0.0, user, 1, chat, "")


def subscribed(user: str, backend: str = "rabbitmq-durable", *first: bool) -> tuple[Any, ...]:
    return ("Subscribed", 0.0, user, 1, GROUP, backend, *first)


def due(*rows: tuple[Any, ...]) -> Due:
    found = Due()
    found.read(list(rows))
    return found


def test_a_confirmed_message_is_deliverable_to_a_connected_receiver() -> None:
    found = due(
        on("bob"), on("bob", "mailbox"), sent("1", PRIVATE, "bob"), confirmed("1", PRIVATE)
    )
    assert found.deliverable() == {(PRIVATE, "bob"): 1}
    assert found.waiting() == {}


def test_it_is_due_no_more_once_shown() -> None:
    found = due(
        on("bob"),
        on("bob", "mailbox"),
        sent("1", PRIVATE, "bob"),
        confirmed("1", PRIVATE),
        delivered("1", PRIVATE, "bob"),
    )
    assert found.deliverable() == found.waiting() == {}


def test_a_message_shown_before_its_confirm_is_known_is_not_due() -> None:
    found = due(
        on("bob"),
        on("bob", "mailbox"),
        sent("1", PRIVATE, "bob"),
        delivered("1", PRIVATE, "bob"),
        confirmed("1", PRIVATE),
    )
    assert found.deliverable() == {}


@pytest.mark.parametrize(
    "gone", [off("bob"), ("Crashed", 0.0, "bob", 1, ""), ("Frozen", 0.0, "bob", 1, "")]
)
def test_it_waits_for_a_receiver_that_is_away(gone: tuple[Any, ...]) -> None:
    found = due(
        on("bob"),
        on("bob", "mailbox"),
        gone,
        sent("1", PRIVATE, "bob"),
        confirmed("1", PRIVATE),
    )
    assert found.deliverable() == {}
    assert found.waiting() == {(PRIVATE, "bob"): 1}


def test_an_unconfirmed_message_is_not_due() -> None:
    found = due(on("bob"), on("bob", "mailbox"), sent("1", PRIVATE, "bob"))
    assert found.deliverable() == found.waiting() == {}


def test_every_subscriber_of_a_group_is_due_a_copy_the_sender_too() -> None:
    rows = [r for u in ("ana", "bob") for r in (on(u), subscribed(u), on(u, GROUP))]
    found = due(*rows, sent("1", GROUP, "sd"), confirmed("1", GROUP))
    assert found.deliverable() == {(GROUP, "ana"): 1, (GROUP, "bob"): 1}


def test_an_absent_member_of_a_durable_group_is_waited_for() -> None:
    found = due(
        *(on("bob"), subscribed("bob"), on("bob", GROUP), off("bob", GROUP), off("bob")),
        *(sent("1", GROUP, "sd"), confirmed("1", GROUP)),
    )
    assert found.waiting() == {(GROUP, "bob"): 1}


def test_an_absent_member_of_a_transient_group_is_due_nothing() -> None:
    found = due(
        *(on("bob"), subscribed("bob", "rabbitmq-transient"), on("bob", GROUP)),
        *(off("bob", GROUP), sent("1", GROUP, "sd"), confirmed("1", GROUP)),
    )
    assert found.deliverable() == found.waiting() == {}


@pytest.mark.parametrize(
    "gone", [off("bob"), off("bob", GROUP), ("Crashed", 0.0, "bob", 1, "")]
)
@pytest.mark.parametrize("backend", ["redis-pubsub", "redis-stream"])
def test_what_was_on_its_way_when_a_member_left_comes_only_where_it_is_kept(
    gone: tuple[Any, ...], backend: str
) -> None:
    rows = [subscribed("bob", backend), on("bob"), on("bob", GROUP), sent("1", GROUP, "sd")]
    here = due(*rows, confirmed("1", GROUP))
    assert here.deliverable() == {(GROUP, "bob"): 1}
    back = [gone, on("bob"), on("bob", GROUP)]
    kept = {(GROUP, "bob"): 1} if backend == "redis-stream" else {}
    assert due(*rows, confirmed("1", GROUP), *back).deliverable() == kept
    late = due(*rows, gone, confirmed("1", GROUP), on("bob"), on("bob", GROUP))
    assert late.deliverable() == kept


def test_who_has_left_for_good_is_due_nothing() -> None:
    found = due(
        *(on("bob"), subscribed("bob"), on("bob", GROUP), ("Left", 0.0, "bob", 1, GROUP)),
        *(sent("1", GROUP, "sd"), confirmed("1", GROUP)),
    )
    assert found.deliverable() == found.waiting() == {}


def test_who_reads_a_log_from_its_first_message_is_due_what_was_confirmed_before() -> None:
    log = [on("ana"), subscribed("ana", "rabbitmq-log", False), on("ana", GROUP)]
    log += [sent("1", GROUP, "sd"), confirmed("1", GROUP), delivered("1", GROUP, "ana")]
    log += [sent("2", GROUP, "sd"), on("bob")]  # under way: not confirmed yet
    bob = [subscribed("bob", "rabbitmq-log", True)]
    assert due(*log, *bob).waiting() == {(GROUP, "bob"): 1}
    bob.append(on("bob", GROUP))
    assert due(*log, *bob).deliverable() == {(GROUP, "bob"): 1}
    bob.append(confirmed("2", GROUP))
    assert due(*log, *bob).deliverable() == {(GROUP, "ana"): 1, (GROUP, "bob"): 2}
    bob += [
        delivered(id, GROUP, name) for id, name in (("2", "ana"), ("1", "bob"), ("2", "bob"))
    ]
    bob.append(subscribed("bob", "rabbitmq-log", True))  # its next life: nothing anew
    assert due(*log, *bob).deliverable() == {}


@pytest.mark.parametrize("first", [[], [False]], ids=["an older journal", "from now on"])
def test_who_reads_a_log_from_its_end_is_due_nothing_from_before(first: list[bool]) -> None:
    log = [on("ana"), subscribed("ana", "rabbitmq-log", *first), on("bob")]
    log += [sent("1", GROUP, "sd"), confirmed("1", GROUP)]
    log += [subscribed("bob", "rabbitmq-log", *first), on("bob", GROUP)]
    assert due(*log).deliverable() == {}


def test_who_has_left_is_not_due_again_what_a_late_joiner_is() -> None:
    log = [on("ana"), subscribed("ana"), on("ana", GROUP), sent("1", GROUP, "sd")]
    log += [confirmed("1", GROUP), ("Left", 0.0, "ana", 1, GROUP), on("bob")]
    log += [subscribed("bob", "rabbitmq-log", True), on("bob", GROUP)]
    assert due(*log).deliverable() == {(GROUP, "bob"): 1}


def test_who_comes_again_and_reads_from_the_first_message_is_due_what_it_left_behind() -> None:
    log = [on("ana"), on("bob"), subscribed("bob", "rabbitmq-log", False)]
    log += [sent("1", GROUP, "sd"), confirmed("1", GROUP), ("Left", 0.0, "bob", 1, GROUP)]
    assert due(*log, subscribed("bob", "rabbitmq-log", False)).waiting() == {}
    assert due(*log, subscribed("bob", "rabbitmq-log", True)).waiting() == {(GROUP, "bob"): 1}


def test_an_insult_is_done_when_any_member_has_handled_it_not_when_shown() -> None:
    rows = [on("bob"), on("bob", m.INSULTS, "both"), sent("1", m.INSULTS, m.INSULTS)]
    rows += [confirmed("1", m.INSULTS), delivered("1", m.INSULTS, "bob")]
    assert due(*rows).deliverable() == {(m.INSULTS, ANYONE): 1}
    assert due(*rows, handled("1", "bob")).deliverable() == {}


def test_a_dead_letter_is_not_still_to_come() -> None:
    rows = [on("bob"), on("bob", m.INSULTS, "both"), sent("1", m.INSULTS, m.INSULTS)]
    rows += [confirmed("1", m.INSULTS), ("Rejected", 0.0, "bob", 1, m.INSULTS, "1", False)]
    assert due(*rows).deliverable() == {(m.INSULTS, ANYONE): 1}
    rows += [("Rejected", 0.0, "bob", 1, m.INSULTS, "1", True)]
    assert due(*rows).deliverable() == due(*rows).waiting() == {}


def test_an_insult_waits_while_there_are_only_producers() -> None:
    found = due(
        *(on("ana"), on("ana", m.INSULTS, "producer")),
        *(sent("1", m.INSULTS, m.INSULTS), confirmed("1", m.INSULTS)),
    )
    assert found.waiting() == {(m.INSULTS, ANYONE): 1}


def test_rows_may_come_in_parts() -> None:
    rows = [on("bob"), on("bob", "mailbox"), sent("1", PRIVATE, "bob")]
    found = due(*rows)
    rows.append(confirmed("1", PRIVATE))
    found.read(rows)
    assert found.deliverable() == {(PRIVATE, "bob"): 1}


def test_a_lost_connection_is_waited_for_until_it_is_back() -> None:
    rows = [on("bob"), on("bob", GROUP), ("Disconnected", 0.0, "bob", 1, GROUP, "broke")]
    assert due(*rows).reconnecting() == [(GROUP, "bob")]
    assert due(*rows, on("bob", GROUP)).reconnecting() == []
    assert due(*rows, off("bob")).reconnecting() == []


def test_a_goodbye_is_not_a_lost_connection() -> None:
    assert due(on("bob"), on("bob", GROUP), off("bob", GROUP)).reconnecting() == []


def test_who_left_with_exit_does_not_come_back_by_itself() -> None:
    left = ("Disconnected", 0.0, "bob", 1, "mailbox", EXITED)
    rows = [on("bob"), on("bob", "mailbox"), left, sent("1", PRIVATE, "bob")]
    found = due(*rows, confirmed("1", PRIVATE))
    assert found.reconnecting() == []
    assert found.waiting() == {(PRIVATE, "bob"): 1}


def test_a_direct_line_that_is_lost_is_called_again_when_there_is_something_to_say() -> None:
    lost = ("Disconnected", 0.0, "bob", 1, PRIVATE, "the line broke")
    found = due(on("ana"), on("bob"), on("ana", PRIVATE), on("bob", PRIVATE), lost)
    assert found.reconnecting() == []
    assert found.deliverable() == found.waiting() == {}


def test_what_was_confirmed_over_a_direct_line_is_about_to_be_known_as_shown() -> None:
    """Receiver and sender may be processes whose facts come by different ways."""
    rows = [on("bob"), on("bob", PRIVATE), sent("1", PRIVATE, "bob"), confirmed("1", PRIVATE)]
    assert due(*rows).deliverable() == {(PRIVATE, "bob"): 1}
    assert due(*rows, delivered("1", PRIVATE, "bob")).deliverable() == {}


def test_nobody_waits_for_a_connection_while_its_fault_goes_on() -> None:
    rows: list[tuple[Any, ...]] = [
        ("FaultBegan", 0.0, "", 0, "", "kill", "rabbitmq"),
        on("bob"),
    ]
    rows += [on("bob", GROUP), ("Disconnected", 0.0, "bob", 1, GROUP, "broke")]
    assert due(*rows).reconnecting() == []
    ended = ("FaultEnded", 0.0, "", 0, "", "kill", "rabbitmq")
    assert due(*rows, ended).reconnecting() == [(GROUP, "bob")]
