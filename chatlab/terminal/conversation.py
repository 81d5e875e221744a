"""Conversation: what is shown of one conversation. Pure; fed by :mod:`chatlab.terminal.desk`.

A line is a message or, without a sender, a note of the program. An own message carries what
became of it, which changes in place: sending, confirmed, waits for bob, bob has it. Only the
newest lines are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chatlab import messages as m
from chatlab.backends import forgets_the_absent
from chatlab.messages import Message, Receipt
from chatlab.terminal.clean import colour_of, harmless
from chatlab.terminal.words import clock, count, todo_of

#: So many of the newest lines of a conversation are kept.
KEPT_LINES = 500

#: A style (``class:note``, ``bold fg:#e69f00``) and the text that has it.
Piece = tuple[str, str]
Kind = Literal["private", "group", "insults"]


@dataclass(eq=False)
class Line:
    """One line. ``text`` is harmless."""

    at: float
    text: str
    sender: str = ""
    id: str = ""
    #: What is special about it: ``redelivered``.
    mark: str = ""
    style: str = "class:text"
    #: An own one: what was typed, and what became of it (None: nothing known yet).
    body: str = ""
    receipt: Receipt | None = None
    reached: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Which message it is. Ids are unique per sender only."""
        return self.sender, self.id

    def pieces(self, status: str = "") -> list[Piece]:
        """What is shown."""
        found: list[Piece] = []
        if self.at:
            found.append(("class:time", f"{clock(self.at)} "))
        if self.sender:
            found += [(f"bold fg:{colour_of(self.sender)}", harmless(self.sender)), ("", "  ")]
        found.append((self.style, self.text))
        if self.mark:
            found.append(("class:mark", f"  ({self.mark})"))
        if status:
            found.append((_style_of(self.receipt, self.reached), f"  {status}"))
        return found


class Conversation:
    """One conversation of ``user``."""

    def __init__(self, user: str, chat: str) -> None:
        self.user, self.chat = user, chat
        kind, _, rest = chat.partition(":")
        self.kind: Kind = kind  # type: ignore[assignment]
        #: The other person, the group; ``insults``.
        self.name = rest if kind == "group" else m.INSULTS
        if kind == "private":
            one, other = rest.split(":")
            self.name = other if one == user else one
        self.backend = ""
        self.unread = 0
        #: What was typed and not sent when it was left.
        self.draft = ""
        #: Since when it is not connected although it should be; 0: it is.
        self.lost_since = 0.0
        #: Members of a group who have subscribed and not connected yet.
        self.joining: set[str] = set()
        #: Whether its past was asked for.
        self.remembered = False
        #: Of the insult channel: whether it is sent to, too.
        self.sends = True
        self._lines: deque[Line] = deque()
        self._known: dict[tuple[str, str], Line] = {}
        #: Own messages in the order in which they were sent, until they are reached.
        self._awaited: dict[str, Line] = {}

    @property
    def lines(self) -> Iterable[Line]:
        """What is kept, oldest first."""
        return self._lines

    @property
    def forgets(self) -> bool:
        """Whether it keeps nothing for a member that is away, so that leaving it is no loss."""
        return self.kind == "group" and forgets_the_absent(self.backend)

    # -- lines come

    def note(self, at: float, text: str, style: str = "class:note") -> None:
        """A line of the program itself."""
        self._add(Line(at, harmless(text), style=style))

    def sent(self, message: Message) -> None:
        """An own message leaves, perhaps once more."""
        known = self._known.get((self.user, message.id))
        if known is not None:
            known.receipt = None
            return
        line = Line(message.sent_at, harmless(message.body), self.user, message.id)
        line.body = message.body
        self._awaited[message.id] = line
        self._add(line)

    def delivered(self, at: float, message: Message, redelivered: bool) -> bool:
        """A message is shown to the user. Returns whether it is news: another's."""
        drawn = self.kind == "insults"
        if message.sender == self.user and not drawn:
            if _key(message) not in self._known:  # sent in an earlier life
                self._add(_line_of(at, message))
            return False
        line = _line_of(at, message)
        line.mark = "redelivered" if redelivered else ""
        if message.sender == self.user:
            line.mark, line.id = "your own came back to you", ""
        self._add(line)
        return True

    def recall(self, past: Iterable[Message]) -> None:
        """What the chat server remembers, before all that is here already."""
        older = [_line_of(x.sent_at, x) for x in past if _key(x) not in self._known]
        for line in reversed(older):
            if len(self._lines) < KEPT_LINES:
                self._lines.appendleft(line)
                self._known[line.key] = line

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        if line.id:
            self._known[line.key] = line
        while len(self._lines) > KEPT_LINES:
            self._forget(self._lines.popleft())

    def _forget(self, line: Line) -> None:
        if self._known.get(line.key) is line:
            del self._known[line.key]
        if line.body:
            self._awaited.pop(line.id, None)

    # -- what became of own ones

    def told(self, receipt: Receipt) -> None:
        """The outcome of an own message."""
        line = self._known.get((self.user, receipt.id))
        if line is not None and line.body:
            line.receipt = receipt

    def reached(self, id: str) -> None:
        """The receiver's client has acknowledged this one, and those sent before it."""
        if id not in self._awaited:
            return
        for other in list(self._awaited):
            line = self._awaited.pop(other)
            line.reached = line.receipt is None or line.receipt.outcome == "confirmed"
            if other == id:
                line.reached = True
                return

    def unsettled(self) -> list[Line]:
        """Own messages of unknown outcome."""
        return [line for line in self._lines if _outcome(line) == "uncertain"]

    def refused(self) -> list[Line]:
        """Own messages that were not accepted."""
        return [line for line in self._lines if _outcome(line) == "failed"]

    def drop(self, line: Line) -> None:
        """Take a line away: it is sent anew."""
        self._lines.remove(line)
        self._forget(line)

    def status(self, line: Line) -> str:
        """What became of an own message, in words; empty for any other line."""
        if not line.body:
            return ""
        if line.reached:
            return f"✓✓ {harmless(self.name)} has it"
        if line.receipt is None:
            return "sending …"
        return _STATUSES[line.receipt.outcome](self, line.receipt)

    def _confirmed(self, receipt: Receipt) -> str:
        waiting, listeners = receipt.waiting, receipt.listeners
        if self.kind == "private":
            if not waiting:
                return "✓ confirmed"
            more = f" ({waiting} wait)" if waiting > 1 else ""
            return f"✓ waits for {harmless(self.name)}{more}"
        parts = ["✓ confirmed"]
        if listeners:
            parts.append(f"{listeners} {'listens' if listeners == 1 else 'listen'}")
        if waiting:
            parts.append(f"{waiting} {'waits' if waiting == 1 else 'wait'}")
        elif listeners == 0:
            parts.append("nobody listens")
        return " · ".join(parts)

    def _failed(self, receipt: Receipt) -> str:
        why = harmless(receipt.reason).rstrip(".")
        todo = todo_of(receipt.error) or "/again sends it anew."
        return f"✗ not sent: {why}. {todo}"

    def _uncertain(self, receipt: Receipt) -> str:
        why = harmless(receipt.reason).rstrip(".")
        return f"? nobody knows whether it was accepted ({why}): /again is safe"

    def _unroutable(self, receipt: Receipt) -> str:
        return f"✗ {harmless(receipt.reason) or 'nobody listens'}"

    def _unanswered(self, _receipt: Receipt) -> str:
        return "sent; nobody confirms it"

    @property
    def summary(self) -> str:
        """Unread messages, in words."""
        return count(self.unread, "unread", "unread") if self.unread else ""


_STATUSES = {
    "confirmed": Conversation._confirmed,
    "sent": Conversation._unanswered,
    "unroutable": Conversation._unroutable,
    "failed": Conversation._failed,
    "uncertain": Conversation._uncertain,
}


def _key(message: Message) -> tuple[str, str]:
    return message.sender, message.id


def _outcome(line: Line) -> str:
    return line.receipt.outcome if line.receipt is not None and not line.reached else ""


def _style_of(receipt: Receipt | None, reached: bool) -> str:
    bad = receipt is not None and receipt.outcome not in ("confirmed", "sent") and not reached
    return "class:bad" if bad else "class:status"


def _line_of(at: float, message: Message) -> Line:
    """Another's message: when it was sent, if its clock can be believed, else when it came."""
    sent = message.sent_at
    return Line(
        sent if 0 < sent <= at + 1 else at, harmless(message.body), message.sender, message.id
    )
