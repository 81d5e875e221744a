"""Transcript: the lines of a view, wrapped to the window, the newest at the bottom.

It wraps itself: what is above the window is never looked at, what was wrapped is kept, and
who reads older lines is not carried away by newer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout.controls import UIContent, UIControl
from prompt_toolkit.utils import get_cwidth

from chatlab.terminal.conversation import Line, Piece
from chatlab.terminal.screen import View

Row = list[Piece]

#: Rows after the first of a line are set in by so many columns.
INDENT = 9


class Transcript(UIControl):
    """The part of a view that fits."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._wrapped: WeakKeyDictionary[Line, tuple[int, list[Piece], list[Row]]]
        self._wrapped = WeakKeyDictionary()
        #: So many rows from the end are below the window.
        self.below = 0
        self._height = 0
        self._newest: Line | None = None

    def older(self) -> None:
        """A page up."""
        self.below += max(1, self._height - 1)

    def newer(self) -> None:
        """A page down."""
        self.below = max(0, self.below - max(1, self._height - 1))

    def create_content(self, width: int, height: int) -> UIContent:
        """See :class:`prompt_toolkit.layout.controls.UIControl`."""
        self._height = height
        rows: list[StyleAndTextTuples] = [[*row] for row in self.rows(width, height)]
        return UIContent(rows.__getitem__, line_count=len(rows), show_cursor=False)

    def rows(self, width: int, height: int) -> list[Row]:
        """What is seen in a window of that size."""
        view = self._view()
        lines = view.lines()
        if self.below:
            self.below += self._come_since(view, lines, width)
        self._newest = lines[-1] if lines else None
        found: list[list[Row]] = []
        total = 0
        for line in reversed(lines):
            found.append(self._rows_of(view, line, width))
            total += len(found[-1])
            if total >= height + self.below:
                break
        self.below = max(0, min(self.below, total - height))
        rows = [row for some in reversed(found) for row in some]
        return rows[max(0, total - height - self.below) : total - self.below]

    def _come_since(self, view: View, lines: Sequence[Line], width: int) -> int:
        """Rows of the lines that came since the last look."""
        count = 0
        for line in reversed(lines):
            if line is self._newest:
                break
            count += len(self._rows_of(view, line, width))
        return count

    def _rows_of(self, view: View, line: Line, width: int) -> list[Row]:
        pieces = view.pieces(line)
        kept = self._wrapped.get(line)
        if kept is None or kept[0] != width or kept[1] != pieces:
            kept = width, pieces, wrap(pieces, width)
            self._wrapped[line] = kept
        return kept[2]


def wrap(pieces: Sequence[Piece], width: int) -> list[Row]:
    """Cut into rows of at most ``width`` columns, between words where that can be."""
    width = max(width, INDENT + 10)
    rows: list[list[tuple[str, str, int]]] = [[]]
    used, space = 0, 0  # columns of the row; where its last space ends, 0: it has none
    for style, text in pieces:
        for character in text:
            columns = get_cwidth(character)
            if used + columns > width and character != " ":
                rest = rows[-1][space:] if space else []
                if space:
                    del rows[-1][space:]
                rows.append([("", " ", 1)] * INDENT + rest)
                used, space = sum(cell[2] for cell in rows[-1]), 0
            rows[-1].append((style, character, columns))
            used += columns
            if character == " " and used > width // 2:
                space = len(rows[-1])
    return [_joined(row) for row in rows]


def _joined(cells: Sequence[tuple[str, str, int]]) -> Row:
    """Cells of the same style together."""
    found: Row = []
    run: list[str] = []
    for index, (style, character, _) in enumerate(cells):
        run.append(character)
        if index + 1 == len(cells) or cells[index + 1][0] != style:
            found.append((style, "".join(run)))
            run = []
    return found
