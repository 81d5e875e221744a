"""What a connection has declared, as values, so that it can be declared again.

A :class:`Topology` remembers exchanges, queues and bindings in the order they came and
gives them back in the order RabbitMQ needs them: a binding after its two ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatlab.amqp.wire import Channel

#: The queue of :func:`settled` is gone after this, in ms, if its client was killed just then.
LEFT_MS = 60_000


@dataclass(frozen=True)
class Exchange:
    """An exchange; ``kind`` is fanout, direct, topic or headers. ``auto_delete``: it goes with
    the last that was bound to it."""

    name: str
    kind: str = "fanout"
    durable: bool = True
    auto_delete: bool = False

    async def declare(self, channel: Channel) -> bool:
        """Create it, or check that it exists just so. Returns False: as a queue's."""
        await channel.call(
            "exchange_declare",
            exchange=self.name,
            exchange_type=self.kind,
            durable=self.durable,
            auto_delete=self.auto_delete,
        )
        return False


@dataclass(frozen=True)
class Queue:
    """A queue: durable, or exclusive to its connection and gone with it (RabbitMQ 4.3
    refuses one that is neither). ``durable`` declares an exclusive one durable as well,
    which changes nothing: it goes with its connection. ``settle``: see :func:`settled`; not
    needed for one that is always declared together with one that is settled."""

    name: str
    exclusive: bool = False
    durable: bool = False
    settle: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    async def declare(self, channel: Channel) -> bool:
        """Create it, or check that it exists just so. Returns whether it is one that shall
        outlive RabbitMQ and may be new: it does so for sure once it is :func:`settled`."""
        found = await channel.call(
            "queue_declare",
            queue=self.name,
            durable=self.durable or not self.exclusive,
            exclusive=self.exclusive,
            arguments=dict(self.arguments),
        )
        in_use = found.message_count or found.consumer_count
        return self.settle and not self.exclusive and not in_use


async def settled(channel: Channel) -> None:
    """All that was declared before this call is written down when it returns.

    RabbitMQ 3.10 keeps the directory of its quorum queues in a dets file and what is new
    there in memory: for 1.0 s if nobody else touches the file. Killed meanwhile it forgets
    the queue and all that it has confirmed. Of other queues and bindings it forgets, in one
    kill of about thirty on a loaded machine, the very last: Mnesia's log had not got it yet.
    In both cases the next entry makes it write the ones before, so another queue is declared
    and deleted (12 ms; waiting takes 1 s or more).
    """
    name = f"chatlab/settling/{secrets.token_hex(8)}"
    left = {"x-queue-type": "quorum", "x-expires": LEFT_MS}
    await channel.call("queue_declare", queue=name, durable=True, arguments=left)
    await channel.call("queue_delete", queue=name)


@dataclass(frozen=True)
class Binding:
    """Messages of ``exchange`` go to ``queue`` too. What ``arguments`` say a headers exchange
    compares; a fanout only shows them to whoever lists its bindings."""

    queue: str
    exchange: str
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    async def declare(self, channel: Channel) -> bool:
        """Bind; a second time changes nothing. Returns False: as a queue's."""
        await self._do("queue_bind", channel)
        return False

    async def remove(self, channel: Channel) -> None:
        """Unbind; when it is not there, nothing happens."""
        await self._do("queue_unbind", channel)

    async def _do(self, method: str, channel: Channel) -> None:
        await channel.call(
            method,
            queue=self.queue,
            exchange=self.exchange,
            routing_key=self.key,
            arguments=dict(self.arguments),
        )


@dataclass(frozen=True)
class ExchangeBinding:
    """Messages of ``source`` go to the exchange ``exchange`` too."""

    exchange: str
    source: str
    key: str = ""

    async def declare(self, channel: Channel) -> bool:
        """Bind; a second time changes nothing. Returns False: as a queue's."""
        await channel.call(
            "exchange_bind",
            destination=self.exchange,
            source=self.source,
            routing_key=self.key,
        )
        return False


Thing = Exchange | Queue | Binding | ExchangeBinding
_ORDER = (Exchange, Queue, Binding, ExchangeBinding)


class Topology:
    """An ordered set of declared things."""

    def __init__(self) -> None:
        self._things: dict[Thing, None] = {}

    def __contains__(self, thing: Thing) -> bool:
        return thing in self._things

    def __iter__(self) -> Iterator[Thing]:
        """Exchanges, then queues, then bindings; each kind as it was added."""
        return iter(sorted(self._things, key=lambda thing: _ORDER.index(type(thing))))

    def add(self, thing: Thing) -> None:
        """Remember it; once, however often it is added."""
        self._things[thing] = None

    def forget_queue(self, name: str) -> None:
        """Forget the queue and what binds it."""
        self._keep(lambda thing: queue_of(thing) != name)

    def forget(self, thing: Thing) -> None:
        """Forget this very thing."""
        self._things.pop(thing, None)

    def forget_exchange(self, name: str) -> None:
        """Forget that it exists; what binds to it stays."""
        self._keep(lambda thing: not (isinstance(thing, Exchange) and thing.name == name))

    def _keep(self, wanted: Callable[[Thing], bool]) -> None:
        self._things = {thing: None for thing in self._things if wanted(thing)}


def queue_of(thing: Thing) -> str:
    """The queue that ``thing`` is, or binds; empty when it is none."""
    if isinstance(thing, Queue):
        return thing.name
    return thing.queue if isinstance(thing, Binding) else ""
