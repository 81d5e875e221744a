"""The insult channel: one member each, what befell the first, and whose turn it was."""

from __future__ import annotations

import pytest
from checkers_script import Run
from plots_script import dealt

from chatlab.checkers import judge
from chatlab.checkers.fairness import jain
from chatlab.messages import INSULTS

HOUSE = "prefetch=1,ack=manual,work=0.05"


def channel(*users: str, options: str = HOUSE) -> Run:
    run = Run("ana", "bob", "eva")
    run.attach(*(users or ("bob", "eva")), options=options)
    return run


# -- one member each


def test_each_handled_by_one_is_kept() -> None:
    run = channel()
    for user in ("bob", "eva", "bob", "eva"):
        run.work(user, run.insult())
    verdict = judge(run.settle().journal)
    assert (verdict.outcome, verdict.lost) == ("kept", 0)
    assert run.check("insults").counts["handed_on"] == 0


def test_a_second_member_without_need_is_broken_marked_or_not() -> None:
    for marked in (False, True):
        run = channel()
        insult = run.insult()
        run.work("bob", insult).work("eva", insult, again=marked)
        found = run.check("insults")
        assert (found.outcome, found.counts["split"]) == ("broken", 1)
        assert found.example.messages == (insult.id,)
        first = run.line("Delivered", "bob")
        assert [n for n, _ in found.example.lines] == [first, run.line("Delivered", "eva")]


def test_what_a_crashed_member_held_goes_to_another_marked() -> None:
    for marked, outcome in ((True, "kept"), (False, "broken")):
        run = channel()
        insult = run.insult()
        run.fact("Delivered", "bob", INSULTS, insult, False).crash("bob")
        run.work("eva", insult, again=marked)
        found = run.check("insults")
        assert (found.outcome, found.counts["handed_on"]) == (outcome, 1)


@pytest.mark.parametrize("befalls", ["frozen", "lost", "rejected", "killed", "cut"])
def test_other_troubles_of_the_first_explain_a_second_member(befalls: str) -> None:
    run = channel()
    insult = run.insult()
    run.fact("Delivered", "bob", INSULTS, insult, False)
    {
        "frozen": lambda: run.fact("Frozen", "bob", ""),
        "lost": lambda: run.fact("Disconnected", "bob", INSULTS, "it broke"),
        "rejected": lambda: run.fact("Rejected", "bob", INSULTS, insult.id, False),
        "killed": lambda: run.fault("kill", "rabbitmq").over("kill", "rabbitmq"),
        "cut": lambda: run.fault("cut", "bob-rabbitmq").over("cut", "bob-rabbitmq"),
    }[befalls]()
    assert run.work("eva", insult, again=True).check("insults").outcome == "kept"


def test_an_insult_that_failed_comes_again_to_the_same_member() -> None:
    run = channel()
    insult = run.insult()
    run.fact("Delivered", "bob", INSULTS, insult, False)
    run.fact("Rejected", "bob", INSULTS, insult.id, False)
    run.work("bob", insult, again=True)
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["marked"], found.counts["duplicated"]) == ("kept", 0, 0)


def test_a_dead_letter_is_no_loss() -> None:
    run = channel()
    insult = run.insult()
    run.fact("Delivered", "bob", INSULTS, insult, False)
    run.fact("Rejected", "bob", INSULTS, insult.id, True)
    assert run.settle().check("delivery").outcome == "kept"


@pytest.mark.parametrize(
    ("backend", "outcome"),
    [
        ("rabbitmq:ack=manual", "broken"),
        ("rabbitmq:ack=auto", "not promised"),
        ("redis-list", "not promised"),
        ("redis-stream", "broken"),
        ("as-reported", "broken"),
    ],
)
def test_work_that_ended_with_its_member_is_lost_as_declared(
    backend: str, outcome: str
) -> None:
    run = Run("ana", "bob", "eva")
    for user in ("bob", "eva"):
        run.fact("Connected", user, INSULTS, backend, "both")
    run.work("eva", run.insult())
    insult = run.insult()
    run.fact("Delivered", "bob", INSULTS, insult, False)
    run.fact("Acked", "bob", INSULTS, insult.id).crash("bob")
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["lost"]) == (outcome, 1)


def test_in_the_hand_of_who_lives_it_is_not_lost() -> None:
    run = channel()
    run.work("eva", run.insult())
    run.fact("Delivered", "bob", INSULTS, run.insult(), False)
    assert run.settle().check("delivery").outcome == "cannot tell"


def test_insults_wait_while_nobody_listens_and_are_lost_when_somebody_does() -> None:
    run = Run("ana", "bob", "eva").attach("bob", "eva")
    run.work("bob", run.insult())
    for user in ("bob", "eva"):
        run.fact("Disconnected", user, INSULTS, "")
    run.insult()
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["waiting"]) == ("cannot tell", 1)
    run.attach("bob", "eva").settle()
    assert run.check("delivery").outcome == "broken"


def test_not_me_never_hands_an_insult_back_to_its_sender() -> None:
    for backend, outcome in (("rabbitmq-not-me", "broken"), ("rabbitmq", "kept")):
        run = Run("ana", "bob")
        for user in ("ana", "bob"):
            run.fact("Connected", user, INSULTS, backend, "both")
        run.work("ana", run.insult("ana"))
        assert run.check("insults").outcome == outcome


def test_with_one_member_nothing_is_shown() -> None:
    run = channel("bob")
    run.fact("Connected", "ana", INSULTS, "rabbitmq", "producer")
    for _ in range(4):
        run.work("bob", run.insult())
    verdict = judge(run.settle().journal)
    assert verdict.outcome == "cannot tell"
    assert run.check("insults").outcome == run.check("fairness").outcome == "cannot tell"
    assert run.check("delivery").outcome == "kept"


# -- the turn


def test_jains_index_by_hand() -> None:
    assert jain([10, 10, 10]) == 1
    assert jain([30, 0, 0]) == pytest.approx(1 / 3)
    assert jain([20, 10]) == pytest.approx(0.9)
    assert jain([]) == jain([0, 0]) == 1


def test_the_figures_are_the_journals() -> None:
    found = judge(dealt("ana", "bob", "bob", "bob", "ana", "bob").journal).of("fairness")[0]
    assert found.counts == {
        "members": 3,
        "insults": 6,
        "jain_percent": 60,  # 36 / (3 * (4 + 16))
        "most": 4,
        "least": 0,
        "longest_run": 3,
        "starved": 1,
        "passed_over": 6,
    }
    assert (found.outcome, found.counted) == ("not promised", False)


def paced(*takers: str, backend: str = "rabbitmq") -> Run:
    run = Run("ana", "bob", "eva")
    for user in ("bob", "eva"):
        run.fact("Connected", user, INSULTS, backend, "both")
    for taker in takers:
        run.work(taker, run.insult())
    return run.settle()


def test_paced_and_strict_means_in_turn() -> None:
    assert paced(*("bob", "eva") * 3).check("fairness").outcome == "kept"
    uneven = paced("bob", "eva", "bob", "bob", "eva", "bob").check("fairness")
    assert (uneven.outcome, uneven.counts["passed_over"]) == ("broken", 2)
    assert uneven.example.expected.startswith("eva was idle")
    assert len(uneven.example.lines) == 2


def test_about_is_less_than_strict_and_greedy_is_nothing() -> None:
    uneven = ("bob", "eva", "bob", "bob", "eva", "bob")
    assert paced(*uneven, backend="redis-list").check("fairness").outcome == "kept"
    greedy = paced(*("bob",) * 6, backend="rabbitmq:ack=auto").check("fairness")
    assert (greedy.outcome, greedy.counted) == ("not promised", False)
    assert paced(*("bob",) * 6, backend="redis-list").check("fairness").outcome == "broken"
    assert paced(*("bob",) * 6, backend="as-reported").check("fairness").outcome == "broken"


def burst(*takers: str, seconds: float, options: str = HOUSE) -> Run:
    run = channel(options=options)
    insults = [run.insult() for _ in takers]
    for taker, insult in zip(takers, insults, strict=True):
        run.work(taker, insult, seconds=seconds)
    return run.settle()


def test_a_burst_shows_a_turn_only_when_the_work_takes_time() -> None:
    assert burst(*("bob",) * 6, seconds=0).check("fairness").counted is False
    assert burst(*("bob",) * 6, seconds=0.05).check("fairness").outcome == "broken"
    assert burst(*("bob", "eva") * 3, seconds=0.05).check("fairness").outcome == "kept"


def test_what_a_member_may_hold_is_not_held_against_it() -> None:
    takers = ("bob", "bob", "bob", "bob", "eva", "eva")
    assert burst(*takers, seconds=0.05).check("fairness").outcome == "broken"
    held = burst(*takers, seconds=0.05, options="prefetch=3,ack=manual")
    assert held.check("fairness").outcome == "kept"


def test_who_is_busy_or_away_is_not_passed_over() -> None:
    run = channel()
    slow, *rest = [run.insult() for _ in range(8)]
    run.fact("Delivered", "eva", INSULTS, slow, False)
    for insult in rest:
        run.work("bob", insult, seconds=0.05)
    run.fact("Handled", "eva", INSULTS, slow.id)
    assert run.settle().check("fairness").outcome == "kept"
    away = channel()
    away.fact("Disconnected", "eva", INSULTS, "")
    for insult in [away.insult() for _ in range(8)]:
        away.work("bob", insult, seconds=0.05)
    assert away.settle().check("fairness").outcome == "kept"


def test_who_has_an_insult_in_its_hands_is_busy_until_it_is_done_or_crashes() -> None:
    def served_elsewhere(run: Run) -> Run:
        for _ in range(9):
            run.work("eva", run.insult(), seconds=0.01)
        return run

    held = channel()
    insult = held.insult()
    held.fact("Delivered", "bob", INSULTS, insult, False)
    assert served_elsewhere(held).check("fairness").counts["passed_over"] == 1  # eva, by it
    assert held.crash("bob").settle().check("fairness").outcome == "kept"
    # Given back, it is no excuse any more.
    held = channel()
    insult = held.insult()
    held.fact("Delivered", "bob", INSULTS, insult, False)
    held.fact("Rejected", "bob", INSULTS, insult.id, False)
    assert served_elsewhere(held).check("fairness").counts["passed_over"] == 9


def test_too_few_insults_are_a_figure() -> None:
    found = paced("bob").check("fairness")
    assert (found.outcome, found.counted) == ("cannot tell", False)


def test_who_only_sends_later_has_drawn_all_the_same() -> None:
    run = channel()
    for user in ("bob", "eva", "bob", "eva"):
        run.work(user, run.insult())
    run.fact("Connected", "eva", INSULTS, "rabbitmq", "producer")
    run.work("bob", run.insult()).work("bob", run.insult())
    found = run.check("fairness")
    assert (found.counts["members"], found.outcome) == (2, "kept")


def test_a_connection_that_a_killed_broker_took_is_the_brokers_fault() -> None:
    """``redis-list`` may lose what a cut link carries, and nothing when Redis is killed."""
    for fault, outcome in (("kill", "broken"), ("pause", "not promised")):
        run = Run("ana", "bob", "eva")
        for user in ("bob", "eva"):
            run.fact("Connected", user, INSULTS, "redis-list", "both")
        run.insult()
        run.fault(fault, "redis").fact("Disconnected", "bob", INSULTS, "it broke")
        run.over(fault, "redis").fact("Connected", "bob", INSULTS, "redis-list", "both")
        found = run.settle().check("delivery")
        assert found.outcome == outcome
        assert "away" not in found.example.expected


def test_that_one_member_was_away_is_no_matter_for_an_insult() -> None:
    run = channel()
    insult = run.insult()
    run.fact("Disconnected", "bob", INSULTS, "")
    found = run.settle().check("delivery")
    assert found.outcome == "broken"
    assert found.example.expected == f"{insult.id} was to be shown to any member; it never was."


def test_ones_own_insults_pass_one_over_where_nobody_draws_its_own() -> None:
    for backend, outcome in (("rabbitmq-not-me", "kept"), ("rabbitmq", "broken")):
        run = Run("ana", "bob", "eva")
        for user in ("ana", "bob", "eva"):
            run.fact("Connected", user, INSULTS, backend, "both")
        for user in ("bob", "eva") * 3:
            run.work(user, run.insult("ana"))
        assert run.settle().check("fairness").outcome == outcome


def test_who_was_frozen_and_killed_before_the_insult_never_held_it() -> None:
    for dead, outcome in ((True, "broken"), (False, "not promised")):
        run = Run("ana", "bob", "eva")
        for user in ("bob", "eva"):
            run.fact("Connected", user, INSULTS, "redis-list", "both")
        run.fact("Frozen", "bob", "")
        if dead:
            run.crash("bob")
        run.insult()
        assert run.settle().check("delivery").outcome == outcome
