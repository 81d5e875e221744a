"""Chat column: one user's chat window, as wide as a phone.

On top who it is and how it is (online, offline, crashed, frozen), and with whom it talks; in
the middle the messages, own ones on the right; below the line to write on. All of it is read
from the journal of the lab, which knows what every user of this kernel sent and was shown:
``✓ 1 of 2 · 1 waits`` is more than a real client could know.

Messages come in while other cells run: they are read by the lab's loop and shown by the
pump, and neither needs the cell to end. What is clicked or written meanwhile reaches the
kernel at once where the front end sends it past the running cell (JupyterLab 4.4 with
ipykernel 7: to a subshell); elsewhere it is done when the cell has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chatlab.errors import ChatlabError, InvalidInput, SendUncertain
from chatlab.lab import Chat, InsultChannel
from chatlab.messages import title
from chatlab.panels.conversation import Conversation, Line
from chatlab.panels.desk import Desk, clock, lines_of, mark
from chatlab.panels.panel import Panel, look_of
from chatlab.plots.style import palette
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import User

#: So many of the newest lines are on the page at first; "older" shows as many more.
SHOWN_LINES = 60
#: So much of a message is shown at first; the rest on demand.
SHOWN_CHARACTERS, SHOWN_ROWS = 400, 8
#: So many facts are read at one look: the loop has messages to carry.
READ_FACTS = 2_000
#: The list of who is there is asked for again after so many seconds, while it is open.
LIST_SECONDS = 3.0
#: What the state menu offers: the verb of the user -> how it is then.
STATES = {"online": "online", "offline": "offline", "crash": "crashed", "freeze": "frozen"}
#: How the user is -> what cannot be done with it.
_IMPOSSIBLE = {"online": (), "offline": ("crash", "freeze"), "crashed": ("offline", "freeze")}


def chat(user: User, conversation: Chat | None = None) -> ChatColumn:
    """A chat window of ``user``.

    Args:
        conversation: one of the user's handles; default: its newest one in this scene. Without
            any, the window lists who is there, to begin one.

    Raises:
        InvalidInput: a handle of somebody else, or of the insult channel.
        LabClosed: the lab has been closed.
    """
    return ChatColumn(user, conversation)


class ChatColumn(Panel):
    """Made by :func:`chat`."""

    _esm = look_of("column.js")
    _css = look_of("column.css")
    VERBS = frozenset(
        {"send", "state", "older", "whole", "look_around", "close_list", "open", "talk"}
    )
    SLOW = frozenset({"send"})

    def __init__(self, user: User, conversation: Chat | None = None) -> None:
        _check(user, conversation)
        self.user = user
        #: What is shown, as the journal names it; empty: nothing yet.
        self.chat = conversation.chat if conversation else ""
        #: What was asked for, in this scene and those that follow; empty: the newest.
        self._wanted = self.chat
        self._handles: dict[str, Chat] = {}
        self._backends: dict[str, str] = {}
        if conversation is not None:
            self._backends[self.chat] = conversation.backend
            if conversation._scene is user.lab.current:
                self._handles[self.chat] = conversation
        self._epoch = 0
        #: Who is there, while it is asked; ``None``: it is not.
        self._there: list[dict[str, str]] | None = None
        self._look_again = 0.0
        super().__init__(user.lab, (user.name, self._wanted))
        self._begin_scene()
        while self._desk.read(user.lab.journal.rows, READ_FACTS):
            pass  # in the cell that asks for the window, not on the loop
        self.begin()

    def _begin_scene(self) -> None:
        """A new journal; handles of the last scene are over."""
        self._scene = self.lab.current
        self._desk = Desk(self.user.name, self.lab.shared)
        self._seen: dict[str, int] = {}
        self._list_closed = False
        self._look_anew()

    def _look_anew(self) -> None:
        """Another conversation, or another scene: from its end."""
        self._epoch += 1
        self._shown, self._whole = SHOWN_LINES, set[int]()
        self._drawn: tuple[Any, ...] = ()
        self._lines: list[dict[str, Any]] = []

    # -- what is shown

    def look(self) -> dict[str, Any]:
        if self.lab.current is not self._scene:
            self.chat, self._there = "", None
            self._handles.clear()
            self._begin_scene()
        self._desk.read(self.lab.journal.rows, READ_FACTS)
        chats = self._chats()
        if not self.chat:
            self._begin_with(chats)
        self._look_around_again()
        read = self._desk.chat(self.chat)
        self._seen[self.chat] = read.received
        where = self.user.where
        return {
            "name": self.user.name,
            "colour": palette([*self.lab.journal.header["users"]]).get(self.user.name, ""),
            "where": where,
            "state": next(verb for verb, how in STATES.items() if how == where),
            "states": self._states(where),
            "chat": self.chat,
            "title": self._name(self.chat),
            "backend": self._backend(self.chat) if self.chat else "",
            "chats": [self._choice(chat) for chat in chats],
            "list": self._there is not None,
            "there": self._there or [],
            "epoch": self._epoch,
            "lines": self._shown_lines(read),
            "older": max(0, len(read.lines) - self._shown),
            "dropped": read.count - len(read.lines),
            "received": read.received,
            "away": _away(read),
            "why": "" if read.away else read.cut_why,
        }

    def _chats(self) -> list[str]:
        """The conversations that the user has open in this scene, the shown one among them."""
        known = [c for c in self.user.conversations if c.startswith(("private:", "group:"))]
        return [*known, self.chat] if self.chat and self.chat not in known else known

    def _begin_with(self, chats: list[str]) -> None:
        """What was asked for, or the newest there is, as soon as it is there; until then the
        list of who is."""
        found = self._wanted if self._wanted in chats else ""
        if not self._wanted and chats:
            found = chats[-1]
        if found:
            self._turn_to(found)
        elif self._there is None and not (self._wanted or self._list_closed):
            self._there = []

    def _turn_to(self, chat: str) -> None:
        with self._looking:
            self.chat, self._there = chat, None
            self._look_anew()

    def _look_around_again(self) -> None:
        due = self._there is not None and time.monotonic() > self._look_again
        if due and self.user.where == "online":
            self._look_again = time.monotonic() + LIST_SECONDS
            self._take("look_around", {}, quiet=True)

    def _states(self, where: str) -> list[dict[str, Any]]:
        """The state menu: what the user is, and what can be done with it."""
        never = () if self.lab.links or self.user._seat.process else ("crash", "freeze")
        off = (*never, *_IMPOSSIBLE.get(where, ()))
        return [
            {"value": verb, "label": how if how == where else verb, "off": verb in off}
            for verb, how in STATES.items()
        ]

    def _choice(self, chat: str) -> dict[str, Any]:
        """An entry of the menu of conversations: what came in those that are not shown."""
        unread = self._desk.chat(chat).received - self._seen.get(chat, 0)
        shown = chat == self.chat
        label = self._name(chat) if shown or not unread else f"{self._name(chat)} ({unread})"
        return {"value": chat, "label": label, "unread": 0 if shown else unread}

    def _name(self, chat: str) -> str:
        """A conversation as its user calls it: a group by its name, ``with bob``."""
        return f"with {self._peer(chat)}" if chat.startswith("private:") else title(chat)

    def _peer(self, chat: str) -> str:
        first, second = chat.split(":")[1:]
        return second if first == self.user.name else first

    def _backend(self, chat: str) -> str:
        if chat.startswith("private:") and chat in self._backends:
            return self._backends[chat]
        return self._desk.backend(chat)

    def _shown_lines(self, read: Conversation) -> list[dict[str, Any]]:
        drawn = (read.version, self._shown)
        if drawn != self._drawn:
            self._drawn = drawn
            self._lines = [self._shown_line(line) for line in _last(read.lines, self._shown)]
        return self._lines

    def _shown_line(self, line: Line) -> dict[str, Any]:
        own = line.sender == self.user.name
        whole = line.key in self._whole
        text = line.text if whole else beginning(line.text)
        return {
            "key": line.key,
            "kind": "own" if own else "other" if line.sender else "note",
            "who": line.sender,
            "text": text,
            "more": len(line.text) - len(text),
            "whole": whole,
            "at": clock(line.at),
            "status": line.status if own else mark(line) if line.sender else "",
            "bad": own and _bad(line),
        }

    def table(self) -> Table:
        """What the window shows: from, message, at, status."""
        return lines_of(self.lab.journal, self.user.name, self.chat)

    # -- what can be done

    def do_send(self, text: str) -> None:
        """Send a message in the conversation that is shown. What was not sent goes back to
        the line where it was written."""
        try:
            self._handle().send(text)
        except SendUncertain:
            raise
        except ChatlabError:
            self.send({"unsent": text})
            raise

    def _handle(self) -> Chat:
        """The handle of what is shown; of another scene it would be over."""
        chat = self.chat
        if not chat:
            raise InvalidInput("No conversation is open.", todo="Choose one from the list.")
        if chat not in self._handles:
            kind, _, rest = chat.partition(":")
            self._handles[chat] = (
                self.user.group(rest)
                if kind == "group"
                else self.user.private_chat(self._peer(chat), self._backend(chat))
            )
        return self._handles[chat]

    def do_state(self, state: str) -> None:
        """Online, offline, crash or freeze."""
        if state not in STATES:
            raise InvalidInput(f"A user cannot be made {state!r}.")
        if STATES[state] == self.user.where:
            return
        if self.user.where == "frozen" and state != "crash":
            self.user.thaw()
        if STATES[state] != self.user.where:
            getattr(self.user, state)()

    def do_older(self) -> None:
        """Show more of what was before."""
        self._shown += SHOWN_LINES

    def do_whole(self, key: int) -> None:
        """Show all of a long message, or only its beginning again."""
        self._whole ^= {int(key)}
        self._drawn = ()

    def do_look_around(self) -> None:
        """Ask who is there, to begin a conversation."""
        self._there = self._there or []  # open while it is asked
        self._look_again = time.monotonic() + LIST_SECONDS
        found = self.user.discover()
        if self._there is not None:
            self._there = [
                {"name": x.name, "kind": x.kind, "says": self._says(x.kind, x.name, x.backend)}
                for x in found
                if x.name != self.user.name or x.kind == "group"
            ]

    def _says(self, kind: str, name: str, backend: str) -> str:
        if kind != "group":
            return f"chat with {name}"
        verb = "open" if f"group:{name}" in self._chats() else "join"
        return f"{verb} {name}" + (f" · {backend}" if backend else "")

    def do_close_list(self) -> None:
        """No longer ask who is there."""
        self._there, self._list_closed = None, True

    def do_open(self, name: str, kind: str) -> None:
        """Begin a conversation: with a user, or in a group."""
        found = self.user.join(name) if kind == "group" else self.user.private_chat(name)
        self._handles[found.chat] = found
        self._wanted = found.chat
        self._turn_to(found.chat)

    def do_talk(self, chat: str) -> None:
        """Show another one of the open conversations."""
        found = next((c for c in self._chats() if chat in (c, self._name(c), title(c))), None)
        if found is None:
            raise InvalidInput(f"{self.user.name} has no conversation {chat!r} open.")
        self._wanted = found
        self._turn_to(found)

    def __repr__(self) -> str:
        return f"<chat window of {self.user.name} in the lab {self.lab.name}>"


def beginning(text: str) -> str:
    """As much of a message as is shown at first: all of it, unless it is long."""
    rows = text.split("\n", SHOWN_ROWS)
    short = "\n".join(rows[:SHOWN_ROWS])[:SHOWN_CHARACTERS]
    little = len(rows) <= SHOWN_ROWS and len(text) - len(short) < SHOWN_CHARACTERS // 4
    return text if little else short


def _last(lines: Iterable[Line], count: int) -> list[Line]:
    return list(lines)[-count:]


def _bad(line: Line) -> bool:
    """Whether somebody will not see it, or nobody knows."""
    lost = bool(line.missing - line.shown_to)
    return lost or (not line.shown_to and line.answer in ("Returned", "Failed", "Uncertain"))


def _away(read: Conversation) -> str:
    """That, and since when, the user is not shown what comes, and how much waits for it."""
    if read.away:
        words = f"{read.away} since {clock(read.away_since)}"
    elif read.cut_since:
        how = "connection lost" if read.cut_why else "disconnected"
        words = f"{how} since {clock(read.cut_since)}"
    elif read.user in read.members and not read.receives:
        words = "subscribed, not connected"
    else:
        return ""
    if n := read.waiting:
        words += f" · {n} message{'s wait' if n > 1 else ' waits'}"
    return words


def _check(user: User, conversation: Chat | None) -> None:
    if conversation is None:
        return
    if conversation.user.name != user.name:
        raise InvalidInput(f"This is a handle of {conversation.user.name}, not of {user.name}.")
    if isinstance(conversation, InsultChannel):
        raise InvalidInput("The insult channel has a panel of its own: panels.insults(lab).")
