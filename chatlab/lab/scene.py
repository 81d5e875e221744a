"""Scene: a fresh start inside a lab, with a journal of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chatlab.checkers import Verdict, judge
from chatlab.journal import Journal
from chatlab.tables import card

if TYPE_CHECKING:
    from chatlab.lab.lab import Lab


class Scene:
    """What happened between one ``lab.scene(name)`` and the next.

    Figures and verdicts take a scene; it stays readable when the next has begun.
    """

    def __init__(self, lab: Lab, name: str, journal: Journal) -> None:
        self.lab = lab
        self.name = name
        self.journal = journal

    @property
    def current(self) -> bool:
        """Whether this is the lab's newest scene."""
        return self.lab.current is self

    def verdict(self, *, expect: Iterable[str] = ()) -> Verdict:
        """What independent judges say of it: see :func:`chatlab.checkers.judge`."""
        return judge(self.journal, expect=expect)

    def __repr__(self) -> str:
        return f"<Scene {self.name!r}: {len(self.journal)} facts>"

    def _repr_html_(self) -> str:
        return card(f"scene {self.name}", self.journal.counts())
