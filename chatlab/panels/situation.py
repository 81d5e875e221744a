"""Situation: what a stage has to know of the scene, from its journal. Pure.

Which backend its group has, which faults go on, whose link is cut. It reads each fact once;
with a new scene it begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from chatlab.journal import Journal, Row
from chatlab.messages import group as chat_of


class Situation:
    """Of one group. :meth:`follow` from any thread."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._begin()

    def _begin(self) -> None:
        self._read = 0
        #: The backend of the group, with its options; empty: nobody has joined it.
        self.backend = ""
        #: Who is subscribed.
        self.members: set[str] = set()
        #: What goes on: (fault, target) -> since when.
        self.faults: dict[tuple[str, str], float] = {}

    def follow(self, journal: Journal) -> Situation:
        """Take what is new in the journal of the current scene."""
        with self._lock:
            if journal is not self._journal:
                self._journal = journal
                self._begin()
            for row in journal.rows[self._read :]:
                self._read += 1
                if row[0] in _KINDS:
                    self._take(row)
        return self

    def _take(self, row: Row) -> None:
        kind, at, user, _, chat, *rest = row
        if kind == "FaultBegan":
            self.faults[rest[0], rest[1]] = at
        elif kind == "FaultEnded":
            self.faults.pop((rest[0], rest[1]), None)
        elif kind == "Crashed":  # the links of its next life are whole
            self.faults = {f: t for f, t in self.faults.items() if not _of(f[1], user)}
        elif chat == chat_of(self.group):
            if kind == "Left":
                self.members.discard(user)
            elif kind == "Subscribed":
                self.members.add(user)
                self.backend = rest[0]

    def cut(self, user: str) -> list[str]:
        """The services that this user's link is cut to."""
        return [
            target.rpartition("-")[2]
            for fault, target in self.faults
            if fault == "cut" and _of(target, user)
        ]


def _of(target: str, user: str) -> bool:
    return target.rpartition("-")[0] == user


def is_paused(faults: Mapping[tuple[str, str], float], service: str) -> bool:
    """Whether this service was paused and not resumed, by the journal."""
    return ("pause", service) in faults


_KINDS = frozenset({"FaultBegan", "FaultEnded", "Crashed", "Subscribed", "Left"})
