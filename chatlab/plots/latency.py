"""The latency picture: which share of the deliveries had been shown after how long.

A curve per backend, time logarithmic: at 10 ms it stands as high as the share of deliveries
that took at most 10 ms. Discs mark the median, 95 % and 99 % (nearest rank: values that
occurred). A delivery is the first time that a receiver was shown a message; what was lost has
no latency and stands as a count beside the curve.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from matplotlib.axes import Axes

from chatlab.plots.board import Board
from chatlab.plots.events import read, sources
from chatlab.plots.fonts import fit
from chatlab.plots.measures import backend_of, labels, measure, spread
from chatlab.plots.scale import round_up
from chatlab.plots.story import Story
from chatlab.plots.style import HEIGHT, LEFT, LOSS, RIGHT, RULE, SOFT, own_style, palette
from chatlab.plots.words import caption, sentence, tier

#: The plane, in pixels, and the columns of the numbers beside it.
_PLANE_LEFT, _PLANE_RIGHT, _PLANE_TOP = 76.0, 520.0, 84.0
_NAMES, _COLUMNS = 560.0, (698.0, 790.0, RIGHT)
#: A backend's place beside the plane; what stands below the plane.
_ENTRY, _BELOW = 52.0, 86.0
#: A curve has at most so many points; its numbers are exact.
_POINTS = 1_000
#: Nothing is quicker: clocks of two processes may differ by as much, in seconds.
_SHORTEST = 1e-5

_MARKS = {"median": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Curve:
    """The latencies of one backend, in seconds, shortest first."""

    label: str
    seconds: tuple[float, ...]
    lost: int

    def marks(self) -> dict[str, float]:
        """``min``, ``median``, ``p95``, ``p99``, ``max``; empty without deliveries."""
        return spread(self.seconds)

    def row(self) -> dict[str, Any]:
        """A row of the table, times in seconds."""
        marks = self.marks() or dict.fromkeys(("min", "median", "p95", "p99", "max"))
        return {
            "backend": self.label,
            "deliveries": len(self.seconds),
            **marks,
            "lost": self.lost,
        }


@own_style()
def latency(*runs: object, ax: Axes | None = None) -> Axes:
    """Draw how long deliveries took, a curve per backend.

    Args:
        runs: scenes, runs or journals. A scene with several backends has a curve for each.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: nothing, or something that is no scene, run or journal.
    """
    stories = [read(run) for run in sources(runs)]
    curves = list(_curves(runs, stories))
    measured = [curve for curve in curves if curve.seconds]
    board = Board(ax, max(HEIGHT, _PLANE_TOP + 22 + _ENTRY * len(curves) + _BELOW))
    if measured:
        _Drawer(board, curves).draw()
    else:
        board.text(450, 220, "nothing was delivered", size=13, color=SOFT, ha="center")
    line = caption(stories, "disc = median, 95 %, 99 %", "n = deliveries", backends=False)
    finding = board.frame(findings(measured), line, tier(stories))
    return board.finish(finding, line, [curve.row() for curve in curves])


def _curves(runs: Sequence[object], stories: Sequence[Story]) -> list[Curve]:
    found = []
    for run, story, label in zip(runs, stories, labels(stories), strict=True):
        seconds: dict[str, list[float]] = defaultdict(list)
        for chat, delivery in measure(run).latencies:
            seconds[backend_of(story, chat)].append(delivery)
        lost = Counter(
            backend_of(story, flight.send.chat)
            for flight in story.flights
            if flight.fate == "lost"
        )
        parts = dict.fromkeys([*seconds, *lost]) or {label: None}
        for part in parts:
            name = label if len(parts) == 1 else f"{part} · {story.name}".rstrip(" ·")
            found.append(Curve(name, tuple(sorted(seconds[part])), lost[part]))
    return found


def findings(curves: Sequence[Curve]) -> list[str]:
    """``Median 4.1 ms, 99 % within 12 ms``; of several, the quickest and the slowest."""
    if not curves:
        return ["Nothing was delivered"]
    by_median = sorted(curves, key=lambda curve: curve.marks()["median"])
    first, last = by_median[0], by_median[-1]
    quick, slow = first.marks(), last.marks()
    if len(curves) == 1:
        if len(first.seconds) == 1:
            return [f"One delivery, after {shown_seconds(quick['median'])}"]
        words = f"median {shown_seconds(quick['median'])}"
        tail = f"99 % within {shown_seconds(quick['p99'])}"
        return [sentence(f"{words}, {tail} on {first.label}"), sentence(f"{words}, {tail}")]
    ends = [shown_seconds(marks["median"]) for marks in (quick, slow)]
    return [
        sentence(f"median {ends[0]} on {first.label}, {ends[1]} on {last.label}"),
        f"Medians from {ends[0]} to {ends[1]}",
    ]


def shown_seconds(seconds: float) -> str:
    """A time in two or three digits: ``0.45 ms``, ``4.1 ms``, ``45 ms``, ``1.2 s``."""
    value, unit = (seconds * 1e3, "ms") if seconds < 0.9995 else (seconds, "s")
    digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
    return f"{value:,.{digits}f} {unit}"


def ticks(least: float, most: float) -> list[float]:
    """Times for a logarithmic axis from ``least`` to ``most``: 1, 10, 100 …, with 2 and 5
    between where there is room."""
    low, high = _floor(least), round_up(most)
    steps = (1, 2, 5) if high / low <= 300 else (1,)
    powers = range(round(log10(low)) - 1, round(log10(high)) + 2)
    found = [step * 10.0**power for power in powers for step in steps]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def _floor(value: float) -> float:
    """The last of 1, 2, 5, 10 … that is not above ``value``."""
    return 1 / round_up(1 / value)


@dataclass
class _Drawer:
    """The plane, its curves and their numbers."""

    board: Board
    curves: Sequence[Curve]

    def draw(self) -> None:
        every = [seconds for curve in self.curves for seconds in curve.seconds]
        least, most = (max(end, _SHORTEST) for end in (min(every), max(every)))
        self.low, self.high = _floor(least), round_up(most)
        if self.high / self.low < 2:
            self.low, self.high = _floor(self.low * 0.99), round_up(self.high * 1.01)
        self.bottom = self.board.height - _BELOW
        self.colours = palette(curve.label for curve in self.curves)
        self._axes()
        for number, curve in enumerate(self.curves):
            self._curve(curve, number)
            self._entry(curve, _PLANE_TOP + 18 + number * _ENTRY)

    def _x(self, seconds: float) -> float:
        share = log10(max(seconds, self.low) / self.low) / log10(self.high / self.low)
        return _PLANE_LEFT + (_PLANE_RIGHT - _PLANE_LEFT) * share

    def _y(self, share: float) -> float:
        return self.bottom - (self.bottom - _PLANE_TOP) * share

    def _axes(self) -> None:
        board = self.board
        # 95 % and 99 % are nearer to each other than their words are high.
        for share, shift in ((0.0, 0), (0.5, 0), (0.95, 8), (0.99, -4)):
            y = self._y(share)
            board.line((_PLANE_LEFT, y), (_PLANE_RIGHT, y), color=RULE, width=0.8)
            words = f"{share:.0%}".replace("%", " %")
            board.text(_PLANE_LEFT - 8, y + shift, words, color=SOFT, ha="right")
        for seconds in ticks(self.low, self.high):
            x = self._x(seconds)
            board.line((x, _PLANE_TOP), (x, self.bottom + 4), color="#e7e8ea", width=0.8)
            words = f"{seconds * 1e3:g} ms" if seconds < 0.999 else f"{seconds:g} s"
            board.text(x, self.bottom + 17, words, color=SOFT, ha="center")
        middle = (_PLANE_LEFT + _PLANE_RIGHT) / 2
        board.text(LEFT, _PLANE_TOP - 26, "deliveries that took at most so long", color=SOFT)
        words = "from the send to the first sight"
        board.text(middle, self.bottom + 40, words, color=SOFT, ha="center")
        for x, words in zip(_COLUMNS, ("median", "95 %", "99 %"), strict=True):
            board.text(x, _PLANE_TOP - 4, words, color=SOFT, ha="right")

    def _curve(self, curve: Curve, number: int) -> None:
        if not curve.seconds:
            return
        total = len(curve.seconds)
        every = max(1, total // _POINTS)
        ranks = [*range(every, total, every), total]
        points = [(self._x(curve.seconds[0]), self._y(0.0))]
        for rank in ranks:
            x = self._x(curve.seconds[rank - 1])
            points += [(x, points[-1][1]), (x, self._y(rank / total))]
        colour = self.colours[curve.label]
        again = number >= len(set(self.colours.values()))
        self.board.line(*points, color=colour, width=2.5, dashed=again, z=4)
        marks = curve.marks()
        places = [(self._x(marks[name]), self._y(share)) for name, share in _MARKS.items()]
        self.board.discs(places, 12, "white", z=5)
        self.board.discs(places, 9, colour, z=5.1)

    def _entry(self, curve: Curve, y: float) -> None:
        board, marks = self.board, curve.marks()
        board.box(_NAMES, y + 2, _NAMES + 14, y + 16, self.colours[curve.label])
        lost = f"× {curve.lost:,} lost" if curve.lost else ""
        room = RIGHT - _NAMES - 20 - (70 if lost else 0)
        board.text(
            _NAMES + 20, y + 9, fit(curve.label, room, 12, bold=True), size=12, bold=True
        )
        board.text(RIGHT, y + 9, lost, color=LOSS, ha="right")
        if not marks:
            board.text(_NAMES + 20, y + 30, "nothing delivered", color=SOFT)
            return
        for x, name in zip(_COLUMNS, _MARKS, strict=True):
            board.text(x, y + 30, shown_seconds(marks[name]), size=12, ha="right")
        board.text(_NAMES, y + 30, f"n {len(curve.seconds):,}", color=SOFT)


__all__ = ["Curve", "findings", "latency", "shown_seconds", "ticks"]
