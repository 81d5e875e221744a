"""How wide words are, and which font can draw them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.textpath import text_to_path

#: Dots per inch of the card: a point is 100/72 pixels.
DPI: Final = 100


@lru_cache(maxsize=4096)
def text_width(words: str, size: float, *, bold: bool = False, mono: bool = False) -> float:
    """Width of ``words`` in pixels of the card."""
    if not words:
        return 0.0
    words = drawable(words)
    names = families(words, mono=mono)
    font = FontProperties(family=list(names), weight="bold" if bold else "normal", size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(words, font, ismath=False)
    return float(width) * DPI / 72


def fit(
    words: str, width: float, size: float, *, bold: bool = False, mono: bool = False
) -> str:
    """``words``, cut with an ellipsis where they are wider than ``width`` pixels."""
    if text_width(words, size, bold=bold, mono=mono) <= width:
        return words
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        start = words[:middle].rstrip() + "…"
        if text_width(start, size, bold=bold, mono=mono) <= width:
            low = middle
        else:
            high = middle - 1
    return words[:low].rstrip() + "…"


def wrap(words: str, width: float, size: float, lines: int, *, bold: bool = False) -> list[str]:
    """``words`` on so many ``lines`` at the most, broken between words; each is cut where it
    is wider than ``width`` pixels, the last one where more would follow."""
    found: list[str] = []
    rest = words.split()
    while rest and len(found) < lines - 1:
        taken = 1
        while taken < len(rest) and (
            text_width(" ".join(rest[: taken + 1]), size, bold=bold) <= width
        ):
            taken += 1
        found.append(" ".join(rest[:taken]))
        rest = rest[taken:]
    found += [" ".join(rest)] if rest else []
    return [fit(line, width, size, bold=bold) for line in found]


@lru_cache(maxsize=1024)
def families(words: str, *, mono: bool = False) -> tuple[str, ...]:
    """DejaVu Sans (Mono), and another installed font for what it lacks."""
    first = ("DejaVu Sans Mono", "DejaVu Sans") if mono else ("DejaVu Sans",)
    missing = {ord(letter) for letter in words} - _charmap(_dejavu())
    if not missing:
        return first
    for entry in fontManager.ttflist:
        if "Last Resort" not in entry.name and missing <= _charmap(entry.fname):
            return (*first, entry.name)
    return first


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
