"""Conversation: what one user knows of one conversation, from the journal. Pure.

It is fed with facts, each once (:mod:`chatlab.panels.desk` does it). A line is a message, own
or another's, or a note: who joined, who left, how long one was away. An own message says how
far it has come: ``✓ 1 of 2 · 1 waits``; whether others have been shown it is what *their*
clients recorded, so a member in another kernel counts as ``elsewhere``. Only the newest lines
are kept; the journal has them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from chatlab.backends import forgets_the_absent, unconfirmed
from chatlab.journal import Row
from chatlab.messages import Message
from chatlab.tables import shown

#: So many of the newest lines of a conversation are kept.
KEPT_LINES = 1_000
#: A note names so many people, then says how many more.
NAMED = 4


@dataclass
class Line:
    """One line: a message, or a note when there is no sender."""

    #: Counts within the conversation: the same message may be shown twice.
    key: int
    at: float
    text: str
    sender: str = ""
    #: Another's: it was handed out before, and it was sent while the user was not there.
    again: bool = False
    waited_since: float = 0.0
    #: An own one: what was answered and why, whom it is meant for, who has been shown it …
    answer: str = ""
    why: str = ""
    confirms: bool = True
    meant_for: frozenset[str] = frozenset()
    shown_to: set[str] = field(default_factory=set)
    #: … those of them for whom nothing is kept, and how many listen in another kernel.
    missing: set[str] = field(default_factory=set)
    elsewhere: int = 0

    @property
    def complete(self) -> bool:
        """Whether all whom it is meant for have been shown it."""
        return self.shown_to >= self.meant_for

    @property
    def status(self) -> str:
        """How far an own message has come."""
        if not self.shown_to and self.answer != "Confirmed":
            return self._answered()
        if not self.meant_for:
            return f"✓ accepted · {self.elsewhere} listen" if self.elsewhere else "✓ accepted"
        missed = len(self.missing - self.shown_to)
        open = len(self.meant_for - self.missing - self.shown_to)
        known = self.answer == "Confirmed"
        parts = [
            f"✓✓ {len(self.shown_to)} of {len(self.meant_for)}"
            if self.complete
            else f"✓ {len(self.shown_to)} of {len(self.meant_for)}",
            (_count(open, "waits", "wait") if known else f"{open} unknown") if open else "",
            _count(missed, "misses it", "miss it") if missed else "",
            f"{self.elsewhere} elsewhere" if self.elsewhere else "",
        ]
        return " · ".join(filter(None, parts))

    def _answered(self) -> str:
        if self.answer == "Failed":
            return f"not sent: {shown(self.why)}" if self.why else "not sent"
        if self.answer:
            return _ANSWERS[self.answer]
        return "sending" if self.confirms else "sent; nobody confirms it"


_ANSWERS = {
    "Returned": "nobody listens: it reached nobody",
    "Uncertain": "? nobody knows whether it was sent",
}


class Conversation:
    """What ``user`` knows of ``chat``. ``shared``: others may take part in another kernel."""

    def __init__(self, user: str, chat: str, shared: bool = False) -> None:
        self.user, self.chat = user, chat
        self.lines: deque[Line] = deque(maxlen=KEPT_LINES)
        #: How many lines there have been, and how many messages of others among them.
        self.count = self.received = 0
        #: Changes whenever something has.
        self.version = 0
        self.private = chat.startswith("private:")
        #: As the journal names it; empty: not known yet.
        self.backend = ""
        #: Whom its messages are meant for, and who of them receives now.
        self.members: set[str] = set(chat.split(":")[1:]) if self.private else set()
        self.connected: set[str] = set()
        #: How the user is away (offline, crashed, frozen), since when; empty: it is there.
        self.away, self.away_since = "", 0.0
        #: Since when and why the user receives nothing although it is there.
        self.cut_since, self.cut_why = 0.0, ""
        self._shared, self._forgets, self._confirms = shared, False, True
        self._own: dict[str, Line] = {}
        #: Own ones that not everybody has been shown.
        self._open: dict[str, Line] = {}
        #: Others' messages that the user has not been shown, id -> when sent; and accepted.
        self._sent_to_me: dict[str, float] = {}
        self._due: set[str] = set()
        #: Those of them that were sent while the user did not receive.
        self._waited: set[str] = set()
        #: What the newest line says of whom, if it is such a note.
        self._together: tuple[str, list[str]] = ("", [])

    @property
    def waiting(self) -> int:
        """How many messages were accepted for the user and not shown to it yet."""
        return len(self._due)

    @property
    def receives(self) -> bool:
        """Whether the user would be shown what comes now."""
        if self.away or self.cut_since:
            return False
        return self.private or self.user in self.connected

    def take(self, row: Row) -> None:
        """The next fact about this conversation."""
        if act := _ACTS.get(row[0]):
            act(self, *row[1:3], *row[5:])
            self.version += 1

    # -- messages

    def _sent(self, at: float, user: str, message: Message) -> None:
        others = self.members - {user}
        missing = others - self.connected if self._forgets else set()
        if user != self.user:
            if self.user in others - missing:
                self._sent_to_me[message.id] = at
                if not self.receives:
                    self._waited.add(message.id)
            return
        line = self._own.get(message.id)
        if line is None:
            line = self._own[message.id] = self._line(at, message.body, user)
            line.confirms = self._confirms
            if len(self._own) > KEPT_LINES:
                oldest = next(iter(self._own))
                del self._own[oldest]
                self._open.pop(oldest, None)
        line.answer = line.why = ""  # the same one may be sent again
        line.meant_for, line.missing = frozenset(others), missing
        self._open[message.id] = line

    def _confirmed(
        self, _at: float, _user: str, id: str, _waiting: int | None, listeners: int | None
    ) -> None:
        self._answer(id, "Confirmed", "")
        if id in self._own and self._shared:
            line = self._own[id]
            line.elsewhere = max(0, (listeners or 0) - len(line.meant_for))
        elif id in self._sent_to_me:
            self._due.add(id)

    def _returned(self, _at: float, _user: str, id: str, why: str) -> None:
        self._answer(id, "Returned", why)

    def _failed(self, _at: float, _user: str, id: str, why: str) -> None:
        self._answer(id, "Failed", why.rstrip("."))
        self._arrived(id)

    def _uncertain(self, _at: float, _user: str, id: str, why: str) -> None:
        self._answer(id, "Uncertain", why)

    def _answer(self, id: str, answer: str, why: str) -> None:
        if id in self._own:
            self._own[id].answer, self._own[id].why = answer, why

    def _delivered(self, at: float, user: str, message: Message, again: bool) -> None:
        if message.id in self._own:
            line = self._own[message.id]
            if user != self.user:
                line.shown_to.add(user)
                if line.complete:
                    self._open.pop(message.id, None)
        elif user == self.user and message.sender != user:
            line = self._line(at, message.body, message.sender)
            line.again = again
            if message.id in self._waited:
                line.waited_since = self._sent_to_me[message.id]
            self.received += 1
            self._arrived(message.id)

    def _discarded(self, _at: float, user: str, id: str) -> None:
        if user == self.user:
            self._arrived(id)

    def _arrived(self, id: str) -> None:
        self._sent_to_me.pop(id, None)
        self._due.discard(id)
        self._waited.discard(id)

    def _line(self, at: float, text: str, sender: str = "") -> Line:
        self.count += 1
        self._together = ("", [])
        line = Line(self.count, at, text, sender)
        self.lines.append(line)
        return line

    # -- who takes part

    def _subscribed(self, at: float, user: str, backend: str, _first: bool = False) -> None:
        self.backend = backend
        self._forgets, self._confirms = forgets_the_absent(backend), not unconfirmed(backend)
        if user not in self.members and not self.private:
            self.members.add(user)
            self._note(at, "joined", user)

    def _left(self, at: float, user: str) -> None:
        if user in self.members and not self.private:
            self.members.discard(user)
            self._gone(user)
            self._note(at, "left", user)

    def _connects(self, _at: float, user: str, backend: str, role: str) -> None:
        if self.private:
            self.backend = backend
        if role != "producer":
            self.connected.add(user)
        if user == self.user:
            self.cut_since = 0.0

    def _disconnects(self, at: float, user: str, reason: str) -> None:
        self.connected.discard(user)
        if self._forgets:
            self._gone(user)
        if user == self.user and not self.private:  # a direct chat is called up when needed
            self.cut_since, self.cut_why = at, reason

    def _gone(self, user: str) -> None:
        """What waited for ``user`` is gone."""
        for line in self._open.values():
            if user in line.meant_for:
                line.missing.add(user)
        if user == self.user:
            self._due.clear()
            self._sent_to_me.clear()
            self._waited.clear()

    # -- the user's whole client

    def comes(self, at: float) -> None:
        """The user's client is there again."""
        if self.away:
            waited = f" · {_messages(self.waiting)} waited" if self.waiting else ""
            span = _span(at - self.away_since)
            self._line(at, f"you were {self.away} for {span}{waited}")
        self.away = ""

    def goes(self, at: float, user: str, how: str) -> None:
        """A client has ended, or stopped."""
        if how != "frozen":
            self.connected.discard(user)
            if self._forgets:
                self._gone(user)
        if user == self.user:
            self.away, self.away_since = how, at
            self.cut_since = 0.0

    def mailbox(self, at: float, reason: str | None) -> None:
        """The user's mailboxes answer (``None``), or do not, and why."""
        if self.private:
            self.cut_since, self.cut_why = (0.0, "") if reason is None else (at, reason)

    def _note(self, at: float, what: str, user: str) -> None:
        """Who joined or left; those who did it one after the other share a line."""
        name = "you" if user == self.user else user
        if self._together[0] == what:
            self._together[1].append(name)
        else:
            self._line(at, "")
            self._together = (what, [name])
        self.lines[-1].text = f"{_names(self._together[1])} {what}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _messages(number: int) -> str:
    return _count(number, "message", "messages")


def _names(names: list[str]) -> str:
    """ana; ana and bob; ana, bob and eva; ana, bob, eva, dan and 3 more."""
    said = names[:NAMED]
    if len(names) > NAMED:
        said.append(f"{len(names) - NAMED} more")
    return " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5_400 else f"{round(seconds / 3_600)} h"


#: What a fact about a conversation does.
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
