"""Order, agreement, causal order, what follows a reconnect, and limits."""

from __future__ import annotations

from dataclasses import replace

from checkers_script import SD, Run
from plots_script import bob_is_away

from chatlab.checkers import judge
from chatlab.checkers.causal import check as causal_check
from chatlab.checkers.causal import stamps
from chatlab.checkers.fates import Case
from chatlab.checkers.history import History
from chatlab.checkers.order import agreement
from chatlab.checkers.promises import promise_of
from chatlab.messages import Message, private


def two_seen(first: int, second: int, **marks: bool) -> tuple[Run, list[Message]]:
    run = Run("ana", "bob").join()
    sent = [run.send("ana", "ana"), run.send("ana", "ana")]
    run.see("bob", sent[first]).see("bob", sent[second], **marks)
    return run, sent


def case_of(run: Run, **promise: bool) -> Case:
    history = History(run.journal)
    (talk,) = [talk for talk in history.conversations.values() if talk.sends]
    return Case(history, talk, replace(promise_of(talk), **promise))


# -- one sender


def test_in_order_is_kept_and_the_other_way_round_broken() -> None:
    run, _ = two_seen(0, 1)
    assert run.check("order").outcome == "kept"
    run, (first, second) = two_seen(1, 0)
    found = run.check("order")
    assert (found.outcome, found.counts["backwards"]) == ("broken", 1)
    assert found.example.messages == (first.id, second.id)
    assert [n for n, _ in found.example.lines] == [
        run.line("Sent", first),
        run.line("Sent", second),
        run.line("Delivered", "bob", second),
        run.line("Delivered", "bob", first),
    ]


def test_a_mark_does_not_excuse_what_was_never_shown_before() -> None:
    """As when a ghost's messages come back behind newer ones."""
    run, _ = two_seen(1, 0, again=True)
    assert run.check("order").outcome == "broken"


def test_order_counts_within_a_life_of_each_end() -> None:
    run = Run("ana", "bob").join()
    first = run.send("ana", "ana", "bob")
    run.crash("ana").revive("ana").reach("ana")
    second = run.send("ana", "ana", "bob")
    run.crash("bob").revive("bob").reach("bob").see("bob", second, again=True)
    run.see("bob", first, again=True)
    assert run.check("order").outcome == "cannot tell"
    assert run.check("order").counted is False


def test_a_message_that_was_sent_again_has_no_place() -> None:
    run = Run("ana", "bob").join()
    first = run.send("ana", outcome="Uncertain")
    second = run.send("ana", "ana", "bob")
    run.fact("Sent", "ana", SD, first).result(first, SD, "Confirmed")
    run.see("bob", first)
    assert run.check("order").outcome == "cannot tell"
    assert run.check("delivery").outcome == "cannot tell", "ana has not seen it yet"
    run.see("ana", first)
    assert judge(run.settle().journal).outcome == "kept"
    assert second.seq == 2


def test_of_a_pair_from_two_senders_no_order_is_asked() -> None:
    run = Run("ana", "bob", "eva").join()
    one, other = run.send("ana"), run.send("eva")
    run.see("bob", other, one)
    assert run.check("order").counted is False


# -- between members


def crossed() -> Run:
    run = Run("ana", "bob", "eva").join()
    one, other = run.send("ana"), run.send("eva")
    run.see("ana", one, other).see("bob", one, other).see("eva", other, one)
    return run


def test_members_that_saw_another_order_are_a_figure_that_nobody_promised() -> None:
    found = crossed().check("agreement")
    assert (found.outcome, found.counted) == ("not promised", False)
    assert found.counts["disagreements"] == 2
    assert judge(crossed().settle().journal).outcome == "kept"
    assert bob_is_away(kept=True).journal is not None
    (same,) = judge(bob_is_away(kept=True).journal).of("agreement")
    assert (same.outcome, same.counts["disagreements"]) == ("kept", 0)


def test_where_one_order_is_promised_another_is_broken() -> None:
    found = agreement(case_of(crossed(), agreement=True))
    assert (found.outcome, found.counted) == ("broken", True)
    assert len(found.example.messages) == 2 and len(found.example.lines) == 4


# -- causes and effects


def answered(early: bool) -> Run:
    run = Run("ana", "bob", "eva").join()
    question = run.send("ana", "ana", "bob")
    answer = run.send("bob", "ana", "bob")
    return run.see("eva", *((answer, question) if early else (question, answer)))


def test_an_answer_before_its_question_is_seen_by_clocks_of_our_own() -> None:
    assert answered(early=False).check("causal").outcome == "kept"
    found = answered(early=True).check("causal")
    assert (found.outcome, found.counts["too_early"], found.counted) == (
        "not promised",
        1,
        False,
    )
    run = answered(early=True)
    promised = causal_check(case_of(run, causal=True), stamps(History(run.journal)))
    assert promised.outcome == "broken"
    assert promised.example.messages == ("ana:1:1", "bob:1:2")


def test_what_happened_at_the_same_time_has_no_cause() -> None:
    run = Run("ana", "bob", "eva").join()
    one, other = run.send("ana"), run.send("bob")
    run.see("eva", other, one)
    assert run.check("causal").counts["too_early"] == 0


def test_a_cause_may_go_by_way_of_another_conversation() -> None:
    run = Run("ana", "bob", "eva").join().mailbox()
    question = run.send("ana", "ana")
    run.write("ana", "bob")
    answer = run.send("bob", "bob")
    run.see("eva", answer, question)
    assert run.check("causal", "sd").counts["too_early"] == 1


# -- after a reconnect


def test_a_mailbox_goes_on_where_it_stopped() -> None:
    (found,) = judge(bob_is_away(kept=True).journal).of("reconnect")
    assert (found.outcome, found.counts["returns"]) == ("kept", 1)
    (lossy,) = judge(bob_is_away(kept=False).journal).of("reconnect")
    assert (lossy.outcome, lossy.counts["skipped"]) == ("not promised", 3)


def test_what_a_return_skips_is_broken_with_what_shows_it() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    run.leave("bob")
    gone = run.send("ana", "ana")
    run.come("bob")
    later = run.send("ana", "ana", "bob")
    found = run.check("reconnect")
    assert (found.outcome, found.counts["skipped"]) == ("broken", 1)
    assert found.example.messages == (gone.id,)
    assert run.line("Delivered", "bob", later) in [n for n, _ in found.example.lines]
    assert run.line("Disconnected", "bob") in [n for n, _ in found.example.lines]


def test_back_again_must_be_marked() -> None:
    for marked, outcome in ((True, "kept"), (False, "broken")):
        run = Run("ana", "bob").join()
        sent = [run.send("ana", "ana", "bob") for _ in range(3)]
        run.crash("bob").revive("bob").reach("bob").see("bob", *sent[1:], again=marked)
        found = run.check("reconnect")
        assert (found.outcome, found.counts["returns"]) == (outcome, 1)
        assert bool(found.example) is not marked


def test_a_killed_broker_may_have_forgotten_the_mark() -> None:
    run = Run("ana", "bob").join()
    message = run.send("ana", "ana", "bob")
    run.crash("bob").fault("kill", "rabbitmq").over("kill", "rabbitmq")
    run.revive("bob").reach("bob").see("bob", message)
    assert run.check("reconnect").outcome == "not promised"


def test_who_never_left_never_came_back() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    found = run.check("reconnect")
    assert (found.outcome, found.counted) == ("cannot tell", False)


def test_private_mailboxes_are_asked_too() -> None:
    run = Run("ana", "bob").mailbox()
    sent = [run.write("ana", "bob") for _ in range(2)]
    run.crash("bob").revive("bob").mailbox("bob")
    run.see("bob", sent[1], chat=private("ana", "bob"), again=False)
    assert run.check("reconnect").outcome == "broken"


# -- limits


def test_one_that_never_acknowledges_is_caught_when_it_had_the_time() -> None:
    run = Run("ana", "bob").join()
    for _ in range(100):
        run.fact("Delivered", "bob", SD, run.send("ana", "ana"), False)
    assert run.settle().check("limits").outcome == "kept", "a batch may be"
    run.fact("Delivered", "bob", SD, run.send("ana", "ana"), False)
    assert run.check("limits").outcome == "kept", "it may still"
    found = run.settle().check("limits")
    assert (found.outcome, found.counts["unacknowledged"]) == ("broken", 101)
    assert found.example.messages == ("ana:1:1",)


def test_who_crashed_and_who_has_no_acknowledgements_need_not() -> None:
    for backend, crash in (("rabbitmq-durable", True), ("redis-pubsub", False)):
        run = Run("ana", "bob", backend=backend).join()
        for _ in range(101):
            run.fact("Delivered", "bob", SD, run.send("ana", "ana"), False)
        run = run.crash("bob") if crash else run
        assert run.settle().check("limits").outcome == "kept", backend


def test_a_connection_for_each_message_is_counted() -> None:
    run = Run("ana", "bob").join()
    for _ in range(21):
        run.fact("Connected", "ana", SD, run.backend, "member")
        run.send("ana", "ana", "bob")
        assert run.check("limits").outcome == "kept"
        run.fact("Disconnected", "ana", SD, "")
    found = run.check("limits")
    assert (found.outcome, found.counts["single_use_connections"]) == ("broken", 21)
    assert len(found.example.lines) == 3
    many = Run("ana", "bob").join()
    for _ in range(21):
        many.fact("Connected", "ana", SD, many.backend, "member")
        many.send("ana", "ana", "bob")
        many.send("ana", "ana", "bob")
        many.fact("Disconnected", "ana", SD, "")
    assert many.check("limits").outcome == "kept"


def test_a_marked_tail_is_in_no_order_and_a_new_life_begins_one() -> None:
    run = Run("ana", "bob").join()
    sent = [run.send("ana", "ana", "bob") for _ in range(3)]
    run.crash("bob").revive("bob").reach("bob")
    run.see("bob", sent[2], again=True).see("bob", sent[1], again=True)
    assert run.check("order").counts["backwards"] == 0
    unmarked = Run("ana", "bob").join()
    early = unmarked.send("ana", "ana")
    unmarked.send("ana", "ana", "bob")
    unmarked.crash("bob").revive("bob").reach("bob").see("bob", early)
    assert unmarked.check("order").counts["backwards"] == 0, "another life of bob"
    assert unmarked.check("reconnect").outcome == "broken"
