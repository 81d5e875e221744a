"""Conversations as the judges see them: what was sent, shown, and to whom it was meant. Values.

A moment is a *line*: the number that the fact has in the saved journal (the header is line 1),
so the order is the journal's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from chatlab import messages as m

#: After the last line.
NEVER = 1 << 60
#: The conversation under which a user's attachment to its mailbox is recorded.
MAILBOX = "mailbox"
#: The user as a whole.
WHOLE = ""
DIRECT = "direct"

Pattern = Literal["private", "group", "insults"]
Why = Literal["away", "crashed", "frozen", "lost"]


@dataclass(slots=True)
class Send:
    """One message that somebody handed to its client, and what the sender learned."""

    key: str
    line: int
    at: float
    user: str
    life: int
    message: m.Message
    attempts: int = 1
    #: confirmed, returned, uncertain, failed; "": the journal does not say.
    outcome: str = ""
    told: int = NEVER


class Sight(NamedTuple):
    """One message shown to one life of a user."""

    key: str
    line: int
    at: float
    user: str
    life: int
    message: m.Message
    redelivered: bool


class End(NamedTuple):
    """An insult is handled or a dead letter, by this life."""

    line: int
    user: str
    life: int
    kind: str


@dataclass(slots=True)
class Span:
    """From one line to another; open ones last for ever."""

    began: int
    ended: int = NEVER
    why: Why = "away"

    def overlaps(self, since: int, until: int) -> bool:
        return self.began < until and since < self.ended

    def covers(self, line: int) -> bool:
        return self.began <= line < self.ended


@dataclass(slots=True)
class Fault:
    """Something was done to a service or a link."""

    fault: str
    target: str
    began: int
    ended: int = NEVER


@dataclass
class Conversation:
    """All that concerns one conversation."""

    chat: str
    #: As named in the journal, in the order of appearance -> by whose promises it is judged.
    backends: dict[str, str] = field(default_factory=dict)
    sends: dict[str, Send] = field(default_factory=dict)
    sights: list[Sight] = field(default_factory=list)
    #: Group: member -> from subscription to leaving.
    members: defaultdict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    #: (user, life) -> ids that it acknowledged.
    acked: defaultdict[tuple[str, int], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )
    #: Insults: id -> how it came to an end.
    ends: defaultdict[str, list[End]] = field(default_factory=lambda: defaultdict(list))
    #: Insults: id -> lines at which it was given back.
    rejected: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    #: Insults: who attached to draw -> the backend with its options by whose promises it is
    #: judged, the latest.
    consumers: dict[str, str] = field(default_factory=dict)
    #: Connected and Disconnected, with the user and the life.
    visits: list[tuple[int, str, int, str]] = field(default_factory=list)

    @property
    def pattern(self) -> Pattern:
        if self.chat == m.INSULTS:
            return "insults"
        return "private" if self.chat.startswith("private:") else "group"

    @property
    def store(self) -> str:
        """Under which conversation its receivers attach."""
        mailbox = self.pattern == "private" and DIRECT not in self.backends
        return MAILBOX if mailbox else self.chat

    @cached_property
    def by_key(self) -> dict[str, list[Sight]]:
        """Who was shown a message, in order."""
        found: defaultdict[str, list[Sight]] = defaultdict(list)
        for sight in self.sights:
            found[sight.key].append(sight)
        return found

    @cached_property
    def first_sights(self) -> dict[tuple[str, str], int]:
        """(message, user) -> the line at which it was shown first."""
        found: dict[tuple[str, str], int] = {}
        for sight in self.sights:
            found.setdefault((sight.key, sight.user), sight.line)
        return found

    def key(self, message: m.Message) -> str:
        """Ids of private chats are unique per sender only."""
        return f"{message.sender}/{message.id}" if self.pattern == "private" else message.id
