"""Session: one user's client in a terminal, and what goes on in the background.

Three things go on by themselves once :meth:`Session.begin` has claimed the name: the client
connects to a chat server as soon as there is one, who is there is followed, and the groups
that the user is a member of are connected to again. Everything else is a verb.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal

from chatlab import messages as m
from chatlab.backends import GROUPS, PRIVATE, parse_backend
from chatlab.backoff import patiently
from chatlab.discovery import Presences, Registry
from chatlab.discovery.names import RESERVED
from chatlab.discovery.watching import Follower, RegistrySource
from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    NameInUse,
    NotPossible,
    SendUncertain,
    ServiceUnavailable,
    UnknownAccount,
)
from chatlab.journal import now
from chatlab.lab.client import WHOLE, Client, Ticket
from chatlab.lab.seat import member_chat
from chatlab.private.direct import DIRECT
from chatlab.resp import Redis
from chatlab.services import urls
from chatlab.services.addresses import ServerAddress, join_host_port
from chatlab.services.place import Place
from chatlab.settings import Settings
from chatlab.terminal import keyring
from chatlab.terminal.clean import harmless
from chatlab.terminal.conversation import KEPT_LINES, Conversation
from chatlab.terminal.desk import RABBITMQ, REDIS, SERVER, Desk
from chatlab.terminal.words import said

#: The private backend that is used unless something else is said.
MAILBOX_BACKEND = next(iter(PRIVATE))
#: Whether RabbitMQ answers is looked at so often, in seconds.
LOOK_SECONDS = 0.5
#: All goodbyes together take no longer, in seconds.
END_SECONDS = 8.0
#: What is being sent at the end gets so many seconds for its answer.
LAST_SECONDS = 1.0


class Straight:
    """The ways of a client in a terminal: no links of a laboratory in between."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        """The same address."""
        return address

    async def expose(self, port: int) -> str:
        """Where others reach a port of the client."""
        return join_host_port(self._host, port)


class Session:
    """One life of a user's client.

    Args:
        here: where the chat system is.
        desk: what the user sees; it takes the facts.
        over: called when the client was ended from outside: a newer window, lost brokers.
    """

    def __init__(
        self,
        settings: Settings,
        here: Place,
        desk: Desk,
        over: Callable[[ChatlabError], None],
    ) -> None:
        self.desk = desk
        self._settings = settings
        self._here = here
        self._over = over
        self._redis = Redis(here.redis, deadline=settings.send_seconds)
        self._registry = Registry(self._redis, settings.lease_seconds)
        self._client: Client | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sends: set[asyncio.Task[None]] = set()
        #: One group or channel at a time is opened or left.
        self._moves = asyncio.Lock()
        self._rejoined = False

    @property
    def client(self) -> Client:
        """The client, once :meth:`begin` was called."""
        assert self._client is not None
        return self._client

    async def begin(self) -> None:
        """Claim the name, and let all go on that goes on by itself.

        Raises:
            NameInUse: the account has another secret.
            ServiceUnavailable: the name server does not answer, or the secret cannot be kept.
        """
        key = keyring.key_of(self._settings, self._here, self.desk.user)
        ticket = Ticket(
            lab=self._here.lab,
            user=self.desk.user,
            secret=key.secret,
            settings=self._settings,
            rabbitmq=self._here.rabbitmq,
            redis=self._here.redis,
        )
        ways = Straight(self._settings.client_host)
        client = Client(ticket, self.desk.record, ways, self._ended)
        try:
            await client.begin()
        except BaseException as error:
            if isinstance(error, NameInUse):
                keyring.forget(key)
            await client.abandon()
            await self._redis.close()
            raise
        self._client = client
        if self._here.lease is not None:
            self._here.lease.on_event = self._event
        for work in (self._follow(), self._find_server(), self._watch_rabbitmq()):
            self._start(work)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what goes on by itself

    async def _find_server(self) -> None:
        """Connect to a chat server, as soon as there is one; then the client keeps to it."""
        try:
            await patiently(self._try_server)
        except ChatlabError as error:  # groups and insults are there all the same
            self.desk.service(SERVER, False, " ".join(said(error)))
            return
        for chat in list(self.desk.chats.values()):
            if chat.kind == "private" and not chat.remembered:
                await self._recall(chat)

    async def _try_server(self) -> None:
        try:
            if await self._registry.find_server(MAILBOX_BACKEND) is None:
                self.desk.no_server()
                raise ServiceUnavailable("There is no chat server.")
            await self.client.mailbox(MAILBOX_BACKEND)
        except (ServiceUnavailable, SendUncertain):
            if self.desk.services[SERVER].up is None:
                self.desk.service(SERVER, False)
            raise

    async def _watch_rabbitmq(self) -> None:
        while True:
            self.desk.service(RABBITMQ, self.client.rabbitmq_up)
            await asyncio.sleep(LOOK_SECONDS)

    async def _follow(self) -> None:
        follower = await patiently(self._open_follower)
        try:
            await asyncio.Event().wait()
        finally:
            await follower.close()

    async def _open_follower(self) -> Follower:
        source = _Lookout(self._registry, lambda up: self.desk.service(REDIS, up))
        follower = Follower(source, self._told)
        await follower.open()
        return follower

    def _told(self, found: Presences, _changes: Sequence[Any]) -> None:
        self.desk.presences(found)
        if not self._rejoined:
            self._rejoined = True
            mine = [x for x in found if self.desk.user in (*x.members, *x.away)]
            for entry in mine:
                if entry.name not in RESERVED:
                    self._start(self._rejoin(entry.name, entry.backend))

    async def _rejoin(self, name: str, backend: str) -> None:
        """A group of an earlier life of this user's client."""
        try:
            await patiently(lambda: self.join(name, backend))
        except ChatlabError as error:
            self.desk.group(name).note(now(), " ".join(str(error).split("\n")), "class:bad")

    def _ended(self, chat: str, error: ChatlabError) -> None:
        """A conversation (all of them) was ended from outside."""
        if chat == WHOLE:
            self._over(error)
            return
        text = f"This conversation has ended: {error.what} Leave it and open it again."
        self.desk.chat(chat).note(now(), text, "class:bad")
        self.desk.changed()

    def _event(self, service: str, what: str) -> None:
        if service == "supervisor" and urls.is_ours(self._settings, "redis"):
            self._over(
                ServiceUnavailable(
                    "The brokers of this computer have ended.",
                    "What was being sent may or may not have been accepted.",
                    "Type `chatlab client` again: it starts them.",
                )
            )

    # -- conversations

    async def open_private(self, peer: str, backend: str) -> Conversation:
        """The conversation with a person.

        Raises:
            InvalidInput: a name that cannot be, or oneself.
            UnknownAccount: nobody of that name has ever been here.
        """
        peer = m.check_name(peer)
        if peer == self.desk.user:
            raise InvalidInput("That is you.", "Nothing was opened.", "Name somebody else.")
        if not await self._registry.account_exists(peer):
            raise UnknownAccount(f"There is no account {peer}.", "Nothing was opened.")
        chat = self.desk.private(peer)
        chat.backend = backend
        if not chat.remembered:
            await self._recall(chat)
        return chat

    async def _recall(self, chat: Conversation) -> None:
        """What the chat server remembers of a conversation; said when it cannot be asked."""
        if self.desk.services[SERVER].up:
            try:
                past = await self.client.history(MAILBOX_BACKEND, chat.name, KEPT_LINES // 2)
                chat.recall(past)
                chat.remembered = True
            except ChatlabError as error:
                chat.note(now(), f"earlier messages cannot be shown now: {error.what}")

    async def group_backend(self, name: str) -> str | None:
        """The backend of a group; None when there is no such group.

        Raises:
            InvalidInput: a name that cannot be.
        """
        return await self._registry.find_group(_group_name(name))

    async def join(self, name: str, backend: str | None) -> Conversation:
        """Subscribe to a group and connect to it; what waits arrives.

        Raises:
            InvalidInput, BackendMismatch: a name or a backend that cannot be.
            ServiceUnavailable: a broker is away.
        """
        name = _group_name(name)
        if backend is not None and parse_backend(backend, GROUPS)[0] == "memory":
            raise InvalidInput(
                "The backend memory lives in one process; nobody else would be in the group.",
                todo="Choose transient or durable.",
            )
        async with self._moves:
            found = await self.client.group(name, backend)
            await self.client.connect(name)
        chat = self.desk.group(name)
        chat.backend = found
        return chat

    async def leave(self, chat: Conversation) -> None:
        """Leave a group for good: its queue is deleted."""
        async with self._moves:
            await self.client.unsubscribe(chat.name)
        self.desk.drop(chat)

    async def insults(self, role: Literal["both", "consumer"]) -> Conversation:
        """Take part in the insult channel, or change how."""
        async with self._moves:
            backend = await self.client.insults(role)
        chat = self.desk.insults()
        chat.backend, chat.sends = backend, role == "both"
        return chat

    async def leave_insults(self) -> None:
        """Draw insults no more."""
        async with self._moves:
            await self.client.leave_insults()

    async def discover(self, via: str) -> Presences:
        """Who is there, by one of the ways."""
        return Presences.unpacked(await self.client.discover(via))

    # -- sending

    def check(self, chat: Conversation, body: str) -> None:
        """Refuse what cannot be sent now.

        Raises:
            InvalidInput: a body that cannot be.
            ServiceUnavailable: it needs a chat server, and there was none yet.
            NotPossible: in the insult channel, when the user only listens.
        """
        m.check_body(body)
        if not body.strip():
            raise InvalidInput("The message is empty.", todo="Write at least one character.")
        if chat.kind == "private" and chat.backend != DIRECT:
            self._check_server()
        if not chat.sends:
            raise NotPossible("You only listen here.", "Nothing was sent.", "Type /both first.")

    def send(self, chat: Conversation, body: str, *ids: str) -> None:
        """Begin to send; what becomes of it is shown beside it, or as a note."""
        task = asyncio.create_task(self._send(chat, body, *ids))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def _send(self, chat: Conversation, body: str, *ids: str) -> None:
        try:
            how = chat.chat, chat.name, chat.backend, [body], ids
            for receipt in await self.client.send(*how):
                chat.told(receipt)
        except ChatlabError as error:
            what = " ".join(said(error))
            chat.note(now(), f"not sent: {harmless(body)[:60]!r}: {what}", "class:bad")
        self.desk.changed()

    def _check_server(self) -> None:
        """Raises ServiceUnavailable while no chat server was ever connected to."""
        health = self.desk.services["chat server"]
        if not health.up and (health.todo or not health.since):
            raise ServiceUnavailable(
                "There is no chat server.",
                "The message was not sent.",
                "Start one: chatlab server. Or talk straight to their client: /direct.",
            )

    def again(self, chat: Conversation) -> int:
        """Send once more: under the same id what nobody knows of, anew what was refused.
        Returns how many."""
        unsettled, refused = chat.unsettled(), chat.refused()
        for line in unsettled:
            self.send(chat, line.body, line.id)
        for line in refused:
            chat.drop(line)
            self.send(chat, line.body)
        return len(unsettled) + len(refused)

    # -- the end

    async def end(self) -> None:
        """Say goodbye everywhere, bounded. Groups that keep nothing are left for good."""
        if self._sends:
            await asyncio.wait(self._sends, timeout=LAST_SECONDS)
        tasks = [*self._tasks, *self._sends]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            client, self._client = self._client, None
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._say_goodbye(client)
            except (ChatlabError, TimeoutError):
                await client.abandon()
        await self._redis.close()

    async def _say_goodbye(self, client: Client) -> None:
        transient = [chat for chat in self.desk.open if chat.forgets]
        leaving: list[Awaitable[None]] = [client.unsubscribe(x.name) for x in transient]
        with contextlib.suppress(ChatlabError, TimeoutError):
            async with asyncio.timeout(END_SECONDS / 4):
                await asyncio.gather(*leaving, return_exceptions=True)
        await client.end()


class _Lookout(RegistrySource):
    """Follows who is there, and says whether the name server answers."""

    def __init__(self, registry: Registry, answers: Callable[[bool], None]) -> None:
        super().__init__(registry)
        self._answers = answers

    async def look(self) -> Presences:
        try:
            found = await super().look()
        except ChatlabError:
            self._answers(False)
            raise
        self._answers(True)
        return found


def _group_name(name: str) -> str:
    return member_chat(name).partition(":")[2]
