"""The numbers of the grid: what each cell says, what all of them say together. Pure.

A grid is any value with the attributes of an ``experiments.Matrix``: that room is above this
one. *Survives* = promised and kept; a situation nobody promised to survive is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatlab.journal import Journal
from chatlab.plots.words import counted, phrase, sentence, versions

#: The backend that does what the report did: the first row of every comparison.
BASELINE = "as-reported"


class Verdict(Protocol):
    """What the judges said of one run."""

    @property
    def outcome(self) -> str: ...
    @property
    def lost(self) -> int: ...


class Played(Protocol):
    """One run, the worst of its ``repeats``."""

    @property
    def verdict(self) -> Verdict: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def repeats(self) -> Sequence[object]: ...


class Grid(Protocol):
    """What ``experiments.matrix`` returns."""

    @property
    def backends(self) -> Sequence[str]: ...
    @property
    def scenarios(self) -> Sequence[str]: ...
    @property
    def runs(self) -> Mapping[tuple[str, str], Played]: ...
    def cell(self, backend: str, scenario: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One run as the grid shows it: a sign, and a number or a reason."""

    backend: str
    scenario: str
    outcome: str
    lost: int
    words: str
    #: Of how many runs it is the worst.
    runs: int
    #: How many messages were sent.
    sent: int
    tier: str

    @property
    def counts(self) -> bool:
        """Does it say a number? (Otherwise nothing, or a reason.)"""
        return self.lost > 0 and self.outcome != "cannot tell"

    def row(self) -> dict[str, Any]:
        """The cell as one row of the picture's table."""
        return {
            "backend": self.backend,
            "situation": self.scenario,
            "outcome": self.outcome,
            "lost": self.lost,
            "sent": self.sent,
            "says": self.words,
            "runs": self.runs,
        }


def rows_of(grid: Grid) -> list[str]:
    """The backends from top to bottom: as-reported first."""
    return sorted(grid.backends, key=lambda backend: not is_baseline(backend))


def is_baseline(backend: str) -> bool:
    """As reported, with whatever options?"""
    return backend.partition(":")[0] == BASELINE


def cells(grid: Grid) -> dict[tuple[str, str], Cell]:
    """(backend, scenario) -> what was played there, row by row."""
    found = {}
    for backend in rows_of(grid):
        for scenario in grid.scenarios:
            run = grid.runs.get((backend, scenario))
            if run is not None:
                words = grid.cell(backend, scenario)
                found[backend, scenario] = _cell(backend, scenario, run, words)
    return found


def _cell(backend: str, scenario: str, run: Played, words: str) -> Cell:
    return Cell(
        backend,
        scenario,
        run.verdict.outcome,
        run.verdict.lost,
        words,
        max(len(run.repeats), 1),
        run.journal.counts().get("Sent", 0),
        str(run.journal.header.get("tier", "")).lower(),
    )


def tiers(found: Mapping[tuple[str, str], Cell]) -> dict[str, str]:
    """Backend -> the tier of its row; the one that is not real where they differ."""
    tier: dict[str, str] = {}
    for cell in found.values():
        if tier.get(cell.backend, "real") == "real":
            tier[cell.backend] = cell.tier
    return tier


def settings(grid: Grid, found: Mapping[tuple[str, str], Cell]) -> list[str]:
    """``RabbitMQ 3.10.8``, ``40 messages each``, ``worst of 3 runs``."""
    headers = [run.journal.header for run in grid.runs.values()]
    words = versions(headers, grid.backends)
    played = [cell for cell in found.values() if cell.outcome != "cannot tell"]
    sent = sorted({cell.sent for cell in played if cell.sent})
    if sent:
        least = f"{sent[0]:,} to " if len(sent) > 1 else ""
        words.append(f"{least}{counted(sent[-1], 'message')} each")
    repeats = max((cell.runs for cell in found.values()), default=1)
    return words + ([f"worst of {repeats} runs"] if repeats > 1 else [])


def grid_finding(grid: Grid, found: Mapping[tuple[str, str], Cell]) -> list[str]:
    """``Only rabbitmq-log survives all 6 situations; as-reported breaks 5 promises``."""
    rows = [row for row in rows_of(grid) if any(row == backend for backend, _ in found)]
    if not any(cell.outcome != "cannot tell" for cell in found.values()):
        return ["Nothing can be told: no run proves anything" if found else "Nothing was run"]
    broken = Counter(cell.backend for cell in found.values() if cell.outcome == "broken")
    if len(rows) == 1:
        return _one_row(grid, rows[0], list(found.values()))
    tails = _broken(broken)
    heads = _survivors(grid, rows, found)
    return [head + tail for tail in tails for head in heads] + heads[-1:]


def _survivors(
    grid: Grid, rows: Sequence[str], found: Mapping[tuple[str, str], Cell]
) -> list[str]:
    """Who survives everything: ``Only rabbitmq-log survives all 6 situations``."""
    outcomes = {
        row: {
            found[row, scenario].outcome if (row, scenario) in found else "cannot tell"
            for scenario in grid.scenarios
        }
        for row in rows
    }
    whole = [row for row in rows if outcomes[row] == {"kept"}]
    # Where a run proves nothing, its backend may be one more.
    only = not any(outcomes[row] == {"kept", "cannot tell"} for row in rows)
    number = len(grid.scenarios)
    goals = [f"all {number} situations", f"all {number}"]
    if number == 1:
        goals = [phrase(grid.scenarios[0])]
    if not whole:
        return [f"None of {len(rows)} survives {goal}" for goal in goals]
    if len(whole) == len(rows):
        return [f"All {len(rows)} survive {goal}" for goal in goals]
    verb = "survives" if len(whole) == 1 else "survive"
    who = [f"{len(whole)} of {len(rows)}"]
    if len(whole) <= 2:
        who.insert(0, ("Only " if only else "") + " and ".join(whole))
    return [f"{words} {verb} {goal}" for words in who for goal in goals]


def _broken(broken: Mapping[str, int]) -> list[str]:
    total = sum(broken.values())
    if not total:
        return ["; no promise was broken", ""]
    words = f"; {counted(total, 'promise')} {'is' if total == 1 else 'are'} broken"
    if len(broken) > 1:
        return [words]
    return [f"; {next(iter(broken))} breaks {counted(total, 'promise')}", words]


def _one_row(grid: Grid, row: str, found: Sequence[Cell]) -> list[str]:
    """``Of 6 situations rabbitmq-durable survives 5; 1 was not promised``."""
    outcomes = Counter(cell.outcome for cell in found)
    parts = [
        f"{outcomes[outcome]} {words}"
        for outcome, words in (
            ("broken", "broke a promise"),
            ("not promised", "not promised"),
            ("cannot tell", "cannot be told"),
        )
        if outcomes[outcome]
    ]
    kept = outcomes["kept"]
    all_of = f"all {len(found)}" if kept == len(found) > 1 else str(kept)
    rest = f"; {', '.join(parts)}" if parts else ""
    if len(found) == 1:
        words = f"{phrase(found[0].scenario)} on {row}: {found[0].outcome}"
        return [sentence(words), sentence(found[0].outcome)]
    return [
        f"Of {len(found)} situations {row} survives {all_of}{rest}",
        f"{kept} of {len(found)} situations survived{rest}",
    ]
