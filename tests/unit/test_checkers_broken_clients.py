"""A checker is proved by the broken clients that it must catch."""

from __future__ import annotations

import json

import pytest
from broken_clients import BROKEN, RUNS, Client

from chatlab.checkers import Verdict, judge


@pytest.mark.parametrize("run", RUNS)
def test_the_client_that_is_right_passes_every_check(run: str) -> None:
    verdict = judge(RUNS[run](Client))
    assert {check.checker: check.outcome for check in verdict.checks if check.counted} == {
        check.checker: "kept" for check in verdict.checks if check.counted
    }, verdict
    assert (verdict.outcome, verdict.lost) == ("kept", 0)
    assert all(check.counts["insults"] > 20 for check in verdict.of("fairness"))


@pytest.mark.parametrize(
    ("client", "run"),
    [(client, run) for client in BROKEN for run in client.runs],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_that_is_broken_is_caught_by_its_check_with_an_example(
    client: type[Client], run: str
) -> None:
    journal = RUNS[run](client)
    verdict = judge(journal)
    found = [check for check in verdict.of(client.caught_by) if check.outcome == "broken"]
    assert found, verdict
    assert verdict.outcome == "broken"
    for check in found:
        assert check.example.expected
        assert 0 < len(check.example.lines) <= 12
        for number, text in check.example.lines:
            assert json.loads(text)[1:4] == list(journal.rows[number - 2][1:4])
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_there_are_at_least_twelve_and_every_run_has_some() -> None:
    assert len(BROKEN) >= 12
    assert {run for client in BROKEN for run in client.runs} == set(RUNS)
