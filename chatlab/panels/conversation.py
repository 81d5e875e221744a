"""Conversation: what one user knows of one conversation, from the journal. Pure.

It reads each fact once, so it can be asked many times a second. A line is a message, own or
another's, or a note: who joined, who left. An own message says how far it has come:
``✓ 1 of 2 · 1 waits``. Only the newest lines are kept; the journal has them all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatlab.backends import forgets_the_absent
from chatlab.journal import Journal, Row
from chatlab.messages import Message, title
from chatlab.tables import Table

#: So many of the newest lines are kept.
KEPT_LINES = 1_000

_ANSWERS = {
    "": "sending",
    "Returned": "nobody listens: it reached nobody",
    "Failed": "not sent",
    "Uncertain": "? nobody knows whether it was sent",
}


@dataclass
class Line:
    """One line: a message, or a note when there is no sender."""

    key: str
    at: float
    text: str
    sender: str = ""
    again: bool = False
    #: Of an own message: what was answered, whom it is meant for, who has been shown it …
    answer: str = ""
    meant_for: frozenset[str] = frozenset()
    shown_to: set[str] = field(default_factory=set)
    #: … and those of them who were away, and for whom nothing is kept.
    missing: frozenset[str] = frozenset()

    @property
    def status(self) -> str:
        """How far an own message has come."""
        if self.answer in _ANSWERS and not self.shown_to:
            return _ANSWERS[self.answer]
        missed = len(self.missing - self.shown_to)
        waits = len(self.meant_for - self.missing - self.shown_to)
        parts = [f"✓ {len(self.shown_to)} of {len(self.meant_for)}"]
        if waits:
            parts.append(f"{waits} wait{'s' if waits == 1 else ''}")
        if missed:
            parts.append(f"{missed} miss{'es' if missed == 1 else ''} it")
        return " · ".join(parts)


class Conversation:
    """What ``user`` knows of ``chat``: fed with the rows of a journal, in order."""

    def __init__(self, user: str, chat: str) -> None:
        self.user, self.chat = user, chat
        self.lines: deque[Line] = deque(maxlen=KEPT_LINES)
        #: Whom its messages are meant for, and who of them receives now.
        self.members: set[str] = set(chat.split(":")[1:]) if _private(chat) else set()
        self.connected: set[str] = set()
        #: How the user is away (offline, crashed, frozen), since when; empty: it is there.
        self.away, self.away_since = "", 0.0
        self._forgets = False
        self._own: dict[str, Line] = {}
        #: Ids of others' messages that the user has not been shown: sent, and accepted.
        self._sent_to_me: set[str] = set()
        self._due: set[str] = set()
        self._read = self._notes = 0

    @property
    def waiting(self) -> int:
        """How many messages were accepted for the user and not shown to it yet."""
        return len(self._due)

    def read(self, rows: list[Row]) -> None:
        """Take the rows that were appended since the last call."""
        new = rows[self._read :]
        self._read += len(new)
        for row in new:
            chat = row[4]
            if not chat or chat == self.chat:
                act = (_ACTS if chat else _WHOLE).get(row[0])
                if act is not None:
                    act(self, *row[1:3], *row[5:])

    # -- messages

    def _sent(self, at: float, user: str, message: Message) -> None:
        others = self.members - {user}
        missing = others - self.connected if self._forgets else set()
        if user != self.user:
            if self.user in others - missing:
                self._sent_to_me.add(message.id)
        elif message.id not in self._own:  # the same one may be sent again
            line = Line(message.id, at, message.body, user)
            line.meant_for, line.missing = frozenset(others), frozenset(missing)
            self.lines.append(line)
            self._own[message.id] = line
            if len(self._own) > KEPT_LINES:
                del self._own[next(iter(self._own))]

    def _confirmed(self, _at: float, _user: str, id: str, *_: Any) -> None:
        if id in self._own:
            self._own[id].answer = "Confirmed"
        elif id in self._sent_to_me:
            self._due.add(id)

    def _returned(self, _at: float, _user: str, id: str, _why: str) -> None:
        self._answer(id, "Returned")

    def _failed(self, _at: float, _user: str, id: str, _why: str) -> None:
        self._answer(id, "Failed")
        self._arrived(id)

    def _uncertain(self, _at: float, _user: str, id: str, _why: str) -> None:
        self._answer(id, "Uncertain")

    def _answer(self, id: str, answer: str) -> None:
        if id in self._own:
            self._own[id].answer = answer

    def _delivered(self, at: float, user: str, message: Message, again: bool) -> None:
        if message.id in self._own:
            if user != self.user:
                self._own[message.id].shown_to.add(user)
        elif user == self.user and message.sender != user:
            self.lines.append(Line(message.id, at, message.body, message.sender, again))
            self._arrived(message.id)

    def _discarded(self, _at: float, user: str, id: str) -> None:
        if user == self.user:
            self._arrived(id)

    def _arrived(self, id: str) -> None:
        self._sent_to_me.discard(id)
        self._due.discard(id)

    # -- who is there

    def _subscribed(self, at: float, user: str, backend: str) -> None:
        self._forgets = forgets_the_absent(backend)
        if user not in self.members and not _private(self.chat):
            self.members.add(user)
            self._note(at, f"{user} joined")

    def _left(self, at: float, user: str) -> None:
        if user in self.members and not _private(self.chat):
            self.members.discard(user)
            self._note(at, f"{user} left")

    def _connects(self, _at: float, user: str, _backend: str, role: str) -> None:
        if role != "producer":
            self.connected.add(user)

    def _disconnects(self, _at: float, user: str, _reason: str) -> None:
        self.connected.discard(user)
        if user == self.user and self._forgets:
            self._due.clear()

    def _comes(self, _at: float, user: str, *_: Any) -> None:
        if user == self.user:
            self.away = ""

    def _goes(self, at: float, user: str, how: str) -> None:
        self.connected.discard(user)
        if user == self.user:
            self.away, self.away_since = how, at

    def _offline(self, at: float, user: str, _reason: str) -> None:
        self._goes(at, user, "offline")

    def _crashed(self, at: float, user: str) -> None:
        self._goes(at, user, "crashed")

    def _frozen(self, at: float, user: str) -> None:
        if user == self.user:
            self.away, self.away_since = "frozen", at

    def _note(self, at: float, text: str) -> None:
        self._notes += 1
        self.lines.append(Line(f"note {self._notes}", at, text))


def _private(chat: str) -> bool:
    return chat.startswith("private:")


def lines_of(journal: Journal, user: str, chat: str) -> Table:
    """What ``user`` knows of ``chat``, a row a line: from, message, at, status."""
    conversation = Conversation(user, chat)
    conversation.read(journal.rows[:])
    rows = (
        {
            "from": line.sender,
            "message": line.text,
            "at": clock(line.at),
            "status": line.status if line.sender == user else "",
        }
        for line in conversation.lines
    )
    return Table(rows, f"{user} in {title(chat)}")


def clock(at: float) -> str:
    """Hours and minutes, of this computer's time zone."""
    return time.strftime("%H:%M", time.localtime(at))


#: What a fact about the conversation does …
_ACTS: dict[str, Callable[..., None]] = {
    "Sent": Conversation._sent,
    "Confirmed": Conversation._confirmed,
    "Returned": Conversation._returned,
    "Failed": Conversation._failed,
    "Uncertain": Conversation._uncertain,
    "Delivered": Conversation._delivered,
    "Discarded": Conversation._discarded,
    "Subscribed": Conversation._subscribed,
    "Left": Conversation._left,
    "Connected": Conversation._connects,
    "Disconnected": Conversation._disconnects,
}
#: … and one about a user as a whole.
_WHOLE: dict[str, Callable[..., None]] = {
    "Connected": Conversation._comes,
    "Thawed": Conversation._comes,
    "Disconnected": Conversation._offline,
    "Crashed": Conversation._crashed,
    "Frozen": Conversation._frozen,
}
