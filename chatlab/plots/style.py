"""How every picture looks, and how it shows itself.

A picture is one Axes that measures in pixels of a 900 x 440 card, y downwards: what a mock-up
says is what the code says, and text never moves what it labels. :class:`Board` draws on it;
:class:`Picture` is the Axes: as the last expression of a cell it shows once, as a PNG with its
finding as alt text, without pyplot. Names and bodies are drawn literally (no mathtext).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib.style
from matplotlib.axes import Axes
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from chatlab.plots.fonts import DPI, drawable, families, fit

WIDTH: Final = 900
HEIGHT: Final = 440

#: How much taller a line under the picture makes it.
NOTE: Final = 34

#: Left and right edge of title, caption and badge, in pixels.
LEFT: Final = 18
RIGHT: Final = 882

INK: Final = "#1f2328"
SOFT: Final = "#57606a"
GREY: Final = "#76797e"
RULE: Final = "#c8cacc"
HATCH: Final = "#b0b3b7"
LOSS: Final = "#c1121f"
FAULT: Final = "#fbe3e4"
FAULT_EDGE: Final = "#eeb9bc"
GOOD: Final = "#1a7f37"

#: Okabe and Ito's colours without vermilion, which is too near to the red of a loss.
COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7f6a00", "#333333")

#: Sizes in points.
TITLE, NAME, LABEL, CAPTION = 17.0, 13.0, 11.0, 9.5

_RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "svg.hashsalt": "chatlab",
    "hatch.linewidth": 1.0,
    "axes.unicode_minus": False,
}


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the notebook has set."""
    with matplotlib.style.context(["default", _RC]):
        yield


class Picture(Axes):
    """A drawn picture: an Axes with a finding, its facts, and a notebook face."""

    #: The title: what the picture shows, computed.
    finding: str = ""
    #: The grey line: tier, versions, settings.
    caption: str = ""
    _rows: Sequence[dict[str, Any]] = ()

    def table(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The facts of the picture, one dictionary each (Matplotlib's own draws a table)."""
        return [dict(row) for row in self._rows]

    def noted(self, words: str) -> Picture:
        """The same picture with a line of ``words`` under it, which its alt text says, too."""
        figure = self.get_figure(root=True)
        assert figure is not None
        width, height = (inches * DPI for inches in figure.get_size_inches())
        figure.set_size_inches(width / DPI, (height + NOTE) / DPI)
        for each in figure.axes:
            x, y, w, h = each.get_position().bounds
            bottom, taller = y * height + NOTE, height + NOTE
            each.set_position((x, bottom / taller, w, h * height / taller))
        shown = drawable(fit(words, RIGHT - LEFT, NAME, bold=True))
        figure.text(
            *(LEFT / width, 0.5 * NOTE / (height + NOTE), shown),
            fontsize=NAME,
            weight="bold",
            color=INK,
            family=list(families(shown)),
            va="center_baseline",
            parse_math=False,
        )
        self.finding = f"{self.finding}. {words}"
        return self

    def save(self, path: Path | str) -> Path:
        """Write as PNG (900 pixels wide) or SVG, by the name's ending. Returns the path."""
        path = Path(path)
        path.write_bytes(self._bytes(path.suffix.lstrip(".").lower() or "png"))
        return path

    def _bytes(self, format: str) -> bytes:
        figure = self.get_figure(root=True)
        assert figure is not None
        metadata: dict[str, Any] = {"Title": self.finding}
        if format == "svg":
            # The same journal gives the same bytes: no date in the file.
            metadata |= {"Description": self.caption, "Date": None}
        file = BytesIO()
        with own_style():
            figure.savefig(file, format=format, dpi=DPI, facecolor="white", metadata=metadata)
        return _small(file) if format == "png" else file.getvalue()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Shown once, unscaled, by a notebook whose last expression it is.

        JupyterLab gives a PNG no alt text, so the same picture comes as HTML too.
        """
        figure = self.get_figure(root=True)
        assert figure is not None
        width, height = (round(inches * DPI) for inches in figure.get_size_inches())
        face = {"width": width, "height": height, "alt": self.finding}
        png = self._bytes("png")
        html = (
            f'<img alt="{escape(self.finding)}" width="{width}" height="{height}" '
            f'style="max-width:100%" src="data:image/png;base64,{b64encode(png).decode()}">'
        )
        bundle = {"image/png": png, "text/html": html, "text/plain": self.finding}
        return bundle, {"image/png": face}


def _small(file: BytesIO) -> bytes:
    """The same PNG with a palette: a third of the bytes in a committed notebook."""
    with Image.open(file) as image:
        title = PngInfo()
        title.add_itxt("Title", str(image.info.get("Title", "")))
        colours = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small = BytesIO()
    colours.save(small, "PNG", optimize=True, pnginfo=title)
    return small.getvalue()


def pale(color: str, amount: float = 0.66) -> str:
    """The colour mixed with white: ``amount`` 0 is the colour itself, 1 is white."""
    parts = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * amount):02x}" for part in parts)


def on(color: str) -> str:
    """White or near-black, whichever reads better on ``color``."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else INK


def palette(users: Iterable[str]) -> dict[str, str]:
    """A colour per user, in order of appearance."""
    names = dict.fromkeys(users)
    return {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}
