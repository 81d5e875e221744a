"""Presence: one entry of the answer to "who is there?", the same from every way of asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    #: Which way of asking said so: ``registry``, ``management``.
    source: str = ""
    #: At most so many seconds old is what the source knows.
    age: float = 0.0
