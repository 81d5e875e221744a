"""Stores: where a group's messages are, as the service that keeps them says it. Async.

For a group on RabbitMQ its management API is asked for four lists: the exchange, its bindings,
the queues' counts and the consumers. The counts are those of this moment: with
``disable_stats`` and ``enable_queue_totals`` the API reads the queues' own figures instead of
its collected statistics, which are up to a second old (measured: a message that waits is
counted within 10 ms, and one that was handed out and not acknowledged, too, at worst 0.2 s
late). Of a log, a RabbitMQ stream, there are only the statistics. A consumer is gone from its
list at once, and on it within 0.5 s.

A group on a Redis stream has a length and a cursor a member; with Redis' pub/sub nothing is
kept anywhere, only who listens can be said; a group in memory is in this process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from chatlab.backends import parse_backend
from chatlab.groups import memory, redis_pubsub, redis_stream
from chatlab.groups.rabbitmq_kinds import KINDS, log_queue, queue_name
from chatlab.resp import Redis
from chatlab.services import Lease
from chatlab.services.management import Management

#: A service that has not answered by then does not answer.
ANSWER_SECONDS = 1.0
_TOTALS = {"disable_stats": "true", "enable_queue_totals": "true"}
_NOBODY = "No queue is bound to it: what is sent now reaches nobody."
_MARKS = "Among its entries is a mark of each member that joined to read from then on."
_COUNTS = "name,messages_ready,messages_unacknowledged"


@dataclass(frozen=True)
class Store:
    """What holds the messages of one member, or of all (a log)."""

    #: ``queue sd.bob``, ``cursor of bob``.
    name: str
    #: Whose it is; empty: everybody's.
    user: str
    #: Messages that nobody has been handed; ``None``: not told.
    ready: int | None
    #: Handed out and not acknowledged; ``None``: not told.
    unacked: int | None
    #: Who takes messages from it now; empty: nobody; ``None``: not told.
    consumer: str | None
    #: What ``ready`` counts.
    word: str = "ready"


@dataclass(frozen=True)
class Topology:
    """What the messages of one group go through."""

    group: str
    #: ``RabbitMQ``, ``Redis``, ``memory``: who says so.
    keeper: str
    #: ``exchange`` and its type, ``stream`` and its length … empty: there is none now.
    kind: str = ""
    detail: str = ""
    stores: tuple[Store, ...] = ()
    #: What is to be said instead of stores, or beside them.
    words: str = ""


def keeper_of(backend: str) -> str:
    """Which service keeps a group of this backend: rabbitmq, redis, or memory (none)."""
    name = backend.partition(":")[0]
    if name in KINDS:
        return "rabbitmq"
    return "redis" if name.startswith("redis") else "memory"


class Stores:
    """Asks for the stores of groups of one lab. Coroutines on the lab's loop."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._management = Management(lease.rabbitmq.watched(), timeout=ANSWER_SECONDS)
        self._redis = Redis(lease.redis, deadline=ANSWER_SECONDS)

    async def close(self) -> None:
        """Give up what was opened."""
        await self._redis.close()

    async def of(self, group: str, backend: str) -> Topology:
        """The stores of one group, asked for now.

        Raises:
            ChatlabError: the service does not answer.
        """
        name, _ = parse_backend(backend)
        if name in KINDS:
            return await self._rabbitmq(group, name)
        if name == "redis-stream":
            return await self._stream(group)
        if name == "redis-pubsub":
            return await self._channel(group)
        return self._memory(group)

    # -- RabbitMQ

    async def _rabbitmq(self, group: str, backend: str) -> Topology:
        vhost, prefix = self._lease.rabbitmq.vhost, self._lease.rabbitmq.prefix
        here, get = ("exchanges", vhost, prefix + group), self._management.get
        exchange, bindings, queues, consumers = await asyncio.gather(
            get(*here),
            get(*here, "bindings", "source", columns="destination,destination_type"),
            get("queues", vhost, columns=_COUNTS, **_TOTALS),
            get("consumers", vhost),
        )
        if exchange is None:
            return Topology(group, "RabbitMQ", words=f"RabbitMQ has no exchange {group}.")
        bound = [b["destination"] for b in bindings or [] if b["destination_type"] == "queue"]
        counts = {queue["name"]: queue for queue in queues or []}
        log = prefix + log_queue(group).name
        if log in bound and "messages_ready" not in counts.get(log, {}):
            # Of a stream the API has only its collected statistics, up to a second old.
            counts[log] = await get("queues", vhost, log, columns=_COUNTS) or {}
        taking = Counter(consumer["queue"]["name"] for consumer in consumers or [])
        return Topology(
            group,
            "RabbitMQ",
            "exchange",
            str(exchange["type"]),
            tuple(
                _queue(name.removeprefix(prefix), group, counts.get(name, {}), taking[name])
                for name in sorted(bound)
            ),
            _MARKS if log in bound else "" if bound else _NOBODY,
        )

    # -- Redis

    async def _stream(self, group: str) -> Topology:
        length, waiting = await redis_stream.stream(self._redis, group)
        if not length and not waiting:
            return Topology(group, "Redis", words=f"Redis has no stream {group} yet.")
        stores = (
            Store(f"cursor of {user}", user, count, None, None, "after it")
            for user, count in sorted(waiting.items())
        )
        return Topology(group, "Redis", "stream", f"{length:,} kept", tuple(stores))

    async def _channel(self, group: str) -> Topology:
        published, there = await redis_pubsub.channel(self._redis, group)
        stores = (
            Store(f"subscription of {user}", user, None, None, user if listens else "")
            for user, listens in sorted(there.items())
        )
        words = "Redis hands a message to who listens and forgets it: nothing waits anywhere."
        return Topology(
            group, "Redis", "channel", f"{published:,} published", tuple(stores), words
        )

    # -- memory

    def _memory(self, group: str) -> Topology:
        found = memory.hub(self._lease.lab).groups.get(group)
        if found is None:
            return Topology(group, "memory", words=f"This process has no group {group} yet.")
        stores = (
            Store(
                f"cursor of {user}",
                user,
                found.last - one.cursor,
                None,
                user if one.hold is not None else "",
                "after it",
            )
            for user, one in sorted(found.subscribers.items())
        )
        words = "It is in the memory of this process: no broker, and gone when the kernel ends."
        kept = f"{len(found.log):,} kept"
        return Topology(group, "memory", "list", kept, tuple(stores), words)


def _queue(name: str, group: str, counts: dict[str, Any], consumers: int) -> Store:
    ready, unacked = counts.get("messages_ready"), counts.get("messages_unacknowledged")
    if name == log_queue(group).name:
        takers = f"{consumers} consumer{'' if consumers == 1 else 's'}" if consumers else ""
        return Store(f"log {group}", "", ready, unacked, takers, "entries")
    user = name.removeprefix(queue_name(group, ""))
    if user == name:  # not one of ours: somebody bound a queue of another name
        takers = f"{consumers} consumer{'' if consumers == 1 else 's'}" if consumers else ""
        return Store(f"queue {name}", "", ready, unacked, takers)
    return Store(f"queue {group}.{user}", user, ready, unacked, user if consumers else "")
