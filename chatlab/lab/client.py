"""Client: the real client of one user, all coroutines, the same in every place.

It owns the user's connections (Redis, one AMQP connection for consuming and one for
publishing, a gRPC channel per chat server) and one handle per conversation. It runs on the
kernel's background loop or in a process of its own (``chatlab.lab.remote``); therefore its
verbs take and return plain values, and what it learns goes to the journal, nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

from chatlab import messages as m
from chatlab.amqp import Connections
from chatlab.backends import shared_text
from chatlab.client import Life
from chatlab.discovery import Inquirer, Registry, as_reported
from chatlab.discovery.announcement import Announcement
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.leases import LeaseKeeper
from chatlab.discovery.questions import Told
from chatlab.errors import ChatClosed, ChatlabError
from chatlab.groups import GroupMember, open_group
from chatlab.insults import InsultMember
from chatlab.journal import Record
from chatlab.lab.exchange import Finder, Ways
from chatlab.messages import Message, Receipt
from chatlab.private import PrivateClient, private_client
from chatlab.private.direct import DIRECT, DirectClient
from chatlab.private.endpoint import Endpoint
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings

#: The chat of facts about a user as a whole.
WHOLE = ""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a client needs to begin a life: who it is and where the services are."""

    lab: str
    user: str
    secret: str = field(repr=False)
    settings: Settings
    #: Both through the user's own links.
    rabbitmq: RabbitAddress
    redis: RedisAddress


class Client:
    """One user's client. ``begin`` first; every other verb needs it.

    Args:
        ticket: who and where.
        record: takes the facts.
        ways: the user's links.
        ended: called with a conversation (``""``: all of them) that was ended from outside:
            a takeover, a queue that was deleted.
        keeper: renews the lease, and lends its connection to the name server; None: the
            client does both itself, through the user's own link.
    """

    def __init__(
        self,
        ticket: Ticket,
        record: Record,
        ways: Ways,
        ended: Callable[[str, ChatlabError], None],
        keeper: LeaseKeeper | None = None,
    ) -> None:
        self._ticket = ticket
        self._record = record
        self._ways = ways
        self._ended = ended
        self._keeper = keeper
        self._redis = Redis(ticket.redis, deadline=ticket.settings.send_seconds)
        self._registry = (
            Registry(self._redis, ticket.settings.lease_seconds)
            if keeper is None
            else keeper.registry.sibling()
        )
        self._finder = Finder(self._registry, ways, ticket.user)
        self._endpoint = Endpoint(ticket.settings)
        self._direct: DirectClient | None = None
        self._succeeding: asyncio.Task[None] | None = None
        self._over = False
        self._chats: dict[str, PrivateClient] = {}
        self._refusal = ""
        self._groups: dict[str, GroupMember] = {}
        self._insults: InsultMember | None = None
        self._lease: asyncio.Task[None] | None = None
        self._life: Life | None = None
        self._connections: Connections | None = None
        self._announcement: Announcement | None = None
        self._inquirer: Inquirer | None = None
        self._view: BrokerView | None = None

    @property
    def life(self) -> Life:
        """The life that began last.

        Raises:
            ChatClosed: none has.
        """
        if self._life is None:
            raise ChatClosed(f"{self._ticket.user} has not come online yet.")
        return self._life

    async def begin(self) -> int:
        """Come online: claim the name, begin a life or go on with the one there was.

        Returns the incarnation.
        """
        t = self._ticket
        known = self._life.incarnation if self._life else None
        endpoint = self._endpoint = Endpoint(t.settings)
        try:
            address = await endpoint.start()
            # A link is on loopback; what others call from elsewhere has none.
            there = str(address) if address.certificate else ""
            where = there or await self._ways.expose(address.port)
            older = None if known else await self._finder.find_older(where)
            incarnation = await self._registry.claim(
                t.user, t.secret, where, known, certificate=address.certificate
            )
        except BaseException:
            await endpoint.stop()
            raise
        self._finder.incarnation = incarnation
        if self._life is None:
            self._life = Life(
                lab=t.lab,
                user=t.user,
                incarnation=incarnation,
                secret=t.secret,
                settings=t.settings,
                record=self._record,
                rabbitmq=t.rabbitmq,
                redis=t.redis,
            )
        direct = DirectClient(
            *(self._life, self._finder, _shown, self._taken, lambda _: self._refusal)
        )
        self._chats[DIRECT] = endpoint.client = self._direct = direct
        if older is not None:  # it need not wait for its lease to find out
            self._succeeding = asyncio.create_task(direct.succeed(older))
        self._connections = Connections(self._life)
        self._keep_lease(incarnation)
        await as_reported.enter(self._registry.redis, as_reported.USERS, t.user, where)
        self._view = BrokerView(t.rabbitmq, heartbeat=t.settings.heartbeat_seconds)
        self._inquirer = Inquirer(self._registry, t.rabbitmq, self._connections, self._view)
        self._announcement = Announcement(
            self._connections.consuming, self._life, where, self._told
        )
        # Without RabbitMQ there are still private chats; it is announced on recovery.
        await self._announcement.start()
        self._life.fact("Connected", WHOLE, "", "")
        return incarnation

    def _keep_lease(self, incarnation: int) -> None:
        kept = self._ticket.user, incarnation, self._taken
        if self._keeper is not None:
            self._keeper.keep(*kept)
        else:
            self._lease = asyncio.create_task(self._registry.keep_alive(*kept))

    def _taken(self, error: ChatlabError) -> None:
        # Lease and private chats notice it by themselves; the place may be another's by then.
        if not self._over:
            self._over = True
            self._ended(WHOLE, error)

    def _ends(self, chat: str) -> Callable[[ChatlabError], None]:
        return lambda error: self._ended(chat, error)

    @property
    def rabbitmq_up(self) -> bool:
        """Whether it is connected to RabbitMQ; who is online keeps one connection open."""
        return self._connections is not None and self._connections.consuming.up

    # -- who is there

    async def discover(self, via: str, **options: Any) -> dict[str, Any]:
        """Ask in one of the ways, by this user's own connections; the answer packed."""
        if self._inquirer is None:
            raise ChatClosed(f"{self._ticket.user} has not come online yet.")
        return (await self._inquirer.discover(via, **options)).packed()

    def _told(self) -> list[Told]:
        """The groups this user is in, for whoever asks."""
        return [
            Told(name, member.backend, member.connected)
            for name, member in self._groups.items()
            if member.subscribed or member.connected
        ]

    # -- private chats

    async def refuse(self, why: str) -> None:
        """Refuse to talk directly from now on, and say why; empty: accept again."""
        self._refusal = why
        if why and self._direct is not None:
            await self._direct.hang_up()

    async def history(self, backend: str, peer: str, limit: int) -> list[Message]:
        """The conversation with ``peer`` as far as the backend remembers it."""
        return await self._chat(backend).history(peer, limit)

    async def presence(self, backend: str, names: list[str]) -> list[tuple[str, bool, float]]:
        """Of each name with an account: whether it receives now, and when it last did."""
        return await self._chat(backend).presence(names)

    def _chat(self, backend: str) -> PrivateClient:
        if backend not in self._chats:
            raise ChatClosed(f"{self._ticket.user} is not connected to {backend}.")
        return self._chats[backend]

    async def mailbox(self, backend: str) -> None:
        """Send to and receive from the chat server of this kind. Idempotent."""
        if backend not in self._chats:
            locate = partial(self._finder.find_server, backend)
            box = private_client(self.life, backend, locate, _shown, self._taken)
            self._chats[backend] = box
            try:
                await box.open()
            except BaseException:
                del self._chats[backend]
                await box.close()
                raise

    # -- groups

    async def group(self, name: str, backend: str | None) -> str:
        """Have a handle on a group (no membership yet). Returns its backend."""
        if name not in self._groups:
            assert self._connections is not None
            self._groups[name] = await open_group(
                *(self.life, self._connections, self._registry, name, backend),
                *(_shown, self._ends(m.group(name))),
            )
        elif backend is not None:
            # Refuses another one.
            await self._registry.open_group(name, shared_text(backend))
        return self._groups[name].backend

    async def subscribe(self, name: str) -> None:
        """Queue and binding exist from now on. Idempotent."""
        member = self._member(name)
        if not member.subscribed:
            await member.subscribe()

    async def connect(self, name: str) -> None:
        """Receive what waits and what comes. Idempotent."""
        member = self._member(name)
        if not member.connected:
            await member.connect()
            await as_reported.enter(self._registry.redis, as_reported.GROUPS, name, name)

    async def disconnect(self, name: str) -> None:
        """Stop receiving; what a durable queue gets from now on waits."""
        await self._off(name)
        await self._member(name).disconnect()

    async def unsubscribe(self, name: str) -> None:
        """Leave for good: queue and binding are deleted."""
        await self._off(name)
        await self._member(name).unsubscribe()

    async def _off(self, name: str) -> None:
        """As reported: who is about to leave a group removes it for all."""
        if self._member(name).connected:
            await as_reported.leave(self._registry.redis, as_reported.GROUPS, name)

    def _member(self, name: str) -> GroupMember:
        if name not in self._groups:
            raise ChatClosed(f"{self._ticket.user} has no handle on the group {name}.")
        return self._groups[name]

    # -- insults

    async def insults(
        self,
        role: Literal["both", "producer", "consumer"],
        backend: str | None = None,
        **options: Any,
    ) -> str:
        """Take part in the insult channel, or change how. Returns the backend with all
        options."""
        if self._insults is None:
            assert self._connections is not None
            self._insults = InsultMember(
                *(self.life, self._connections, self._registry),
                *(_shown, self._ends(m.INSULTS)),
            )
        await self._insults.join(role, backend=backend, **options)
        return self._insults.backend

    async def dead_letters(self) -> list[Message]:
        """The insults that failed too often."""
        if self._insults is None:
            raise ChatClosed(f"{self._ticket.user} has left the insult channel.")
        return await self._insults.dead_letters()

    async def leave_insults(self) -> None:
        """Take part no more."""
        if self._insults is not None:
            await self._insults.leave()
            self._insults = None

    # -- all of them

    async def send(
        self,
        chat: str,
        to: str,
        backend: str,
        bodies: Sequence[str],
        ids: Sequence[str] = (),
        **how: Any,
    ) -> list[Receipt]:
        """Send in order; one receipt a message, whatever became of it. ``how``: what the
        handle's ``send`` takes besides."""
        again = [
            self.life.message(chat, to, body, id) for body, id in zip(bodies, ids, strict=False)
        ]
        new = self.life.messages(chat, to, bodies[len(ids) :])
        return await self._sender(chat, to, backend)([*again, *new], **how)

    def _sender(
        self, chat: str, to: str, backend: str
    ) -> Callable[..., Awaitable[list[Receipt]]]:
        if chat == m.INSULTS:
            if self._insults is None:
                raise ChatClosed(f"{self._ticket.user} has left the insult channel.")
            return self._insults.send
        if chat == m.group(to):
            return self._member(to).send
        return self._chat(backend).send

    async def state(self) -> list[dict[str, Any]]:
        """What this client remembers: rows of ``thing``, ``name``, ``value``."""
        rows = [_row("incarnation", "", self.life.incarnation)]
        rows += [_row("last seq", m.title(c), n) for c, n in self.life.last_seqs().items()]
        rows.append(_row("clock", "Lamport", self.life.clock.value))
        handles: dict[str, _Handle] = dict(self._chats.items())
        handles |= self._groups
        if self._insults is not None:
            handles[m.INSULTS] = self._insults
        for name, handle in handles.items():
            rows += [_row(key, name, value) for key, value in handle.state().items()]
        return rows

    async def end(self) -> None:
        """Go offline: say goodbye everywhere. The life stays, for the next ``begin``."""
        if self._life is None:
            return
        work = [self._off(name) for name in self._groups]
        work.append(as_reported.leave(self._registry.redis, as_reported.USERS, self.life.user))
        await asyncio.gather(*work)
        work = [member.close() for member in self._groups.values()]
        work += [box.close() for box in self._chats.values()]
        if self._insults is not None:
            work.append(self._insults.leave())
        self._groups, self._chats, self._insults = {}, {}, None
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        await self._endpoint.stop()
        await self._stop_lease()
        if self._announcement is not None:
            await self._announcement.close()
        if self._inquirer is not None:
            await self._inquirer.close()
        if self._view is not None:
            await self._view.close()
        if self._connections is not None:
            await self._connections.close()
        with contextlib.suppress(ChatlabError):  # then the lease ends the presence
            await self._registry.depart(self._ticket.user, self.life.incarnation)
        await self._redis.close()
        self.life.fact("Disconnected", WHOLE, "")
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ChatlabError):
                raise outcome

    async def _stop_lease(self) -> None:
        if self._keeper is not None and self._life is not None:
            self._keeper.release(self._ticket.user, self._life.incarnation)
        tasks = [task for task in (self._lease, self._succeeding) if task is not None]
        self._lease = self._succeeding = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def abandon(self) -> None:
        """Crash: everything is dropped without a goodbye and nothing is recorded."""
        for handle in (*self._groups.values(), *self._chats.values(), self._insults):
            if handle is not None:
                handle.abandon()
        for owned in (self._announcement, self._inquirer, self._connections):
            if owned is not None:
                owned.abandon()
        if self._view is not None:
            await self._view.close()
        await self._endpoint.stop()
        await self._stop_lease()
        await self._redis.close()

    def freeze(self) -> None:
        """Process nothing until :meth:`thaw`."""
        self.life.gate.clear()

    def thaw(self) -> None:
        """Go on."""
        self.life.gate.set()


class _Handle(Protocol):
    """What all handles can tell."""

    def state(self) -> dict[str, Any]: ...


def _shown(_message: Message, _redelivered: bool) -> None:
    """Messages reach the cells through the journal; nothing else is done with them."""


def _row(thing: str, name: str, value: Any) -> dict[str, Any]:
    return {"thing": thing, "name": name, "value": value}
