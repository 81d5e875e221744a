"""Verdicts as values: the worst counts, tables, JSON; what is expected; presence."""

from __future__ import annotations

import csv
import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from checkers_script import Run
from plots_script import bob_is_away

from chatlab import checkers
from chatlab.backends import GROUPS, INSULTS, PRIVATE
from chatlab.checkers import Check, Example, Listing, Stay, Verdict, judge, presence
from chatlab.checkers.promises import judged_by
from chatlab.checkers.verdict import OUTCOMES, worst
from chatlab.errors import InvalidInput
from chatlab.journal import Journal
from chatlab.lab.scene import Scene
from chatlab.private.guarantees import guarantees, table


def lossy() -> Verdict:
    run = Run("ana", "bob").join()
    run.send("ana", "ana")
    return judge(run.settle().journal)


def checked(*outcomes: Any, counted: bool = True) -> Verdict:
    return Verdict(tuple(Check("x", "", "", o, "Why.", counted=counted) for o in outcomes))


def test_the_worst_check_is_the_verdict_and_nothing_proves_nothing() -> None:
    assert OUTCOMES == ("kept", "not promised", "cannot tell", "broken")
    assert checked("kept", "not promised").outcome == "not promised"
    assert checked("not promised", "cannot tell", "kept").outcome == "cannot tell"
    assert checked("cannot tell", "broken", "kept").outcome == "broken"
    assert checked().outcome == worst([]) == "cannot tell"


def test_a_figure_does_not_count() -> None:
    kept, figure = checked("kept"), checked("not promised", counted=False)
    assert Verdict(kept.checks + figure.checks).outcome == "kept"
    assert figure.outcome == "cannot tell"
    assert "(not promised)" in repr(figure)


def test_verdicts_and_checks_are_frozen() -> None:
    verdict = lossy()
    with pytest.raises(FrozenInstanceError):
        verdict.tier = "x"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        verdict.checks[0].why = "x"  # type: ignore[misc]


def test_a_verdict_survives_json() -> None:
    verdict = lossy()
    data = json.loads(json.dumps(verdict.to_dict()))
    assert (data["outcome"], data["lost"]) == ("broken", 1)
    again = Verdict.from_dict(data)
    assert again == verdict
    assert again.example == verdict.example and again.example


def test_tables_have_a_row_a_check_and_every_count(tmp_path: Any) -> None:
    verdict = lossy()
    rows = verdict.table()
    assert [row["check"] for row in rows] == [check.checker for check in verdict.checks]
    assert rows[0]["lost"] == 1
    text = verdict.to_csv(tmp_path / "verdict.csv")
    assert (tmp_path / "verdict.csv").read_bytes().decode() == text
    assert len(list(csv.DictReader(text.splitlines()))) == len(rows)
    assert verdict.to_markdown().startswith("| check | conversation |")


def test_a_verdict_reads_as_a_table_with_the_smallest_example() -> None:
    verdict = lossy()
    text = repr(verdict)
    assert text.startswith("broken, real; lost: 1\n")
    assert "was to be shown to bob" in text and '["Sent"' in text
    assert repr(verdict.of("delivery")[0]).startswith("delivery sd: broken. ")
    assert "ana:1:1" in verdict._repr_html_()


def test_what_people_wrote_is_escaped() -> None:
    run = Run("ana", "bob").join()
    message = run.message("ana", "sd")._replace(body="<script>alert(1)</script>")
    run.fact("Sent", "ana", "group:sd", message).result(message, "group:sd", "Confirmed")
    verdict = judge(run.settle().journal)
    for shown in (verdict._repr_html_(), verdict.of("delivery")[0]._repr_html_()):
        assert "&lt;script&gt;" in shown and "<script>" not in shown


def test_a_check_is_found_by_name_and_conversation() -> None:
    run = Run("ana", "bob").join().join(to="news")
    run.send("ana", "ana", "bob")
    run.send("ana", "ana", to="news")
    verdict = judge(run.settle().journal)
    assert [c.outcome for c in verdict.of("delivery", "sd")] == ["kept"]
    assert [c.outcome for c in verdict.of("delivery", "group:news")] == ["broken"]
    assert len(verdict.of("delivery")) == 2 and verdict.outcome == "broken"


def test_a_stand_in_is_named() -> None:
    run = Run("ana", "bob", backend="memory").join()
    run.send("ana", "ana", "bob")
    verdict = judge(run.journal)
    assert verdict.stand_ins == ("memory",)
    assert "memory (stand-in)" in repr(verdict)
    assert verdict.checks[0].backend == "memory (stand-in)"
    assert judge(bob_is_away(kept=True).journal).stand_ins == ()


def test_the_tier_is_the_headers() -> None:
    assert judge(Run("ana", tier="replay").journal).tier == "replay"
    assert judge(Journal()).tier == ""


def test_a_scene_asks_the_judges() -> None:
    run = eventful()
    scene = Scene(None, "eventful", run.journal)  # type: ignore[arg-type]
    assert scene.verdict(expect=("kill rabbitmq",)) == judge(
        run.journal, expect=("kill rabbitmq",)
    )


# -- what was expected


def eventful() -> Run:
    run = Run("ana", "bob").join()
    run.fault("kill", "rabbitmq").over("kill", "rabbitmq")
    run.fault("cut", "bob-rabbitmq").over("cut", "bob-rabbitmq")
    run.fact("Frozen", "bob", "").fact("Thawed", "bob", "")
    run.crash("bob").revive("bob").reach("bob").leave("bob").come("bob")
    run.send("ana", "ana", "bob")
    return run.settle()


@pytest.mark.parametrize(
    "event", ["kill rabbitmq", "cut bob-rabbitmq", "freeze bob", "crash bob", "away bob"]
)
def test_what_was_expected_and_happened_leaves_the_verdict_alone(event: str) -> None:
    verdict = judge(eventful().journal, expect=(event,))
    assert verdict.of("expected")[0].outcome == "kept"
    assert verdict.outcome == "kept"


@pytest.mark.parametrize(
    "event", ["kill redis", "cut ana-rabbitmq", "freeze ana", "crash ana", "restart rabbitmq"]
)
def test_without_the_expected_fault_the_run_proves_nothing(event: str) -> None:
    verdict = judge(eventful().journal, expect=("kill rabbitmq", event))
    assert [check.outcome for check in verdict.of("expected")] == ["kept", "cannot tell"]
    assert verdict.outcome == "cannot tell"


def test_a_fault_after_everything_proves_nothing_either() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    run.fault("kill", "rabbitmq").over("kill", "rabbitmq")
    verdict = judge(run.settle().journal, expect=("kill rabbitmq",))
    assert verdict.of("expected")[0].outcome == verdict.outcome == "cannot tell"


def test_a_broken_run_is_broken_whatever_was_expected() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana")
    assert judge(run.settle().journal, expect=("crash eva",)).outcome == "broken"


@pytest.mark.parametrize("event", ["", "explode rabbitmq", "kill", "kill "])
def test_an_expectation_that_cannot_be_read_is_refused(event: str) -> None:
    with pytest.raises(InvalidInput, match="kill rabbitmq"):
        judge(Journal(), expect=(event,))


# -- whose promises


def test_as_reported_and_the_unknown_are_judged_by_the_default() -> None:
    assert judged_by("group", "as-reported:persistent=yes") == "rabbitmq-durable"
    assert judged_by("insults", "as-reported") == "rabbitmq"
    assert judged_by("private", "my-own") == "mailbox-redis"
    for pattern, known in (("group", GROUPS), ("insults", INSULTS), ("private", PRIVATE)):
        for backend in set(known) - {"as-reported"}:
            assert judged_by(pattern, backend) == backend


def test_every_private_backend_has_a_row() -> None:
    assert [row["backend"] for row in table(PRIVATE)] == list(PRIVATE)
    assert guarantees("mailbox-memory").server_killed == "lost"
    assert guarantees("mailbox-redis").redis_killed == "kept"
    assert {guarantees("direct").away, guarantees("direct").killed} == {"told"}
    with pytest.raises(InvalidInput, match="mailbox-redis"):
        guarantees("mailbox")


def test_all_that_is_exported_exists() -> None:
    assert all(hasattr(checkers, name) for name in checkers.__all__)
    assert not Example()


# -- presence


def looks(way: str, *seen: tuple[float, str]) -> list[Listing]:
    return [Listing(at, way, frozenset(names.split())) for at, names in seen]


TRUTH = (Stay("ana", 0), Stay("bob", 2, 5))


def seen_by(*seen: tuple[float, str], ghost: float = 1.0, missed: float = 1.0) -> Check:
    (found,) = presence(
        TRUTH, looks("registry", *seen), ghost_seconds=ghost, missed_seconds=missed
    )
    return found


def test_a_list_that_follows_the_truth_is_kept() -> None:
    found = seen_by((0, "ana"), (2.5, "ana bob"), (5.5, "ana"), (6, "ana"))
    assert (found.outcome, found.backend) == ("kept", "registry")
    assert (found.counts["ghost_ms"], found.counts["missed_ms"]) == (500, 500)


def test_ghosts_and_the_missed_are_counted_in_seconds() -> None:
    found = seen_by((0, "ana"), (3, "bob"), (4, "ana bob"), (9, "ana bob"))
    assert found.outcome == "broken"
    assert found.counts["longest_ghost_ms"] == 4000  # bob, from 5 to 9
    assert found.counts["missed_ms"] == 2000  # bob 2 to 3, ana 3 to 4
    assert found.example.expected.startswith("By registry, bob was listed without being there")


def test_an_invented_user_is_a_ghost() -> None:
    found = seen_by((0, "ana zoe"), (2, "ana bob zoe"), (5, "ana zoe"), (6, "ana zoe"))
    assert (found.outcome, found.counts["ghosts"]) == ("broken", 1)
    assert "zoe" in found.example.expected


def test_one_who_is_never_listed_is_missed() -> None:
    found = seen_by((0, "ana"), (3, "ana"), (6, "ana"), missed=2.0)
    assert seen_by((0, "ana"), (3, "ana"), (6, "ana"), missed=3.5).outcome == "kept"
    assert (found.outcome, found.counts["longest_missed_ms"]) == ("broken", 3000)


def test_each_way_is_judged_by_itself_in_any_order_of_looks() -> None:
    listings = [*looks("events", (6, "ana"), (0, "ana")), *looks("registry", (1, "ana"))]
    events, registry = presence(TRUTH, listings, ghost_seconds=1, missed_seconds=1)
    assert (events.backend, events.outcome) == ("events", "broken")
    assert (registry.backend, registry.outcome) == ("registry", "cannot tell")


def test_a_quiet_time_proves_nothing() -> None:
    assert seen_by((6, "ana"), (8, "ana")).outcome == "cannot tell"


def test_a_fault_that_cost_something_came_in_time_though_it_was_the_last_event() -> None:
    run = Run("ana", "bob", backend="rabbitmq-transient").join()
    run.send("ana", "ana")
    run.fault("kill", "rabbitmq").over("kill", "rabbitmq")
    verdict = judge(run.settle().journal, expect=("kill rabbitmq",))
    assert verdict.of("expected")[0].outcome == "kept"
    assert verdict.outcome == "not promised"
