"""Desk: all that one user has in front of it, from the facts its client records. Pure.

It takes each fact as it happens (:meth:`Desk.record` is the client's journal), keeps the
conversations, counts what is unread and knows which services are away. It prints nothing:
``changed`` is called after anything did, and whoever shows it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatlab import messages as m
from chatlab.discovery import Presences
from chatlab.journal import Row, now
from chatlab.messages import Message
from chatlab.private.client import MAILBOX
from chatlab.terminal.clean import harmless
from chatlab.terminal.conversation import Conversation
from chatlab.terminal.words import START_SERVER, count, names, span

#: The services, as the user reads them.
SERVER, RABBITMQ, REDIS = "chat server", "RabbitMQ", "Redis"


@dataclass
class Health:
    """One service."""

    #: Answers; None: that was not asked yet.
    up: bool | None = None
    #: Since when it is away.
    since: float = 0.0
    #: What to do about it, where anything can be done here.
    todo: str = ""

    def words(self, at: float) -> str:
        """How it is away: ``✗ away 3 s, trying again``."""
        return f"✗ {self.todo or f'away {span(at - self.since)}, trying again'}"


class Desk:
    """All conversations of ``user``."""

    def __init__(self, user: str, changed: Callable[[], None] = lambda: None) -> None:
        self.user = user
        self.chats: dict[str, Conversation] = {}
        #: The conversation that the user looks at.
        self.current: Conversation | None = None
        self.services = {SERVER: Health(), RABBITMQ: Health(), REDIS: Health()}
        #: Who is there, as it was learned last.
        self.there = Presences()
        self.changed = changed

    # -- conversations

    def private(self, peer: str) -> Conversation:
        """The conversation with a person."""
        return self.chat(m.private(self.user, peer))

    def group(self, name: str) -> Conversation:
        """The conversation of a group."""
        return self.chat(m.group(name))

    def insults(self) -> Conversation:
        """The insult channel."""
        return self.chat(m.INSULTS)

    def chat(self, chat: str) -> Conversation:
        """By its name in the journal."""
        if chat not in self.chats:
            self.chats[chat] = Conversation(self.user, chat)
        return self.chats[chat]

    def drop(self, conversation: Conversation) -> None:
        """Forget it: the user has left for good."""
        self.chats.pop(conversation.chat, None)
        self.changed()

    def look_at(self, conversation: Conversation | None) -> None:
        """The user looks at this one, and has read all of it."""
        self.current = conversation
        if conversation is not None:
            conversation.unread = 0
        self.changed()

    @property
    def unread(self) -> str:
        """``sd 2 · bob 1``; empty when all is read."""
        return " · ".join(
            f"{harmless(chat.name)} {chat.unread}"
            for chat in self.chats.values()
            if chat.unread
        )

    @property
    def open(self) -> list[Conversation]:
        """The conversations there are, groups first, but for the insult channel."""
        some = [chat for chat in self.chats.values() if chat.kind != "insults"]
        return sorted(some, key=lambda chat: (chat.kind != "group", chat.name))

    # -- facts

    def record(self, *rows: Row) -> None:
        """The journal of the user's client: facts as they happen."""
        for kind, at, _user, _incarnation, chat, *rest in rows:
            if chat == MAILBOX:
                self._server(kind, at)
            elif chat and kind in _ACTS and (kind != "Disconnected" or rest[0]):
                _ACTS[kind](self, at, self.chat(chat), *rest)
        self.changed()

    def _sent(self, _at: float, chat: Conversation, message: Message) -> None:
        chat.sent(message)

    def _delivered(self, at: float, chat: Conversation, message: Message, again: bool) -> None:
        if chat.delivered(at, message, again) and chat is not self.current:
            chat.unread += 1

    def _reached(self, _at: float, chat: Conversation, id: str) -> None:
        chat.reached(id)

    def _connected(self, at: float, chat: Conversation, backend: str, _role: str) -> None:
        if chat.kind != "private":
            chat.backend = backend
        if chat.lost_since:
            chat.note(at, f"back after {span(at - chat.lost_since)}")
            self._offer(at, chat)
        chat.lost_since = 0.0

    def _disconnected(self, at: float, chat: Conversation, reason: str) -> None:
        """Not asked for. A line to a person is called up again when it is needed."""
        if chat.kind == "private":
            chat.note(at, f"the direct line has ended: {reason}")
        else:
            chat.lost_since = at
            chat.note(at, f"not connected now: {reason} Trying again …", "class:bad")

    def _server(self, kind: str, at: float) -> None:
        """The connection to the chat server comes or goes: a matter of the private chats."""
        health, was = self.services[SERVER], self.services[SERVER].up
        if kind not in ("Connected", "Disconnected"):
            return
        since, never, health.todo = health.since, bool(health.todo), ""
        health.up, health.since = kind == "Connected", at
        for chat in self.chats.values():
            if chat.kind != "private" or chat.backend == "direct":
                continue
            if not health.up:
                chat.note(at, "the chat server is away; trying again …", "class:bad")
            elif was is False and since:
                back = f"the chat server is back after {span(at - since)}"
                chat.note(at, "there is a chat server now" if never else back)
                self._offer(at, chat)

    def _offer(self, at: float, chat: Conversation) -> None:
        unsettled, refused = len(chat.unsettled()), len(chat.refused())
        if unsettled:
            what = f"{count(unsettled, 'message')} of unknown outcome"
            chat.note(at, f"{what}: /again is safe, it sends under the same id")
        if refused:
            chat.note(at, f"{count(refused, 'message')} not sent: /again sends anew")

    # -- what is no fact of the client

    def service(self, name: str, up: bool, todo: str = "") -> None:
        """What was learned of a service."""
        health = self.services[name]
        if (health.up, health.todo) != (up, todo):
            health.up, health.todo, health.since = up, todo, now()
            self.changed()

    def no_server(self) -> None:
        """There is no chat server, and there was none yet."""
        self.service(SERVER, False, f"none yet; {START_SERVER}")

    def presences(self, found: Presences) -> None:
        """Who is there now; members who come and go are said in their groups."""
        before, self.there = self.there, found
        if before.via:
            self._people(before, found)
            for entry in found:
                chat = self.chats.get(m.group(entry.name))
                if entry.kind == "group" and chat is not None:
                    self._members(chat, before, entry)
        self.changed()

    def _people(self, before: Presences, found: Presences) -> None:
        for chat in self.chats.values():
            was, is_there = chat.name in before.users, chat.name in found.users
            if chat.kind == "private" and was != is_there:
                words = "is there" if is_there else "has gone"
                chat.note(now(), f"{chat.name} {words}")

    def _members(self, chat: Conversation, before: Presences, entry: Any) -> None:
        old = [one for one in before if one.kind == "group" and one.name == entry.name]
        if not old:
            return
        there, away = set(entry.members), set(entry.away)
        was_there, was_away = set(old[0].members), set(old[0].away)
        joined = (there | away) - (was_there | was_away)
        for who, what in (
            (joined, "joined"),
            ((was_there | was_away) - (there | away), "left"),
            ((there & was_away) - chat.joining, "is back"),
            (away & was_there, "is away now"),
        ):
            if others := sorted(who - {self.user}):
                chat.note(now(), f"{names(others)} {what}")
        chat.joining = (joined | chat.joining) & away  # it is subscribed, and connects next

    def about(self, chat: Conversation) -> list[str]:
        """What the header of a conversation says: kind, backend, who is there."""
        if chat.kind == "insults":
            role = "you send and draw" if chat.sends else "you only listen"
            return ["insult channel", chat.backend.partition(":")[0], role]
        if chat.kind == "private":
            here = chat.name in self.there.users
            return ["private chat", chat.backend, "is there" if here else "is not there now"]
        found = [x for x in self.there if x.kind == "group" and x.name == chat.name]
        parts = ["group", chat.backend]
        if found:
            parts.append(f"there: {names(list(found[0].members))}")
            if found[0].away:
                parts.append(f"away: {names(list(found[0].away))}")
        return parts

    def bar(self) -> str:
        """The bottom line: what is unread, which services answer."""
        at = now()
        away = [name for name, health in self.services.items() if health.up is False]
        states = [f"{name} {self.services[name].words(at)}" for name in away]
        if not away and self.services[SERVER].up:
            states = ["connected"]
        return "   ".join(filter(None, (self.unread, " · ".join(states))))


_ACTS: dict[str, Callable[..., None]] = {
    "Sent": Desk._sent,
    "Delivered": Desk._delivered,
    "Reached": Desk._reached,
    "Connected": Desk._connected,
    "Disconnected": Desk._disconnected,
}
