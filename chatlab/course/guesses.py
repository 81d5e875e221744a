"""Guesses: what a reader expects before a run, kept, and held against what was seen.

``predict`` shows a card and never waits; whoever does not click has recorded no guess, and is
told so. ``reveal`` is the end: from then on the guess is fixed, and stands under the figure.
A guess is not marked, it is remembered: what one was wrong about is what one learned.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

from chatlab.course import my
from chatlab.errors import InvalidInput
from chatlab.panels import GuessCard, guess
from chatlab.plots import Picture
from chatlab.tables import Table

FILE = "guesses.json"
NO_GUESS = "no guess recorded"
#: The cards on the page; a run fixes its own.
_cards: dict[str, GuessCard] = {}


def predict(id: str, question: str, options: Sequence[str]) -> GuessCard:
    """Ask for a guess: a card with a button for each of ``options``.

    What is clicked is kept at once, may be changed until the run, and is fixed by
    :func:`reveal`; run again, the card shows what was guessed.

    Args:
        id: of the guess, for instance ``q1-away``.

    Raises:
        InvalidInput: fewer than two options, or one twice.
    """
    if len(options) < 2 or len(set(options)) < len(options):
        raise InvalidInput("A guess is between two or more different options.")
    known = my.read(FILE).get(id, {})
    same = known.get("question") == question and known.get("guess") in (None, *options)
    entry = known if known and same else {"guess": None}
    _keep(id, entry | {"question": question, "options": list(options)})
    card = guess(id, question, options, guess=entry.get("guess"))
    card.on_guess(partial(_chosen, id))
    _cards[id] = card
    return card.fix(str(entry["saw"])) if "saw" in entry else card


def _chosen(id: str, chosen: str) -> None:
    _keep(id, my.read(FILE).get(id, {}) | {"guess": chosen, "at": time.time()})


def _keep(id: str, entry: dict[str, Any]) -> None:
    my.write(FILE, my.read(FILE) | {id: entry})


class Revealed:
    """A figure, and under it what was guessed and what was seen."""

    def __init__(self, words: str, figure: object) -> None:
        #: ``guessed 10 / 10 / 10, saw 30 / 0 / 0``.
        self.words = words
        self.figure = figure

    def __repr__(self) -> str:
        return self.words

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        html = f"<p><b>{escape(self.words)}</b></p>"
        if isinstance(self.figure, Picture):
            noted = self.figure.noted(self.words)
            return noted._repr_mimebundle_()
        shown = getattr(self.figure, "_repr_html_", lambda: "")()
        return {"text/plain": self.words, "text/html": shown + html}, {}


def reveal(id: str, figure: object = None, *, saw: object) -> Revealed:
    """Show what came of it: the figure, and under it the guess beside what was seen.

    Args:
        id: of the guess.
        figure: a picture, or anything that shows itself.
        saw: what the run gave; shown as text, and right if it is the text of the guess.

    Raises:
        InvalidInput: nothing of this id was ever asked.
    """
    entry = my.read(FILE).get(id)
    if entry is None:
        raise InvalidInput(
            f"No guess {id!r} was asked for.", todo="Run the cell with its question first."
        )
    entry = entry | {"saw": str(saw), "right": entry["guess"] == str(saw)}
    _keep(id, entry)
    if id in _cards:
        _cards[id].fix(entry["saw"])
    return Revealed(_words(entry), figure)


def _words(entry: dict[str, Any]) -> str:
    if entry["guess"] is None:
        return f"{NO_GUESS}, saw {entry['saw']}"
    return f"guessed {entry['guess']}, saw {entry['saw']}"


def surprises() -> Table:
    """What surprised you: each guess that was held against a run, the wrong ones first."""
    found = [
        {"question": e["question"], "guessed": e["guess"], "saw": e["saw"], "right": e["right"]}
        for e in my.read(FILE).values()
        if "saw" in e
    ]
    found.sort(key=lambda row: (row["guessed"] is None, row["right"]))
    guessed = [row for row in found if row["guessed"] is not None]
    wrong = sum(not row["right"] for row in guessed)
    caption = f"{len(found)} questions, {len(guessed)} guesses, {wrong} surprises"
    rows = (
        # Who guessed nothing was not wrong.
        row if row["guessed"] is not None else row | {"guessed": NO_GUESS, "right": None}
        for row in found
    )
    return Table(rows, caption)
