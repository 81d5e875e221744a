"""Seat: the place of one user in a lab.

It owns the user's links (one TCP forwarder per service, so that a fault hits this user
alone), its client (on our loop, or in a process of its own), its inboxes, and the list of
what the user has open, so that coming online opens it again. All coroutines; the faces in
``users`` and ``chats`` call them from cells.

Where a user can be::

    offline --online--> online --offline--> offline
                        online --freeze--> frozen --thaw--> online
              online, frozen  --crash--> crashed --online--> online (a new incarnation)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

from chatlab import messages as m
from chatlab.backends import PRIVATE
from chatlab.discovery.names import RESERVED
from chatlab.errors import ChatClosed, ChatlabError, InvalidInput, NotPossible, SendFailed
from chatlab.journal import Row, now
from chatlab.lab.client import WHOLE, Client, Ticket
from chatlab.lab.inbox import FED, Inbox
from chatlab.private.direct import DIRECT
from chatlab.services.addresses import join_host_port
from chatlab.services.links import Link

if TYPE_CHECKING:
    from chatlab.discovery.leases import LeaseKeeper
    from chatlab.services import Lease
    from chatlab.services.addresses import RabbitAddress, ServerAddress
    from chatlab.settings import Settings

_KIND_AND_CHAT = itemgetter(0, 4)

Where = Literal["online", "offline", "crashed", "frozen"]
LinkFault = Literal["cut", "slow", "freeze"]


class Host(Protocol):
    """What a seat needs from its lab."""

    lease: Lease
    settings: Settings
    links: bool
    #: Without links: renews the leases of all users in this process.
    keeper: LeaseKeeper | None

    def record(self, *rows: Row) -> None: ...


@dataclass
class Membership:
    """What a user has open in one group."""

    backend: str
    subscribed: bool = False
    connected: bool = False


class Seat:
    """One user's place. ``await online()`` first."""

    def __init__(self, host: Host, name: str, secret: str, process: bool) -> None:
        self.name = name
        self.process = process
        self.where: Where = "offline"
        self.incarnation = 0
        self.inboxes: dict[str, Inbox] = {}
        self.groups: dict[str, Membership] = {}
        self.insults: dict[str, Any] | None = None
        self.mailboxes: list[str] = []
        #: Why the user does not talk directly; empty: it does.
        self.refusal = ""
        self._host = host
        self._secret = secret
        self._links: dict[str, Link] = {}
        self._ports: dict[str, int] = {}
        #: Service and fault -> its value: what is done to links, also to those made later.
        self._faults: dict[tuple[str, LinkFault], float] = {}
        self._client: Client | None = None
        #: Of first windows: their links, and their ends under way.
        self._older_links: list[Link] = []
        self._older: set[asyncio.Future[None]] = set()
        self._remote: Any = None  # RemoteClient, imported when first needed
        #: A process of its own: its name under the lease.
        self._child = ""
        self._lives = 0
        self._moves = asyncio.Lock()
        #: Whether something that should be open again is not: a broker was not there.
        self._closed = False

    def inbox(self, chat: str) -> Inbox:
        """The inbox of a conversation, made at its first use."""
        return self.inboxes.setdefault(chat, Inbox(self.name))

    # -- coming and going

    async def online(self) -> None:
        """Begin a life, or go on with it, and open again what was open. Idempotent: what
        could not be opened is tried again."""
        async with self._moves:
            if self.where == "frozen":
                raise NotPossible(f"{self.name} is frozen.", todo=f"{self.name}.thaw() first.")
            if self.where == "online":
                if self._closed:
                    await self._reopen()
                return
            if self._client is None and self._remote is None:
                await self._make_client()
            self.incarnation = await self._call("begin")
            self.where = "online"
            for inbox in self.inboxes.values():
                inbox.resume()
            await self._reopen()

    async def _make_client(self) -> None:
        lease = self._host.lease
        rabbitmq, redis = lease.rabbitmq, lease.redis
        if self._host.links:
            there = (rabbitmq.host, rabbitmq.port), (redis.host, redis.port)
            rabbitmq = rabbitmq.through(*await self._link("rabbitmq", there[0]))
            rabbitmq = await self._management_linked(rabbitmq)
            redis = redis.through(*await self._link("redis", there[1]))
        ticket = Ticket(
            lab=lease.lab,
            user=self.name,
            secret=self._secret,
            settings=self._host.settings,
            rabbitmq=rabbitmq,
            redis=redis,
        )
        if not self.process:
            client: Client = Client(
                *(ticket, self._record, self, lambda *told: self._told(client, *told)),
                keeper=self._host.keeper,
            )
            self._client = client
            return
        from chatlab.lab.remote import RemoteClient

        remote: RemoteClient = RemoteClient(
            ticket,
            self._record,
            self,
            lambda *told: self._told(remote, *told),
            self._spawn,
            self._child_ended,
        )
        self._remote = remote
        try:
            await self._remote.start()
        except BaseException:
            self._remote = None
            raise

    async def _spawn(self, argv: list[str], environ: dict[str, str]) -> None:
        self._lives += 1
        self._child = f"user-{self.name}-{id(self):x}-{self._lives}"
        await self._host.lease.spawn(self._child, argv, environ)

    async def _child_ended(self) -> int:
        return await self._host.lease.ended(self._child, self._host.settings.start_seconds)

    async def _link(self, kind: str, target: tuple[str, int]) -> tuple[str, int]:
        """Our own way to a service: where the client connects instead."""
        service = kind.partition("/")[0]
        if service in PRIVATE and service != DIRECT:
            service = "server"
        if kind not in self._links:
            link = Link(target, user=self.name, service=service)
            self._ports[kind] = await link.open()
            self._links[kind] = link
            for (faulty, fault), value in self._faults.items():
                if faulty == service:
                    _do(link, fault, value)
        self._links[kind].retarget(target)
        return "127.0.0.1", self._ports[kind]

    async def _management_linked(self, rabbitmq: RabbitAddress) -> RabbitAddress:
        """The same RabbitMQ, its management API reached by a link of ours, too. With TLS it
        is reached straight, for its certificate is for its own host."""
        url = urlsplit(rabbitmq.management_url)
        if url.scheme != "http" or not url.hostname:
            return rabbitmq
        target = (url.hostname, url.port or 80)
        host, port = await self._link("rabbitmq/management", target)
        url = url._replace(netloc=join_host_port(host, port))
        return replace(rabbitmq, management_url=url.geturl())

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        """The same server, reached by our link of that kind."""
        if not self._host.links:
            return address
        return address.through(*await self._link(kind, (address.host, address.port)))

    async def expose(self, port: int) -> str:
        """Where others reach a port of the client: ``host:port``, behind our own link."""
        host = "127.0.0.1"
        if self._host.links:
            host, port = await self._link(DIRECT, (host, port))
        return f"{host}:{port}"

    async def _reopen(self) -> None:
        self._closed = True
        if self.refusal:
            await self._call("refuse", why=self.refusal)
        for backend in self.mailboxes:
            await self._call("mailbox", backend=backend)
        for name, member in self.groups.items():
            await self._call("group", name=name, backend=member.backend)
            if member.connected:
                # An exclusive queue went with the connection: that membership begins anew.
                await self._call("connect", name=name)
        if self.insults is not None:
            await self._call("insults", **self.insults)
        self._closed = False

    async def second_window(self) -> None:
        """Another client claims the name, while the first is still there. That one ends as
        soon as it is told; its links are as they were."""
        async with self._moves:
            if self.process:
                raise NotPossible(f"{self.name} is a process; it has one window.")
            if self.where != "online":
                raise NotPossible(f"{self.name} is {self.where} and has no first window.")
            self._older_links += self._links.values()
            self._links, self._client = {}, None
            await self._make_client()
            self.incarnation = await self._call("begin")
            await self._reopen()

    async def offline(self) -> None:
        """Say goodbye everywhere; what was open is remembered. Idempotent."""
        async with self._moves:
            if self.where == "frozen":
                raise NotPossible(f"{self.name} is frozen.", todo=f"{self.name}.thaw() first.")
            if self.where == "online":
                await self._call("end")
                self.where = "offline"

    async def crash(self) -> None:
        """End without a goodbye: SIGKILL, or reset links and dropped state."""
        self._needs_links("crash")
        async with self._moves:
            if self.where not in ("online", "frozen"):
                raise NotPossible(f"{self.name} is {self.where}; there is nothing to crash.")
            if self._client is not None:
                await self._client.abandon()
            else:
                await self._host.lease.signal(self._child, "kill")
                await self._remote.drained()
                await self._remote.close()
            self._client = self._remote = None
            self._faults.clear()
            for link in self._links.values():
                link.heal()
                link.reset()
            self.where = "crashed"
            self._fact("Crashed")

    async def freeze(self) -> None:
        """Stop without ending: SIGSTOP, or nothing forwarded and nothing processed."""
        self._needs_links("freeze")
        async with self._moves:
            if self.where != "online":
                raise NotPossible(
                    f"{self.name} is {self.where}; only who is online can freeze."
                )
            if self._client is not None:
                self._client.freeze()
                for link in self._links.values():
                    link.freeze()
            else:
                await self._host.lease.signal(self._child, "pause")
            self.where = "frozen"
            self._fact("Frozen")

    async def thaw(self) -> None:
        """A frozen client goes on."""
        async with self._moves:
            if self.where != "frozen":
                raise NotPossible(f"{self.name} is {self.where}, not frozen.")
            self._fact("Thawed")
            if self._client is not None:
                for link in self._links.values():
                    link.thaw()
                self._client.thaw()
            else:
                await self._host.lease.signal(self._child, "resume")
            self.where = "online"

    async def close(self) -> None:
        """The user is gone from this scene: goodbye where possible, then all is dropped."""
        if self.where == "frozen":
            await self.thaw()
        for link in self._links.values():
            link.heal()
        if self.where == "online":
            with contextlib.suppress(ChatlabError, TimeoutError):
                async with asyncio.timeout(5):
                    await self.offline()
        if self._remote is not None:
            await self._end_process(self._remote)
        self._client = self._remote = None
        if self._older:
            await asyncio.wait(self._older, timeout=5)
        for link in (*self._links.values(), *self._older_links):
            await link.close()
        self._links.clear()
        self._older_links.clear()
        for inbox in self.inboxes.values():
            inbox.end(ChatClosed("The scene of this handle is over."))
        self.where = "offline"

    async def _end_process(self, remote: Any) -> None:
        await remote.close()
        with contextlib.suppress(ChatlabError):  # it has ended already
            await self._host.lease.signal(self._child, "terminate")

    # -- the links

    async def fault(self, service: str, fault: LinkFault, value: float = 0.0) -> None:
        """Cut, freeze or slow the link to a service (``server``: all chat servers)."""
        self._needs_links(fault)
        found = [link for link in self._links.values() if link.service == service]
        if not found:
            known = sorted({link.service for link in self._links.values()})
            raise NotPossible(
                f"{self.name} has no link to {service!r}.",
                todo=f"There is one to each of: {', '.join(known) or 'nothing yet'}.",
            )
        self._faults[service, fault] = value
        for link in found:
            _do(link, fault, value)
        self._host.record(("FaultBegan", now(), "", 0, WHOLE, fault, f"{self.name}-{service}"))

    async def heal(self) -> None:
        """All links of this user are whole again."""
        if self.where == "frozen":
            raise NotPossible(f"{self.name} is frozen.", todo=f"{self.name}.thaw() first.")
        self._faults.clear()
        ended: dict[tuple[str, str], None] = {}  # once for all links to one service
        for link in self._links.values():
            was = link.state
            link.heal()
            if was != "open":
                fault = {"frozen": "freeze"}.get(was, was)
                ended[fault, f"{self.name}-{link.service}"] = None
        for fault, target in ended:
            self._host.record(("FaultEnded", now(), "", 0, WHOLE, fault, target))

    def _needs_links(self, what: str) -> None:
        if not self._host.links and not self.process:
            raise NotPossible(
                f"This lab runs without links, so it cannot {what} one user.",
                todo="Start it with links=True (the default).",
            )

    # -- what the user does

    async def do(self, verb: str, **args: Any) -> Any:
        """A verb of the client, refused while the user cannot act."""
        if self.where != "online":
            raise SendFailed(
                f"{self.name} is {self.where} and can do nothing now.",
                "Nothing was sent or changed.",
                f"{self.name}.thaw() first."
                if self.where == "frozen"
                else f"{self.name}.online() first.",
            )
        return await self._call(verb, **args)

    def _call(self, verb: str, **args: Any) -> Awaitable[Any]:
        if self._remote is not None:
            call: Awaitable[Any] = self._remote.call(verb, **args)
            return call
        if self._client is None:
            raise ChatClosed(f"{self.name} has no client.")
        act: Callable[..., Awaitable[Any]] = getattr(self._client, verb)
        return act(**args)

    # -- facts

    def _fact(self, kind: str, *rest: Any) -> None:
        self._host.record((kind, now(), self.name, self.incarnation, WHOLE, *rest))

    def _record(self, *rows: Row) -> None:
        """Every fact of this user's client: into the journal, messages into the inbox."""
        self._host.record(*rows)
        for (kind, chat), run in groupby(rows, _KIND_AND_CHAT):
            if kind in FED:
                self.inbox(chat).feed(kind, [row[5] for row in run])

    def _told(self, client: Any, chat: str, error: ChatlabError) -> None:
        """One of our clients says that a conversation was ended from outside."""
        if client is self._client or client is self._remote:
            self._ended(chat, error)
        elif chat == WHOLE:  # a first window learns of the second
            leaving = asyncio.ensure_future(client.end())
            self._older.add(leaving)
            leaving.add_done_callback(self._older.discard)

    def _ended(self, chat: str, error: ChatlabError) -> None:
        """A conversation was ended from outside; all of them by a takeover."""
        ended = self.inboxes.values() if chat == WHOLE else [self.inbox(chat)]
        for inbox in ended:
            inbox.end(error)
        if chat == WHOLE:
            self.where = "offline"
            if self._client is not None:
                self._leaving = asyncio.ensure_future(self._client.end())
            elif self._remote is not None:
                self._leaving = asyncio.ensure_future(self._end_process(self._remote))
            self._client = self._remote = None  # the next life is a new one
        elif chat.startswith("group:"):
            self.groups.pop(chat.partition(":")[2], None)


def _do(link: Link, fault: LinkFault, value: float) -> None:
    if fault == "slow":
        link.slow(value)
    else:
        getattr(link, fault)()


def member_chat(name: str) -> str:
    """The conversation of a group by its name, the name checked."""
    clean = m.check_name(name, "group name")
    if clean in RESERVED:
        raise InvalidInput(
            f"The group name {clean!r} is kept for the lab's own queues.",
            todo="Choose another name.",
        )
    return m.group(clean)
