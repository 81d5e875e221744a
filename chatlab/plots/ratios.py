"""The benchmark picture: chatlab against the bare libraries, a bar per figure.

A bar ends at the ratio of medians, the bare library is 1. Times and speeds go opposite ways,
so they stand apart: of a time less is better, of a speed more. The thin line is the middle
half of chatlab's samples against the base's median; the tick is the goal. Logarithmic when
the ratios are too far apart for a linear axis.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any, Protocol

from matplotlib.axes import Axes

from chatlab.errors import InvalidInput
from chatlab.plots.board import Board
from chatlab.plots.fonts import fit
from chatlab.plots.scale import round_up
from chatlab.plots.style import HEIGHT, INK, LEFT, RIGHT, SOFT, own_style
from chatlab.plots.words import sentence

_MET, _MISSED = "#56b4e9", "#e69f00"
#: Left and right edge of the bars, and the numbers beside them, in pixels.
_BARS_LEFT, _BARS_RIGHT, _NUMBERS = 330.0, 760.0, 776.0
_TOP, _BELOW, _ROW, _HEADING = 52.0, 78.0, 36.0, 28.0
#: Largest ratio over least (1 counted) that a linear axis still shows.
_LINEAR = 8.0


class Ratio(Protocol):
    """One figure of ``chatlab bench``."""

    @property
    def name(self) -> str: ...
    @property
    def ours(self) -> Sequence[float]: ...
    @property
    def base(self) -> Sequence[float]: ...
    @property
    def base_name(self) -> str: ...
    @property
    def at_most(self) -> float | None: ...
    @property
    def at_least(self) -> float | None: ...
    @property
    def ratio(self) -> float: ...
    @property
    def met(self) -> bool: ...


@dataclass(frozen=True)
class Bar:
    """A figure as it is drawn: the ratio, its middle half, the goal."""

    name: str
    base: str
    ratio: float
    low: float
    high: float
    goal: float | None
    met: bool
    #: A ratio of speeds: more is better.
    speed: bool

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        return {
            "figure": self.name,
            "base": self.base,
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "goal": self.goal,
            "of": "speed" if self.speed else "time",
            "met": self.met,
        }


@own_style()
def ratios(report: Iterable[Ratio], *, ax: Axes | None = None) -> Axes:
    """Draw benchmark figures as bars against a bare library = 1.

    Args:
        report: the figures of ``chatlab bench``, for instance
            ``list(chatlab.bench.figures.FIGURES["private"](7))``.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: something else, or no figure.
    """
    bars = [_bar(figure) for figure in _figures(report)]
    groups = [
        group for speed in (False, True) if (group := [b for b in bars if b.speed == speed])
    ]
    height = _TOP + _BELOW + _ROW * len(bars) + _HEADING * len(groups)
    board = Board(ax, max(HEIGHT, height))
    _Drawer(board, groups).draw()
    legend = ["bar = ratio of medians", "line = middle half of chatlab's samples"]
    legend += ["tick = goal"] if any(bar.goal is not None for bar in bars) else []
    legend += ["orange = goal missed"] if not all(bar.met for bar in bars) else []
    line = " · ".join(["real", *legend])
    finding = board.frame(findings(bars), line, "real")
    return board.finish(finding, line, [bar.row() for bar in bars])


def _figures(report: object) -> list[Ratio]:
    found = list(report) if isinstance(report, Iterable) else []
    if not found or not all(hasattr(figure, "base_name") for figure in found):
        kind = (
            "an empty report"
            if isinstance(report, Sequence) and not found
            else (type(found[0] if found else report).__name__)
        )
        raise InvalidInput(
            f"Figures of chatlab bench can be drawn, not {kind}.",
            todo='Pass for instance list(chatlab.bench.figures.FIGURES["import"](3)).',
        )
    return found


def _bar(figure: Ratio) -> Bar:
    ours, base = figure.ours, statistics.median(figure.base)
    quartiles = statistics.quantiles(ours, n=4) if len(ours) > 1 else [ours[0]] * 3
    speed = figure.at_least is not None
    ends = [base / max(q, 1e-12) if speed else q / base for q in (quartiles[0], quartiles[2])]
    goal = figure.at_least if speed else figure.at_most
    bounds = min(ends), max(ends)
    return Bar(figure.name, figure.base_name, figure.ratio, *bounds, goal, figure.met, speed)


def findings(bars: Sequence[Bar]) -> list[str]:
    """``8 of 9 goals met, not: published``."""
    missed = [bar for bar in bars if not bar.met]
    goals = sum(bar.goal is not None for bar in bars)
    if len(bars) == 1:
        (bar,) = bars
        kind = "as fast as" if bar.speed else "as long as"
        return [
            sentence(f"{bar.name}: {shown_ratio(bar.ratio)} times {kind} {bar.base}"),
            sentence(f"{bar.name}: {shown_ratio(bar.ratio)} times {kind} the base"),
        ]
    if not goals:
        return [f"{len(bars)} figures against the bare library"]
    if not missed:
        return ["Both goals met" if goals == 2 else f"All {goals} goals met"]
    met = goals - len(missed)
    names = ", ".join(dict.fromkeys(bar.name for bar in missed))
    return [f"{met} of {goals} goals met, not: {names}", f"{met} of {goals} goals met"]


def shown_ratio(ratio: float) -> str:
    """``0.65``, ``4.1``, ``72``."""
    return (
        f"{ratio:.2f}" if ratio < 1.995 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"
    )


@dataclass
class _Drawer:
    """The bars and their axis."""

    board: Board
    groups: Sequence[Sequence[Bar]]

    def draw(self) -> None:
        bars = [bar for group in self.groups for bar in group]
        every = [v for b in bars for v in (b.ratio, b.low, b.high, b.goal or 1.0)] + [1.0]
        positive = [value for value in every if value > 0]
        self.log = max(positive) / min(positive) > _LINEAR
        self.least = 10.0 ** floor(log10(min(positive)) + 1e-9) if self.log else 0.0
        self.most = max(positive) * 1.08
        lines = len(bars) * _ROW + len(self.groups) * _HEADING
        bottom = self.board.height - _BELOW
        y = max(_TOP, _TOP + min((bottom - _TOP - lines) / 2, 40))
        top, self.end = y, y + lines
        self._axis(top)
        for group in self.groups:
            words = "speed: so many times the base's (more is better)"
            if not group[0].speed:
                words = "time: so many times the base's (less is better)"
            self.board.text(LEFT, y + _HEADING / 2, words, size=12.5, color="black", halo=True)
            y += _HEADING
            for bar in group:
                self._bar(bar, y + _ROW / 2)
                y += _ROW

    def _x(self, ratio: float) -> float:
        share = ratio / self.most
        if self.log:
            share = log10(max(ratio, self.least) / self.least) / log10(self.most / self.least)
        return _BARS_LEFT + (_BARS_RIGHT - _BARS_LEFT) * min(max(share, 0.0), 1.0)

    def _axis(self, top: float) -> None:
        board = self.board
        for value in self._ticks():
            x = self._x(value)
            board.line((x, top + _HEADING), (x, self.end + 4), color="#e7e8ea", z=1.5)
            board.text(x, self.end + 17, f"{value:g}", color=SOFT, ha="center")
        x = self._x(1.0)
        board.line((x, top + _HEADING - 6), (x, self.end + 4), color=SOFT, width=1.6, z=5)
        words = "the base = 1" + (", logarithmic" if self.log else "")
        middle = (_BARS_LEFT + _BARS_RIGHT) / 2
        board.text(middle, self.end + 36, words, color=SOFT, ha="center")

    def _ticks(self) -> list[float]:
        if not self.log:
            step = round_up(self.most / 6)
            return [n * step for n in range(int(self.most / step + 1e-9) + 1)]
        powers = range(round(log10(self.least)), ceil(log10(self.most)) + 1)
        steps = (1, 2, 5) if len(powers) < 4 else (1,)
        found = [step * 10.0**power for power in powers for step in steps]
        return [value for value in found if value <= self.most]

    def _bar(self, bar: Bar, y: float) -> None:
        board, start = self.board, self._x(1.0 if self.log else 0.0)
        end = self._x(bar.ratio)
        colour = _MET if bar.met else _MISSED
        board.box(min(start, end), y - 9, max(start, end), y + 9, colour, z=3)
        low, high = self._x(bar.low), self._x(bar.high)
        board.line((low, y), (high, y), color=INK, width=1.6, z=4)
        for x in (low, high):
            board.line((x, y - 4), (x, y + 4), color=INK, width=1.6, z=4)
        if bar.goal is not None:
            x = self._x(bar.goal)
            board.line((x, y - 14), (x, y + 14), color=INK, width=3, z=6)
        room = _BARS_LEFT - LEFT - 16
        board.text(_BARS_LEFT - 16, y - 7, fit(bar.name, room, 12), size=12, ha="right")
        words = fit(f"against {bar.base}", room, 9.5)
        board.text(_BARS_LEFT - 16, y + 9, words, size=9.5, color=SOFT, ha="right")
        board.text(_NUMBERS, y, shown_ratio(bar.ratio), size=14, bold=True)
        if bar.goal is not None:
            goal = f"{'≥' if bar.speed else '≤'} {shown_ratio(bar.goal)}"
            board.text(RIGHT, y, goal, color=SOFT, ha="right")


__all__ = ["Bar", "Ratio", "findings", "ratios", "shown_ratio"]
