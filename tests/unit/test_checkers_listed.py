"""Who is listed in the course of a run, by its journal: ghosts, and those who are missed."""

from __future__ import annotations

import pytest
from checkers_script import Run

from chatlab.checkers import Check, judge


def asked(run: Run, *names: str, seconds: float = 0.0) -> Run:
    """The registry names them, all the time."""
    for _ in range(1 + round(seconds / 0.2)):
        run.fact("Listed", "", "", "registry", sorted(names))
        run.wait(0.2)
    return run


def presence(run: Run) -> Check:
    (found,) = judge(run.journal).of("presence")
    return found


def vanished(how: str, *listed: str, seconds: float, lease: float = 3.0) -> Run:
    """Bob vanishes, and is still listed for so long; then he is back."""
    run = Run("ana", "bob", settings={"lease_seconds": lease})
    asked(run, "ana", "bob").fact(how, "bob", "", *([""] if how == "Disconnected" else []))
    asked(run, *listed, seconds=seconds)
    return asked(run, "ana", seconds=1.0)


@pytest.mark.parametrize("how", ["Crashed", "Frozen", "Disconnected"])
def test_who_has_vanished_may_be_listed_for_a_lease_and_no_longer(how: str) -> None:
    assert presence(vanished(how, "ana", "bob", seconds=3.0)).outcome == "kept"
    found = presence(vanished(how, "ana", "bob", seconds=6.0))
    assert (found.outcome, found.backend, found.counts["ghosts"]) == ("broken", "registry", 1)
    assert "bob was listed without being there" in found.example.expected
    assert judge(vanished(how, "ana", "bob", seconds=6.0).journal).outcome == "broken"


def test_the_lease_is_the_one_of_the_run() -> None:
    assert presence(vanished("Crashed", "ana", "bob", seconds=3.5, lease=1.0)).outcome == (
        "broken"
    )


@pytest.mark.parametrize("how", ["Thawed", "Connected"])
def test_who_is_back_is_listed_soon(how: str) -> None:
    for seconds, outcome in ((1.0, "kept"), (3.0, "broken")):
        run = vanished("Frozen" if how == "Thawed" else "Crashed", "ana", seconds=1.0)
        run.fact("Thawed", "bob", "") if how == "Thawed" else run.revive("bob")
        found = presence(asked(asked(run, "ana", seconds=seconds), "ana", "bob"))
        assert found.outcome == outcome
        assert (found.counts["missed"], found.counts["ghosts"]) == (1, 1)


def test_of_one_who_is_cut_off_from_the_registry_nobody_can_say_whether_he_is_there() -> None:
    for service, outcome in (("redis", "cannot tell"), ("rabbitmq", "broken")):
        run = Run("ana", "bob")
        asked(run, "ana", "bob").fault("cut", f"bob-{service}")
        assert presence(asked(run, "ana", seconds=4.0)).outcome == outcome


def test_a_registry_that_failed_itself_is_not_judged() -> None:
    run = vanished("Crashed", "ana", "bob", seconds=6.0).fault("kill", "redis")
    found = presence(run)
    assert (found.outcome, found.counted) == ("cannot tell", False)


def test_time_in_which_nobody_asked_is_held_against_nobody() -> None:
    run = vanished("Crashed", "ana", seconds=1.0).revive("bob").wait(30)
    assert presence(asked(run, "ana", "bob")).counts["longest_missed_ms"] <= 500
    still_missed = vanished("Crashed", "ana", seconds=1.0).revive("bob").wait(30)
    assert presence(asked(still_missed, "ana", seconds=3.0)).outcome == "broken"


def test_a_run_in_which_nobody_asked_has_no_such_check() -> None:
    assert not judge(Run("ana", "bob").journal).of("presence")
