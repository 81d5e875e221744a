"""Lab: the running services, one namespace on them, the users, and the record of it all.

``Lab.start(name)`` joins (or starts) the machine's private brokers, takes a namespace of its
own on them (a RabbitMQ virtual host, a Redis key prefix) and opens the first scene. Every lab
of a kernel runs on one background loop. When the lab is closed, or its kernel ends in
whatever way, the supervisor removes the namespace.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import queue
import secrets
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chatlab import messages as m
from chatlab.client import new_secret
from chatlab.discovery import LIVE_WAYS, WAYS, Change, Presences, Registry
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.leases import LeaseKeeper
from chatlab.errors import InvalidInput, LabClosed, NotPossible, WaitTimeout
from chatlab.groups import memory
from chatlab.journal import Journal, Row, now
from chatlab.lab import state as states
from chatlab.lab.client import WHOLE
from chatlab.lab.controls import RabbitService, RedisService, ServerService
from chatlab.lab.observer import Observer
from chatlab.lab.progress import show
from chatlab.lab.scene import Scene
from chatlab.lab.seat import Seat
from chatlab.lab.servers import Servers
from chatlab.lab.settle import Due, Settled
from chatlab.lab.settle import rows as due_rows
from chatlab.lab.users import PRIVATE_BACKENDS, User, timed
from chatlab.lab.watching import Watch
from chatlab.loop import BackgroundLoop
from chatlab.private.direct import DIRECT
from chatlab.private.keys import with_kept_secret
from chatlab.resp import Redis
from chatlab.services import Lease, Progress, join, urls
from chatlab.services.management import Management
from chatlab.settings import Settings
from chatlab.tables import Table, card

T = TypeVar("T")

#: What outlives a scene in Redis: accounts, and the chat servers with their key.
KEPT_KEYS = frozenset({"accounts", "servers", "server-key"})
#: A lab is closed by then, whatever its services do.
CLOSE_SECONDS = 20.0
#: How often ``settle`` looks.
LOOK_SECONDS = 0.01

_kernel_lock = threading.RLock()
_running: dict[str, Lab] = {}
_loops: list[BackgroundLoop] = []


class Lab:
    """A laboratory: services, users, scenes. Made by :meth:`Lab.start`."""

    def __init__(
        self, name: str, lease: Lease, loop: BackgroundLoop, settings: Settings, links: bool
    ) -> None:
        self.name = name
        self.settings = settings
        self.links = links
        self.lease = self._lease = lease
        self._loop = loop
        self._closed = False
        self._seats: dict[str, Seat] = {}
        self._secrets: dict[str, str] = {}
        self._redis = Redis(lease.redis, deadline=settings.send_seconds)
        self._registry = Registry(self._redis, settings.lease_seconds)
        # With links a cut must be felt by the lease: each user renews through its own.
        self.keeper = None if links else LeaseKeeper(self._registry)
        self._management = Management(lease.rabbitmq.watched())
        # Of all scenes; the observer is of one.
        self._view = BrokerView(lease.rabbitmq, heartbeat=settings.heartbeat_seconds)
        self._observer = self._new_observer()
        self._watches: list[Watch] = []
        self._servers = Servers(lease, self._registry, settings)
        self._in_use: list[str] = []
        self.current = self._new_scene(name)
        self.rabbitmq = RabbitService(self, "rabbitmq")
        self.redis = RedisService(self, "redis")
        self.server = ServerService(self, "server")

    # -- beginning and end

    @classmethod
    def start(
        cls,
        name: str = "lab",
        *,
        breakable: bool = False,
        shared: bool = False,
        fresh: bool = False,
        links: bool = True,
        settings: Settings | None = None,
    ) -> Lab:
        """Start a lab, or return the one of this name that already runs in this kernel.

        Args:
            name: as for users; also shown by the brokers' own tools.
            breakable: services of its own, which may be killed (the first start of such a
                pair takes as long as RabbitMQ does).
            shared: one namespace for all who start or join this name on these brokers.
            fresh: close the running one first.
            links: without, thousands of users are cheaper and cannot be cut off singly.
            settings: default: TOML file and environment.

        Raises:
            InvalidInput: a name that cannot be, or other options than the running lab's.
            ServiceUnavailable: a broker cannot be had or does not answer; says what to do.
        """
        return cls._start(
            name, settings, breakable=breakable, shared=shared, fresh=fresh, links=links
        )

    @classmethod
    def _start(
        cls,
        name: str,
        settings: Settings | None,
        *,
        breakable: bool = False,
        shared: bool = False,
        fresh: bool = False,
        links: bool = True,
        existing: bool = False,
    ) -> Lab:
        m.check_name(name, "lab name")
        with _kernel_lock:
            running = _running.get(name)
            if running is not None and (fresh or running.lease.lost):
                running.close()
            elif running is not None:
                if breakable and not running.breakable:
                    raise InvalidInput(
                        f"The lab {name} runs already and is not breakable.",
                        todo=f'Lab.start("{name}", breakable=True, fresh=True) begins anew.',
                    )
                return running
            loop = _kernel_loop()
            lab = cls._begin(
                *(name, loop, settings or Settings.load()),
                *(breakable, shared, links, existing),
            )
            _running[name] = lab
            return lab

    @classmethod
    def join(cls, name: str, *, settings: Settings | None = None) -> Lab:
        """Join a shared lab that another kernel started: ``Lab.start(name, shared=True)``.

        Args:
            name: its name, for another kernel on this computer or at the same brokers; or
                its :attr:`url`. By URL nothing is created: the lab has to be open.

        Raises:
            InvalidInput: not all of a URL, or a lab of this name runs here at other brokers.
            NotPossible: no lab of this URL is open.
        """
        if not urls.is_lab_url(name):
            return cls.start(name, shared=True, settings=settings)
        lab, there = urls.of_lab_url(name, settings or Settings.load())
        with _kernel_lock:
            known = _running.get(lab)
            joined = cls._start(lab, there, shared=True, existing=True)
            if not joined.shared or not urls.same_lab(joined.url, name):
                if joined is not known:
                    joined.close()
                raise InvalidInput(
                    f"Another lab named {lab} is open here already.",
                    todo="Close that one first, or join from another computer.",
                )
            return joined

    @classmethod
    def _begin(
        cls,
        name: str,
        loop: BackgroundLoop,
        settings: Settings,
        breakable: bool,
        shared: bool,
        links: bool,
        existing: bool,
    ) -> Lab:
        reports: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        unique = name if shared else f"{name}-{secrets.token_hex(3)}"
        settings = with_kept_secret(settings, unique)

        async def begin() -> Lab:
            lease = await join(
                settings,
                lab=unique,
                breakable=breakable,
                shared=shared,
                existing=existing,
                progress=reports.put,
            )
            try:
                lab = cls(name, lease, loop, settings, links)
                await lab._servers.ensure(PRIVATE_BACKENDS[0])
            except BaseException:
                await lease.close()
                raise
            return lab

        return show(loop.start(begin()), reports)

    @property
    def breakable(self) -> bool:
        """Whether its services are its own and may be killed."""
        return self._lease.breakable

    @property
    def shared(self) -> bool:
        """Whether others may join it."""
        return self._lease.lab == self.name

    @property
    def url(self) -> str:
        """For ``Lab.join(url)`` on another computer: the lab's name and its brokers.

        **A secret**: it holds the brokers' passwords, an administrator's among them. Nothing
        else shows it. The brokers must be reachable from there: those that a lab starts by
        itself listen on this computer only, so bring your own (``CHATLAB_RABBITMQ_URL`` …).

        Raises:
            NotPossible: the lab is not shared.
        """
        if not self.shared:
            raise NotPossible(
                f"The lab {self.name} is not shared, so it has no URL.",
                todo=f'Start it with Lab.start("{self.name}", shared=True).',
            )
        rabbitmq = self._lease.rabbitmq
        administrator = urls.administrator(self.settings, rabbitmq)
        return urls.lab_url(self.name, rabbitmq, self._lease.redis, administrator)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return self._closed

    def close(self) -> None:
        """End the lab: users say goodbye, its namespace is removed. Idempotent."""
        with _kernel_lock:
            if self._closed:
                return
            self._closed = True
            if _running.get(self.name) is self:
                del _running[self.name]
            if not self._loop.closed:
                # What does not end by then is left to the supervisor.
                with contextlib.suppress(WaitTimeout):
                    self._loop.call(self._close(), timeout=CLOSE_SECONDS)

    async def _close(self) -> None:
        await asyncio.gather(*(seat.close() for seat in self._seats.values()))
        await self._servers.close()
        over = LabClosed(f"The lab {self.name} has been closed.")
        await asyncio.gather(*(watch._end(over) for watch in self._watches[:]))
        await self._observer.close()
        await self._view.close()
        if self.keeper is not None:
            await self.keeper.close()
        await self._redis.close()
        await self._lease.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- users and scenes

    def user(self, name: str, *, process: bool = False) -> User:
        """The user of this name, made and brought online when there is none yet.

        Args:
            process: in a process of its own; then a crash is SIGKILL, a freeze SIGSTOP.

        Raises:
            InvalidInput: a name that cannot be, or the other kind of an existing user.
        """
        clean = m.check_name(name)
        seat = self._seats.get(clean)
        if seat is None:
            seat = self._seats[clean] = self._new_seat(clean, process)
            self.journal.header["users"].append(clean)
            try:
                self._call(self._come_online(seat))
            except BaseException:
                del self._seats[clean]
                raise
        elif process and not seat.process:
            raise InvalidInput(
                f"{clean} exists already and has no process of its own.",
                todo="Choose another name, or begin with process=True in a fresh lab.",
            )
        return User(self, clean)

    def users(self, *names: str, process: bool = False) -> list[User]:
        """:meth:`user` for each name."""
        for name in names:
            m.check_name(name)
        return [self.user(name, process=process) for name in names]

    def scene(self, name: str) -> Scene:
        """A fresh start: everyone online; queues, mailboxes, keys and handles gone; a
        journal of its own. In a shared lab this clears it for all who take part."""

        async def begin() -> None:
            await asyncio.gather(*(seat.close() for seat in self._seats.values()))
            await self._observer.close()  # or it would have to come back: a second later
            self._observer = self._new_observer()
            await self._lease.wipe(keep=KEPT_KEYS)
            await self._servers.empty()
            memory.hub(self._lease.lab).forget()
            self._in_use.clear()
            self.current = self._new_scene(name)
            self._seats = {n: self._new_seat(n, s.process) for n, s in self._seats.items()}
            await asyncio.gather(*(map(self._come_online, self._seats.values())))

        if not name or not isinstance(name, str):
            raise InvalidInput("A scene has a name, which its figures show.")
        self.current.journal.append = _drop  # goodbyes of the old scene belong to nobody
        self._call(begin())
        return self.current

    def _new_scene(self, name: str) -> Scene:
        lease = self._lease
        journal = Journal(
            tier="real",
            lab=self.name,
            scene=name,
            users=list(self._seats),
            versions={
                "RabbitMQ": lease.rabbitmq.version,
                lease.redis.product: lease.redis.version,
            },
        )
        self._due = Due()
        return Scene(self, name, journal)

    def _new_observer(self) -> Observer:
        lease = self._lease
        return Observer(*(lease.lab, lease.rabbitmq, self.settings, self._registry, self._view))

    def _new_seat(self, name: str, process: bool) -> Seat:
        secret = self._secrets.setdefault(name, new_secret())
        return Seat(self, name, secret, process)

    async def _come_online(self, seat: Seat) -> None:
        seat.mailboxes.extend(b for b in self._in_use if b not in seat.mailboxes)
        await seat.online()

    @property
    def journal(self) -> Journal:
        """The journal of the current scene."""
        return self.current.journal

    def record(self, *rows: Row) -> None:
        """Append facts to the current scene's journal (any thread)."""
        self.current.journal.append(*rows)

    # -- the services' faults on one user

    def cut(self, user: User | str, service: str) -> None:
        """Cut the link between one user and a service: rabbitmq, redis, server, or direct
        (all ways to and from other users)."""
        self._call(self._seat_of(user).fault(service, "cut"))

    def slow(self, user: User | str, service: str, seconds: float) -> None:
        """Delay everything on one user's link by ``seconds`` each way."""
        self._call(self._seat_of(user).fault(service, "slow", seconds))

    def freeze(self, user: User | str, service: str) -> None:
        """Forward nothing on one user's link; the connections stay open."""
        self._call(self._seat_of(user).fault(service, "freeze"))

    def heal(self, user: User | str) -> None:
        """All links of one user are whole again."""
        self._call(self._seat_of(user).heal())

    def _seat_of(self, user: User | str) -> Seat:
        name = user.name if isinstance(user, User) else m.check_name(user)
        if name not in self._seats:
            raise InvalidInput(
                f"There is no user {name} in this lab.",
                todo=f"There are: {', '.join(self._seats) or 'none yet'}.",
            )
        return self._seats[name]

    # -- looking

    def discover(self, via: str = WAYS[0], timeout: float | None = None) -> Presences:
        """Who and what is there: users and groups.

        Args:
            via: ``registry`` (the shared name server in Redis), ``management`` (RabbitMQ's
                management API), ``events`` (everybody is asked and answers),
                ``broker-events`` (what RabbitMQ has told so far: nobody is asked) or
                ``as-reported`` (hashes without leases).
            timeout: of ``events``: seconds for the answers (1); who is ``silent`` then did
                not answer.

        Raises:
            InvalidInput: there is no such way, or it does not wait.
            ServiceUnavailable: what that way needs is not there.
        """
        return self._call(self._observer.discover(via, **timed(timeout)))

    def watch(
        self,
        via: str = LIVE_WAYS[0],
        *,
        on_change: Callable[[Change], object] | None = None,
    ) -> Watch:
        """Follow who comes and leaves, from now on, through scenes (at one, all leave and
        come again) until it or the lab is closed.

        Args:
            via: ``broker-events`` (RabbitMQ's own events: users and the groups on it) or
                ``registry`` (the name server, asked again when it hints at a change, when a
                lease ends, and once a second: users and all groups). A client that was
                killed has left at once by the first, at the end of its lease by the second.
                For one that is frozen the first waits, too: for heartbeats to be missed.
            on_change: also called with each change, on the background loop, so it must be
                quick and may call nothing of the lab; a panel sets its traits there.

        Raises:
            NotPossible, ServiceUnavailable: what that way needs is not there.
        """
        watch = Watch(self, via, on_change)
        self._call(watch._begin(self._observer.inquirer))
        return watch

    def settle(self, timeout: float = 5.0) -> Settled:
        """Wait until nothing deliverable is left, and until connections that were lost are
        back (unless a fault goes on). Never raises; says what still waits.

        Args:
            timeout: seconds; what has not come by then is ``late``.
        """

        async def look() -> Settled:
            began = now()
            while True:
                self._due.read(self.journal.rows)
                late, lost = self._due.deliverable(), self._due.reconnecting()
                if not (late or lost) or now() - began > timeout:
                    break
                await asyncio.sleep(LOOK_SECONDS)
            waiting = self._due.waiting()
            due = sum(late.values()) + sum(waiting.values())
            self.record(("Drained", now(), "", 0, WHOLE, due))
            return Settled(
                now() - began,
                Table(due_rows(late), "still to come"),
                Table(
                    ({"chat": m.title(chat), "user": user} for chat, user in lost),
                    "still reconnecting",
                ),
                Table(due_rows(waiting), "waits for the absent"),
            )

        return self._call(look())

    def state(self) -> states.State:
        """What each process remembers now; ``later - earlier`` shows what changed."""
        return self._call(
            states.collect(
                *(self._lease, self._management, self._redis, self._registry),
                *(self._servers, self._seats),
            )
        )

    def _whereabouts(self, id: str, user: str) -> str:
        """Where a message is that ``user`` has not seen, by the journal."""
        return states.whereabouts(self.journal, id, user, self._seats)

    # -- what users and chats need

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Have ``work`` done on the lab's loop, where its links and its lease live: for who
        brings clients of another kind.

        Raises:
            LabClosed: the lab has been closed; and what ``work`` raises.
        """
        return self._call(work)

    def background(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have ``work`` done on the lab's loop and go on meanwhile.

        Raises:
            LabClosed: the lab has been closed.
        """
        self._refuse_closed(work)
        return self._loop.start(work)

    def _refuse_closed(self, work: Coroutine[Any, Any, Any]) -> None:
        if self._closed:
            work.close()
            raise LabClosed(f"The lab {self.name} has been closed.")

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        self._refuse_closed(work)
        return self._loop.call(work)

    async def _has_group(self, name: str) -> bool:
        return await self._group_backend(name) is not None

    async def _group_backend(self, name: str) -> str | None:
        return await self._registry.find_group(name)

    async def _members_of(self, group: str) -> dict[str, bool]:
        return await self._registry.group_members(group)

    def _open_mailboxes(self, backend: str) -> None:
        """From its first use on, all who are online are connected to a chat server."""

        if backend == DIRECT:  # nobody is in between: whoever is online can be called
            return

        async def connect() -> None:
            await self._servers.ensure(backend)
            if backend not in self._in_use:
                self._in_use.append(backend)
            for other in self._seats.values():
                if backend not in other.mailboxes:
                    other.mailboxes.append(backend)
            there = [s for s in self._seats.values() if s.where == "online"]
            opened = await asyncio.gather(
                *(s.do("mailbox", backend=backend) for s in there), return_exceptions=True
            )
            for seat, outcome in zip(there, opened, strict=True):
                # Who crashed meanwhile opens it on coming back.
                if isinstance(outcome, BaseException) and seat.where == "online":
                    raise outcome

        self._call(connect())

    def __repr__(self) -> str:
        state = "closed" if self._closed else ", ".join(self._seats) or "no users yet"
        return f"<Lab {self.name}: {state}>"

    def _repr_html_(self) -> str:
        rabbitmq, redis = self._lease.rabbitmq, self._lease.redis
        return card(
            f"lab {self.name}{' (closed)' if self._closed else ''}",
            {
                "users": [f"{s.name} ({s.where})" for s in self._seats.values()] or "none yet",
                "scene": self.current.name,
                "RabbitMQ": rabbitmq.version,
                redis.product: redis.version,
                "services": "of its own, breakable"
                if self.breakable
                else "shared on this machine",
            },
        )


def _drop(*_rows: Row) -> None:
    """Takes facts that belong to no scene any more."""


def _kernel_loop() -> BackgroundLoop:
    """The kernel's loop: one for all labs, because grpc.aio wants one event loop a process."""
    if not _loops or _loops[-1].closed:
        _loops.append(BackgroundLoop())
    return _loops[-1]


@atexit.register
def _close_all() -> None:
    """A kernel that ends in order leaves nothing to the supervisor."""
    for lab in list(_running.values()):
        lab.close()
    for loop in _loops:
        loop.close()
