"""Pairs: the same call, made twice by a caller that has not changed.

A pattern is *stateful* if the two can end differently; then somebody has remembered what
happened in between. Who it was, ``lab.state()`` before and after tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatlab.errors import ChatlabError
from chatlab.lab import Lab
from chatlab.tables import Table, Tabular


class Pairs(Tabular):
    """A table of pairs, each made by :meth:`twice`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.rows: list[dict[str, Any]] = []

    def twice(
        self,
        pattern: str,
        call: Callable[[], object],
        between: Callable[[], object],
        *,
        name: str = "",
    ) -> Pairs:
        """Call, let something happen, call again, and write down both ends.

        Args:
            pattern: as the table and the questions name it: ``private chat``, ``group``,
                ``insult channel``, ``discovery``.
            call: what is done twice; what it returns is compared as text.
            between: what others do meanwhile.
            name: of the call; default: that of the function.
        """
        before = self._lab.state()
        first = _ended(call)
        between()
        second = _ended(call)
        changed = {row["process"] for row in self._lab.state() - before}
        row = {
            "pattern": pattern,
            "call": name or getattr(call, "__name__", "call"),
            "first": first,
            "second": second,
            "stateful": first != second,
            "who remembered": sorted(changed) or ["nobody"],
        }
        # The same pair again takes the place of the first.
        key = row["pattern"], row["call"]
        self.rows = [r for r in self.rows if (r["pattern"], r["call"]) != key] + [row]
        return self

    def _table(self) -> Table:
        return Table(self.rows, "the same call, made twice")


def _ended(call: Callable[[], object]) -> str:
    """How it ended, as text; an error is an end, too."""
    try:
        return str(call())
    except ChatlabError as error:
        return f"{type(error).__name__}: {error.what}"
