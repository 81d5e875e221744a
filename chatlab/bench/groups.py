"""Group chats against the same work in a few plain lines of pika and redis-py.

Through a lab as a notebook has it: links between the users and the brokers, journal on.
Bodies of 100 bytes; the bare lines carry the same properties, as durably. All figures are
ratios of messages a second, but for the journal's.

=========================  ==================================================  =============
figure                     from … to                                           goal
=========================  ==================================================  =============
published                  ``room.send_many`` to all receipts, rabbitmq-       8 x blocking,
                           durable, one absent member                          0.85 x async
consumed                   ``room.connect`` to all of a backlog shown, acked   0.85 x
fanned out                 ``room.send_many`` to all shown to 10 members       0.8 x
published, redis-stream    ``room.send_many`` to all receipts, one absent      0.85 x
                           member
journal                    the client's part of publishing and consuming,      1.1
                           with a journal against none (a time)
=========================  ==================================================  =============
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

from chatlab.amqp import Connections
from chatlab.bench import baselines
from chatlab.bench.report import Figure, alternate
from chatlab.client import Life
from chatlab.groups import open_group
from chatlab.journal import Journal
from chatlab.lab import Lab
from chatlab.messages import Message, group

BODY = "x" * 100
#: Messages of a round: sent one by one, and many at once; to 10 members; and to Redis.
ONE_BY_ONE = 500
MANY = 10_000
FANNED = 2_000
MEMBERS = 10

_numbers = count(1)


def group_messages(rounds: int) -> Iterator[Figure]:
    """All figures of this module."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.start("bench-groups"))
        lab.users("ana", "bob", *_members())
        for work in (_published, _consumed, _fanned_out, _published_to_redis, _journal):
            lab.scene(work.__name__)  # none has the journal of the one before
            yield from work(lab, rounds)


def _members() -> list[str]:
    return [f"m{number}" for number in range(MEMBERS)]


def _rabbitmq(lab: Lab) -> tuple[Any, ...]:
    """Where the bare lines connect: past the links."""
    at = lab.lease.rabbitmq
    return at.host, at.port, at.vhost, at.user, at.password


def _name() -> str:
    """A group that no round had before."""
    return f"g{next(_numbers)}"


# ------------------------------------------------------------------------------ RabbitMQ


def _published(lab: Lab, rounds: int) -> Iterator[Figure]:
    where = _rabbitmq(lab)
    bare = lab._call(_bare(*where))
    blocking = baselines.Blocking(*where)
    one_by_one: list[float] = []

    def in_window() -> list[float]:
        name = _name()
        blocking.group(name, f"{name}/bob")
        one_by_one.append(blocking.send(name, BODY.encode(), ONE_BY_ONE) / ONE_BY_ONE)
        seconds = lab._call(bare.send(name, BODY.encode(), MANY))
        blocking.delete(name, f"{name}/bob")
        return [seconds / MANY]

    def ours() -> list[float]:
        name = _name()
        room = lab.user("bob").subscribe(name, "rabbitmq-durable")
        sender = lab.user("ana").group(name)
        sender.send("the first one opens the connection")
        seconds = _seconds(lambda: sender.send_many([BODY] * MANY))
        room.unsubscribe()
        return [seconds / MANY]

    alternate(in_window, ours, 1)  # warm both up
    one_by_one.clear()
    bases, found = alternate(in_window, ours, rounds)
    base = "BlockingConnection, a confirm each"
    yield Figure("published", found, one_by_one, base, at_least=8)
    base = "pika's asyncio adapter, window of 1,000"
    yield Figure("published", found, bases, base, at_least=0.85)
    blocking.close()
    lab._call(bare.close())


def _consumed(lab: Lab, rounds: int) -> Iterator[Figure]:
    where = _rabbitmq(lab)
    publisher = lab._call(_bare(*where))
    blocking = baselines.Blocking(*where)

    def base() -> list[float]:
        name = _name()
        blocking.group(name, f"{name}/bob")
        lab._call(publisher.send(name, BODY.encode(), MANY))
        consumer = lab._call(baselines.Async().open(*where))
        seconds = _seconds(lambda: lab._call(consumer.receive(f"{name}/bob", MANY)))
        lab._call(consumer.close())
        blocking.delete(name, f"{name}/bob")
        return [seconds / MANY]

    def ours() -> list[float]:
        name = _name()
        room = lab.user("bob").subscribe(name, "rabbitmq-durable")
        lab.user("ana").group(name).send_many([BODY] * MANY)

        def work() -> None:
            room.connect().wait(MANY, timeout=60)

        seconds = _seconds(work)
        room.unsubscribe()
        return [seconds / MANY]

    alternate(base, ours, 1)
    bases, found = alternate(base, ours, rounds)
    yield Figure("consumed", found, bases, "pika, many acks in a frame", at_least=0.85)
    blocking.close()
    lab._call(publisher.close())


def _fanned_out(lab: Lab, rounds: int) -> Iterator[Figure]:
    where = _rabbitmq(lab)
    bare = lab._call(_bare(*where))
    blocking = baselines.Blocking(*where)
    consumers = [lab._call(baselines.Async().open(*where)) for _ in range(MEMBERS)]

    async def all_together(name: str, queues: list[str]) -> float:
        began = time.perf_counter()
        await asyncio.gather(
            *(c.receive(q, FANNED) for c, q in zip(consumers, queues, strict=True)),
            bare.send(name, BODY.encode(), FANNED),
        )
        return time.perf_counter() - began

    def base() -> list[float]:
        name = _name()
        queues = [f"{name}/{member}" for member in _members()]
        for queue in queues:
            blocking.group(name, queue)
        seconds = lab._call(all_together(name, queues))
        blocking.delete(name, *queues)
        return [seconds / FANNED]

    def ours() -> list[float]:
        name = _name()
        rooms = [lab.user(member).join(name, "rabbitmq-durable") for member in _members()]
        sender = lab.user("ana").group(name)

        def work() -> None:
            sender.send_many([BODY] * FANNED)
            for room in rooms:
                room.wait(FANNED, timeout=60)

        seconds = _seconds(work)
        for room in rooms:
            room.unsubscribe()
        return [seconds / FANNED]

    alternate(base, ours, 1)
    bases, found = alternate(base, ours, rounds)
    name = f"fanned out to {MEMBERS}"
    yield Figure(name, found, bases, "pika doing the same", at_least=0.8)
    for connection in (bare, *consumers):
        lab._call(connection.close())
    blocking.close()


async def _bare(*where: Any) -> baselines.Async:
    connection = await baselines.Async().open(*where)
    await connection.confirm()
    return connection


# --------------------------------------------------------------------------------- Redis


def _published_to_redis(lab: Lab, rounds: int) -> Iterator[Figure]:
    at = lab.lease.redis
    url = f"redis://:{at.password}@{at.host}:{at.port}/{at.db}"

    def base() -> list[float]:
        stream = f"{at.prefix}bare:{_name()}"
        work = baselines.redis_pipelines(url, stream, BODY, MANY)
        return [lab._call(work) / MANY]

    def ours() -> list[float]:
        name = _name()
        room = lab.user("bob").subscribe(name, "redis-stream")
        sender = lab.user("ana").group(name)
        sender.send("the first one opens the connection")
        seconds = _seconds(lambda: sender.send_many([BODY] * MANY))
        room.unsubscribe()
        return [seconds / MANY]

    alternate(base, ours, 1)
    bases, found = alternate(base, ours, rounds)
    base_name = f"redis-py, pipelines of {baselines.PIPELINE} XADD"
    yield Figure("published, redis-stream", found, bases, base_name, at_least=0.85)


# ------------------------------------------------------------------------------- journal


class _Silent(Life):
    """A life that records nothing."""

    def fact(self, kind: str, chat: str, *rest: Any) -> None:
        pass

    def facts(self, kind: str, chat: str, *columns: Any) -> None:
        pass


def _journal(lab: Lab, rounds: int) -> Iterator[Figure]:
    """The clients alone on the loop, once with facts and once without."""

    def seconds(kind: type[Life]) -> list[float]:
        return [lab._call(_send_and_show(lab, kind)) / MANY]

    silent, loud = partial(seconds, _Silent), partial(seconds, Life)
    alternate(silent, loud, 1)
    bases, found = alternate(silent, loud, rounds)
    yield Figure("sent and shown, with a journal", found, bases, "without", at_most=1.1)


async def _send_and_show(lab: Lab, kind: type[Life]) -> float:
    """Seconds for :data:`MANY` messages from one member to another, from first to last."""
    name, journal, shown = _name(), Journal(), asyncio.Event()
    seen: list[Message] = []

    def show(message: Message, _again: bool) -> None:
        seen.append(message)
        if len(seen) == MANY:
            shown.set()

    lives = [
        kind(
            lab=lab.lease.lab,
            user=user,
            incarnation=1,
            secret="",
            settings=lab.settings,
            record=journal.append,
            rabbitmq=lab.lease.rabbitmq,
            redis=lab.lease.redis,
        )
        for user in ("bare-ana", "bare-bob")
    ]
    connections = [Connections(life) for life in lives]
    ana, bob = [
        await open_group(life, links, lab._registry, name, "rabbitmq-durable", show)
        for life, links in zip(lives, connections, strict=True)
    ]
    await bob.connect()
    messages = lives[0].messages(group(name), name, [BODY] * MANY)
    began = time.perf_counter()
    await ana.send(messages)
    await shown.wait()
    seconds = time.perf_counter() - began
    await bob.unsubscribe()
    for links in connections:
        await links.close()
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of ``work``, without collecting what was left by what came before it."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
