"""Chat column: one user's chat window, as wide as a phone.

On top who it is and how it is (online, offline, crashed, frozen), and with whom it talks; in
the middle the messages, own ones on the right; below the line to write on. What the user's
client does not know is not shown: what waits for others is what the receipts said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatlab.errors import InvalidInput
from chatlab.lab import Chat, InsultChannel, PrivateChat
from chatlab.messages import title
from chatlab.panels.conversation import Conversation, Line, clock, lines_of
from chatlab.panels.panel import Panel, look_of
from chatlab.plots.style import palette
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import User

#: So many of the newest lines are on the page at first; "older" shows as many more.
SHOWN_LINES = 60
#: What the state menu offers, and the verb of the user that it stands for.
STATES = ("online", "offline", "crash", "freeze")
_WHERE = {"online": "online", "offline": "offline", "crashed": "crash", "frozen": "freeze"}


def chat(user: User, conversation: Chat | None = None) -> ChatColumn:
    """A chat window of ``user``.

    Args:
        conversation: one of the user's handles; default: its newest one in this scene. Without
            any, the window lists who is there, to begin one.

    Raises:
        InvalidInput: a handle of somebody else, or of the insult channel.
    """
    return ChatColumn(user, conversation)


class ChatColumn(Panel):
    """Made by :func:`chat`."""

    _esm = look_of("column.js")
    _css = look_of("column.css")
    VERBS = frozenset({"send", "state", "older", "look_around", "open", "talk"})

    def __init__(self, user: User, conversation: Chat | None = None) -> None:
        self.user = user
        #: The handle that is shown; ``None``: the list of who is there.
        self.conversation = _checked(user, conversation)
        #: What is shown as soon as there is such a conversation; empty: any.
        self._wanted = conversation.chat if conversation else ""
        self._opening = ""
        self._scene = user.lab.current
        self._there: list[dict[str, str]] = []
        self._shown = SHOWN_LINES
        self._follow()
        super().__init__(user.lab, (user.name, self._wanted))
        self.begin()

    def _follow(self) -> None:
        """Begin to read the journal of this scene and conversation."""
        handle = self.conversation
        self._read = Conversation(self.user.name, handle.chat if handle else "none")

    # -- what is shown

    def look(self) -> dict[str, Any]:
        lab, name = self.lab, self.user.name
        if lab.current is not self._scene:
            self._new_scene()
        if self.conversation is None:
            self._open_wanted()
        self._read.read(lab.journal.rows)
        lines = list(self._read.lines)
        colours = palette([*lab.journal.header["users"]])
        handle = self.conversation
        return {
            "name": name,
            "colour": colours.get(name, "#57606a"),
            "where": self.user.where,
            "states": list(STATES),
            "state": _WHERE[self.user.where],
            "chat": title(handle.chat) if handle else "",
            "backend": handle.backend if handle else "",
            "chats": [title(x) for x in self._chats()],
            "there": self._there,
            "lines": [self._shown_line(line) for line in lines[-self._shown :]],
            "older": max(0, len(lines) - self._shown),
            "away": self._away(),
        }

    def _new_scene(self) -> None:
        """Handles of the last scene are over; the same conversation may be opened again."""
        self._scene = self.lab.current
        self.conversation, self._there, self._shown, self._opening = None, [], SHOWN_LINES, ""
        self._follow()

    def _open_wanted(self) -> None:
        """What was shown in the last scene, or the newest there is, as soon as it is there."""
        found = self._wanted if self._wanted in self._chats() else ""
        if not self._wanted and self._chats():
            found = self._chats()[-1]
        if found and found != self._opening:
            self._opening = found
            self.ask("talk", chat=title(found))

    def _chats(self) -> list[str]:
        """The conversations that the user has open in this scene."""
        return [c for c in self.user.conversations if c.startswith(("private:", "group:"))]

    def _shown_line(self, line: Line) -> dict[str, Any]:
        own = line.sender == self.user.name
        return {
            "key": line.key,
            "kind": "own" if own else "other" if line.sender else "note",
            "who": line.sender,
            "text": line.text,
            "at": clock(line.at),
            "status": line.status if own else "again" if line.again else "",
        }

    def _away(self) -> str:
        if not self._read.away:
            return ""
        words = f"{self._read.away} since {clock(self._read.away_since)}"
        if n := self._read.waiting:
            words += f" · {n} message{'s wait' if n > 1 else ' waits'}"
        return words

    def table(self) -> Table:
        """What the window shows: from, message, at, status."""
        handle = self.conversation
        return lines_of(self.lab.journal, self.user.name, handle.chat if handle else "none")

    # -- what can be done

    def do_send(self, text: str) -> None:
        """Send a message in the conversation that is shown."""
        if self.conversation is None:
            raise InvalidInput("No conversation is open.", todo="Choose one from the list.")
        self.conversation.send(text)

    def do_state(self, state: str) -> None:
        """Online, offline, crash or freeze."""
        if state not in STATES:
            raise InvalidInput(f"A user cannot be made {state!r}.")
        if self.user.where == "frozen" and state != "crash":
            self.user.thaw()
        getattr(self.user, state)()

    def do_older(self) -> None:
        """Show more of what was before."""
        self._shown += SHOWN_LINES

    def do_look_around(self) -> None:
        """Ask who is there, to begin a conversation."""
        found = self.user.discover()
        self._there = [
            {"name": x.name, "kind": x.kind} for x in found if x.name != self.user.name
        ]

    def do_open(self, name: str, kind: str) -> None:
        """Begin a conversation: with a user, or in a group."""
        chat = self.user.join(name) if kind == "group" else self.user.private_chat(name)
        self._show(chat)

    def do_talk(self, chat: str) -> None:
        """Show another one of the open conversations."""
        found = next((c for c in self._chats() if title(c) == chat), None)
        if found is None:
            raise InvalidInput(f"{self.user.name} has no conversation {chat!r} open.")
        kind, _, rest = found.partition(":")
        self._show(self.user.group(rest) if kind == "group" else self._with_peer(found))

    def _with_peer(self, chat: str) -> PrivateChat:
        first, second = chat.split(":")[1:]
        return self.user.private_chat(second if first == self.user.name else first)

    def _show(self, chat: Chat) -> None:
        self._shown, self._there, self._wanted = SHOWN_LINES, [], chat.chat
        self.conversation = chat
        self._follow()

    def __repr__(self) -> str:
        return f"<chat window of {self.user.name} in the lab {self.lab.name}>"


def _checked(user: User, conversation: Chat | None) -> Chat | None:
    if conversation is None:
        return None
    if conversation.user.name != user.name:
        raise InvalidInput(f"This is a handle of {conversation.user.name}, not of {user.name}.")
    if isinstance(conversation, InsultChannel):
        raise InvalidInput("The insult channel has a panel of its own: panels.insults(lab).")
    return conversation
