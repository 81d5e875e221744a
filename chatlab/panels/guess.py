"""Guess card (its look follows)."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class GuessCard:
    """A question, its options and what was guessed."""

    def __init__(
        self, id: str, question: str, options: Sequence[str], chosen: str | None
    ) -> None:
        self.id, self.question, self.options, self.guess = id, question, options, chosen
        self._told: list[Callable[[str], object]] = []

    def on_guess(self, told: Callable[[str], object]) -> None:
        """Call with each guess."""
        self._told.append(told)

    def do(self, verb: str, option: str) -> None:
        """A click."""
        self.guess = option
        for told in self._told:
            told(option)

    def __repr__(self) -> str:
        return f"{self.question} ({' | '.join(self.options)})"


def guess(
    id: str,
    question: str,
    options: Sequence[str],
    *,
    chosen: str | None = None,
    seen: str | None = None,
) -> GuessCard:
    """A guess card."""
    return GuessCard(id, question, options, chosen)
