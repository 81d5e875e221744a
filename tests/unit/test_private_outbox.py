"""The outbox: order, frames and outcomes, without a network."""

from __future__ import annotations

from private_rig import NO_RABBIT, NO_REDIS, SECRET

from chatlab.client import Life
from chatlab.journal import Journal
from chatlab.messages import BODY_BYTES, Message
from chatlab.private.outbox import IN_FLIGHT, Outbox
from chatlab.private.wire import Answer
from chatlab.settings import Settings


def outbox() -> tuple[Outbox, Life, Journal]:
    journal = Journal()
    life = Life(
        lab="test",
        user="ana",
        incarnation=1,
        secret=SECRET,
        settings=Settings(),
        record=journal.append,
        rabbitmq=NO_RABBIT,
        redis=NO_REDIS,
    )
    return Outbox(life, {}, lambda: None), life, journal


def some(life: Life, count: int, body: str = "x") -> list[Message]:
    return [life.message("private:ana:bob", "bob", body) for _ in range(count)]


def stored(count: int, waiting: int = 0, listeners: int = 1) -> list[Answer]:
    return [Answer(count, "confirmed", waiting, listeners, added=not listeners)]


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


async def test_a_frame_holds_what_waits_up_to_a_hundred_messages() -> None:
    box, life, _ = outbox()
    box.put(some(life, 3))
    box.put(some(life, 150))
    assert seqs(box.take()) == list(range(1, 101))
    assert seqs(box.take()) == list(range(101, 154))


async def test_a_frame_holds_at_most_512_kib_of_bodies() -> None:
    box, life, _ = outbox()
    box.put(some(life, 9, "é" * (BODY_BYTES // 2)))
    assert [len(box.take()), len(box.take())] == [8, 1]


async def test_only_so_many_messages_are_in_flight() -> None:
    box, life, _ = outbox()
    box.put(some(life, IN_FLIGHT + 1))
    while box.ready:
        box.take()
    assert len(box.take()) == 1
    box.rewind()
    while box.ready:
        box.take()
    assert not box.ready
    box.answer(stored(100))
    assert box.ready


async def test_one_answer_may_be_for_parts_of_several_frames_and_jobs() -> None:
    box, life, _ = outbox()
    jobs = [box.put(some(life, 60)) for _ in range(3)]
    assert [len(box.take()), len(box.take())] == [100, 80]
    box.answer(stored(130, waiting=130, listeners=0))
    assert [job.open for job in jobs] == [0, 0, 50]
    waiting = [receipt.waiting for job in jobs for receipt in job.receipts if receipt]
    assert waiting == list(range(1, 131))
    box.answer(stored(50))
    assert jobs[2].done.done() and len(box) == 0


async def test_after_a_lost_connection_the_oldest_go_out_first() -> None:
    box, life, _ = outbox()
    box.put(some(life, 250))
    box.take(), box.take(), box.take()
    box.put(some(life, 2))
    box.answer(stored(100))
    box.rewind()
    assert seqs(box.take()) == list(range(101, 201))
    assert seqs(box.take()) == list(range(201, 253))


async def test_each_message_has_its_own_waiting_count_when_nobody_listens() -> None:
    box, life, _ = outbox()
    job = box.put(some(life, 3))
    box.take()
    box.answer(stored(3, waiting=5, listeners=0))
    assert [receipt.waiting for receipt in job.receipts if receipt] == [3, 4, 5]
    assert job.done.done()


async def test_what_left_is_uncertain_and_what_never_left_has_failed() -> None:
    box, life, journal = outbox()
    job = box.put(some(life, 101))
    box.take()
    box.give_up(job, "no answer")
    outcomes = [receipt.outcome for receipt in job.receipts if receipt]
    assert outcomes == ["uncertain"] * 100 + ["failed"]
    assert journal.counts() == {"Sent": 101, "Failed": 1, "Uncertain": 100}
    assert life.message("private:ana:bob", "bob", "other text", "ana:1:1").body == "x"


async def test_what_left_once_stays_uncertain_after_a_lost_connection() -> None:
    box, life, _ = outbox()
    job = box.put(some(life, 1))
    box.take()
    box.rewind()
    box.give_up(job, "no answer")
    assert job.receipts[0] is not None and job.receipts[0].outcome == "uncertain"


async def test_what_is_sent_again_in_vain_stays_uncertain_for_its_first_copy_has_left() -> None:
    box, life, _ = outbox()
    first = box.put(some(life, 1))
    box.take()
    box.give_up(first, "no answer")
    again = box.put([life.message("private:ana:bob", "bob", "", "ana:1:1")])
    box.give_up(again, "no connection")
    assert again.outcome[0].outcome == "uncertain"
    assert life.message("private:ana:bob", "bob", "", "ana:1:1").body == "x", "and is kept"


async def test_what_was_given_up_is_not_sent_again_and_its_late_answer_is_ignored() -> None:
    box, life, journal = outbox()
    job = box.put(some(life, 2))
    box.take()
    box.give_up(job, "no answer")
    box.answer(stored(2))
    box.put(some(life, 1))
    box.rewind()
    assert seqs(box.take()) == [3]
    assert "Confirmed" not in journal.counts()


async def test_one_refusal_in_a_frame_hits_its_own_message_only() -> None:
    box, life, journal = outbox()
    job = box.put(some(life, 3))
    box.take()
    refused = Answer(1, "failed", reason="no account", error="UnknownAccount")
    box.answer([*stored(1), refused, *stored(1)])
    outcomes = [receipt.outcome for receipt in job.receipts if receipt]
    assert outcomes == ["confirmed", "failed", "confirmed"]
    assert journal.counts() == {"Sent": 3, "Confirmed": 2, "Failed": 1}


async def test_what_was_not_answered_before_a_goodbye_is_in_no_doubt() -> None:
    box, life, _ = outbox()
    job = box.put(some(life, 3))
    box.take()
    box.answer(stored(1))
    box.rewind(untaken=True)
    box.give_up(None, "it left", "PeerAway")
    assert [receipt.outcome for receipt in job.outcome] == ["confirmed", "failed", "failed"]
    assert job.outcome[1].error == "PeerAway"


async def test_a_goodbye_says_nothing_about_copies_that_left_by_an_earlier_connection() -> None:
    box, life, _ = outbox()
    job = box.put(some(life, 2))
    first = box.take()
    box.rewind()
    box.put(some(life, 1))
    assert box.take()[:2] == first
    box.rewind(untaken=True)
    box.rewind(untaken=True)  # they were not even taken out again
    box.give_up(job, "it left", "PeerAway")
    assert [receipt.outcome for receipt in job.outcome] == ["uncertain"] * 2
