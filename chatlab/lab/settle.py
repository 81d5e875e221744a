"""Settling: what is still due, as a function of the journal.

A confirmed message is *due* at a user that it is meant for and that has not been shown it:
the receiver of a private message, every subscriber of a group at the time of sending (and any
later one that reads its log from the first message), any one member for an insult. It is
*deliverable* while that user is online and connected to the conversation; otherwise it waits
(or, where the backend does not keep it, is lost).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from chatlab import messages as m
from chatlab.backends import forgets_the_absent, unconfirmed
from chatlab.journal import Row
from chatlab.private.as_reported_client import EXITED
from chatlab.tables import Table, card

#: Stands for "any one member" of the insult channel.
ANYONE = "*"


@dataclass
class Due:
    """Fed with rows in order; knows what is due where."""

    online: set[str] = field(default_factory=set)
    connected: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    subscribed: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Conversations whose backend forgets a member that is not connected.
    transient: set[str] = field(default_factory=set)
    #: Conversations whose senders are told nothing: what they sent is due at once.
    unconfirmed: set[str] = field(default_factory=set)
    _sent: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    _confirmed: set[str] = field(default_factory=set)
    _open: defaultdict[tuple[str, str], dict[str, None]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    #: Faults that go on: while one does, nobody waits for a lost connection to come back.
    faults: set[tuple[str, str]] = field(default_factory=set)
    _lost: set[tuple[str, str]] = field(default_factory=set)
    #: Facts may arrive out of order across processes: shown before known as confirmed.
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _read: int = 0

    def read(self, rows: list[Row]) -> None:
        """Take the rows that were appended since the last call."""
        for row in rows[self._read :]:
            handle = getattr(self, f"_on_{row[0].lower()}", None)
            if handle is not None:
                handle(*row[2:])
            self._read += 1

    def deliverable(self) -> dict[tuple[str, str], int]:
        """(conversation, user) -> how many messages that should arrive any moment."""
        return {key: len(ids) for key, ids in self._open.items() if ids and self._live(*key)}

    def reconnecting(self) -> list[tuple[str, str]]:
        """(conversation, user) whose lost connection should be back any moment."""
        return [] if self.faults else sorted(self._lost)

    def waiting(self) -> dict[tuple[str, str], int]:
        """(conversation, user) -> how many wait for a user that is not there."""
        return {
            key: len(ids) for key, ids in self._open.items() if ids and not self._live(*key)
        }

    def _live(self, chat: str, user: str) -> bool:
        if user == ANYONE:
            return bool(self.connected[chat] & self.online)
        # A direct conversation is connected itself, the others by way of the mailbox.
        where = ("mailbox", chat) if chat.startswith("private:") else (chat,)
        return user in self.online and any(user in self.connected[name] for name in where)

    def _on_sent(self, _user: str, _incarnation: int, chat: str, message: m.Message) -> None:
        if chat == m.INSULTS:
            targets: tuple[str, ...] = (ANYONE,)
        elif chat.startswith("private:"):
            targets = (message.to,)
        else:
            there = self.subscribed[chat]
            if chat in self.transient:
                there = there & self.connected[chat]
            targets = tuple(there)
        self._sent[message.id] = (chat, targets)
        if chat in self.unconfirmed:
            self._due(message.id)

    def _on_confirmed(
        self, _user: str, _incarnation: int, _chat: str, id: str, _waiting: int, _listeners: int
    ) -> None:
        self._confirmed.add(id)
        self._due(id)

    def _on_failed(
        self, _user: str, _incarnation: int, _chat: str, id: str, _reason: str
    ) -> None:
        chat, targets = self._sent.get(id, ("", ()))
        for user in targets:
            self._open[chat, user].pop(id, None)

    def _due(self, id: str) -> None:
        chat, targets = self._sent.get(id, ("", ()))
        for user in targets:
            self._due_at(user, chat, id)

    def _due_at(self, user: str, chat: str, id: str) -> None:
        gone = chat in self.transient and user not in self.connected[chat]
        if (id, user) not in self._seen and not gone:
            self._open[chat, user][id] = None

    def _on_delivered(
        self, user: str, _incarnation: int, chat: str, message: m.Message, _again: bool
    ) -> None:
        if chat != m.INSULTS:
            self._done(chat, user, message.id)

    def _on_handled(self, _user: str, _incarnation: int, chat: str, id: str) -> None:
        if chat == m.INSULTS:
            self._done(chat, ANYONE, id)

    def _on_rejected(
        self, _user: str, _incarnation: int, chat: str, id: str, dead: bool
    ) -> None:
        if dead:  # a dead letter is not still to come
            self._done(chat, ANYONE, id)

    def _on_discarded(self, user: str, _incarnation: int, chat: str, id: str) -> None:
        self._done(chat, user, id)

    def _done(self, chat: str, user: str, id: str) -> None:
        self._seen.add((id, user))
        self._open[chat, user].pop(id, None)

    def _on_connected(
        self, user: str, _incarnation: int, chat: str, _backend: str, role: str
    ) -> None:
        self._lost.discard((chat, user))
        if not chat:
            self.online.add(user)
        elif role == "producer":
            self.connected[chat].discard(user)
        else:
            self.connected[chat].add(user)

    def _on_disconnected(self, user: str, _incarnation: int, chat: str, reason: str) -> None:
        if not chat:
            self._gone(user)
        elif reason not in ("", EXITED) and not _on_demand(chat) and user in self.online:
            self._lost.add((chat, user))
        self.connected[chat].discard(user)
        self._forget(chat, user)

    def _on_crashed(self, user: str, _incarnation: int, _chat: str) -> None:
        self._gone(user)

    def _gone(self, user: str) -> None:
        self.online.discard(user)
        self._lost = {entry for entry in self._lost if entry[1] != user}
        for chat, users in self.connected.items():
            users.discard(user)
            self._forget(chat, user)

    def _forget(self, chat: str, user: str) -> None:
        """What a transient group has not shown to a member that leaves never comes."""
        if chat in self.transient:
            self._open.pop((chat, user), None)

    def _on_frozen(self, user: str, _incarnation: int, _chat: str) -> None:
        self.online.discard(user)

    def _on_thawed(self, user: str, _incarnation: int, _chat: str) -> None:
        self.online.add(user)

    def _on_subscribed(
        self, user: str, _incarnation: int, chat: str, backend: str, first: bool = False
    ) -> None:
        self.subscribed[chat].add(user)
        if forgets_the_absent(backend):
            self.transient.add(chat)
        if unconfirmed(backend):
            self.unconfirmed.add(chat)
        if first:
            self._reads_all(user, chat)

    def _reads_all(self, user: str, chat: str) -> None:
        """What was sent before it came is meant for it, too."""
        for id, (where, targets) in self._sent.items():
            if where == chat:
                self._sent[id] = (chat, tuple({*targets, user}))
                if id in self._confirmed:
                    self._due_at(user, chat, id)

    def _on_left(self, user: str, _incarnation: int, chat: str) -> None:
        self.subscribed[chat].discard(user)
        self._lost.discard((chat, user))
        self._open.pop((chat, user), None)

    def _on_faultbegan(
        self, _user: str, _incarnation: int, _chat: str, fault: str, target: str
    ) -> None:
        self.faults.add((fault, target))

    def _on_faultended(
        self, _user: str, _incarnation: int, _chat: str, fault: str, target: str
    ) -> None:
        self.faults.discard((fault, target))


@dataclass(frozen=True)
class Settled:
    """What ``lab.settle`` found: ``late`` should have arrived, ``reconnecting`` should be
    connected, ``waiting`` waits rightly."""

    seconds: float
    late: Table
    reconnecting: Table
    waiting: Table

    @property
    def done(self) -> bool:
        """Whether all that could be delivered was."""
        return not self.late and not self.reconnecting

    def __bool__(self) -> bool:
        return self.done

    def _facts(self) -> dict[str, Any]:
        return {
            "settled": "yes" if self.done else "no",
            "still to come": _sentence(self.late, "for"),
            "still reconnecting": ", ".join(
                f"{row['user']} ({row['chat']})" for row in self.reconnecting
            )
            or None,
            "waits": _sentence(self.waiting, "for the absent"),
        }

    def __repr__(self) -> str:
        return "; ".join(f"{name}: {text}" for name, text in self._facts().items() if text)

    def _repr_html_(self) -> str:
        return card("settle", self._facts())


def rows(found: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Table rows of what :class:`Due` says."""
    return [
        {"chat": m.title(chat), "for": "any member" if user == ANYONE else user, "messages": n}
        for (chat, user), n in sorted(found.items())
    ]


def _on_demand(chat: str) -> bool:
    """A direct conversation: it is opened again when there is something to say."""
    return chat.startswith("private:")


def _sentence(table: Table, word: str) -> str:
    if not table:
        return "nothing"
    return ", ".join(f"{row['messages']} {word} {row['for']} ({row['chat']})" for row in table)
