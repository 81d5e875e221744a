"""The pictures of discovery: what each way said, under what was true; and what asking costs.

Accuracy: the top strip is the truth, a row per user to whom something was done and one for
those who stay; each way has the same rows below. Filled = listed and there, red with × = a
ghost (listed and not there), outlined = missed (there and not listed). At the right: how long
after a change the way was right, the worst of all changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from chatlab.errors import InvalidInput
from chatlab.plots.board import Board
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.scale import round_up
from chatlab.plots.style import (
    FAULT,
    HEIGHT,
    INK,
    LEFT,
    LOSS,
    RIGHT,
    RULE,
    SOFT,
    own_style,
    pale,
    palette,
)
from chatlab.plots.words import counted, duration, named, sentence

if TYPE_CHECKING:
    from chatlab.discovery.accuracy import Accuracy, Judgement, Turn

#: From where till where a stretch of one judgement is drawn, in seconds.
Span = tuple[float, float]

#: Left and right edge of the bands, and of the words at their right, in pixels.
_BANDS_LEFT, _BANDS_RIGHT, _WORDS = 170.0, 746.0, 757.0
#: Top of the truth's rows; what stands below the last strip: axis, legend, caption.
_TOP, _BELOW = 72.0, 72.0
#: A row of the truth, which has a name; of a way; and the room between two strips.
_NAMED_ROW, _ROW, _BETWEEN = 15.0, 6.6, 8.0
#: The × of a ghost is at most so large.
_MARK = 9.0
#: The band of those who stay, and how much white is in the others.
_STAYING, _PALE = "#b9bdc2", 0.25
#: The row of those to whom nothing was done.
_REST = ""
#: What a change is called on its column; what is not here is no fault of its own.
_COLUMNS = {"killed": "killed", "frozen": "frozen", "left": "left", "cut": "cut off"}
_ENDS = {"frozen": "thawed", "cut": "healed"}


@own_style()
def discovery(accuracy: Accuracy, *, ax: Axes | None = None) -> Axes:
    """Draw what each way of discovery said, under what was true.

    Args:
        accuracy: the record of ``experiments.discovery``.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: something else.
    """
    if not hasattr(accuracy, "right_after"):
        raise InvalidInput(
            f"A record of experiments.discovery can be drawn, not {type(accuracy).__name__}."
        )
    rows = [*accuracy.changing, *([_REST] if accuracy.staying else [])]
    strip = len(rows) * _ROW + _BETWEEN
    needed = _TOP + len(rows) * _NAMED_ROW + _BETWEEN + len(accuracy.ways) * strip + _BELOW
    board = Board(ax, max(HEIGHT, needed))
    _Drawer(board, accuracy, rows).draw()
    line = _caption(accuracy)
    finding = board.frame(findings(accuracy), line, accuracy.tier)
    return board.finish(finding, line, accuracy.table())


def spans(accuracy: Accuracy, way: str) -> dict[tuple[str, Judgement], list[Span]]:
    """Per user (``""``: those who stay) and judgement: when the way's answers said so,
    neighbours joined."""
    found: dict[tuple[str, Judgement], list[Span]] = {}
    for user, began, ended, said in accuracy.judgements(way):
        stretches = found.setdefault((user, said), [])
        if stretches and stretches[-1][1] == began:
            stretches[-1] = (stretches[-1][0], ended)
        else:
            stretches.append((began, ended))
    return found


def findings(accuracy: Accuracy) -> list[str]:
    """``Events right after 0.6 s, registry after 3.2 s, 3 ways never``."""
    ways = sorted(accuracy.ways, key=accuracy.worst)
    right = [way for way in ways if accuracy.worst(way) < math.inf]
    wrong = [way for way in ways if accuracy.worst(way) == math.inf]
    if not accuracy.changes or not ways:
        return ["Nothing was changed" if ways else "Nobody was asked"]
    if not right:
        return [sentence(f"{named(wrong)} never right"), "No way is right about all"]
    times = [duration(accuracy.worst(way)) for way in right]
    parts = [f"{way} after {time}" for way, time in zip(right, times, strict=True)]
    never = [f"{named(wrong, 1).replace('users', 'ways')} never"] if wrong else []
    found = []
    for number in range(len(parts), 0, -1):
        first = parts[0].replace(" after", " right after", 1)
        found.append(sentence(", ".join([first, *parts[1:number], *never])))
    return found


def _verdict(accuracy: Accuracy, way: str) -> tuple[str, str, str]:
    """Small words, big words, colour: ``right after``, ``0.6 s``."""
    never = accuracy.never(way)
    if not never:
        if not accuracy.answers[way]:
            return "no answer", "error", LOSS
        return "right after", duration(accuracy.worst(way)), INK
    ghosts = sum(not turn.there for turn in never)
    missed = len(never) - ghosts
    if ghosts and missed:
        return "never right:", f"{len(never)} wrong", LOSS
    return "never right:", counted(ghosts, "ghost") if ghosts else f"{missed} missed", LOSS


def _caption(accuracy: Accuracy) -> str:
    settings = accuracy.settings
    parts = [accuracy.tier or "tier not recorded"]
    parts += [f"{name} {version}" for name, version in accuracy.versions.items()]
    for name, words in (("lease_seconds", "lease"), ("heartbeat_seconds", "heartbeat")):
        parts += [f"{words} {settings[name]:g} s"] if name in settings else []
    if "events" in accuracy.ways and "timeout" in settings:
        parts.append(f"time-out of events {settings['timeout']:g} s")
    parts.append(counted(len(accuracy.users), "user"))
    return " · ".join(parts)


@dataclass
class _Drawer:
    """The rows, strip by strip."""

    board: Board
    accuracy: Accuracy
    rows: Sequence[str]

    def draw(self) -> None:
        run = self.accuracy
        self.colours = palette(run.changing)
        room = self.board.height - _TOP - _BELOW
        strips = len(run.ways)
        fixed = len(self.rows) * _NAMED_ROW + _BETWEEN * (strips + 1)
        thick = (room - fixed) / max(strips * len(self.rows), 1)
        self.row = max(min(thick, _NAMED_ROW), _ROW)
        y = _TOP
        self._truth(y)
        y += len(self.rows) * _NAMED_ROW
        for way in run.ways:
            y += _BETWEEN
            self._way(way, y)
            y += len(self.rows) * self.row
        self._columns(y)
        self._axis(y + 8)
        self._legend()

    def _x(self, seconds: float) -> float:
        share = seconds / self.accuracy.seconds if self.accuracy.seconds else 0.0
        return _BANDS_LEFT + (_BANDS_RIGHT - _BANDS_LEFT) * min(max(share, 0.0), 1.0)

    def _colour(self, row: str) -> str:
        return _STAYING if row == _REST else pale(self.colours[row], _PALE)

    def _truth(self, top: float) -> None:
        run = self.accuracy
        self.board.text(
            LEFT, top + len(self.rows) * _NAMED_ROW / 2, "truth", size=13, bold=True
        )
        for number, row in enumerate(self.rows):
            y = top + number * _NAMED_ROW
            staying = len(run.staying)
            name = row or (f"{staying} stay" if staying > 1 else run.staying[0])
            words = fit(name, 78, 11)
            self.board.text(_BANDS_LEFT - 10, y + _NAMED_ROW / 2, words, ha="right")
            there = run.truth[row] if row else ((0.0, run.seconds),)
            self._fill(there, y, _NAMED_ROW, self._colour(row))

    def _way(self, way: str, top: float) -> None:
        run = self.accuracy
        middle = top + len(self.rows) * self.row / 2
        name = fit(way, _BANDS_LEFT - LEFT - 6, 13, bold=True)
        self.board.text(LEFT, middle, name, size=13, bold=True)
        drawn = spans(run, way)
        for number, row in enumerate(self.rows):
            y = top + number * self.row
            ends = (_BANDS_LEFT, y + self.row - 0.5), (_BANDS_RIGHT, y + self.row - 0.5)
            self.board.line(*ends, color=RULE, width=0.6, z=1.4)
            self._fill(drawn.get((row, "listed"), ()), y, self.row, self._colour(row))
            missed = list(self._boxes(drawn.get((row, "missed"), ()), y, self.row))
            self.board.boxes(missed, self._colour(row), hollow=True)
            self._ghosts(drawn.get((row, "ghost"), ()), y)
        small, big, colour = _verdict(run, way)
        self.board.text(_WORDS, middle - 11, small, color=SOFT if colour == INK else colour)
        big = fit(big, RIGHT - _WORDS, 16, bold=True)
        self.board.text(_WORDS, middle + 8, big, size=16, bold=True, color=colour)

    def _boxes(
        self, stretches: Iterable[Span], y: float, height: float
    ) -> Iterator[tuple[float, float, float, float]]:
        for began, ended in stretches:
            x0, x1 = self._x(began), self._x(ended)
            yield x0, y + 0.8, max(x1, x0 + 1), y + height - 0.8

    def _fill(self, stretches: Iterable[Span], y: float, height: float, colour: str) -> None:
        self.board.boxes(list(self._boxes(stretches, y, height)), colour, z=3)

    def _ghosts(self, stretches: Iterable[Span], y: float) -> None:
        boxes = list(self._boxes(stretches, y, self.row))
        self.board.boxes(boxes, LOSS, z=4)
        size = min(self.row - 1.8, _MARK)
        marks = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
        self.board.crosses(marks, size=size, color="white", width=2)

    def _columns(self, bottom: float) -> None:
        """Pale red where a fault lasted, with its name; a goodbye is no fault."""
        free = 0.0
        for turn in self.accuracy.changes:
            if turn.fault not in _COLUMNS:
                continue
            x0, x1 = self._x(turn.before), self._x(self._end_of(turn))
            colour = "#e9ebee" if turn.fault == "left" else FAULT
            self.board.box(x0, _TOP - 6, max(x1, x0 + 8), bottom + 2, colour, z=1.2)
            words = fit(f"{turn.user} {_COLUMNS[turn.fault]}", 140, 11)
            x0 = max(x0, free)
            self.board.text(x0, _TOP - 16, words, color=SOFT)
            free = x0 + text_width(words, 11) + 8

    def _end_of(self, turn: Turn) -> float:
        """When a fault that ends has ended; a moment for one that does not."""
        ends = [
            other.after
            for other in self.accuracy.changes
            if other.user == turn.user and other.fault == _ENDS.get(turn.fault)
        ]
        return max(ends, default=turn.after)

    def _axis(self, y: float) -> None:
        board, seconds = self.board, self.accuracy.seconds
        board.line((_BANDS_LEFT, y), (_BANDS_RIGHT, y), color=RULE)
        step = round_up(max(seconds / 9, 1e-3))
        for number in range(int(seconds / step + 1e-9) + 1):
            x = self._x(number * step)
            board.line((x, y), (x, y + 4), color=RULE)
            board.text(x, y + 14, f"{number * step:g}", color=SOFT, ha="center")
        board.text(_WORDS, y + 14, "seconds", color=SOFT)

    def _legend(self) -> None:
        run, legend = self.accuracy, ["filled = listed"]
        if any(run.ghosts.values()):
            legend.append("red × = ghost: listed, not there")
        if any(run.missed.values()):
            legend.append("outlined = missed: there, not listed")
        legend.append(f"right after: the worst of {len(run.changes)} changes")
        words = fit(" · ".join(legend), RIGHT - LEFT, 9.5)
        self.board.text(LEFT, self.board.height - 29, words, size=9.5, color=SOFT)


__all__ = ["discovery", "findings", "spans"]
