"""Rounds, medians and the table of ratios."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatlab.tables import Table


@dataclass(frozen=True)
class Figure:
    """One ratio, of seconds mostly, one sample a round or more; with one of the two goals."""

    name: str
    ours: Sequence[float]
    base: Sequence[float]
    base_name: str
    #: It takes at most so many times as long …
    at_most: float | None = None
    #: … or it is at least so many times as fast.
    at_least: float | None = None
    #: Of the samples; seconds are shown in the unit that suits them.
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """Median of ours over median of base; with ``at_least`` the reverse."""
        ours, base = statistics.median(self.ours), statistics.median(self.base)
        return ours / base if self.at_least is None else base / ours

    @property
    def met(self) -> bool:
        """Whether the goal is met in this run."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.at_most is None or self.ratio <= self.at_most

    def row(self) -> dict[str, object]:
        """A row of the report."""
        most = self.at_least is None
        return {
            "figure": self.name,
            "ratio": f"{self.ratio:.2f}" if most else f"{self.ratio:.1f} x",
            "goal": f"<= {self.at_most:g}" if most else f">= {self.at_least:g} x",
            "met": self.met,
            "chatlab": _spread(self.ours, self.unit),
            "base": _spread(self.base, self.unit),
            "base is": self.base_name,
        }


def alternate(
    base: Callable[[], Sequence[float]], ours: Callable[[], Sequence[float]], rounds: int
) -> tuple[list[float], list[float]]:
    """Run both in turn ``rounds`` times; all samples of each. Neither pays for collecting
    the other's garbage."""
    base_samples: list[float] = []
    our_samples: list[float] = []
    for _ in range(rounds):
        for work, samples in ((base, base_samples), (ours, our_samples)):
            gc.collect()
            samples += work()
    return base_samples, our_samples


def table(figures: Sequence[Figure]) -> Table:
    """The report."""
    return Table((figure.row() for figure in figures), "chatlab against the bare library")


def _spread(samples: Sequence[float], unit: str) -> str:
    """Median and the middle half, in a readable unit."""
    low, middle, high = (
        statistics.quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    )
    units = (("s", 1.0), ("ms", 1e3), ("µs", 1e6)) if unit == "s" else ((unit, 1.0),)
    unit, factor = next((one for one in units if middle * one[1] >= 1), units[-1])
    return f"{middle * factor:.2f} {unit} ({low * factor:.2f}–{high * factor:.2f})"
