"""What a user knows of a conversation is what the journal says."""

from __future__ import annotations

import time

import pytest
from plots_script import Script

from chatlab.journal import Journal
from chatlab.messages import Message, group, private
from chatlab.panels.conversation import KEPT_LINES, Conversation, Line
from chatlab.panels.desk import Desk, lines_of, mark

SD = group("sd")


def read(script: Script, user: str = "ana", chat: str = SD, **how: bool) -> Conversation:
    desk = Desk(user, **how)
    desk.read(script.journal.rows)
    return desk.chat(chat)


def newest(script: Script, user: str = "ana", chat: str = SD, **how: bool) -> Line:
    return read(script, user, chat, **how).lines[-1]


def texts(script: Script, user: str = "ana") -> list[str]:
    return [line.text for line in read(script, user).lines]


# -- how far an own message has come


def test_a_message_that_all_have_seen_says_so() -> None:
    script = Script("ana", "bob", "eva").join()
    script.send("ana", "bob", "eva")
    assert newest(script).status == "✓✓ 2 of 2"


def test_a_message_waits_for_a_member_who_is_away() -> None:
    script = Script("ana", "bob", "eva").join().leave("bob")
    message = script.send("ana", "eva")
    assert newest(script).status == "✓ 1 of 2 · 1 waits"
    script.come("bob").see("bob", message)
    assert newest(script).status == "✓✓ 2 of 2"


def test_a_forgetful_group_keeps_nothing_for_who_is_away() -> None:
    script = Script("ana", "bob", "eva", backend="rabbitmq-transient").join().leave("bob")
    script.send("ana", "eva")
    assert newest(script).status == "✓ 1 of 2 · 1 misses it"


def test_what_a_forgetful_queue_held_is_gone_with_its_connection() -> None:
    script = Script("ana", "bob", "eva", backend="rabbitmq-transient").join()
    script.send("ana", "eva")
    assert newest(script).status == "✓ 1 of 2 · 1 waits"
    script.leave("bob")
    assert newest(script).status == "✓ 1 of 2 · 1 misses it"


def test_a_lost_connection_is_enough_for_that() -> None:
    script = Script("ana", "bob", "eva", backend="rabbitmq-transient").join()
    script.send("ana", "eva")
    script.fact("Disconnected", "bob", SD, "the broker is gone")
    assert newest(script).status == "✓ 1 of 2 · 1 misses it"


def test_what_waits_for_a_crashed_member_of_a_forgetful_group_is_missed() -> None:
    script = Script("ana", "bob", "eva", backend="redis-pubsub").join()
    script.send("ana", "eva")
    script.fact("Crashed", "bob", "")
    assert newest(script).status == "✓ 1 of 2 · 1 misses it"


def test_what_waited_for_a_member_who_left_for_good_is_missed() -> None:
    script = Script("ana", "bob", "eva").join()
    script.send("ana", "eva")
    script.fact("Left", "bob", SD)
    assert [line.status for line in read(script).lines if line.sender] == [
        "✓ 1 of 2 · 1 misses it"
    ]
    script.send("ana", "eva")
    assert newest(script).status == "✓✓ 1 of 1"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("", "sending"),
        ("Returned", "nobody listens: it reached nobody"),
        ("Failed", "not sent: a reason"),
        ("Uncertain", "? nobody knows whether it was sent"),
    ],
)
def test_what_was_answered_is_said_until_somebody_has_it(outcome: str, status: str) -> None:
    script = Script("ana", "bob").join()
    message = script.send("ana", outcome=outcome)
    assert newest(script).status == status
    script.see("bob", message)
    assert newest(script).status == "✓✓ 1 of 1"


def test_of_a_message_of_unknown_outcome_the_rest_is_unknown_too() -> None:
    script = Script("ana", "bob", "eva").join()
    script.send("ana", "bob", outcome="Uncertain")
    assert newest(script).status == "✓ 1 of 2 · 1 unknown"


def test_a_message_sent_again_is_one_line_and_its_old_answer_is_forgotten() -> None:
    script = Script("ana", "bob").join()
    message = script.send("ana", outcome="Uncertain")
    script.fact("Sent", "ana", SD, message)
    assert [line.status for line in read(script).lines if line.sender] == ["sending"]
    script.result(message, SD, "Confirmed")
    assert newest(script).status == "✓ 0 of 1 · 1 waits"


def test_without_confirms_it_is_sent_and_no_more_is_known() -> None:
    script = Script("ana", "bob", backend="rabbitmq-durable:confirms=no").join()
    script.send("ana", outcome="")
    assert newest(script).status == "sent; nobody confirms it"


def test_a_private_message_waits_for_its_one_receiver() -> None:
    script = Script("ana", "bob")
    message = script.write("ana", "bob", seen=False)
    assert newest(script, chat=private("ana", "bob")).status == "✓ 0 of 1 · 1 waits"
    script.see("bob", message, chat=private("ana", "bob"))
    assert newest(script, chat=private("ana", "bob")).status == "✓✓ 1 of 1"


def test_members_of_another_kernel_are_elsewhere() -> None:
    script = Script("ana", "bob").join()
    message = script.message("ana", "sd")
    script.fact("Sent", "ana", SD, message)
    script.fact("Confirmed", "ana", SD, message.id, 0, 3)
    assert newest(script, shared=True).status == "✓ 0 of 1 · 1 waits · 2 elsewhere"
    assert newest(script).status == "✓ 0 of 1 · 1 waits"
    alone = Script("ana").join()
    message = alone.message("ana", "sd")
    alone.fact("Sent", "ana", SD, message)
    alone.fact("Confirmed", "ana", SD, message.id, 0, 2)
    assert newest(alone, shared=True).status == "✓ accepted · 2 listen"


# -- what others wrote


def test_what_waited_is_marked_when_its_reader_is_back() -> None:
    script = Script("ana", "bob").join().leave("bob").wait(120)
    message = script.send("ana")
    assert read(script, "bob").waiting == 1
    script.wait(130).come("bob").see("bob", message)
    script.send("ana", "bob")
    _joined, away, waited, at_once = read(script, "bob").lines
    assert away.text == "you were offline for 4 min · 1 message waited"
    assert mark(waited).startswith("waited since ")
    assert mark(at_once) == ""
    assert read(script, "bob").waiting == 0


def test_what_was_handed_out_before_is_marked() -> None:
    script = Script("ana", "bob").join()
    script.see("bob", script.message("ana", "sd"), again=True)
    assert mark(newest(script, "bob")) == "redelivered"


def test_own_copies_are_no_lines() -> None:
    script = Script("ana", "bob").join()
    script.see("ana", script.send("ana", "bob"))
    assert len(read(script).lines) == 2


@pytest.mark.parametrize(
    ("kind", "rest", "how"),
    [("Disconnected", ("",), "offline"), ("Crashed", (), "crashed"), ("Frozen", (), "frozen")],
)
def test_how_one_is_away(kind: str, rest: tuple[str, ...], how: str) -> None:
    script = Script("ana", "bob").join().fact(kind, "bob", "", *rest)
    assert read(script, "bob").away == how
    script.wait(9).fact("Thawed" if how == "frozen" else "Connected", "bob", "", "", "")
    assert texts(script, "bob")[-1] == f"you were {how} for 9 s"
    assert read(script, "bob").away == ""


def test_a_lost_connection_is_told_until_there_is_one_again() -> None:
    script = Script("ana", "bob").join().fact("Disconnected", "bob", SD, "the broker is gone")
    assert (read(script, "bob").cut_why, read(script, "bob").receives) == (
        *("the broker is gone", False),
    )
    script.fact("Connected", "bob", SD, "rabbitmq-durable", "member")
    assert read(script, "bob").receives


def test_a_lost_mailbox_concerns_private_chats_only() -> None:
    script = Script("ana", "bob").join()
    script.write("ana", "bob")
    script.fact("Disconnected", "bob", "mailbox", "the server is gone")
    assert read(script, "bob", private("ana", "bob")).cut_why == "the server is gone"
    assert read(script, "bob").receives


# -- notes


def test_those_who_join_one_after_the_other_share_a_line_and_one_is_you() -> None:
    script = Script("ana", "bob", "eva").join()
    assert texts(script) == ["you, bob and eva joined"]
    assert texts(script, "bob") == ["ana, you and eva joined"]
    script.fact("Left", "eva", SD)
    script.join("eva")
    assert texts(script) == ["you, bob and eva joined", "eva left", "eva joined"]


def test_of_many_only_some_are_named() -> None:
    script = Script(*"abcdefg").join()
    assert texts(script, "a") == ["you, b, c, d and 3 more joined"]


# -- the desk


def test_facts_are_read_once_and_in_slices() -> None:
    script = Script("ana", "bob").join()
    for _ in range(5):
        script.send("ana", "bob")
    desk = Desk("ana")
    slices = 1
    while desk.read(script.journal.rows, 3):
        slices += 1
    assert slices == -(-len(script.journal.rows) // 3)
    once = read(script)
    assert [vars(line) for line in desk.chat(SD).lines] == [vars(line) for line in once.lines]
    desk.read(script.journal.rows)
    assert desk.chat(SD).count == once.count


def test_each_conversation_has_its_own_lines_and_others_none_at_all() -> None:
    script = Script("ana", "bob", "anabel").join()
    script.write("bob", "ana")
    script.write("bob", "anabel")
    script.send("bob", "ana")
    desk = Desk("ana")
    desk.read(script.journal.rows)
    assert desk.chat(private("ana", "bob")).received == 1
    assert desk.chat(SD).received == 1
    assert desk.chat(private("anabel", "bob")).received == 0


def test_a_conversation_that_begins_while_one_is_away_knows_it() -> None:
    script = Script("ana", "bob").fact("Disconnected", "bob", "", "")
    script.write("ana", "bob", seen=False)
    found = read(script, "bob", private("ana", "bob"))
    assert (found.away, found.waiting) == ("offline", 1)


def test_only_the_newest_lines_are_kept() -> None:
    journal = Journal()
    for n in range(KEPT_LINES + 50):
        message = Message(f"ana:1:{n}", "ana", 1, "sd", str(n), n, 0.0, n)
        journal.append(("Sent", 0.0, "ana", 1, SD, message))
    found = Desk("ana")
    found.read(journal.rows)
    lines = found.chat(SD).lines
    assert (len(lines), lines[-1].text, found.chat(SD).count) == (
        *(KEPT_LINES, str(KEPT_LINES + 49), KEPT_LINES + 50),
    )


def test_reading_a_fact_takes_microseconds() -> None:
    """100,000 facts of a busy group, well below what a tick could not carry in slices."""
    rows = []
    for n in range(20_000):
        message = Message(f"ana:1:{n}", "ana", 1, "sd", "hola", n, 0.0, n)
        rows.append(("Sent", 0.0, "ana", 1, SD, message))
        rows.append(("Confirmed", 0.0, "ana", 1, SD, message.id, 0, 1))
        rows.append(("Delivered", 0.0, "bob", 1, SD, message, False))
        rows.append(("Acked", 0.0, "bob", 1, SD, message.id))
        rows.append(("Reached", 0.0, "ana", 1, SD, message.id))
    began = time.process_time()
    Desk("bob").read(rows)
    assert time.process_time() - began < 5  # 0.2 s here; quadratic would take minutes


def test_the_table_says_the_same() -> None:
    script = Script("ana", "bob").join()
    script.send("ana", "bob")
    *_, row = lines_of(script.journal, "ana", SD)
    assert (row["from"], row["message"], row["status"]) == ("ana", "hola", "✓✓ 1 of 1")
