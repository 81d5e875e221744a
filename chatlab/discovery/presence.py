"""Presence: one entry of the answer to "who is there?", the same from every way of asking.

The answer, :class:`Presences`, is a list of them that also tells how it was come by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from chatlab.tables import Table, Tabular


@dataclass(frozen=True, slots=True)
class Presence:
    """One user who is online, or one group."""

    name: str
    #: ``private``: a user to chat with; ``group``: a group to join.
    kind: Literal["private", "group"]
    #: Where to reach it: a user's address, a group's exchange.
    address: str
    #: A group's members who are there now, sorted.
    members: tuple[str, ...] = ()
    #: A group's members who are not there but whose queue waits for them, sorted.
    away: tuple[str, ...] = ()
    #: A group's backend, where the source knows it.
    backend: str = ""
    #: Seconds since the epoch when it came, by the source's clock, where that is known.
    since: float | None = None
    #: Which way of asking said so: ``registry``, ``management``, ….
    source: str = ""
    #: At most so many seconds old is what the source knows; infinite: nothing limits it.
    age: float = 0.0
    #: Which life of the user's client it is, where the source knows it.
    incarnation: int | None = None


class Presences(Tabular, list[Presence]):
    """The answer to one question: users, then groups, each sorted by name.

    Args:
        via: the way of asking.
        seconds: how long the answer took.
        messages: what was sent for it, requests and answers together.
        silent: users who were asked and did not answer in time, sorted.
    """

    def __init__(
        self,
        entries: Iterable[Presence] = (),
        *,
        via: str = "",
        seconds: float = 0.0,
        messages: int = 0,
        silent: Iterable[str] = (),
    ) -> None:
        super().__init__(
            sorted(entries, key=lambda entry: (entry.kind != "private", entry.name))
        )
        self.via = via
        self.seconds = seconds
        self.messages = messages
        self.silent = tuple(sorted(silent))

    def packed(self) -> dict[str, Any]:
        """All of it as JSON has it, to be sent to another process."""
        return {
            "entries": [asdict(entry) for entry in self],
            "via": self.via,
            "seconds": self.seconds,
            "messages": self.messages,
            "silent": list(self.silent),
        }

    @classmethod
    def unpacked(cls, values: dict[str, Any]) -> Presences:
        """What :meth:`packed` has made."""
        lists = ("members", "away")
        entries = [
            Presence(**{**entry, **{name: tuple(entry[name]) for name in lists}})
            for entry in values["entries"]
        ]
        return cls(**{**values, "entries": entries})

    @property
    def users(self) -> list[str]:
        """The names of the users who are there."""
        return [entry.name for entry in self if entry.kind == "private"]

    @property
    def groups(self) -> list[str]:
        """The names of the groups."""
        return [entry.name for entry in self if entry.kind == "group"]

    def _table(self) -> Table:
        silent = f" (no answer from {', '.join(self.silent)})" if self.silent else ""
        return Table(map(_row, self), f"who is there, by {self.via}{silent}")


def _row(entry: Presence) -> dict[str, Any]:
    since = time.strftime("%H:%M:%S", time.localtime(entry.since)) if entry.since else None
    age = round(entry.age, 1) if math.isfinite(entry.age) else "unknown"
    known = {f.name: getattr(entry, f.name) for f in fields(entry)}
    return {**known, "since": since, "age": age}
