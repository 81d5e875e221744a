"""Views: the pages that fill the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatlab.discovery import Presences
from chatlab.journal import now
from chatlab.terminal.clean import colour_of, harmless
from chatlab.terminal.commands import KEYS, MENU, commands_of
from chatlab.terminal.conversation import Conversation, Kind, Line, Piece
from chatlab.terminal.desk import Desk
from chatlab.terminal.words import names, span

#: The menu names so many people who are there.
NAMED = 12


class Page:
    """Lines that do not change."""

    def __init__(self, title: str, lines: Iterable[str] = ()) -> None:
        self._title = title
        self._lines = [Line(0.0, text) for text in lines]

    def header(self) -> list[Piece]:
        return [("class:title", self._title)]

    def lines(self) -> Sequence[Line]:
        return self._lines

    def pieces(self, line: Line) -> list[Piece]:
        return line.pieces()


class Menu(Page):
    """The menu, what the user is in, who is there."""

    def __init__(self, desk: Desk, lab: str) -> None:
        super().__init__("chatlab")
        self._desk, self._lab = desk, lab

    def header(self) -> list[Piece]:
        user = self._desk.user
        lab = ("class:about", f"  chatlab · {harmless(self._lab)}")
        return [(f"bold fg:{colour_of(user)}", harmless(user)), lab]

    def lines(self) -> Sequence[Line]:
        choices = [f"  {c.key}  {c.text}" for c in MENU]
        texts = ["", *choices, ""]
        if self._desk.open:
            texts += ["You are in:", *map(_entry, self._desk.open), ""]
        others = [name for name in self._desk.there.users if name != self._desk.user]
        texts.append(f"Here now: {names(others, NAMED)}")
        if groups := self._desk.there.groups:
            texts.append(f"Groups: {names(groups, NAMED)}")
        return [Line(0.0, text) for text in texts]


def _entry(chat: Conversation) -> str:
    kind = "private chat" if chat.kind == "private" else f"group, {chat.backend}"
    lost = "not connected now" if chat.lost_since else ""
    words = " · ".join(filter(None, (kind, chat.summary, lost)))
    return f"  {harmless(chat.name):<16} {words}"


class Talk:
    """A conversation."""

    def __init__(self, desk: Desk, chat: Conversation) -> None:
        self._desk, self._chat = desk, chat

    def header(self) -> list[Piece]:
        name = harmless(self._chat.name)
        about = " · ".join(filter(None, self._desk.about(self._chat)))
        title = (f"bold fg:{colour_of(self._chat.name)}", name)
        if self._chat.kind == "insults":
            return [("class:title", about)]
        return [title, ("class:about", f"  {about}")]

    def lines(self) -> Sequence[Line]:
        return list(self._chat.lines)

    def pieces(self, line: Line) -> list[Piece]:
        return line.pieces(self._chat.status(line))


def help_of(kind: Kind) -> list[str]:
    """What /help says."""
    entries = [(one.word, one.text) for one in commands_of(kind)] + list(KEYS)
    return [f"{word:<18}{text}" for word, text in entries]


def answer(found: Presences) -> list[str]:
    """Who is there, as lines; all that others chose is made harmless."""
    lines = [""]
    for entry in found:
        name = f"  {harmless(entry.name):<16}"
        if entry.kind == "private":
            since = f"for {span(now() - entry.since)}" if entry.since else ""
            lines.append(f"{name} {harmless(entry.address):<22} {since}".rstrip())
        else:
            away = f" · away: {names(list(entry.away))}" if entry.away else ""
            there = f"there: {names(list(entry.members))}{away}"
            lines.append(f"{name} group {harmless(entry.backend):<22} {there}")
    if len(lines) == 1:
        lines.append("  nobody")
    silent = f"; no answer from {names(list(found.silent))}" if found.silent else ""
    took = f"  {found.messages} messages, {found.seconds * 1000:.0f} ms{silent}"
    return [*lines, "", took]
