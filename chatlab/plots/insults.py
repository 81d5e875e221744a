"""The insult distribution: a row per member, a square per insult in the order of sending.

At the right how many each member got, and the fairness: Jain's index, (Σx)² / (n Σx²), 1 when
all got the same and 1/n when one took all (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984).
Each strip's title is its setting. Hollow = handed out but taken back; a row of its own shows
insults that still wait, whose work failed each time, or that were lost (×).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from chatlab.plots.board import Board
from chatlab.plots.events import read, sources
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.shares import Shares, insults_finding, shares
from chatlab.plots.style import (
    GREY,
    HEIGHT,
    LEFT,
    LOSS,
    SOFT,
    own_style,
    palette,
)
from chatlab.plots.words import caption, tier

#: Most rows of members in one strip; further members are counted together.
MOST_MEMBERS = 8
_SQUARES_RIGHT, _COUNTS = 756.0, 770.0
_TITLE_ROOM, _TICKS_ROOM = 30.0, 24.0


@own_style()
def insults(*scenes: object, ax: Axes | None = None) -> Axes:
    """Draw who got which insult; several scenes: one strip each on a common axis.

    Raises:
        InvalidInput: something given is no scene, run or journal.
    """
    strips = [shares(scene) for scene in sources(scenes)]
    stories = [read(scene) for scene in scenes]
    rows = [_rows(strip) for strip in strips]
    lines = sum(len(row) for row in rows)
    needed = 52 + 46 + 25 * lines + (_TITLE_ROOM + _TICKS_ROOM) * len(strips)
    board = Board(ax, max(HEIGHT, needed))
    colours = palette(user for story in stories for user in story.roster)
    names = [name for row in rows for name, members in row if members]
    widest = max((text_width(name, 13, bold=True) for name in names), default=0.0)
    left = max(96.0, LEFT + min(widest, 130.0) + 34)
    if any(strip.waiting for strip in strips):
        left = max(left, LEFT + text_width("waiting", 13) + 10)
    total = max((strip.total for strip in strips), default=0)
    room = board.height - 52 - 46 - (_TITLE_ROOM + _TICKS_ROOM) * len(strips)
    each = min(32.0 if len(strips) > 1 else 46.0, room / max(lines, 1))
    spare = (room - each * lines) / max(len(strips), 1)
    y = 52.0
    for number, (strip, row) in enumerate(zip(strips, rows, strict=True)):
        heading = _heading(strip, strips[number - 1] if number else None, strips)
        drawer = _Drawer(board, strip, row, colours, left, each, max(total, 1))
        drawer.draw(y + spare * 0.4, heading, widest, last=number + 1 == len(strips))
        y += _TITLE_ROOM + _TICKS_ROOM + each * len(row) + spare
    if not total:
        board.text(
            450, board.height / 2, "no insults were sent", size=13, color=SOFT, ha="center"
        )
    legend = _legend(strips)
    line = caption(stories, *legend, backends=False)
    finding = board.frame(insults_finding(strips), line, tier(stories))
    return board.finish(finding, line, [row for strip in strips for row in strip.table()])


def _rows(strip: Shares) -> list[tuple[str, tuple[str, ...]]]:
    """Label and members of each row."""
    members = strip.members
    shown = members if len(members) <= MOST_MEMBERS else members[: MOST_MEMBERS - 1]
    rows: list[tuple[str, tuple[str, ...]]] = [(member, (member,)) for member in shown]
    if len(members) > len(shown):
        rest = members[len(shown) :]
        rows.append((f"{len(rest)} others", rest))
    if strip.lost:
        rows.append(("lost", ()))
    if strip.dead:
        rows.append(("failed", ()))
    if strip.waiting:
        rows.append(("waiting", ()))
    return rows


def _heading(strip: Shares, before: Shares | None, strips: Sequence[Shares]) -> str:
    words = strip.setting.words()
    if len({other.setting.work_words() for other in strips}) > 1 and strip.setting.work_words():
        words += f", {strip.setting.work_words()}"
    if strip.backlog and strip.members:
        if before is not None and before.backlog == strip.backlog:
            return f"{words}: the same backlog"
        verb = "attaches" if len(strip.members) == 1 else "attach"
        return f"{words}: {strip.backlog} waiting, then {_number(len(strip.members))} {verb}"
    return words


def _number(members: int) -> str:
    words = (
        "no",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
    )
    word = words[members] if members < len(words) else str(members)
    return f"{word} member" + ("" if members == 1 else "s")


def _legend(strips: Sequence[Shares]) -> list[str]:
    works = {strip.setting.work_words() for strip in strips}
    words = [works.pop()] if len(works) == 1 else []
    most = max((len(strip.members) for strip in strips), default=0)
    if most > 1:
        words.append(f"fairness = Jain index (1 = equal, {1 / most:.2f} = one takes all)")
    if any(any(strip.taken_back.values()) for strip in strips):
        words.append("hollow = taken back")
    return words


@dataclass
class _Drawer:
    """One strip."""

    board: Board
    strip: Shares
    rows: list[tuple[str, tuple[str, ...]]]
    colours: dict[str, str]
    left: float
    each: float
    total: int

    def draw(self, y: float, heading: str, widest: float, *, last: bool) -> None:
        board, strip = self.board, self.strip
        words = fit(heading, _SQUARES_RIGHT - self.left, 12.5)
        board.text(self.left, y + 16, words, size=12.5, color="black")
        top = y + _TITLE_ROOM
        if not strip.members and strip.total:
            board.text(self.left + 340, y + 16, "nobody was attached", color=SOFT)
        for number, (name, members) in enumerate(self.rows):
            middle = top + (number + 0.5) * self.each
            board.line(
                (self.left, top + number * self.each),
                (_SQUARES_RIGHT, top + number * self.each),
                color="#e7e8ea",
                width=1,
            )
            if members:
                self._member(name, members, middle, widest)
            else:
                self._rest(name, middle)
        bottom = top + len(self.rows) * self.each
        if strip.total:
            self._ticks(bottom + 13)
            if len(strip.members) > 1:
                middle = top + len(strip.members[:MOST_MEMBERS]) * self.each / 2
                board.text(828, middle - 10, "fairness", color=SOFT)
                board.text(828, middle + 10, f"{strip.fairness:.2f}", color=SOFT)
        if last and strip.total:
            middle = (self.left + _SQUARES_RIGHT) / 2
            board.text(middle, bottom + 33, "insult number", color=SOFT, ha="center")

    def _member(self, name: str, members: tuple[str, ...], y: float, widest: float) -> None:
        colour = self.colours[members[0]] if len(members) == 1 else "#6e7781"
        chip = self.left - 10 - min(widest, 130.0) - 23
        self.board.chip_name(name, colour, self.left - 10, y, chip, width=130)
        got = [number for member in members for number in self.strip.got[member]]
        self._squares(got, y, colour)
        back = [number for member in members for number in self.strip.taken_back[member]]
        self._squares(back, y, colour, hollow=True)
        self.board.text(_COUNTS, y, f"{len(got):,}", size=16, bold=True)

    def _rest(self, name: str, y: float) -> None:
        kinds = {"lost": self.strip.lost, "failed": self.strip.dead}
        numbers = kinds.get(name, self.strip.waiting)
        colour = LOSS if name == "lost" else GREY
        self.board.text(
            self.left - 10, y, name, size=13, color=colour, ha="right", bold=name == "lost"
        )
        if name == "lost":
            size = min(12.0, self._pitch() * 0.6)
            spots = [(self._x(number) + self._pitch() / 2, y) for number in numbers]
            self.board.crosses(spots, size=size, width=min(3.2, max(size / 4, 0.8)))
        else:
            self._squares(numbers, y, "#d0d4d9")
        self.board.text(_COUNTS, y, f"{len(numbers):,}", size=16, bold=True, color=colour)

    def _pitch(self) -> float:
        return (_SQUARES_RIGHT - self.left) / max(self.total, 8)

    def _x(self, number: int) -> float:
        return self.left + (number - 1) * self._pitch()

    def _squares(
        self, numbers: Sequence[int], y: float, colour: str, *, hollow: bool = False
    ) -> None:
        pitch = self._pitch()
        gap = 2.0 if pitch > 8 else pitch * 0.15 if pitch > 3 else 0.0
        tall = min(27.0, self.each - 5) / 2
        wide = min(pitch - gap, 34.0)
        boxes = [
            (self._x(n) + gap / 2, y - tall, self._x(n) + gap / 2 + wide, y + tall)
            for n in numbers
        ]
        self.board.boxes(boxes, colour, hollow=hollow)

    def _ticks(self, y: float) -> None:
        numbers = _tick_numbers(self.total)
        wide = min(self._pitch(), 36.0)
        for number in numbers:
            self.board.text(
                self._x(number) + wide / 2, y, f"{number:,}", color=SOFT, ha="center"
            )


def _tick_numbers(total: int) -> list[int]:
    """1, round numbers between, and the last."""
    step = next(s for p in range(9) for s in (10**p, 2 * 10**p, 5 * 10**p) if total / s <= 10)
    step = max(step, 1)
    found = [1, *range(step, total, step)] if step > 1 else list(range(1, total + 1))
    if found[-1] != total:
        if total - found[-1] < step * 0.6 and len(found) > 1:
            found.pop()
        found.append(total)
    return sorted(set(found))


__all__ = ["insults", "shares"]
