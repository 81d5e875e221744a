"""Matrix: what survives what, as one grid of runs; a value.

A cell says ``✓`` (promised and kept), ``– 20 lost`` (not promised), ``✗ 12 lost`` (promised
and broken) or ``? no cut`` (the run tells nothing). A matrix shows itself as a table;
``plots.grid`` draws it. ``one | other`` is one grid of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatlab.experiments.run import Run
from chatlab.tables import Table, Tabular

_SIGNS = {"kept": "✓", "not promised": "–", "broken": "✗", "cannot tell": "?"}


@dataclass(frozen=True, repr=False)
class Matrix(Tabular):
    """Rows are backends, columns scenarios."""

    backends: Sequence[str]
    scenarios: Sequence[str]
    #: (backend, scenario) -> the worst of its runs.
    runs: Mapping[tuple[str, str], Run]

    def __getitem__(self, key: tuple[str, str]) -> Run:
        return self.runs[key]

    def __or__(self, other: Matrix) -> Matrix:
        """Rows and columns of both; where both have a cell, that of ``other``."""
        return Matrix(
            list(dict.fromkeys([*self.backends, *other.backends])),
            list(dict.fromkeys([*self.scenarios, *other.scenarios])),
            {**self.runs, **other.runs},
        )

    def cell(self, backend: str, scenario: str) -> str:
        """What the grid says there; empty where nothing was run."""
        found = self.runs.get((backend, scenario))
        return cell_text(found) if found is not None else ""

    @property
    def outcomes(self) -> set[str]:
        """All verdicts that occur."""
        return {run.outcome for run in self.runs.values()}

    def _table(self) -> Table:
        rows = (
            {"backend": backend, **{s: self.cell(backend, s) for s in self.scenarios}}
            for backend in self.backends
        )
        return Table(rows, "✓ promised and kept  – not promised  ✗ broken  ? cannot tell")


def cell_text(run: Run) -> str:
    """The sign and the number, or the reason in short."""
    sign = _SIGNS[run.outcome]
    lost = run.verdict.lost
    if run.outcome == "cannot tell":
        return f"{sign} {_why(run)}"
    if run.outcome == "kept":
        return sign
    return f"{sign} {lost} lost" if lost else f"{sign} {_why(run)}"


def _why(run: Run) -> str:
    """The check that made the verdict what it is, up to the colon of its sentence."""
    checks = [c for c in run.verdict.checks if c.outcome == run.outcome and c.counted]
    return checks[0].why.rstrip(".").partition(":")[0] if checks else ""
