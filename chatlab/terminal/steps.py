"""Steps: what each choice of the menu leads to, and a conversation.

Leaving (Ctrl-C) goes one step back; what goes wrong is said in its three lines, and the typed
text stands there again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, TypeVar

from chatlab.backends import GROUPS, forgets_the_absent
from chatlab.discovery.inquirer import WAYS
from chatlab.errors import ChatlabError, InvalidInput
from chatlab.private.direct import DIRECT
from chatlab.terminal import commands as c
from chatlab.terminal.clean import harmless
from chatlab.terminal.conversation import Conversation
from chatlab.terminal.screen import Left, Screen
from chatlab.terminal.session import MAILBOX_BACKEND, Session
from chatlab.terminal.views import Page, Talk, answer, help_of
from chatlab.terminal.words import said

T = TypeVar("T")

#: The ways of asking that the menu offers.
OFFERED_WAYS = WAYS[:4]
#: What is typed for a group's backend -> the backend.
KINDS = {"transient": "rabbitmq-transient", "durable": "rabbitmq-durable"}
#: Asked on leaving a group that goes on collecting messages.
FOR_GOOD = "leave for good? then its queue is deleted and you get nothing more [y/N] "


class Steps:
    """What the menu's choices lead to."""

    def __init__(self, session: Session, screen: Screen) -> None:
        self._session, self._screen, self._desk = session, screen, session.desk

    # -- words for the Tab key

    def menu_words(self) -> Iterable[str]:
        """Words of the menu, names of what is open."""
        words = [word for entry in c.MENU for word in entry.words[:1]]
        return [*words, *(chat.name for chat in self._desk.open)]

    def _people(self) -> Iterable[str]:
        return [name for name in self._desk.there.users if name != self._desk.user]

    def _groups(self) -> Iterable[str]:
        own = [chat.name for chat in self._desk.open if chat.kind == "group"]
        return sorted({*self._desk.there.groups, *own})

    # -- the choices

    async def choose(self, text: str, found: tuple[c.Choice, list[str]] | None) -> None:
        """Do what was chosen in the menu."""
        if found is None:
            named = [chat for chat in self._desk.open if chat.name == text.strip()]
            if not named:
                raise InvalidInput(
                    f"{text.strip()[:40]!r} is no choice.",
                    "Nothing was done.",
                    "Type a number, or the name of a conversation that is listed.",
                )
            chat = named[0]
            act = self._private if chat.kind == "private" else self._connect
            await act([chat.name])
            return
        entry, rest = found
        await _CHOICES[entry.key](self, rest)

    async def _ask_and(
        self,
        prompt: str,
        rest: list[str],
        words: Callable[[], Iterable[str]],
        act: Callable[[list[str]], Awaitable[T]],
    ) -> T:
        """Ask, unless it was typed already, and act; after an error ask again."""
        while True:
            if not rest:
                rest = (await self._screen.ask(prompt, words=words)).split()
                if not rest:
                    raise Left
            try:
                return await act(rest)
            except ChatlabError as error:
                self._screen.say(*said(error))
            rest = []

    async def _private(self, rest: list[str]) -> None:
        chat = await self._ask_and("with whom> ", rest, self._people, self._open_private)
        await self._talk(chat)

    async def _open_private(self, words: list[str]) -> Conversation:
        known = [x for x in self._desk.open if (x.kind, x.name) == ("private", words[0])]
        backend = known[0].backend if known and known[0].backend else MAILBOX_BACKEND
        if words[1:]:
            backend = {"mailbox": MAILBOX_BACKEND}.get(words[1], words[1])
            if backend not in (MAILBOX_BACKEND, DIRECT):
                raise InvalidInput(
                    f"There is no way {words[1]!r} to a person here.",
                    todo=f"There are: {MAILBOX_BACKEND} (also: mailbox), {DIRECT}.",
                )
        opening = self._session.open_private(words[0], backend)
        return await self._screen.during("opening …", opening)

    async def _connect(self, rest: list[str]) -> None:
        chat = await self._ask_and("which group> ", rest, self._groups, self._open_group)
        await self._talk(chat)

    async def _open_group(self, words: list[str]) -> Conversation:
        name = words[0]
        if await self._session.group_backend(name) is None:
            raise InvalidInput(
                f"There is no group {name}.", todo="Subscribe to it (3): that makes it."
            )
        joining = self._session.join(name, words[1] if words[1:] else None)
        return await self._screen.during("connecting …", joining)

    async def _subscribe(self, rest: list[str]) -> None:
        await self._ask_and("which group> ", rest, self._groups, self._subscribe_to)

    async def _subscribe_to(self, words: list[str]) -> None:
        name = words[0]
        found = await self._session.group_backend(name)
        if words[1:]:
            backend = KINDS.get(words[1], words[1])
        elif found is not None:
            backend = found
        else:
            asked = await self._screen.ask(
                f"{harmless(name)} is new: transient or durable? [durable] ",
                words=lambda: [*KINDS, *(x for x in GROUPS if x != "memory")],
            )
            asked = asked.strip() or "durable"
            backend = KINDS.get(asked, asked)
        chat = await self._screen.during("subscribing …", self._session.join(name, backend))
        self._screen.say(
            f"You are subscribed to {harmless(name)} ({chat.backend}).",
            f"Its messages are yours from now on, {_KEPT[forgets_the_absent(chat.backend)]}.",
            f"To read and write: 2 {harmless(name)}",
        )

    async def _who(self, rest: list[str]) -> None:
        way = rest[0] if rest else OFFERED_WAYS[0]
        ways = ", ".join(OFFERED_WAYS)
        if not rest:
            asked = await self._screen.ask(
                f"which way ({ways})? [{way}] ", words=lambda: OFFERED_WAYS
            )
            way = asked.strip() or way
        while way:
            found = await self._screen.during("asking …", self._session.discover(way))
            self._screen.show(Page(f"who is there, by {way}", answer(found)))
            asked = await self._screen.ask(
                "Enter: back · another way> ", words=lambda: OFFERED_WAYS
            )
            way = "" if c.is_command(asked) else asked.strip()

    async def _insults(self, rest: list[str]) -> None:
        role = rest[0] if rest else ""
        while role not in _ROLES:
            asked = await self._screen.ask(
                "send and draw, or only listen? both / listen [both] ",
                words=lambda: [word for word in _ROLES if len(word) > 1],
            )
            role = asked.strip().lower() or "both"
        joining = self._session.insults(_ROLES[role])
        chat = await self._screen.during("joining …", joining)
        await self._talk(chat)

    # -- a conversation

    async def _talk(self, chat: Conversation) -> None:
        self._desk.look_at(chat)
        self._screen.show(Talk(self._desk, chat))
        text, chat.draft = chat.draft, ""
        try:
            while True:
                text = await self._screen.ask(
                    f"{harmless(self._desk.user)}> ",
                    default=text,
                    words=lambda: [one.word for one in c.commands_of(chat.kind)],
                    remember=True,
                )
                text = await self._typed(chat, text)
        except Left:
            chat.draft = self._screen.take()
            await self._leave(chat)

    async def _typed(self, chat: Conversation, text: str) -> str:
        """A line in a conversation. Returns what is to stand there again."""
        if c.is_command(text):
            found = c.command(text, chat.kind)
            if found is None:
                self._screen.say(f"There is no command {text.split()[0][:40]}; see /help.")
                return text
            await self._command(chat, found.word)
            return ""
        body = c.message_of(text)
        try:
            self._session.check(chat, body)
        except ChatlabError as error:
            self._screen.say(*said(error))
            return text
        self._session.send(chat, body)
        return ""

    async def _command(self, chat: Conversation, word: str) -> None:
        if word == "/leave":
            raise Left
        try:
            if word == "/again":
                count = self._session.again(chat)
                self._screen.say(f"{count} sent again." if count else "Nothing to send again.")
            elif word in ("/direct", "/mailbox"):
                chat.backend = DIRECT if word == "/direct" else MAILBOX_BACKEND
            elif word in ("/both", "/listen"):
                role = _ROLES[word[1:]]
                await self._screen.during("changing …", self._session.insults(role))
            elif word == "/who":
                found = await self._screen.during("asking …", self._session.discover(WAYS[0]))
                self._screen.say(*answer(found)[1:-2])
            else:
                self._screen.say(*help_of(chat.kind))
        except ChatlabError as error:
            self._screen.say(*said(error))

    async def _leave(self, chat: Conversation) -> None:
        """Back to the menu; a group that collects messages is asked about."""
        if chat.kind == "insults":
            await self._screen.during("leaving …", self._session.leave_insults())
        elif chat.kind == "group":
            good = chat.forgets or await self._for_good()
            name = harmless(chat.name)
            if not good:
                self._screen.say(f"{name} stays yours: its messages go on coming.")
                return
            await self._screen.during("leaving …", self._session.leave(chat))
            self._screen.say(f"You left {name}: you get nothing more of it.")

    async def _for_good(self) -> bool:
        try:
            return (await self._screen.ask(FOR_GOOD)).strip().lower() in ("y", "yes")
        except Left:
            return False


_KEPT = {False: "whether you are here or away", True: "while you are here"}
_ROLES: dict[str, Literal["both", "consumer"]] = {
    "both": "both",
    "b": "both",
    "listen": "consumer",
    "l": "consumer",
}
_CHOICES: dict[str, Callable[[Steps, list[str]], Awaitable[None]]] = {
    "1": Steps._private,
    "2": Steps._connect,
    "3": Steps._subscribe,
    "4": Steps._who,
    "5": Steps._insults,
}
