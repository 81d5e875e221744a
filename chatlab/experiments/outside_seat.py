"""The place of one user whose client is not ours: its link, its processes, its lives.

What :class:`chatlab.lab.seat.Seat` is for our own client, with the same states. A user who
receives has one process, one who sends another; both are one *life*: they come, crash and
freeze together. A new life has new objects and counts from 1 again. All coroutines, on the
lab's loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

from chatlab import messages as m
from chatlab.errors import NotPossible, SendFailed
from chatlab.experiments.outside import Outside
from chatlab.experiments.outside_process import ClientFailed, OutsideProcess
from chatlab.experiments.steps import Pattern
from chatlab.groups.guarantees import guarantees
from chatlab.insults.line import DELIVERIES
from chatlab.journal import Row, now
from chatlab.lab import Lab
from chatlab.messages import Clock, Message, Receipt
from chatlab.services.addresses import RabbitAddress, RedisAddress, join_host_port
from chatlab.services.links import Link

#: The chat of facts about a user as a whole, and of its attachment to a mailbox.
WHOLE, MAILBOX = "", "mailbox"

Role = Literal["both", "producer", "consumer"]
Where = Literal["online", "offline", "crashed", "frozen"]
LinkFault = Literal["cut", "slow", "freeze"]
#: Why a client is disconnected, as far as can be seen from outside.
LOST = "its connection was lost"
ENDED = "its process has ended"
#: How often a link is looked at.
LOOK_SECONDS = 0.02


class Ledger:
    """What the lives of a run were handed, as far as their clients do not tell."""

    def __init__(self) -> None:
        self._lives: dict[str, set[tuple[str, int]]] = {}
        self._failures: Counter[str] = Counter()

    def hand_out(self, id: str, user: str, life: int, pattern: Pattern) -> bool:
        """Whether this message was handed out before: to another member of the insult
        channel, or to an earlier life of this user. Twice to one life is no such case."""
        before = self._lives.setdefault(id, set())
        others = before - {(user, life)}
        before.add((user, life))
        return bool(others if pattern == "insults" else [o for o in others if o[0] == user])

    def fail(self, id: str) -> bool:
        """Whether it has failed so often that it counts as a dead letter."""
        self._failures[id] += 1
        return self._failures[id] >= DELIVERIES


class OutsideSeat:
    """One user's place.

    Args:
        lab: whose services are used and whose journal is written.
        client: whose code.
        name: the user's.
        chat: the conversation; ``mailbox`` for private chats.
        ledger: common to all seats of a run.
        trouble: told what the code did wrong.
    """

    def __init__(
        self,
        lab: Lab,
        client: Outside,
        name: str,
        chat: str,
        ledger: Ledger,
        trouble: Callable[[ClientFailed], None],
    ) -> None:
        self.name = name
        self.where: Where = "offline"
        self._lab, self._client, self._chat = lab, client, chat
        self._ledger, self._trouble = ledger, trouble
        self._address = getattr(lab.lease, client.broker)
        #: ``send`` and ``receive`` -> the way of that process, and its port here.
        self._links: dict[str, tuple[Link, int]] = {}
        self._incarnation = 0
        self._numbers = itertools.count(1)
        self._seqs: dict[str, int] = {}
        self._clock = Clock()
        #: How it takes part; ``None``: not yet.
        self._role: Role | None = None
        self._work: dict[str, Any] = {}
        self._connected = False
        self._processes: dict[str, OutsideProcess] = {}
        #: Of first windows.
        self._older: list[OutsideProcess] = []
        self._names = itertools.count(1)
        self._starting = asyncio.Lock()
        #: What is done to the links, also to those made later.
        self._faults: dict[LinkFault, float] = {}

    # -- coming and going

    async def online(self) -> None:
        """Begin a life, and take part again as before. Idempotent."""
        if self.where == "online":
            return
        if self.where == "frozen":
            raise NotPossible(f"{self.name} is frozen.", todo="Thaw it first.")
        self._begin()
        self._fact("Connected", "", "")
        self.where = "online"
        try:
            await self._reopen()
        except ClientFailed:
            # As for one who tries again: nothing of this life stays.
            await self._kill_all()
            self._fact("Disconnected", "")
            self.where = "offline"
            raise

    def _begin(self) -> None:
        self._incarnation += 1
        self._numbers = itertools.count(1)
        self._seqs.clear()

    async def _reopen(self) -> None:
        if self._connected:
            await self._listen()
        if self._role in ("both", "producer"):
            await self._process("send")

    async def offline(self) -> None:
        """Say goodbye; how it took part is remembered. Idempotent."""
        if self.where == "frozen":
            raise NotPossible(f"{self.name} is frozen.", todo="Thaw it first.")
        if self.where == "online":
            await self._leave_all()
            self._fact("Disconnected", "")
            self.where = "offline"

    async def crash(self) -> None:
        """SIGKILL, whatever it is doing."""
        if self.where not in ("online", "frozen"):
            raise NotPossible(f"{self.name} is {self.where}; there is nothing to crash.")
        await self._kill_all()
        self._faults.clear()
        for link, _ in self._links.values():
            link.heal()
            link.reset()
        self.where = "crashed"
        self._fact("Crashed")

    async def freeze(self) -> None:
        """SIGSTOP."""
        if self.where != "online":
            raise NotPossible(f"{self.name} is {self.where}; only who is online can freeze.")
        await asyncio.gather(*(each.signal("pause") for each in self._all))
        self.where = "frozen"
        self._fact("Frozen")

    async def thaw(self) -> None:
        """SIGCONT."""
        if self.where != "frozen":
            raise NotPossible(f"{self.name} is {self.where}, not frozen.")
        self._fact("Thawed")
        await asyncio.gather(*(each.signal("resume") for each in self._all))
        self.where = "online"

    async def second_window(self) -> None:
        """Another life beside the first, which nobody tells."""
        if self.where != "online":
            raise NotPossible(f"{self.name} is {self.where} and has no first window.")
        self._older += self._processes.values()
        self._processes = {}
        self._begin()
        self._fact("Connected", "", "")
        await self._reopen()

    async def close(self) -> None:
        """The run is over."""
        if self.where == "frozen":
            await self.thaw()
        for link, _ in self._links.values():
            link.heal()
        if self.where == "online":
            await self.offline()
        await self._kill_all()
        await self._close_links()

    async def remove(self) -> None:
        """Have the class delete what it declared, on a new object; without a role."""
        process = await self._new_process("receive")
        try:
            await process.call("remove")
        finally:
            await process.kill()
            await self._close_links()

    # -- taking part

    async def join(self, role: Role, work: dict[str, Any]) -> None:
        """Take part from now on."""
        self._role, self._work = role, work
        if role != "producer":
            await self.subscribe()
            await self.connect()
        if role != "consumer":
            await self._process("send")

    async def subscribe(self) -> None:
        """In a group: what is sent from now on is meant for it. Also in each new life, since
        what goes with a connection has to be made anew."""
        process = await self._process("receive")
        if self._client.pattern == "group" and not process.subscribed:
            await process.call("subscribe")
            process.subscribed = True

    async def connect(self) -> None:
        """Receive."""
        self._connected = True
        await self._listen()

    async def _listen(self) -> None:
        process = await self._process("receive")
        if not process.listening:
            await self.subscribe()
            await process.listen()
            if "receive" in self._links:
                process.watcher = asyncio.create_task(self._watch(process))

    async def disconnect(self) -> None:
        """Receive no more."""
        self._connected = False
        await self._leave("receive")

    async def unsubscribe(self) -> None:
        """Leave for good: with a new object, because the old one is busy listening."""
        await self.disconnect()
        await (await self._process("receive")).call("unsubscribe")
        await self._leave("receive")

    async def send(self, bodies: Sequence[str], to: str) -> list[Receipt]:
        """Send in order, from a process of its own."""
        if self.where != "online":
            raise SendFailed(f"{self.name} is {self.where} and can do nothing now.")
        process = await self._process("send")
        put = self._client.pattern == "private"
        chat = m.private(self.name, to) if put else self._chat
        messages = [self._message(chat, to, body) for body in bodies]
        told = await process.call("send", messages=messages, put=put)
        return [Receipt(id, outcome, None, None, why) for id, outcome, why in told]

    def _message(self, chat: str, to: str, body: str) -> Message:
        seq = self._seqs[chat] = self._seqs.get(chat, 0) + 1
        id = f"{self.name}:{self._incarnation}:{next(self._numbers)}"
        clock = self._clock.tick()
        return Message(id, self.name, self._incarnation, to, body, seq, now(), clock)

    # -- processes

    @property
    def will_not_return(self) -> bool:
        """Whether it is to receive, and its client has ended by itself: nobody starts it
        again."""
        process = self._processes.get("receive")
        return self.where == "online" and process is not None and process.ended_itself

    @property
    def _all(self) -> list[OutsideProcess]:
        return [*self._processes.values(), *self._older]

    async def _process(self, what: str) -> OutsideProcess:
        """The process that sends, or the one that receives, of this life."""
        async with self._starting:
            if what not in self._processes:
                self._processes[what] = await self._new_process(what)
            return self._processes[what]

    async def _new_process(self, what: str) -> OutsideProcess:
        process = OutsideProcess(
            self._lab.lease,
            self._client,
            f"outside-{self.name}-{next(self._names)}",
            self._record,
            self._told,
            partial(self._ended, self._incarnation),
        )
        await process.start(
            **{"file": str(self._client.file), "class": self._client.name},
            url=await self._url(what),
            user=self.name,
            prefix=self.prefix if self._client.takes_prefix else None,
            incarnation=self._incarnation,
            chat=self._chat,
            backend=self._client.backend,
            role=self._role or "both",
            work=self._work.get("work", 0.0),
            fails_on=self._work.get("fails_on", ""),
        )
        return process

    async def _leave(self, what: str) -> None:
        process = self._processes.pop(what, None)
        if process is not None:
            await self._left(process)

    async def _left(self, process: OutsideProcess) -> None:
        listened = process.listening
        if not await process.leave() and listened:
            # It did not go when asked to: the fact that it is gone is ours to record.
            self._record(("Disconnected", now(), self.name, self._incarnation, self._chat, ""))
            self._trouble(
                ClientFailed(
                    f"{self._client.doing('listen')} did not end by KeyboardInterrupt.",
                    "It was killed; what it held is given to the next.",
                    "Let KeyboardInterrupt pass, or end the loop by it.",
                )
            )

    async def _leave_all(self) -> None:
        processes, self._processes, self._older = self._all, {}, []
        await asyncio.gather(*map(self._left, processes))

    async def _kill_all(self) -> None:
        processes, self._processes, self._older = self._all, {}, []
        await asyncio.gather(*(process.kill() for process in processes))

    # -- the way to the broker

    @property
    def prefix(self) -> str:
        """Begins the names of all that the client declares."""
        if self._client.broker == "redis":
            return f"{self._lab.lease.redis.prefix}outside:"
        return f"chatlab-{self._lab.lease.lab}."

    async def _url(self, what: str) -> str:
        address = self._address
        # A certificate is for the broker's own name, not for a link on this machine.
        if not address.tls:
            if what not in self._links:
                target = address.host, address.port
                link = Link(target, user=self.name, service=self._client.broker)
                self._links[what] = link, await link.open()
                self._do_faults(link)
            address = address.through("127.0.0.1", self._links[what][1])
        return url_of(address)

    async def _watch(self, process: OutsideProcess) -> None:
        """While it listens: whether its connection is there, seen on its link. It is not
        asked, and a client that reconnects need not tell."""
        link, _ = self._links["receive"]
        before, here = False, True  # one that has not connected yet has lost nothing
        while process.listening:
            before = before or link.connections > 0
            if before and here != (link.connections > 0):
                here = not here
                self._attached(here)
            await asyncio.sleep(LOOK_SECONDS)

    def _attached(self, here: bool) -> None:
        kind = "Connected" if here else "Disconnected"
        rest = (self._client.backend, self._role or "both") if here else (LOST,)
        self._lab.record((kind, now(), self.name, self._incarnation, self._chat, *rest))

    def _ended(self, incarnation: int) -> None:
        row = ("Disconnected", now(), self.name, incarnation, self._chat, ENDED)
        self._lab.record(row)

    def _told(self, error: ClientFailed) -> None:
        """What our own fault made it raise is no complaint."""
        if not self._faults:
            self._trouble(error)

    async def fault(self, fault: LinkFault, value: float = 0.0) -> None:
        """Cut, freeze or slow the user's links."""
        if self._address.tls:
            raise NotPossible("no link: with TLS a client connects to its broker by itself.")
        self._faults[fault] = value
        for link, _ in self._links.values():
            self._do_faults(link)
        self._link_fact("FaultBegan", fault)

    def _do_faults(self, link: Link) -> None:
        for fault, value in self._faults.items():
            link.slow(value) if fault == "slow" else getattr(link, fault)()

    async def heal(self) -> None:
        """The links are whole again."""
        for link, _ in self._links.values():
            link.heal()
        for fault in self._faults:
            self._link_fact("FaultEnded", fault)
        self._faults.clear()

    async def _close_links(self) -> None:
        for link, _ in self._links.values():
            await link.close()
        self._links.clear()

    def _link_fact(self, kind: str, fault: str) -> None:
        target = f"{self.name}-{self._client.broker}"
        self._lab.record((kind, now(), "", 0, WHOLE, fault, target))

    # -- facts

    def _fact(self, kind: str, *rest: Any) -> None:
        self._lab.record((kind, now(), self.name, self._incarnation, WHOLE, *rest))

    def _record(self, row: Row) -> None:
        """A fact of one of our processes, with what it cannot know itself filled in."""
        if row[0] == "Delivered":
            self._clock.see(row[5].clock)
            again = self._ledger.hand_out(row[5].id, self.name, row[3], self._client.pattern)
            row = (*row[:6], again if row[6] is None else row[6])
        elif row[0] == "Rejected":
            row = (*row[:6], self._ledger.fail(row[5]))
        elif row[0] == "Subscribed":
            row = (*row[:6], self._begins_at_the_first)
        self._lab.record(row)

    @property
    def _begins_at_the_first(self) -> bool:
        """Whether the scenario wants what was sent before, and the class promises it."""
        asked = bool(self._work.get("first_message"))
        return asked and guarantees(self._client.promises).late != "lost"


def url_of(address: RabbitAddress | RedisAddress) -> str:
    """An address as the URL that drivers read, its parts percent-encoded."""
    user, password = quote(address.user, safe=""), quote(address.password, safe="")
    credentials = f"{user}:{password}@" if user or password else ""
    where = f"{credentials}{join_host_port(address.host, address.port)}"
    if isinstance(address, RabbitAddress):
        scheme = "amqps" if address.tls else "amqp"
        return f"{scheme}://{where}/{quote(address.vhost, safe='')}"
    return f"{'rediss' if address.tls else 'redis'}://{where}/{address.db}"
