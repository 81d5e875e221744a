"""The grid: what survives what. A row per backend, a column per situation, a run per cell.

✓ on pale green = promised and kept, – on grey = not promised, ✗ on pale red = promised and
broken, ? on pale yellow = the run proves nothing, and why in as many words as fit. The row of
the original report stands first, between rules. Where rows need more room than the card has,
it grows downwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes

from chatlab.errors import InvalidInput
from chatlab.plots.board import Board
from chatlab.plots.cells import (
    Cell,
    Grid,
    cells,
    grid_finding,
    is_baseline,
    rows_of,
    settings,
    tiers,
)
from chatlab.plots.fonts import fit, text_width, wrap
from chatlab.plots.style import (
    GOOD,
    HEIGHT,
    INK,
    LABEL,
    LEFT,
    LOSS,
    RIGHT,
    RULE,
    SOFT,
    own_style,
)
from chatlab.plots.words import phrase

#: Outcome -> colour of the cell, colour of its words, what the legend says.
_LOOKS = {
    "kept": ("#dcf0e2", GOOD, "✓ promised and kept"),
    "not promised": ("#eeeeef", SOFT, "– not promised"),
    "broken": ("#fad4d6", LOSS, "✗ promised and broken"),
    "cannot tell": ("#fff0c2", "#6b5200", "? cannot tell"),
}
#: Where the names of the columns begin; what stands below the last row: legend, caption.
_TOP, _BELOW = 56.0, 58.0
#: Heights in pixels: a row of one line at the least, of any at the most; each further line.
_LOW, _TALLEST, _LINE = 26.0, 60.0, 16.0
#: Between cells; between the words of a cell and its edges; around the rule.
_GAP, _INSET, _RULE_ROOM = 5.0, 2.0, 9.0
#: Widths in pixels: of a column at the least and at the most, of the rows' names at the least.
_NARROWEST, _WIDEST, _NAMES = 86.0, 190.0, 168.0
#: Most lines of a column's name, and of a cell.
_HEAD_LINES, _CELL_LINES = 3, 3
#: Sizes that are tried, the largest first, in points.
_CELL_SIZES, _NAME_SIZES = (13.0, 12.0, LABEL), (12.5, 11.5, LABEL)
_SIGN_SIZE = 16.0


@own_style()
def grid(matrix: Grid, *, ax: Axes | None = None) -> Axes:
    """Draw what survives what.

    Args:
        matrix: what ``experiments.matrix`` returned.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: something else, or it has no row or no column.
    """
    wanted = ("backends", "scenarios", "runs", "cell")
    if not all(hasattr(matrix, name) for name in wanted):
        raise InvalidInput(
            f"A grid of experiments.matrix can be drawn, not {type(matrix).__name__}."
        )
    if not (matrix.backends and matrix.scenarios):
        raise InvalidInput("A grid without a row or a column cannot be drawn.")
    found = cells(matrix)
    rows = tiers(found)
    common = set(rows.values())
    layout = _Layout(matrix, found, {} if len(common) == 1 else rows)
    board = Board(ax, layout.height)
    _Drawer(board, layout).draw()
    # One row that is a stand-in says so itself; all of them are a badge.
    tier = common.pop() if len(common) == 1 else "real" if "real" in common else ""
    line = " · ".join([tier or "tier not recorded", *settings(matrix, found)])
    finding = board.frame(grid_finding(matrix, found), line, tier)
    legend = ", ".join(words for _, words in layout.legend)
    caption = f"{legend} · {line}" if legend else line
    return board.finish(finding, caption, [cell.row() for cell in found.values()])


@dataclass
class _Layout:
    """Where everything stands: computed before the card is made, whose height it decides."""

    matrix: Grid
    cells: Mapping[tuple[str, str], Cell]
    #: Backend -> its tier, where the rows have several.
    tiers: Mapping[str, str]
    rows: list[str] = field(init=False)
    left: float = field(init=False)
    column: float = field(init=False)
    heads: list[list[str]] = field(init=False)
    labels: dict[str, list[str]] = field(init=False)
    #: Top and bottom of each row.
    places: list[tuple[float, float]] = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.rows = rows_of(self.matrix)
        self._widths()
        self.heads = _heads(self.matrix.scenarios, self.column - _GAP)
        self.top = _TOP + _LINE * max(map(len, self.heads)) + _RULE_ROOM
        self._heights()

    def _widths(self) -> None:
        columns = len(self.matrix.scenarios)
        room = max(RIGHT - LEFT - 12 - _NARROWEST * columns, _NAMES)
        whole = {row: [self._name(row)] for row in self.rows}
        self.name_size = _largest(_NAME_SIZES, (n for (n,) in whole.values()), room, mono=True)
        self.labels = {
            row: _broken(name, room, self.name_size) for row, (name,) in whole.items()
        }
        widest = max(
            text_width(line, self.name_size, mono=True)
            for lines in self.labels.values()
            for line in lines
        )
        self.left = LEFT + widest + 12
        self.column = min((RIGHT + _GAP - self.left) / columns, _WIDEST)
        self.inner = self.column - _GAP - 2 * _INSET
        numbers = [cell.words for cell in self.cells.values() if cell.counts]
        self.size = _largest(_CELL_SIZES, numbers, self.inner, bold=True)
        others = [c.words for c in self.cells.values() if c.outcome != "kept" and not c.counts]
        self.reason_size = _largest((self.size, LABEL), others, self.inner, bold=True)

    def _name(self, row: str) -> str:
        tier = self.tiers.get(row, "real")
        return row if tier in ("real", "") else f"{row} ({tier})"

    def _heights(self) -> None:
        needs = [self._need(row) for row in self.rows]
        extra = 2 * _RULE_ROOM if self.baselines else 0.0
        room = HEIGHT - self.top - _BELOW - extra
        if max(needs) * len(needs) <= room:
            tallest = max(_TALLEST, *needs)
            needs = [min(room / len(needs), tallest)] * len(needs)
        self.height = max(HEIGHT, HEIGHT - room + sum(needs))
        self.places, y = [], self.top
        for number, need in enumerate(needs):
            y += extra if number == self.baselines else 0.0
            self.places.append((y + _GAP / 2, y + need - _GAP / 2))
            y += need

    def _need(self, row: str) -> float:
        found = [self.lines(c) for c in self.cells.values() if c.backend == row]
        lines = max([len(self.labels[row]), *(len(words) for _, words in found)])
        return _LOW + _LINE * (lines - 1)

    def lines(self, cell: Cell) -> tuple[float, list[str]]:
        """Size and lines of a cell's words: one where they fit."""
        if cell.outcome == "kept":
            return _SIGN_SIZE, [cell.words]
        size, bold = self.size if cell.counts else self.reason_size, cell.outcome == "broken"
        return size, wrap(cell.words, self.inner, size, _CELL_LINES, bold=bold)

    @property
    def baselines(self) -> int:
        """How many rows stand above the second rule."""
        number = sum(map(is_baseline, self.rows))
        return number if number < len(self.rows) else 0

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Outcome and words of what is there."""
        there = {cell.outcome for cell in self.cells.values()}
        return [(outcome, look[2]) for outcome, look in _LOOKS.items() if outcome in there]


def _heads(names: Sequence[str], width: float) -> list[list[str]]:
    """The names of the columns on lines; where one needs several, all are broken alike."""
    words = [phrase(name) for name in names]
    most = max(len(wrap(name, width, LABEL, _HEAD_LINES)) for name in words)
    if most > 1:
        longest = max(text_width(word, LABEL) for name in words for word in name.split())
        narrow = min(longest, width)
        if all(len(wrap(name, narrow, LABEL, most + 1)) <= most for name in words):
            width = narrow
    return [wrap(name, width, LABEL, most) for name in words]


def _largest(
    sizes: Sequence[float],
    words: Iterable[str],
    width: float,
    *,
    bold: bool = False,
    mono: bool = False,
) -> float:
    """The largest of ``sizes`` in which all ``words`` fit; the last one, if none does."""
    texts = list(words)
    for size in sizes:
        if all(text_width(text, size, bold=bold, mono=mono) <= width for text in texts):
            return size
    return sizes[-1]


def _broken(name: str, width: float, size: float) -> list[str]:
    """A backend's name on one line, or its options on a second."""
    if text_width(name, size, mono=True) <= width:
        return [name]
    start, colon, options = name.partition(":")
    lines = [start, options] if colon else [name]
    return [fit(line, width, size, mono=True) for line in lines]


@dataclass
class _Drawer:
    """Draws what the layout has placed."""

    board: Board
    layout: _Layout

    def draw(self) -> None:
        self._heads()
        for row, place in zip(self.layout.rows, self.layout.places, strict=True):
            self._row(row, *place)
        self._legend()

    def _x(self, number: int) -> float:
        """The left edge of a column's cells."""
        return self.layout.left + number * self.layout.column

    def _heads(self) -> None:
        layout = self.layout
        wide = layout.column - _GAP
        for number, lines in enumerate(layout.heads):
            middle = self._x(number) + wide / 2
            for above, words in enumerate(reversed(lines)):
                y = layout.top - _RULE_ROOM - _LINE * (above + 0.5)
                self.board.text(middle, y, words, color=INK, ha="center")
        rules = [layout.top - _RULE_ROOM / 2 + 1]
        if layout.baselines:
            rules.append(layout.places[layout.baselines][0] - _GAP / 2 - _RULE_ROOM)
        right = self._x(len(layout.heads)) - _GAP
        for y in rules:
            self.board.line((LEFT, y), (right, y), color=RULE, width=1.4)

    def _row(self, row: str, top: float, bottom: float) -> None:
        layout, middle = self.layout, (top + bottom) / 2
        self._lines(
            *(layout.left - 10, middle, layout.labels[row], layout.name_size),
            color="black",
            ha="right",
            mono=True,
        )
        for number, scenario in enumerate(layout.matrix.scenarios):
            cell = layout.cells.get((row, scenario))
            if cell is None:
                continue
            left, wide = self._x(number), layout.column - _GAP
            fill, ink, _ = _LOOKS[cell.outcome]
            self.board.box(left, top, left + wide, bottom, fill)
            size, lines = layout.lines(cell)
            bold = cell.outcome == "broken"
            self._lines(left + wide / 2, middle, lines, size, color=ink, bold=bold)

    def _lines(
        self,
        x: float,
        y: float,
        lines: Sequence[str],
        size: float,
        *,
        color: str,
        ha: str = "center",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """Lines around a middle."""
        for number, words in enumerate(lines):
            place = y + (number - (len(lines) - 1) / 2) * _LINE
            self.board.text(
                *(x, place, words), size=size, color=color, ha=ha, bold=bold, mono=mono
            )

    def _legend(self) -> None:
        x, y = float(LEFT), self.board.height - 34.0
        for outcome, words in self.layout.legend:
            fill, ink, _ = _LOOKS[outcome]
            wide = text_width(words, LABEL) + 16
            self.board.box(x, y - 10, x + wide, y + 10, fill)
            self.board.text(x + 8, y, words, color=ink)
            x += wide + 8


__all__ = ["grid"]
