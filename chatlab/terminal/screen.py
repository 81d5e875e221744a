"""Screen: what the program needs of a terminal, without any library.

A :class:`View` fills the screen; the program asks for lines and is told when the user wants
to leave. The terminal itself is :mod:`chatlab.terminal.face`; tests have another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from chatlab.terminal.conversation import Line, Piece

T = TypeVar("T")

#: Two Ctrl-C within so many seconds, and no line between them, end the program.
TWICE_SECONDS = 2.0


class Left(Exception):
    """The user wants to leave what is on the screen: Ctrl-C or Ctrl-D."""


class Ended(Exception):
    """The program is to end: Ctrl-C twice, a signal, a newer window."""


class View(Protocol):
    """What fills the screen."""

    def header(self) -> list[Piece]:
        """The first line."""
        ...

    def lines(self) -> Sequence[Line]:
        """The lines below it, the newest last."""
        ...

    def pieces(self, line: Line) -> list[Piece]:
        """How a line looks now."""
        ...


class Screen(Protocol):
    """A terminal. Both waiting calls raise :class:`Left` and :class:`Ended`."""

    def show(self, view: View) -> None:
        """From now on this is on the screen."""

    def say(self, *lines: str) -> None:
        """Short lines above the prompt, until the user types the next line."""

    async def ask(
        self,
        prompt: str,
        default: str = "",
        words: Callable[[], Iterable[str]] = tuple,
        remember: bool = False,
    ) -> str:
        """A line that the user typed.

        Args:
            default: stands there already.
            words: what the Tab key offers.
            remember: the arrow keys find it again.
        """
        ...

    async def during(self, text: str, work: Awaitable[T]) -> T:
        """Wait for ``work`` and say so; leaving cancels it."""
        ...

    def take(self) -> str:
        """What stands in the line now, and take it away."""
        ...

    def changed(self) -> None:
        """What is shown may look different now."""
