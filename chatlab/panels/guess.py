"""Guess card: a question, a button an answer, and after the run what was seen.

It waits for nobody: a cell that shows one goes on, and whoever does not click has not guessed.
The guess may be changed until :meth:`GuessCard.fix` says what the run showed. It keeps nothing:
:meth:`GuessCard.on_guess` tells who does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from chatlab.errors import InvalidInput
from chatlab.panels.panel import Card, look_of
from chatlab.tables import Table

_STYLE = (
    "max-width:620px;padding:8px 12px;border:1px solid #d5d8db;border-radius:6px;"
    "background:white;color:#1f2328"
)


def guess(
    id: str, question: str, options: Sequence[str], *, guess: str | None = None
) -> GuessCard:
    """A card that asks for a guess.

    Args:
        id: what it is kept under; a card with the same id replaces the older one.
        question, options: as they are shown; at least two options.
        guess: an earlier one; what is no option any more counts as none.

    Raises:
        InvalidInput: no id or question, fewer than two options, or the same one twice.
    """
    return GuessCard(id, question, options, guess)


class GuessCard(Card):
    """Made by :func:`guess`."""

    _esm = look_of("guess.js")
    _css = look_of("guess.css")
    VERBS = frozenset({"choose"})

    def __init__(
        self, id: str, question: str, options: Sequence[str], guess: str | None = None
    ) -> None:
        self.id = id
        self.question = _text(question, "question")
        self.options = _checked(options)
        self._guess = guess if guess in self.options else None
        self._seen: str | None = None
        self._listeners: list[Callable[[str], object]] = []
        super().__init__(_text(id, "id"))
        self.begin()

    @property
    def guess(self) -> str | None:
        """What was chosen; ``None``: nothing yet."""
        return self._guess

    @property
    def seen(self) -> str | None:
        """What the run showed; ``None``: it has not been yet."""
        return self._seen

    @property
    def right(self) -> bool | None:
        """Whether the guess was what the run showed; ``None``: one of them is missing."""
        if self._guess is None or self._seen is None:
            return None
        return _same(self._guess, self._seen)

    def on_guess(self, callback: Callable[[str], object]) -> None:
        """Call ``callback(guess)`` whenever another one is chosen."""
        self._listeners.append(callback)

    def fix(self, seen: str) -> GuessCard:
        """The run has shown ``seen``: the guess is final, the buttons go. Once more with what
        a further run shows: that counts."""
        self._seen = _text(seen, "result")
        self.refresh()
        return self

    # -- what is shown

    def look(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "options": list(self.options),
            "guess": self._guess or "",
            "words": self.words,
            "verdict": "" if self._seen is None else self._verdict(),
            "fixed": self._seen is not None,
            "buttons": []
            if self._seen is not None
            else [
                {"label": option, "do": "choose", "args": {"option": option}}
                for option in self.options
            ],
        }

    @property
    def words(self) -> str:
        """The line below the question: what was guessed, and seen."""
        if self._seen is None:
            return f"your guess: {self._guess} · change until the run" if self._guess else ""
        if self._guess is None:
            return f"no guess recorded, saw {self._seen}"
        return f"guessed {self._guess}, saw {self._seen}"

    def _verdict(self) -> str:
        return {True: "as guessed", False: "not as guessed", None: ""}[self.right]

    def table(self) -> Table:
        """One row: id, question, guess, seen, right."""
        names = ("id", "question", "guess", "seen", "right")
        return Table([{name: getattr(self, name) for name in names}])

    # -- what can be done

    def do_choose(self, option: str) -> None:
        """Guess this one."""
        if self._seen is not None:
            raise InvalidInput("The run is over: the guess cannot be changed.")
        if option not in self.options:
            raise InvalidInput(
                f"{option!r} is no answer here.", todo=f"There are: {', '.join(self.options)}."
            )
        if option != self._guess:
            self._guess = option
            self.refresh()
            for tell in self._listeners:
                tell(option)

    # -- without a browser that runs widgets

    def __repr__(self) -> str:
        options = " | ".join(self.options)
        return f"{self.question}\n[{options}]\n{self._plain()}"

    def _plain(self) -> str:
        line = self.words or "no guess yet"
        return f"{line}: {self._verdict()}" if self.right is not None else line

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li>{'<b>' if option == self._guess else ''}{escape(option)}"
            f"{'</b> (your guess)' if option == self._guess else ''}</li>"
            for option in self.options
        )
        return (
            f'<div style="{_STYLE}"><b>{escape(self.question)}</b><ul>{items}</ul>'
            f"{escape(self._plain())}</div>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and for readers without one the same as text and HTML."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        faces = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return {**data, **faces}, metadata


def _text(value: str, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"A guess card needs a {what}, a text, not {value!r}.")
    return value


def _checked(options: Sequence[str]) -> tuple[str, ...]:
    found = () if isinstance(options, str) else tuple(options)
    if len(found) < 2 or len(set(found)) < len(found):
        raise InvalidInput(f"A guess has two different answers or more, not {options!r}.")
    return tuple(_text(option, "answer") for option in found)


def _same(guess: str, seen: str) -> bool:
    """The same but for spaces."""
    return "".join(guess.split()) == "".join(seen.split())
