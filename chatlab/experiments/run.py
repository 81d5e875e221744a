"""Run: what came of playing a scenario once on one backend; a value that can be kept.

A folder holds all of it, readable without chatlab: ``journal.jsonl`` (every fact),
``verdict.json``, ``run.json`` (scenario, backend, figures of merit, versions, settings),
``summary.html``, pictures as SVG, and ``shiviz.log`` for public space-time viewers.
:meth:`Run.load` gives the run back and judges its journal anew; no broker is needed for it.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from chatlab.checkers import Check, Verdict, judge
from chatlab.checkers.verdict import OUTCOMES
from chatlab.errors import InvalidInput
from chatlab.experiments import summary
from chatlab.experiments.expected import broker_of, expected
from chatlab.experiments.figures import Figures, figures
from chatlab.experiments.lanes import pattern_of
from chatlab.experiments.outside import is_outside
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.shiviz import shiviz
from chatlab.experiments.steps import Pattern
from chatlab.journal import Journal
from chatlab.messages import title
from chatlab.tables import card

FORMAT = 1
#: Checks that are no function of the journal, but what whoever played the run saw: why it was
#: not played to its end, what a client's code did wrong, what could not be removed.
NOTES = ("run", "client", "removal")


@dataclass(frozen=True)
class Run:
    """One run. ``repeats``: all runs of the same, this one (the worst) among them."""

    scenario: Scenario
    #: With its options, without its pattern.
    backend: str
    journal: Journal = field(repr=False)
    verdict: Verdict
    #: When it began: seconds since the epoch.
    began: float
    folder: Path | None = None
    #: Of a run that was loaded: the verdict that was kept with it.
    stored: Verdict | None = field(default=None, repr=False, compare=False)
    repeats: tuple[Run, ...] = field(default=(), repr=False, compare=False)

    @property
    def pattern(self) -> Pattern:
        """``group``, ``private`` or ``insults``."""
        said: Pattern | None = self.journal.header.get("pattern")
        return said or pattern_of(self.scenario, self.backend)[0]

    @property
    def full_backend(self) -> str:
        """Its backend with its pattern, as :func:`chatlab.experiments.run` takes it."""
        return self.backend if is_outside(self.backend) else f"{self.pattern}/{self.backend}"

    @property
    def outcome(self) -> str:
        """The verdict in two words at most."""
        return self.verdict.outcome

    @property
    def differences(self) -> tuple[str, ...]:
        """Where the verdict that was kept differs from the one reached now, a sentence each."""
        return () if self.stored is None else differences(self.stored, self.verdict)

    @cached_property
    def figures(self) -> Figures:
        """Throughput, latency, queue depth, messages per operation."""
        return figures(self.journal)

    @property
    def name(self) -> str:
        """``20261124-130348-broker-kill-rabbitmq-durable``: its folder."""
        began = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.began))
        return re.sub(r"[^\w.-]+", "_", f"{began}-{self.scenario.name}-{self.backend}")

    def save(self, folder: Path | str, *, name: str = "", pictures: bool = True) -> Run:
        """Write the run into a folder of its own below ``folder``; when there is one of its
        name, this one gets a number behind it. Returns the run, which knows where it is.

        Args:
            name: of its folder; default: when, what, on what.
            pictures: also draw it and write the page, a few 100 KB.
        """
        path = _free(Path(folder), name or self.name)
        path.mkdir(parents=True)
        self.journal.save(path / "journal.jsonl")
        (path / "verdict.json").write_text(_json(self.verdict.to_dict()), encoding="utf-8")
        (path / "run.json").write_text(_json(self._facts()), encoding="utf-8")
        (path / "shiviz.log").write_text(shiviz(self.journal), encoding="utf-8")
        kept = replace(self, folder=path)
        if pictures:
            text = summary.page(kept, summary.draw(kept, path))
            (path / "summary.html").write_text(text, encoding="utf-8")
        return kept

    def _facts(self) -> dict[str, Any]:
        return {
            "chatlab-run": FORMAT,
            "scenario": self.scenario.to_dict(),
            "backend": self.backend,
            "began": self.began,
            "outcome": self.outcome,
            "figures": self.figures.to_dict(),
        }

    @classmethod
    def load(cls, folder: Path | str) -> Run:
        """Read what :meth:`save` wrote, and judge it anew; its tier is *replay* from then on.

        Raises:
            InvalidInput: no run, another format, or a damaged file; names it.
        """
        path = Path(folder)
        facts = _read(path / "run.json")
        if facts.get("chatlab-run") != FORMAT:
            raise InvalidInput(f"{path} holds no run that this chatlab reads.")
        journal = Journal.load(path / "journal.jsonl")
        journal.header["tier"] = "replay"
        try:
            stored = Verdict.from_dict(_read(path / "verdict.json"))
            found = cls(
                scenario=Scenario.from_dict(facts["scenario"]),
                backend=facts["backend"],
                journal=journal,
                verdict=stored,
                began=facts["began"],
                folder=path,
                stored=stored,
            )
            notes = [check for check in stored.checks if check.checker in NOTES]
            anew = judged(found.scenario, found.pattern, found._broker, journal, notes)
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"{path} is a damaged run: {error!r}.") from error
        return replace(found, verdict=anew)

    @property
    def _broker(self) -> str:
        """The service that its backend relied on; journals of old do not say."""
        said = self.journal.header.get("broker")
        promises = self.journal.header.get("promises")
        return broker_of(self.pattern, promises or self.backend) if said is None else said

    def __repr__(self) -> str:
        return f"<Run {self.scenario.name} on {self.backend}: {self.outcome}>"

    def _repr_html_(self) -> str:
        found = self.figures
        latency = found.latency
        return (
            card(
                f"{self.scenario.name} on {self.backend}",
                {
                    "verdict": self.outcome,
                    "lost": self.verdict.lost or None,
                    "sent": found.sent,
                    "delivered": found.delivered,
                    "a second": round(found.throughput, 1),
                    "latency (median, 99 %)": (
                        f"{latency['median'] * 1e3:.1f} ms, {latency['p99'] * 1e3:.1f} ms"
                        if latency
                        else None
                    ),
                    "folder": str(self.folder) if self.folder else None,
                },
            )
            + self.verdict._repr_html_()
        )


def worst(runs: Sequence[Run]) -> Run:
    """The run with the worst verdict, most lost first; it knows the others."""
    first = max(runs, key=lambda run: (OUTCOMES.index(run.verdict.outcome), run.verdict.lost))
    return replace(first, repeats=tuple(runs))


def judged(
    scenario: Scenario,
    pattern: Pattern,
    broker: str,
    journal: Journal,
    notes: Sequence[Check] = (),
) -> Verdict:
    """The verdict of a run: of its journal, by what the scenario was to do, and what whoever
    played it saw besides. A run that was not played to its end tells nothing.

    Args:
        broker: the service that the backend relies on.
        notes: checks of :data:`NOTES`.
    """
    if any(note.checker == "run" for note in notes):
        return Verdict(tuple(notes), str(journal.header.get("tier", "")))
    found = judge(journal, expect=expected(scenario, pattern, broker))
    return replace(found, checks=(*found.checks, *notes))


def not_played(why: str) -> Check:
    """The note of a run that could not be played to its end."""
    return Check("run", "", "", "cannot tell", why)


def differences(stored: Verdict, now: Verdict) -> tuple[str, ...]:
    """Where two verdicts on one run differ in what counts: an outcome, or a number of lost."""
    then, anew = _told(stored), _told(now)
    return tuple(
        f"{name}: {then.get(name, 'not asked')}; now {anew.get(name, 'not asked')}"
        for name in dict.fromkeys([*then, *anew])
        if then.get(name) != anew.get(name)
    )


def _told(verdict: Verdict) -> dict[str, str]:
    """Check by check, the verdict as a whole first; figures are left out."""
    found = {"verdict": _words(verdict.outcome, verdict.lost)}
    numbers: Counter[str] = Counter()
    for check in verdict.checks:
        name = f"{check.checker} {title(check.chat)}".rstrip()
        if check.counted:
            # A scenario may expect several things: each is a check of the same name.
            numbers[name] += 1
            numbered = name if numbers[name] == 1 else f"{name} ({numbers[name]})"
            found[numbered] = _words(check.outcome, check.counts.get("lost", 0))
    return found


def _words(outcome: str, lost: int) -> str:
    return f"{outcome}, {lost} lost" if lost else outcome


def _free(folder: Path, name: str) -> Path:
    number, path = 1, folder / name
    while path.exists():
        number += 1
        path = folder / f"{name}.{number}"
    return path


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} is not what a run has there.")
    return value
