"""Rounds, medians and the table of ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatlab.tables import Table


@dataclass(frozen=True)
class Figure:
    """One ratio: ``ours`` over ``base``, both in seconds, one sample a round or more."""

    name: str
    ours: Sequence[float]
    base: Sequence[float]
    #: What is promised of the ratio of medians: at most this.
    at_most: float
    base_name: str

    @property
    def ratio(self) -> float:
        """Median of ours over median of base."""
        return statistics.median(self.ours) / statistics.median(self.base)

    @property
    def met(self) -> bool:
        """Whether the goal is met in this run."""
        return self.ratio <= self.at_most

    def row(self) -> dict[str, object]:
        """A row of the report."""
        return {
            "figure": self.name,
            "ratio": f"{self.ratio:.2f}",
            "goal": f"<= {self.at_most:g}",
            "met": self.met,
            "chatlab": _spread(self.ours),
            "base": _spread(self.base),
            "base is": self.base_name,
        }


def alternate(
    base: Callable[[], Sequence[float]], ours: Callable[[], Sequence[float]], rounds: int
) -> tuple[list[float], list[float]]:
    """Run both in turn ``rounds`` times; all samples of each."""
    base_samples: list[float] = []
    our_samples: list[float] = []
    for _ in range(rounds):
        base_samples += base()
        our_samples += ours()
    return base_samples, our_samples


def table(figures: Sequence[Figure]) -> Table:
    """The report."""
    return Table((figure.row() for figure in figures), "chatlab against the bare library")


def _spread(samples: Sequence[float]) -> str:
    """Median and the middle half, in a readable unit."""
    low, middle, high = (
        statistics.quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    )
    unit, factor = ("s", 1.0) if middle >= 1 else ("ms", 1e3)
    return f"{middle * factor:.2f} {unit} ({low * factor:.2f}–{high * factor:.2f})"
