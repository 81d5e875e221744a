"""Scenarios on real services that are really broken, and what the judges say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatlab import experiments
from chatlab.backends import GROUPS
from chatlab.checkers import judge
from chatlab.experiments import Run, Scenario
from chatlab.groups.guarantees import guarantees
from chatlab.settings import Settings


def quiet(_: str) -> None:
    """Progress is nobody's here."""


def played(scenario: Scenario | str, backend: str, settings: Settings, n: int = 40) -> Run:
    return experiments.run(
        scenario, backend, messages=n, folder=None, settings=settings, report=quiet
    )


def told(run: Run) -> str:
    return "\n".join(repr(check) for check in run.verdict.checks)


def test_the_grid_of_all_groups_says_what_each_backend_promises(
    lab_settings: Settings,
) -> None:
    grid = experiments.matrix(
        ["absent-member", "broker-kill"], settings=lab_settings, report=quiet
    )
    assert set(grid.backends) == set(GROUPS)
    for backend in GROUPS:
        away, killed = (grid[backend, name] for name in grid.scenarios)
        promised = guarantees(backend)
        if backend == "as-reported":
            assert (away.outcome, away.verdict.lost) == ("broken", 20), told(away)
            assert (killed.outcome, killed.verdict.lost) == ("broken", 20), told(killed)
        elif promised.away == "kept":
            assert away.outcome == "kept", told(away)
            wanted = "cannot tell" if promised.broker == "none" else "kept"
            assert killed.outcome == wanted, told(killed)
        else:
            assert (away.outcome, away.verdict.lost) == ("not promised", 20), told(away)
            assert (killed.outcome, killed.verdict.lost) == ("not promised", 20), told(killed)
    assert grid.cell("memory", "broker-kill") == "? no broker"
    assert grid.cell("rabbitmq-durable", "broker-kill") == "✓"
    assert grid.cell("rabbitmq-transient", "absent-member") == "– 20 lost"


def test_only_a_log_shows_a_late_joiner_what_was_before(lab_settings: Settings) -> None:
    grid = experiments.matrix(
        ["late-joiner"],
        ["rabbitmq-log", "rabbitmq-durable", "redis-stream"],
        messages=12,
        settings=lab_settings,
        report=quiet,
    )
    assert [row["late-joiner"] for row in grid.table()] == ["✓", "– 12 lost", "– 12 lost"]


@pytest.mark.parametrize(
    ("backend", "outcome", "lost"),
    [
        ("mailbox-redis", "kept", 0),
        ("mailbox-memory", "not promised", 20),
        ("private/as-reported", "broken", 20),
    ],
)
def test_a_killed_chat_server_has_lost_what_waited_in_its_memory(
    backend: str, outcome: str, lost: int, lab_settings: Settings
) -> None:
    run = played("server-kill", backend, lab_settings)
    assert (run.outcome, run.verdict.lost) == (outcome, lost), told(run)


@pytest.mark.parametrize("backend", ["rabbitmq", "rabbitmq-not-me", "redis-stream", "memory"])
def test_a_killed_member_s_insults_go_to_another(backend: str, lab_settings: Settings) -> None:
    run = played("crash-with-work", f"insults/{backend}", lab_settings)
    assert run.outcome == "kept", told(run)


def test_a_second_window_takes_all_messages_over(lab_settings: Settings) -> None:
    for backend in ("rabbitmq-durable", "mailbox-redis", "direct"):
        run = played("two-windows", backend, lab_settings)
        assert run.outcome == "kept", told(run)


def test_a_member_behind_a_cut_link_sees_the_rest_when_it_is_whole(
    lab_settings: Settings,
) -> None:
    run = played("link-cut", "rabbitmq-durable", lab_settings)
    assert run.outcome == "kept", told(run)
    assert any(row[0] == "FaultBegan" for row in run.journal.rows)


def test_a_memory_alarm_makes_sends_uncertain_and_nothing_is_lost(
    lab_settings: Settings,
) -> None:
    scenario = (
        Scenario("alarm", "ana bob")
        .join("ana", "bob")
        .send("ana", 3)
        .settle()
        .memory_alarm()
        .send("ana", 3)
        .calm()
        .send("ana", 3)
    )
    for backend in ("rabbitmq-durable", "redis-stream"):
        run = played(scenario, backend, lab_settings)
        assert run.outcome == "kept", told(run)
        assert run.figures.confirmed == 6


def test_after_a_memory_alarm_that_nobody_ended_the_next_lab_has_a_healthy_broker(
    lab_settings: Settings,
) -> None:
    scenario = Scenario("left", "ana bob").join("ana", "bob").memory_alarm().send("ana", 1)
    run = played(scenario, "redis-stream", lab_settings)
    assert run.figures.confirmed == 0
    assert played("burst", "redis-stream", lab_settings).outcome == "kept"


@pytest.mark.soak
def test_insults_that_wait_while_their_broker_is_killed_are_there_for_both(
    lab_settings: Settings,
) -> None:
    run = played("broker-kill", "insults/rabbitmq", lab_settings)
    assert run.outcome == "kept", told(run)
    (fairness,) = run.verdict.of("fairness")
    assert fairness.counts["members"] == 2


@pytest.mark.soak
def test_who_vanishes_is_listed_for_a_lease_and_no_longer(lab_settings: Settings) -> None:
    run = played("ghosts", "redis-stream", lab_settings)
    assert run.outcome == "kept", told(run)
    (presence,) = run.verdict.of("presence")
    assert presence.counts["ghosts"] == 2  # the killed and the frozen; one was cut off
    assert presence.counts["longest_ghost_ms"] > 0


def test_a_fault_that_never_happened_proves_nothing(lab_settings: Settings) -> None:
    run = played("absent-member", "rabbitmq-durable", lab_settings, 8)
    assert run.outcome == "kept"
    assert judge(run.journal, expect=["kill rabbitmq"]).outcome == "cannot tell"


def test_a_step_that_cannot_be_done_is_said_and_the_lab_is_gone(
    lab_settings: Settings,
) -> None:
    scenario = Scenario("twice", "ana bob").join("ana", "bob").thaw("bob")
    run = played(scenario, "rabbitmq-durable", lab_settings)
    assert run.outcome == "cannot tell"
    assert "bob: thaw" in run.verdict.checks[0].why
    assert "not frozen" in run.verdict.checks[0].why


def test_a_run_is_kept_and_replays_without_brokers(
    lab_settings: Settings, tmp_path: Path
) -> None:
    run = experiments.run(
        "poison", "rabbitmq", messages=12, folder=tmp_path, settings=lab_settings, report=quiet
    )
    assert run.folder is not None
    back = Run.load(run.folder)
    assert back.verdict.checks == run.verdict.checks  # judged anew
    assert back.journal.header["settings"]["lease_seconds"] == lab_settings.lease_seconds
    assert (back.stored, back.differences) == (run.verdict, ())
    assert (run.folder / "insults.svg").exists()
