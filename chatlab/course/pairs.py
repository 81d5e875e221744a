"""Pairs: the same call, made twice by a caller that has not changed.

A pattern is *stateful* if the two can end differently; then somebody has remembered what
happened in between. Who it was, ``lab.state()`` before and after tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chatlab.errors import ChatlabError
from chatlab.lab import Lab
from chatlab.lab.state import State
from chatlab.tables import Table, Tabular

#: RabbitMQ counts what is in a queue once a second; a look has to be later than that.
COUNTS_SECONDS = 1.1
#: Where somebody must have remembered and nobody is seen to, one looks for so long.
LATE_SECONDS = 6.0
#: Every client counts its own messages, whatever the pattern; no answer depends on it.
_OWN_COUNTS = frozenset({"clock", "last seq"})


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
        """Call, let something happen, call again, and write down both ends; where they
        differ, also who remembers something else than before the first call.

        Args:
            pattern: as the table and the questions name it: ``private chat``, ``group``,
                ``insult channel``, ``discovery``.
            call: what is done twice; what it returns is compared as text.
            between: what others do meanwhile.
            name: of the call; default: that of the function.
        """
        before = self._look()
        first = _ended(call)
        between()
        now = self._look()
        second = _ended(call)
        memory = self._who(before, now) if first != second else {}
        row = {
            "pattern": pattern,
            "call": name or getattr(call, "__name__", "call"),
            "first": first,
            "second": second,
            "stateful": first != second,
            "who remembered": list(memory) or ["nobody"],
            "what": [thing for things in memory.values() for thing in things],
        }
        # The same pair again takes the place of the first.
        key = row["pattern"], row["call"]
        self.rows = [r for r in self.rows if (r["pattern"], r["call"]) != key] + [row]
        return self

    def _look(self) -> State:
        time.sleep(COUNTS_SECONDS)
        return self._lab.state()

    def _who(self, before: State, now: State) -> dict[str, list[str]]:
        """Where nothing is seen yet, RabbitMQ's count may be late: look again."""
        until = time.monotonic() + LATE_SECONDS
        while not (found := who(now - before)) and time.monotonic() < until:
            now = self._look()
        return found

    def _table(self) -> Table:
        return Table(self.rows, "the same call, made twice")


def who(changed: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Each process that remembers something else now, and what.

    A user's client that did something has changed with it: it is named only where no server
    has changed.
    """
    found: dict[str, list[str]] = {}
    for row in changed:
        if row["thing"] not in _OWN_COUNTS:
            things = found.setdefault(row["process"], [])
            things += [row["thing"]] * (row["thing"] not in things)
    servers = {p: things for p, things in found.items() if not p.startswith("client of ")}
    return dict(sorted((servers or found).items()))


def _ended(call: Callable[[], object]) -> str:
    """How it ended, as text; an error is an end, too."""
    try:
        return str(call())
    except ChatlabError as error:
        return f"{type(error).__name__}: {error.what}"
