"""Comparing two runs: where they part. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import zip_longest
from typing import Any

from chatlab.experiments.run import Run
from chatlab.journal import Delivered, Journal
from chatlab.tables import Table

#: What stands where one run has nothing more.
NOTHING = "—"


def compare(first: Run, second: Run) -> Table:
    """A row for each user whose screens differ, and one for the verdicts where they do.

    ``place``: how many messages both were shown before they part; then what each was shown
    next, and how many messages only one of them was shown. Messages are compared by sender
    and text, because ids are each run's own.
    """
    shown = [_shown(run.journal) for run in (first, second)]
    rows: list[dict[str, Any]] = []
    names = _names(first, second)
    if first.outcome != second.outcome:
        rows.append({"who": "(verdict)", names[0]: first.outcome, names[1]: second.outcome})
    for user in sorted(shown[0].keys() | shown[1].keys()):
        mine, theirs = (found.get(user, []) for found in shown)
        place = next(
            (n for n, pair in enumerate(zip_longest(mine, theirs)) if pair[0] != pair[1]), None
        )
        if place is not None:
            only = [sum((Counter(a) - Counter(b)).values()) for a, b in _both(mine, theirs)]
            rows.append(
                {
                    "who": user,
                    "place": place,
                    names[0]: _next(mine, place),
                    names[1]: _next(theirs, place),
                    f"only {names[0]}": only[0],
                    f"only {names[1]}": only[1],
                }
            )
    title = f"{names[0]} against {names[1]}"
    return Table(rows, f"{title}: where they part" if rows else f"{title}: all the same")


def _names(first: Run, second: Run) -> tuple[str, str]:
    """What tells the two apart: backend, scenario, or when they were."""
    for a, b in (
        (first.backend, second.backend),
        (first.scenario.name, second.scenario.name),
        (first.name, second.name),
    ):
        if a != b:
            return a, b
    return "the first", "the second"


def _both(mine: list[str], theirs: list[str]) -> tuple[tuple[list[str], list[str]], ...]:
    return (mine, theirs), (theirs, mine)


def _next(shown: list[str], place: int) -> str:
    return shown[place] if place < len(shown) else NOTHING


def _shown(journal: Journal) -> dict[str, list[str]]:
    """User -> what it was shown, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for fact in journal.facts(Delivered):
        found[fact.user].append(f"{fact.message.sender}: {fact.message.body}")
    return dict(found)
