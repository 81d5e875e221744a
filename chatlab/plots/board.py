"""The pencil of the pictures: lines, boxes, discs, words, in pixels of the card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from chatlab.plots.fonts import DPI, drawable, families, fit, text_width
from chatlab.plots.style import (
    CAPTION,
    HATCH,
    HEIGHT,
    INK,
    LABEL,
    LEFT,
    LOSS,
    NAME,
    RIGHT,
    SOFT,
    TITLE,
    WIDTH,
    Picture,
)

_Point = tuple[float, float]
_Path = Sequence[_Point]
#: Width, dashed or not, layer; diameter, hollow or not, layer.
_LineKind = tuple[float, bool, float]
_DiscKind = tuple[float, bool, float]


class Board:
    """Draws on one Axes in pixels of the card; ``ax`` given: on that, to its size."""

    def __init__(self, ax: Axes | None = None, height: float = HEIGHT) -> None:
        self.height = height
        if ax is None:
            card = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
            ax = card.add_axes((0, 0, 1, 1), axes_class=Picture)
            self.scale = 1.0
        else:
            box = ax.get_window_extent()
            self.scale = min(box.width / WIDTH, box.height / height) * DPI / ax.figure.dpi
        ax.set_axis_off()
        ax.set_xlim(0, WIDTH)
        ax.set_ylim(height, 0)
        self.ax: Axes = ax
        self._points = 72 / DPI * self.scale
        # One artist for all lines, shapes or discs of a kind: quick to draw.
        self._lines: defaultdict[_LineKind, list[tuple[_Path, str]]] = defaultdict(list)
        self._shapes: defaultdict[tuple[bool, float], list[tuple[_Path, str]]]
        self._shapes = defaultdict(list)
        self._discs: defaultdict[_DiscKind, list[tuple[_Point, str]]] = defaultdict(list)
        self.box(0, 0, WIDTH, height, "white", z=0)  # opaque on every theme

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = LABEL,
        color: str = INK,
        bold: bool = False,
        ha: str = "left",
        va: str = "center_baseline",
        halo: bool = False,
        mono: bool = False,
        z: float = 6,
    ) -> None:
        """Words at a place; with ``halo`` readable on top of lines."""
        words = drawable(words)
        label = self.ax.text(
            *(x, y, words),
            fontsize=size * self.scale,
            color=color,
            weight="bold" if bold else "normal",
            family=list(families(words, mono=mono)),
            ha=ha,
            va=va,
            zorder=z,
            parse_math=False,
        )
        if halo:
            stroke = withStroke(linewidth=3.5 * self.scale, foreground="white")
            label.set_path_effects([stroke])

    def line(
        self,
        *points: tuple[float, float],
        color: str = INK,
        width: float = 1.5,
        dashed: bool = False,
        z: float = 2,
    ) -> None:
        """A line through the points, ``width`` in pixels."""
        self.lines([points], [color], width=width, dashed=dashed, z=z)

    def lines(
        self,
        paths: Iterable[Sequence[tuple[float, float]]],
        colors: Sequence[str] | str,
        *,
        width: float = 1.5,
        dashed: bool = False,
        z: float = 2,
    ) -> None:
        """Many lines, of one colour or one each."""
        paths = list(paths)
        shades = [colors] * len(paths) if isinstance(colors, str) else colors
        if paths:
            self._lines[width, dashed, z].extend(zip(paths, shades, strict=True))

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        color: str,
        *,
        hatched: bool = False,
        edge: str = "none",
        z: float = 1,
    ) -> None:
        """A filled rectangle, hatched for an absence."""
        corner, size = (min(x0, x1), min(y0, y1)), (abs(x1 - x0), abs(y1 - y0))
        patch = Rectangle(corner, *size, facecolor=color, edgecolor=edge, zorder=z)
        patch.set_linewidth(1.3 * self._points if edge != "none" else 0)
        if hatched:
            patch.set(hatch="///", edgecolor=HATCH, linewidth=0)
        self.ax.add_patch(patch)

    def boxes(
        self,
        corners: Iterable[tuple[float, float, float, float]],
        color: str,
        *,
        hollow: bool = False,
        z: float = 3,
    ) -> None:
        """Many rectangles (x0, y0, x1, y1)."""
        inset = 1.0 if hollow else 0.0
        for left, top, right, bottom in corners:
            x0, x1 = left + inset, right - inset
            y0, y1 = top + inset, bottom - inset
            path = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            self._shapes[hollow, z].append((path, color))

    def discs(
        self,
        points: Sequence[tuple[float, float]],
        diameter: float,
        colors: Sequence[str] | str,
        *,
        hollow: bool = False,
        z: float = 5,
    ) -> None:
        """Round marks, ``diameter`` in pixels, of one colour or one each."""
        shades = [colors] * len(points) if isinstance(colors, str) else colors
        if points:
            self._discs[diameter, hollow, z].extend(zip(points, shades, strict=True))

    def crosses(
        self,
        points: Sequence[tuple[float, float]],
        *,
        size: float = 13,
        color: str = LOSS,
        width: float = 3.4,
        z: float = 7,
    ) -> None:
        """×: lost."""
        half = size / 2
        strokes = [
            [(x - half, y + sign * half), (x + half, y - sign * half)]
            for x, y in points
            for sign in (1, -1)
        ]
        self.lines(strokes, color, width=width, z=z)

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        color: str,
        *,
        width: float = 2.0,
        dashed: bool = False,
        short: float = 4,
        head: float = 11,
        z: float = 4,
    ) -> None:
        """An arrow ending ``short`` pixels before ``end``."""
        (x0, y0), (x1, y1) = start, end
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        head = min(head, length * 0.6)
        tip = (x1 - dx * short, y1 - dy * short)
        neck = (tip[0] - dx * head, tip[1] - dy * head)
        side = head * 0.42
        self.line(start, neck, color=color, width=width, dashed=dashed, z=z)
        corners = [
            tip,
            (neck[0] - dy * side, neck[1] + dx * side),
            (neck[0] + dy * side, neck[1] - dx * side),
        ]
        self._shapes[False, z].append((corners, color))

    def chip_name(
        self, name: str, color: str, right: float, y: float, chip: float, *, width: float = 150
    ) -> None:
        """A colour chip at ``chip`` and a bold name that ends at ``right``."""
        words = fit(name, width, NAME, bold=True)
        self.text(right, y, words, size=NAME, bold=True, ha="right")
        self.box(chip, y - 8, chip + 16, y + 8, color)

    def frame(self, findings: Sequence[str], caption: str, tier: str) -> str:
        """Title (the first of ``findings`` that fits), caption, and badge unless real."""
        badge = "" if tier in ("real", "") else tier.upper()
        room = RIGHT - LEFT - (text_width(badge, LABEL, bold=True) + 40 if badge else 0)
        finding = next(
            (words for words in findings if text_width(words, TITLE, bold=True) <= room),
            findings[-1],
        )
        shown = fit(finding, room, TITLE, bold=True)
        self.text(LEFT, 30, shown, size=TITLE, bold=True, color="black")
        self.text(
            LEFT,
            self.height - 12,
            fit(caption, RIGHT - LEFT, CAPTION),
            size=CAPTION,
            color=SOFT,
        )
        if badge:
            left = RIGHT - text_width(badge, LABEL, bold=True) - 20
            self.box(left, 17, RIGHT, 43, "#fff3cd", edge="#b58900")
            middle = (left + RIGHT) / 2
            self.text(middle, 30, badge, bold=True, ha="center", color="#6b5200")
        return finding

    def finish(self, finding: str, caption: str, rows: Sequence[dict[str, Any]]) -> Axes:
        """Give the Axes all that was drawn, its finding and facts, and return it."""
        self._draw()
        if isinstance(self.ax, Picture):
            self.ax.finding, self.ax.caption, self.ax._rows = finding, caption, rows
        return self.ax

    def _draw(self) -> None:
        for (width, dashed, z), drawn in self._lines.items():
            paths, colours = zip(*drawn, strict=True)
            style = [(0, (3.2, 2.4))] if dashed else "solid"
            lines = LineCollection(paths, colors=colours, linestyles=style, zorder=z)
            lines.set_linewidth(width * self._points)
            lines.set_capstyle("butt")
            self.ax.add_collection(lines, autolim=False)
        for (hollow, z), shapes in self._shapes.items():
            paths, colours = zip(*shapes, strict=True)
            face, edge = ("white", colours) if hollow else (colours, "none")
            polygons = PolyCollection(paths, facecolors=face, edgecolors=edge, zorder=z)
            polygons.set_linewidth(2 * self._points if hollow else 0)
            self.ax.add_collection(polygons, autolim=False)
        for (diameter, hollow, z), discs in self._discs.items():
            points, colours = zip(*discs, strict=True)
            face, edge = ("white", colours) if hollow else (colours, "none")
            xs, ys = zip(*points, strict=True)
            marks = self.ax.scatter(xs, ys, c=face, edgecolors=edge, zorder=z)
            marks.set_sizes([(diameter * self._points) ** 2])
            marks.set_linewidth(2 * self._points if hollow else 0)
