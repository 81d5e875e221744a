"""Evidence: what a reader's runs say, kept so that it can be judged again.

A grid, single runs and pairs of calls become numbers that claims are held against. Runs are
kept with their journals; :func:`load` judges these anew and refuses what was changed since.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import chatlab
from chatlab import plots
from chatlab.course import my
from chatlab.course.pairs import Pairs
from chatlab.course.questions import Claim
from chatlab.errors import InvalidInput
from chatlab.experiments import Matrix, Run

FOLDER = "evidence"


@dataclass
class Cell:
    """What one backend did in one scenario."""

    backend: str
    scenario: str
    outcome: str
    lost: int
    #: Deliveries a second, the median of its runs.
    a_second: float


@dataclass
class Evidence:
    """Cells and pairs; ``problems``: why part of it does not count."""

    cells: list[Cell] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def holds(self, claim: Claim) -> bool | None:
        """Whether a claim is so; ``None``: the evidence does not say."""
        if claim.kind in ("same", "differs"):
            found = [pair["stateful"] for pair in self.pairs if pair["pattern"] == claim.of]
            return any(found) == (claim.kind == "differs") if found else None
        cell = self._cell(claim.of, claim.where)
        if claim.kind == "faster":
            other = self._cell(claim.than, claim.where)
            return cell.a_second > other.a_second if cell and other else None
        if cell is None or cell.outcome == "cannot tell":
            return None
        return (cell.lost == 0) == (claim.kind == "survives")

    def _cell(self, backend: str, scenario: str) -> Cell | None:
        found = (c for c in self.cells if (c.backend, c.scenario) == (backend, scenario))
        return next(found, None)


def keep(id: str, because: object) -> dict[str, Any]:
    """Write runs and pairs below ``my/evidence/<id>`` and return what must be remembered.

    Args:
        because: a grid, a run, pairs, or a list of these.

    Raises:
        InvalidInput: something else.
    """
    parts = list(because) if isinstance(because, list | tuple) else [because]
    matrices = [part for part in parts if isinstance(part, Matrix)]
    runs = [run for matrix in matrices for run in matrix.runs.values()]
    runs += [part for part in parts if isinstance(part, Run)]
    pairs = [row for part in parts if isinstance(part, Pairs) for row in part.rows]
    if others := [p for p in parts if not isinstance(p, Matrix | Run | Pairs)]:
        raise InvalidInput(
            f"{type(others[0]).__name__} is no evidence.",
            todo="Give a grid, a run, pairs of calls, or a list of these.",
        )
    my.remove(f"{FOLDER}/{id}")
    folder = my.folder() / FOLDER / id
    kept = [_keep_run(each, folder) for run in runs for each in run.repeats or (run,)]
    pictures = [_picture(matrix, folder, n) for n, matrix in enumerate(matrices, 1)]
    return {"version": chatlab.__version__, "runs": kept, "pairs": pairs, "pictures": pictures}


def _keep_run(run: Run, folder: Path) -> dict[str, Any]:
    saved = run.save(folder, pictures=False).folder
    assert saved is not None
    return {
        "folder": saved.name,
        "outcome": run.outcome,
        "tier": run.journal.header.get("tier", ""),
        "digest": _digest(saved),
    }


def _digest(run: Path) -> str:
    return hashlib.sha256((run / "journal.jsonl").read_bytes()).hexdigest()


def _picture(matrix: Matrix, folder: Path, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    picture = plots.grid(matrix)
    assert isinstance(picture, plots.Picture)
    return picture.save(folder / f"grid-{number}.svg").name


def load(id: str, kept: dict[str, Any]) -> Evidence:
    """What :func:`keep` wrote, every run judged anew."""
    evidence = Evidence(pairs=list(kept["pairs"]))
    if kept["version"] != chatlab.__version__:
        evidence.problems.append(
            f"was made with chatlab {kept['version']}, not {chatlab.__version__}: run it again"
        )
    found: dict[tuple[str, str], list[Run]] = {}
    for entry in kept["runs"]:
        folder = my.folder() / FOLDER / id / entry["folder"]
        if problem := _problem(folder, entry):
            evidence.problems.append(problem)
            continue
        run = Run.load(folder)
        if run.outcome != entry["outcome"]:
            evidence.problems.append(
                f"{entry['folder']}: was {entry['outcome']}, judged anew it is {run.outcome}"
            )
        found.setdefault((run.backend, run.scenario.name), []).append(run)
    evidence.cells = [_cell(runs) for runs in found.values()]
    return evidence


def _problem(folder: Path, entry: dict[str, Any]) -> str:
    if not (folder / "journal.jsonl").is_file():
        return f"{entry['folder']} is missing: run it again"
    if entry["tier"] == "replay":
        return f"{entry['folder']} is a recording, not a run of yours"
    if _digest(folder) != entry["digest"]:
        return f"{entry['folder']} was changed after it was recorded: run it again"
    return ""


def _cell(runs: list[Run]) -> Cell:
    worst = max(runs, key=lambda run: (run.verdict.lost, run.outcome != "kept"))
    return Cell(
        backend=worst.backend,
        scenario=worst.scenario.name,
        outcome=worst.outcome,
        lost=worst.verdict.lost,
        a_second=statistics.median(run.figures.throughput for run in runs),
    )


def rows(evidence: Evidence) -> Iterable[dict[str, Any]]:
    """The cells as table rows."""
    return ({**asdict(cell), "a_second": round(cell.a_second)} for cell in evidence.cells)
