"""History: a journal read once, arranged for the judges. Pure.

Who was there when, what was done to whom and to which service; per conversation who was meant
to get what, what was sent with which outcome, what was shown
(:mod:`chatlab.checkers.conversation`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from chatlab import messages as m
from chatlab.checkers.conversation import (
    MAILBOX,
    NEVER,
    WHOLE,
    Conversation,
    End,
    Fault,
    Send,
    Sight,
    Span,
    Why,
)
from chatlab.checkers.verdict import Example
from chatlab.journal import Journal, Row, encode


class History:
    """Reads a journal."""

    def __init__(self, journal: Journal) -> None:
        self.rows: list[Row] = journal.rows[:]
        self.header: dict[str, Any] = journal.header
        self.conversations: dict[str, Conversation] = {}
        #: (user, store) -> when it was not attached there, or not there at all.
        self.absences: defaultdict[tuple[str, str], list[Span]] = defaultdict(list)
        self.faults: list[Fault] = []
        #: Line and time at which ``settle`` looked, and how much was still due.
        self.drains: list[tuple[int, float, int]] = []
        #: What happened to users as a whole, for ``expect``: (what, user, line).
        self.blows: list[tuple[str, str, int]] = []
        self.last_send = self.last_event = self.last_return = 0
        #: (user, store) that attached at least once.
        self.known: set[tuple[str, str]] = set()
        self._mailboxes: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._direct: set[str] = set()
        self._acks: set[str] = set()
        for line, row in enumerate(self.rows, 2):
            handle = _HANDLERS.get(row[0])
            if handle is not None:
                handle(self, line, row)
        self._name_private_backends()

    # -- asked by the judges

    def at(self, line: int) -> float:
        """The time of a line."""
        return float(self.rows[min(line, len(self.rows) + 1) - 2][1])

    def example(self, expected: str, messages: Iterable[str], *lines: int) -> Example:
        """These lines, in order, each once."""
        chosen = sorted({line for line in lines if 0 < line < NEVER})
        texts = tuple((line, encode(self.rows[line - 2])) for line in chosen)
        return Example(tuple(dict.fromkeys(messages)), expected, texts)

    @cached_property
    def closing(self) -> int:
        """The line up to which it counts who was there: the last look of ``settle``, if
        nobody sent or came after it; else, if everybody left at the end, the first line of
        that."""
        if self.drains and self.drains[-1][0] > max(self.last_send, self.last_return):
            return self.drains[-1][0]
        last = {key: spans[-1] for key, spans in self.absences.items()}
        gone = {
            key: span.began
            for key, span in last.items()
            if span.ended == NEVER and span.why == "away" and span.began > self.last_event
        }
        users = {user for user, store in self.known if store == WHOLE}
        if users and all((user, WHOLE) in gone for user in users):
            return min(gone.values())
        return len(self.rows) + 1

    def away(self, user: str, store: str) -> list[Span]:
        """When a user was absent from where it would be handed messages: always, if it never
        attached there."""
        if (user, store) not in self.known:
            return [Span(0)]
        return [*self.absences.get((user, WHOLE), ()), *self.absences.get((user, store), ())]

    def absent(self, user: str, store: str, line: int) -> Span | None:
        """The absence at a line, if the user was absent."""
        return next((span for span in self.away(user, store) if span.covers(line)), None)

    def present_since(self, user: str, store: str, line: int) -> int:
        """Since which line a user that is present at ``line`` has been."""
        ends = [span.ended for span in self.away(user, store) if span.ended <= line]
        return max(ends, default=0)

    def crashed(self, user: str, since: int, until: int) -> int:
        """The line of a user's first crash after ``since`` and before ``until``; 0: none."""
        for what, whom, line in self.blows:
            if what == "crash" and whom == user and since < line < until:
                return line
        return 0

    # -- reading

    def _conversation(self, chat: str) -> Conversation:
        found = self.conversations.get(chat)
        if found is None:
            found = self.conversations[chat] = Conversation(chat)
        return found

    def _sent(self, line: int, row: Row) -> None:
        _, at, user, life, chat, message = row
        self.last_send = self.last_event = line
        talk = self._conversation(chat)
        key = talk.key(message)
        if key in talk.sends:
            talk.sends[key].attempts += 1
        else:
            talk.sends[key] = Send(key, line, at, user, life, message)

    def _told(self, line: int, row: Row) -> None:
        kind, _, user, _, chat, id = row[:6]
        talk = self._conversation(chat)
        send = talk.sends.get(f"{user}/{id}" if talk.pattern == "private" else id)
        self.last_event = line
        if send is None:
            return
        outcome = kind.lower()
        # Sent again under its id: whatever became of the first copy is still possible.
        if _RANK[outcome] > _RANK[send.outcome]:
            send.outcome, send.told = outcome, line

    def _delivered(self, line: int, row: Row) -> None:
        _, at, user, life, chat, message, again = row
        self.last_event = line
        talk = self._conversation(chat)
        talk.sights.append(Sight(talk.key(message), line, at, user, life, message, bool(again)))

    def _acked(self, line: int, row: Row) -> None:
        _, _, user, life, chat, id = row
        self.last_event = line
        talk = self._conversation(chat)
        talk.acked[user, life].add(id)
        self._acks.add(chat)

    def _handled(self, line: int, row: Row) -> None:
        self.last_event = line
        self._conversation(row[4]).ends[row[5]].append(End(line, row[2], row[3], "Handled"))

    def _rejected(self, line: int, row: Row) -> None:
        self.last_event = line
        talk = self._conversation(row[4])
        talk.rejected[row[5]].append(line)
        if row[6]:
            talk.ends[row[5]].append(End(line, row[2], row[3], "Rejected"))

    def _connected(self, line: int, row: Row) -> None:
        _, _, user, life, chat, backend, role = row
        key = (user, chat)
        self._back(key, line)
        self.last_return = line
        if chat == WHOLE:
            self.known.add(key)
            return
        if chat == MAILBOX:
            self._mailboxes[user][backend] = self._promised(backend)
        else:
            talk = self._conversation(chat)
            talk.visits.append((line, user, life, "Connected"))
            talk.backends.setdefault(backend, self._promised(backend))
            if chat.startswith("private:"):
                self._direct.add(chat)
            elif chat == m.INSULTS:
                if role == "producer":
                    self._leave(key, line if key in self.known else 0, "away")
                    return
                talk.consumers[user] = self._promised(backend)
            else:
                self._enter(talk, user, line)
        if key not in self.known:
            self.known.add(key)
            self.absences[key].append(Span(0, line))

    def _disconnected(self, line: int, row: Row) -> None:
        _, _, user, life, chat, reason = row
        why: Why = "lost" if reason else "away"
        if chat not in (WHOLE, MAILBOX):
            self._conversation(chat).visits.append((line, user, life, "Disconnected"))
        self._leave((user, chat), line, why)
        if chat == WHOLE:
            self.blows.append(("away", user, line))
            self._leave_all(user, line, "away")

    def _subscribed(self, line: int, row: Row) -> None:
        _, _, user, _, chat, backend = row[:6]
        talk = self._conversation(chat)
        talk.backends.setdefault(backend, self._promised(backend))
        self._enter(talk, user, line)

    def _promised(self, backend: str) -> str:
        """The backend whose promises this one has to keep: of a client that is not ours the
        header names it (``promises``), of all others itself."""
        said = self.header.get("promises")
        return str(said) if said and backend == self.header.get("backend") else backend

    def _enter(self, talk: Conversation, user: str, line: int) -> None:
        spans = talk.members[user]
        if not spans or spans[-1].ended != NEVER:
            spans.append(Span(line))

    def _left(self, line: int, row: Row) -> None:
        _, _, user, _, chat = row
        self._leave((user, chat), line, "away")
        for span in self._conversation(chat).members.get(user, ()):
            span.ended = min(span.ended, line)

    def _crashed(self, line: int, row: Row) -> None:
        user = row[2]
        self.blows.append(("crash", user, line))
        self._back((user, WHOLE), line)  # a frozen one that is killed is no longer frozen
        self._leave((user, WHOLE), line, "crashed")
        self._leave_all(user, line, "crashed")

    def _frozen(self, line: int, row: Row) -> None:
        self.blows.append(("freeze", row[2], line))
        self._leave((row[2], WHOLE), line, "frozen")

    def _thawed(self, line: int, row: Row) -> None:
        self._back((row[2], WHOLE), line)

    def _fault_began(self, line: int, row: Row) -> None:
        self.faults.append(Fault(row[5], row[6], line))

    def _fault_ended(self, line: int, row: Row) -> None:
        for fault in self.faults:
            if (fault.fault, fault.target) == row[5:7] and fault.ended == NEVER:
                fault.ended = line

    def _drained(self, line: int, row: Row) -> None:
        self.drains.append((line, row[1], row[5]))

    def _leave(self, key: tuple[str, str], line: int, why: Why) -> None:
        spans = self.absences[key]
        if not spans or spans[-1].ended != NEVER:
            spans.append(Span(line, why=why))
        self.known.add(key)

    def _leave_all(self, user: str, line: int, why: Why) -> None:
        """Its attachments went with it, and come back one by one."""
        for whom, store in list(self.known):
            if whom == user and store != WHOLE:
                self._leave((user, store), line, why)

    def _back(self, key: tuple[str, str], line: int) -> None:
        spans = self.absences.get(key)
        if spans and spans[-1].ended == NEVER:
            spans[-1].ended = line

    def _name_private_backends(self) -> None:
        """Facts of private messages do not name the backend. Without a direct line it is one
        of the mailboxes that both have opened, or one of them; with one, a mailbox counts if
        it acknowledged."""
        for talk in self.conversations.values():
            by_mailbox = talk.chat not in self._direct or talk.chat in self._acks
            if talk.pattern == "private" and by_mailbox:
                ends = talk.chat.split(":")[1:3]
                one, other = (self._mailboxes.get(user, {}) for user in ends)
                both = {name: said for name, said in one.items() if name in other}
                talk.backends |= both or one | other


_RANK = {"": 0, "failed": 1, "uncertain": 2, "returned": 3, "confirmed": 4}
_HANDLERS: dict[str, Any] = {
    "Sent": History._sent,
    **dict.fromkeys(("Confirmed", "Returned", "Failed", "Uncertain"), History._told),
    "Delivered": History._delivered,
    "Acked": History._acked,
    "Handled": History._handled,
    "Rejected": History._rejected,
    "Connected": History._connected,
    "Disconnected": History._disconnected,
    "Subscribed": History._subscribed,
    "Left": History._left,
    "Crashed": History._crashed,
    "Frozen": History._frozen,
    "Thawed": History._thawed,
    "FaultBegan": History._fault_began,
    "FaultEnded": History._fault_ended,
    "Drained": History._drained,
}
