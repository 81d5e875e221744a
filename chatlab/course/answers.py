"""Answers: a stance, a few sentences, and the evidence that goes with them.

``answer`` keeps all three and says at once what the evidence says of the stance; nothing is
refused there, so that a reader may change their mind. The report is what refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from chatlab.course import evidence, my
from chatlab.course.evidence import Evidence
from chatlab.course.questions import Claim, Stance, question
from chatlab.errors import InvalidInput
from chatlab.tables import Table, html

FILE = "answers.json"
#: What stands in a notebook where nothing has been chosen or written yet.
NOT_YET = ("", "…", "...")
#: Fewer characters are no sentences.
TEXT_CHARACTERS = 60

_SAYS = {True: "so", False: "not so", None: "no evidence"}


@dataclass(frozen=True)
class Answer:
    """One answer, and what its evidence says of each claim of the stance."""

    id: str
    #: ``None``: none was chosen yet.
    stance: Stance | None
    text: str
    evidence: Evidence

    @property
    def claims(self) -> list[tuple[Claim, bool | None]]:
        """Each claim of the stance, and whether it is so."""
        claims = self.stance.claims if self.stance else ()
        return [(claim, self.evidence.holds(claim)) for claim in claims]

    @property
    def problems(self) -> list[str]:
        """Why a report would refuse it, each a sentence that begins with the question."""
        found = []
        if self.stance is None:
            found.append("no stance was chosen")
        if self.text.strip() in NOT_YET or len(self.text.strip()) < TEXT_CHARACTERS:
            found.append(f"write at least {TEXT_CHARACTERS} characters of your own")
        found += self.evidence.problems
        for claim, holds in self.claims:
            if holds is None:
                found.append(f"no evidence for: {claim}")
            elif not holds:
                found.append(f"your own run says otherwise than: {claim}")
        return [f"{self.id}: {problem}." for problem in found]

    def table(self) -> Table:
        """The claims as rows."""
        rows = ({"claim": str(claim), "your evidence": _SAYS[h]} for claim, h in self.claims)
        return Table(rows, self.stance.text if self.stance else "no stance chosen yet")

    def __repr__(self) -> str:
        if self.stance is None:
            return f"{self.id}: choose a stance, by its number\n{stances(self.id)!r}"
        ready = "ready for the report" if not self.problems else "\n".join(self.problems)
        return f"{self.table()!r}\n{ready}"

    def _repr_html_(self) -> str:
        if self.stance is None:
            return stances(self.id)._repr_html_()
        words = "".join(f"<li>{escape(problem)}</li>" for problem in self.problems)
        after = f"<ul>{words}</ul>" if words else "<p>Ready for the report.</p>"
        return html(list(self.table()), self.stance.text) + after


class Stances(list[str]):
    """What may be said to a question, in full and numbered from 1."""

    def __repr__(self) -> str:
        return "\n".join(f"{n}  {text}" for n, text in enumerate(self, 1))

    def _repr_html_(self) -> str:
        return f"<ol>{''.join(f'<li>{escape(text)}</li>' for text in self)}</ol>"


def stances(id: str) -> Stances:
    """What may be said to a question: choose one, by its number.

    Raises:
        InvalidInput: there is no such question.
    """
    return Stances(stance.text for stance in question(id).stances)


def answer(
    id: str, *, stance: int | str = "", because: object = None, text: str = ""
) -> Answer:
    """Answer a question; again: in place of the last time.

    Args:
        id: ``q1`` … ``q4``.
        stance: one of :func:`stances`, by number or in full; left open: none yet.
        because: the evidence: a grid, a run, pairs, or a list of these.
        text: a few sentences of one's own.

    Raises:
        InvalidInput: no such question or stance, or something that is no evidence.
    """
    chosen = _stance(id, stance)
    kept = evidence.keep(id, because if because is not None else [])
    entry = {"stance": chosen.text if chosen else "", "text": text, "evidence": kept}
    my.write(FILE, my.read(FILE) | {id: entry})
    return load(id)


def load(id: str) -> Answer:
    """What was answered, its evidence judged anew.

    Raises:
        InvalidInput: there is no such question, or a damaged file.
    """
    entry: dict[str, Any] = my.read(FILE).get(id, {})
    found = evidence.load(id, entry["evidence"]) if entry else Evidence()
    return Answer(id, _stance(id, entry.get("stance", "")), entry.get("text", ""), found)


def _stance(id: str, said: int | str) -> Stance | None:
    all_of_them = question(id).stances
    if isinstance(said, str):
        if said.strip() in NOT_YET:
            return None
        for one in all_of_them:
            if one.text == said:
                return one
    elif 1 <= said <= len(all_of_them):
        return all_of_them[said - 1]
    raise InvalidInput(
        f"{id} has no stance {said!r}.",
        todo="; ".join(f"{n}: {s.text}" for n, s in enumerate(all_of_them, 1)),
    )
