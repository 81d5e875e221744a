"""Strips over time, one per run on a common axis of seconds, with the faults shaded.

What throughput and depth have in common. The axis is real time since each run's first send:
nothing is cut out of it, because a pause is what these pictures are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chatlab.plots.board import Board
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.scale import round_up
from chatlab.plots.story import Fault, Story
from chatlab.plots.style import FAULT, HEIGHT, RIGHT, RULE, SOFT, pale
from chatlab.plots.words import fault_words

#: Left and right edge of the strips, and of the numbers beside them, in pixels.
_LEFT, _RIGHT, _BESIDE = 76.0, 746.0, 760.0
_TOP, _BELOW = 54.0, 76.0
#: A strip's heading, the room for the names of faults, and its least height.
_HEADING, _FAULTS, _LEAST, _BETWEEN = 26.0, 18.0, 56.0, 12.0


@dataclass(frozen=True)
class Line:
    """A value over time: from each moment (seconds since the first send) on."""

    color: str
    steps: tuple[tuple[float, float], ...]
    filled: bool = False


@dataclass(frozen=True)
class Note:
    """Beside a strip: what is big, what is small, and the colour of the line it names."""

    big: str
    small: str = ""
    color: str = ""


@dataclass(frozen=True)
class Strip:
    """One run."""

    heading: str
    lines: tuple[Line, ...]
    notes: tuple[Note, ...]
    faults: tuple[tuple[str, float, float | None], ...]
    #: How long it lasted.
    seconds: float
    #: Said inside, where there is no line.
    empty: str = ""


def faults(story: Story, began: float) -> tuple[tuple[str, float, float | None], ...]:
    """Name, begin and end (``None``: not over) of each, in seconds since the first send."""
    return tuple(
        (fault_words(fault.fault, fault.target), fault.began.at - began, _end(fault, began))
        for fault in story.faults
    )


def _end(fault: Fault, began: float) -> float | None:
    return None if fault.ended is None else fault.ended.at - began


def length(seconds: float, faulty: Sequence[tuple[str, float, float | None]]) -> float:
    """Until the last delivery and the last fault's end."""
    return max([seconds, *(at for _, begin, end in faulty for at in (begin, end or 0.0))])


def card_height(strips: Sequence[Strip]) -> float:
    """The height of the card that these strips need."""
    return max(HEIGHT, _TOP + _BELOW + sum(_around(s) + _needed(s) for s in strips))


def _needed(strip: Strip) -> float:
    return max(_LEAST, 22.0 * len(strip.notes) if strip.notes else 0.0)


def _above(strip: Strip) -> float:
    return _HEADING + (_FAULTS if strip.faults else 0.0)


def _around(strip: Strip) -> float:
    return _above(strip) + _BETWEEN


def draw(board: Board, strips: Sequence[Strip], unit: str) -> None:
    """Draw them on a common axis of time and a common axis of values.

    Args:
        unit: of the values, said above the first strip.
    """
    seconds = max((strip.seconds for strip in strips), default=0.0)
    values = [value for s in strips for line in s.lines for _, value in line.steps]
    top = max([*values, 1e-9])
    room = board.height - _TOP - _BELOW
    spare = room - sum(_needed(s) + _around(s) for s in strips)
    y = _TOP
    for number, strip in enumerate(strips):
        height = _needed(strip) + spare / len(strips)
        drawer = _Drawer(board, strip, seconds or 1.0, top, y + _above(strip), height)
        drawer.draw(y + 12, unit if number == 0 else "")
        y += _around(strip) + height
    _axis(board, seconds, y - _BETWEEN)


def _axis(board: Board, seconds: float, y: float) -> None:
    step = round_up(max(seconds / 8, 1e-3))
    for number in range(int(seconds / step + 1e-9) + 1):
        x = _LEFT + (_RIGHT - _LEFT) * number * step / (seconds or 1.0)
        board.line((x, y), (x, y + 5), color=RULE)
        board.text(x, y + 16, f"{number * step:g}", color=SOFT, ha="center")
    words = "seconds since the first send"
    board.text((_LEFT + _RIGHT) / 2, y + 38, words, color=SOFT, ha="center")


@dataclass
class _Drawer:
    """One strip; ``top`` is the largest value of all strips."""

    board: Board
    strip: Strip
    seconds: float
    most: float
    top: float
    height: float

    def draw(self, y: float, unit: str) -> None:
        board, strip, bottom = self.board, self.strip, self.top + self.height
        words = fit(strip.heading, _RIGHT - _LEFT, 12.5)
        board.text(_LEFT, y, words, size=12.5, color="black")
        if unit:
            board.text(RIGHT, y, unit, color=SOFT, ha="right")
        self._faults()
        board.line((_LEFT, bottom), (_RIGHT, bottom), color=RULE, width=1.2)
        board.line((_LEFT, self.top), (_RIGHT, self.top), color="#e7e8ea", width=0.8, z=1.5)
        label = f"{self.most:,.3g}" if self.most < 1_000 else f"{self.most:,.0f}"
        board.text(_LEFT - 8, bottom, "0", color=SOFT, ha="right")
        if strip.lines:
            board.text(_LEFT - 8, self.top + 2, label, color=SOFT, ha="right")
        for line in strip.lines:
            self._line(line)
        if strip.empty:
            middle = (self.top + bottom) / 2
            board.text((_LEFT + _RIGHT) / 2, middle, strip.empty, color=SOFT, ha="center")
        self._notes()

    def _x(self, seconds: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(max(seconds / self.seconds, 0.0), 1.0)

    def _y(self, value: float) -> float:
        return self.top + self.height * (1 - value / self.most)

    def _faults(self) -> None:
        free = _LEFT
        for words, began, ended in self.strip.faults:
            x0 = self._x(began)
            x1 = _RIGHT if ended is None else self._x(ended)
            bottom = self.top + self.height
            self.board.box(x0, self.top - 3, max(x1, x0 + 3), bottom, FAULT, z=1.2)
            place = max(free, min(x0, _RIGHT - text_width(words, 11)))
            if place + text_width(words, 11) <= RIGHT:
                self.board.text(place, self.top - 11, words, color=SOFT, halo=True)
                free = place + text_width(words, 11) + 10

    def _line(self, line: Line) -> None:
        bottom = self.top + self.height
        points = [(self._x(0.0), bottom)]
        for seconds, value in line.steps:
            x = self._x(seconds)
            points += [(x, points[-1][1]), (x, self._y(value))]
        end = max(self._x(self.strip.seconds), points[-1][0])
        points.append((end, points[-1][1]))
        if line.filled:
            self.board.lines([points], line.color, width=1.6, z=4)
            # Stretches of one height as boxes: no polygon with ten thousand corners.
            boxes = [(x0, y, x1, bottom) for (x0, y), (x1, _) in _flats(points) if y < bottom]
            self.board.boxes(boxes, pale(line.color, 0.6), z=3)
        else:
            self.board.line(*points, color=line.color, width=2.2, z=4)

    def _notes(self) -> None:
        notes, x = self.strip.notes, _BESIDE
        pitch = min(34.0, self.height / max(len(notes), 1))
        y = self.top + self.height / 2 - pitch * (len(notes) - 1) / 2
        for number, note in enumerate(notes):
            at = y + number * pitch
            if not note.color:
                big = fit(note.big, RIGHT - x, 16, bold=True)
                self.board.text(x, at - (10 if note.small else 0), big, size=16, bold=True)
                self.board.text(x, at + 11, fit(note.small, RIGHT - x, 11), color=SOFT)
                continue
            self.board.box(x, at - 6, x + 12, at + 6, note.color)
            wide = text_width(note.big, 13, bold=True)
            name = fit(note.small, RIGHT - x - wide - 26, 12)
            self.board.text(x + 18, at, name, size=12)
            self.board.text(RIGHT, at, note.big, size=13, bold=True, ha="right")


def _flats(
    points: Sequence[tuple[float, float]],
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The horizontal stretches of a line of steps."""
    return [(a, b) for a, b in pairwise(points) if a[1] == b[1] and b[0] > a[0]]


__all__ = ["Line", "Note", "Strip", "card_height", "draw", "faults", "length"]
