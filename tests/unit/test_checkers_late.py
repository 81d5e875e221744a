"""Late joiners: a figure, unless the run is about them."""

from __future__ import annotations

from checkers_script import Run

from chatlab.checkers import judge


def late(backend: str, *shown_to_eva: int) -> Run:
    """Two are sent, then eva comes and is shown some of them."""
    run = Run("ana", "bob", "eva", backend=backend)
    run.join("ana", "bob")
    sent = [run.send("ana", "ana", "bob") for _ in range(2)]
    run.join("eva")
    for index in shown_to_eva:
        run.see("eva", sent[index])
    return run.settle()


def test_what_a_late_joiner_misses_is_a_figure_where_nobody_asked() -> None:
    run = late("rabbitmq-durable")
    found = run.check("late")
    assert (found.outcome, found.counts["lost"], found.counted) == ("not promised", 2, False)
    assert (judge(run.journal).outcome, judge(run.journal).lost) == ("kept", 0)


def test_where_the_run_is_about_it_what_was_missed_counts() -> None:
    verdict = judge(late("rabbitmq-durable").journal, expect=["late eva"])
    assert (verdict.outcome, verdict.lost) == ("not promised", 2)


def test_a_log_that_shows_all_is_kept_and_one_that_shows_half_is_not() -> None:
    whole = judge(late("rabbitmq-log", 0, 1).journal, expect=["late eva"])
    assert (whole.outcome, whole.lost) == ("kept", 0)
    half = judge(late("rabbitmq-log", 1).journal, expect=["late eva"])
    assert (half.outcome, half.lost) == ("not promised", 1)


def test_who_did_not_come_late_proves_nothing() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    run.settle()
    assert judge(run.journal, expect=["late bob"]).outcome == "cannot tell"
