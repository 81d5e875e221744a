"""Verdicts: what independent judges say of a run. Values only.

Each :class:`Check` is one question asked of one conversation; a :class:`Verdict` is all of
them. The outcomes, from best to worst:

- ``kept``: what was promised happened;
- ``not promised``: something did not happen, and nobody had promised it;
- ``cannot tell``: the run proves nothing (the fault never came, nothing was sent, …);
- ``broken``: a promise was broken, and the example shows where.

A verdict is as bad as its worst check: a run that proves nothing never looks kept, and one
that broke a promise is broken whatever else it leaves open. Checks of what no backend says
anything about (``declared`` is False) are figures, and do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

from chatlab.messages import title
from chatlab.tables import Table, Tabular, card, html

Outcome = Literal["kept", "not promised", "cannot tell", "broken"]
KEPT: Outcome = "kept"
NOT_PROMISED: Outcome = "not promised"
CANNOT_TELL: Outcome = "cannot tell"
BROKEN: Outcome = "broken"
#: From best to worst.
OUTCOMES: tuple[Outcome, ...] = (KEPT, NOT_PROMISED, CANNOT_TELL, BROKEN)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of them; of none: nothing was checked, so nothing can be told."""
    return max(outcomes, key=OUTCOMES.index, default=CANNOT_TELL)


@dataclass(frozen=True)
class Example:
    """The smallest piece of a journal that shows a broken promise; empty: there is none."""

    messages: tuple[str, ...] = ()
    expected: str = ""
    #: Number of the line in the saved journal (its header is line 1), and its text.
    lines: tuple[tuple[int, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.expected)

    def __repr__(self) -> str:
        return "\n".join([self.expected, *(f"{n:>6}  {text}" for n, text in self.lines)])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Example:
        """What ``dataclasses.asdict`` made of one, also by way of JSON."""
        lines = tuple((int(number), str(text)) for number, text in data["lines"])
        return cls(tuple(data["messages"]), data["expected"], lines)


@dataclass(frozen=True)
class Check:
    """The answer of one checker about one conversation."""

    checker: str
    chat: str
    #: As the journal names it; a stand-in says so.
    backend: str
    outcome: Outcome
    #: One plain sentence.
    why: str
    counts: Mapping[str, int] = field(default_factory=dict)
    example: Example = Example()
    #: Whether the verdict depends on it; otherwise it is a figure.
    counted: bool = True

    def __repr__(self) -> str:
        where = f" {title(self.chat)}" if self.chat else ""
        text = f"{self.checker}{where}: {self.outcome}. {self.why}"
        return f"{text}\n{self.example!r}" if self.example else text

    def _repr_html_(self) -> str:
        facts = {"conversation": title(self.chat) or None, "backend": self.backend or None}
        facts |= {"outcome": self.outcome, "why": self.why}
        return card(self.checker, {**facts, **self.counts}) + _example_html(self.example)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Check:
        """The reverse of ``dataclasses.asdict``."""
        return cls(**{**data, "example": Example.from_dict(data["example"])})


@dataclass(frozen=True, repr=False)
class Verdict(Tabular):
    """All checks of one run. ``tier``: where the run comes from, by its header."""

    checks: tuple[Check, ...]
    tier: str = ""
    #: Backends that only stand in for a real service.
    stand_ins: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst of the checks that count."""
        return worst(check.outcome for check in self.checks if check.counted)

    @property
    def lost(self) -> int:
        """How many confirmed deliveries never happened, promised or not; where the run is
        about a late joiner, also what it was not shown of what was before."""
        found = [*self.of("delivery"), *(c for c in self.of("late") if c.counted)]
        return sum(check.counts.get("lost", 0) for check in found)

    @property
    def example(self) -> Example:
        """The smallest of its broken checks' examples; empty when nothing is broken."""
        found = [check.example for check in self.checks if check.example and check.counted]
        return min(found, key=lambda example: len(example.lines), default=Example())

    def of(self, checker: str, chat: str | None = None) -> tuple[Check, ...]:
        """The checks of one checker; with ``chat`` only those of that conversation."""
        return tuple(
            check
            for check in self.checks
            if check.checker == checker and chat in (None, check.chat, title(check.chat))
        )

    def table(self) -> list[dict[str, Any]]:
        """One plain row a check, the counts as columns of their own."""
        return self._table(counts=True).table()

    def to_csv(self, path: Path | str | None = None) -> str:
        """The same as CSV; also written to ``path`` when one is given."""
        return self._table(counts=True).to_csv(path)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        data = asdict(self)
        return {"outcome": self.outcome, "lost": self.lost, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """The verdict that :meth:`to_dict` wrote, also by way of JSON."""
        checks = tuple(Check.from_dict(check) for check in data["checks"])
        return cls(checks, data["tier"], tuple(data["stand_ins"]))

    def _table(self, counts: bool = False) -> Table:
        return Table(
            (
                {
                    "check": check.checker,
                    "conversation": title(check.chat),
                    "backend": check.backend,
                    "outcome": check.outcome if check.counted else f"({check.outcome})",
                    "why": check.why,
                    **(check.counts if counts else {}),
                }
                for check in self.checks
            ),
            self._caption(),
        )

    def _caption(self) -> str:
        from_where = f" on {', '.join(self.stand_ins)} (stand-in)" if self.stand_ins else ""
        tier = f", {self.tier}" if self.tier else ""
        return f"{self.outcome}{from_where}{tier}; lost: {self.lost}"

    def __repr__(self) -> str:
        text = repr(self._table())
        return f"{text}\n{self.example!r}" if self.example else text

    def _repr_html_(self) -> str:
        return html(self._table(), self._caption()) + _example_html(self.example)


def _example_html(example: Example) -> str:
    return f"<pre>{escape(repr(example))}</pre>" if example else ""
