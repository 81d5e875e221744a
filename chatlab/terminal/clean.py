"""Text from others, made harmless before a terminal sees it.

A terminal obeys what it is sent: ESC and the C1 controls begin commands (ECMA-48, section 5),
bidi controls reorder what is read (Unicode annex 9), zero-width characters make two names
look the same. :func:`harmless` lets none of them pass: each is replaced by something that is
seen. Everything that is printed and did not come from this program goes through it.
"""

from __future__ import annotations

import re
import unicodedata
import zlib

#: Not control characters by category, and yet nothing is seen of them.
_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810)]
)
#: Marks that are set above and below a letter; many of them run into other lines.
_MARK = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARKS = re.compile(f"({_MARK}{{4}}){_MARK}+")
_SHOWN_AS = {"\n": "⏎", "\t": "⇥", "\x7f": "␡"}

#: Okabe and Ito's colours that can be read on a dark and on a light ground.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7")


class _Visible(dict[int, str]):
    """Code point -> what is shown for it; filled as it is asked."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _visible(chr(code), code)
        return found


def _visible(character: str, code: int) -> str:
    if character in _SHOWN_AS:
        return _SHOWN_AS[character]
    if code < 0x20:
        return chr(0x2400 + code)  # the pictures of the C0 controls: ␛
    if unicodedata.category(character) == "Zs":
        return " "
    if code in _INVISIBLE or not character.isprintable():
        return f"<U+{code:04X}>"
    return character


_TABLE = _Visible()


def harmless(text: str) -> str:
    """``text`` on one line, with nothing in it that a terminal would obey."""
    if text.isascii() and text.isprintable():
        return text
    return _MARKS.sub(r"\1…", text.translate(_TABLE))


def seen(text: str) -> str:
    """Text that is being typed, each character that would not be seen as one that is. What
    prompt_toolkit shows itself (``^[`` for ESC) is left to it."""
    if text.isascii():
        return text
    return "".join(c if len(_TABLE[ord(c)]) == 1 or c < "\xa0" else "␦" for c in text)


def colour_of(name: str) -> str:
    """The colour of a name, always the same."""
    return COLOURS[zlib.crc32(name.encode("utf-8", "replace")) % len(COLOURS)]
