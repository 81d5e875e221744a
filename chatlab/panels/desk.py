"""Desk: all conversations of one user, from the journal. Pure.

It reads each fact once and in slices, so it can be asked many times a second, and hands it to
the conversation that it is about.
"""

from __future__ import annotations

import time
from typing import Any

from chatlab.backends import PRIVATE
from chatlab.journal import Journal, Row
from chatlab.messages import title
from chatlab.panels.conversation import Conversation, Line
from chatlab.tables import Table

#: What a user's mailboxes are in the journal.
MAILBOX = "mailbox"
#: How a fact about a whole client leaves it; empty: it is there.
_WHOLE = {
    "Connected": "",
    "Thawed": "",
    "Disconnected": "offline",
    "Crashed": "crashed",
    "Frozen": "frozen",
}


class Desk:
    """All conversations of ``user``, fed with the rows of a journal, in order."""

    def __init__(self, user: str, shared: bool = False) -> None:
        self.user = user
        self._shared = shared
        self._chats: dict[str, Conversation] = {}
        #: The mailbox backend that the user was connected to last.
        self.mailbox = ""
        self._away, self._away_since = "", 0.0
        self._read = 0

    def chat(self, chat: str) -> Conversation:
        """One of them."""
        found = self._chats.get(chat)
        if found is None:
            found = self._chats[chat] = Conversation(self.user, chat, self._shared)
            found.away, found.away_since = self._away, self._away_since
        return found

    def read(self, rows: list[Row], most: int | None = None) -> bool:
        """Take the rows that were appended since the last call, at most so many.

        Returns:
            Whether there are more.
        """
        new = rows[self._read : None if most is None else self._read + most]
        self._read += len(new)
        mine = f":{self.user}"
        for row in new:
            kind, chat = row[0], row[4]
            if chat.startswith("group:") or (chat.startswith("private:") and mine in chat):
                if (found := self._of(chat)) is not None:
                    found.take(row)
            elif kind in _WHOLE:
                self._whole(*row)
        return self._read < len(rows)

    def _of(self, chat: str) -> Conversation | None:
        if chat.startswith("private:") and self.user not in chat.split(":")[1:]:
            return None
        return self.chat(chat)

    def _whole(self, kind: str, at: float, user: str, _: int, chat: str, *rest: Any) -> None:
        """A fact about a client as a whole, or about its mailboxes."""
        if chat == MAILBOX:
            self._mailboxes(kind, at, user, *rest)
            return
        if chat:
            return
        came, how = kind in ("Connected", "Thawed"), _WHOLE[kind]
        if user == self.user:
            self._away, self._away_since = how, at
        for found in self._chats.values():
            if not came:
                found.goes(at, user, how)
            elif user == self.user:
                found.comes(at)
            found.version += 1

    def _mailboxes(self, kind: str, at: float, user: str, *rest: Any) -> None:
        if user == self.user and kind in ("Connected", "Disconnected"):
            if kind == "Connected":
                self.mailbox = rest[0]
            for found in self._chats.values():
                found.mailbox(at, None if kind == "Connected" else rest[0])
                found.version += 1

    def backend(self, chat: str) -> str:
        """What a message in ``chat`` would travel by, as far as the journal tells."""
        known = self._chats[chat].backend if chat in self._chats else ""
        return known or self.mailbox or next(iter(PRIVATE))


def lines_of(journal: Journal, user: str, chat: str) -> Table:
    """What ``user`` knows of ``chat``, a row a line: from, message, at, status."""
    desk = Desk(user)
    desk.read(journal.rows[:])
    rows = (
        {
            "from": line.sender,
            "message": line.text,
            "at": clock(line.at, "%H:%M:%S"),
            "status": line.status if line.sender == user else mark(line),
        }
        for line in desk.chat(chat).lines
    )
    return Table(rows, f"{user} in {title(chat)}")


def mark(line: Line) -> str:
    """What is special about another's message."""
    waited = f"waited since {clock(line.waited_since)}" if line.waited_since else ""
    return ", ".join(filter(None, (waited, "redelivered" if line.again else "")))


def clock(at: float, form: str = "%H:%M") -> str:
    """The time of day, of this computer's time zone."""
    return time.strftime(form, time.localtime(at))
