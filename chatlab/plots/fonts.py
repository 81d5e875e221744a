"""How wide words are, and which font can draw them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.textpath import text_to_path

#: Dots per inch of the card: a point is 100/72 pixels.
DPI: Final = 100


@lru_cache(maxsize=4096)
def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """Width of ``words`` in pixels of the card."""
    if not words:
        return 0.0
    words = drawable(words)
    font = FontProperties(
        family=list(families(words)), weight="bold" if bold else "normal", size=size
    )
    width, _, _ = text_to_path.get_text_width_height_descent(words, font, ismath=False)
    return float(width) * DPI / 72


def fit(words: str, width: float, size: float, *, bold: bool = False) -> str:
    """``words``, cut with an ellipsis where they are wider than ``width`` pixels."""
    if text_width(words, size, bold=bold) <= width:
        return words
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(words[:middle].rstrip() + "…", size, bold=bold) <= width:
            low = middle
        else:
            high = middle - 1
    return words[:low].rstrip() + "…"


@lru_cache(maxsize=1024)
def families(words: str) -> tuple[str, ...]:
    """DejaVu Sans, and another installed font for what it lacks."""
    missing = {ord(letter) for letter in words} - _charmap(_dejavu())
    if not missing:
        return ("DejaVu Sans",)
    for entry in fontManager.ttflist:
        if "Last Resort" not in entry.name and missing <= _charmap(entry.fname):
            return ("DejaVu Sans", entry.name)
    return ("DejaVu Sans",)


@lru_cache(maxsize=1024)
def drawable(words: str) -> str:
    """``words`` on one line, with a box for each letter that no installed font has."""
    words = " ".join(words.split())
    extra = families(words)[1:]
    known = _charmap(_dejavu())
    if extra:
        return words
    return "".join(letter if ord(letter) in known else "\u25a1" for letter in words)


@lru_cache(maxsize=1)
def _dejavu() -> str:
    return str(fontManager.findfont("DejaVu Sans"))


@lru_cache(maxsize=512)
def _charmap(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a bitmap or damaged font of the system
        return frozenset()
