"""Insults on RabbitMQ that never come back to their sender: ``rabbitmq-not-me``.

RabbitMQ has no way to leave one consumer out: ``no-local`` is not implemented, giving one's
own back spins when alone, and pausing oneself deadlocks when two send. So each sender has a
queue of its own, ``chatlab/insults/from/<user>``, that all others consume, and it does not.

The cost: n members that all do both are n (n - 1) consumers, each on a channel of its own;
32 are 992, attached in 3 s when all join at once (2 cores). There the line is drawn: who
would be the 33rd is refused.

Who comes and goes: a hash in Redis (``insults:members``) holds every member and is the only
list; a fanout exchange (``chatlab/insults/news``) says that it has changed, and each listener
reads the list again: nobody polls. News missed while a connection was lost do no harm, for
who is back reads the list, too. A sender that joins waits, for at most a second, until those
who listen have attached to its queue. The queue of a sender that has left stays until the
scene ends, because its insults may be under way; so its owner keeps its place among the 32.

What it cannot: there are as many queues as senders, and each hands out in turn by itself.
With several senders a member may therefore hold one insult of each (``prefetch`` counts per
queue) while another is idle; with one sender it is as fair as the plain queue. Everything
else (acknowledgements, poison, receipts) is as in :mod:`~chatlab.insults.rabbitmq`; a
receipt's ``waiting`` and ``listeners`` are those of the sender's own queue, so the sender
does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from chatlab.amqp import Binding, Connections, Consumer, Exchange, Outgoing, Queue
from chatlab.amqp.wire import Properties
from chatlab.client import Life
from chatlab.errors import ChatlabError, NotPossible
from chatlab.insults.line import Drawn, Registry, Role
from chatlab.insults.rabbitmq import DEAD_QUEUE, LOOK_SECONDS, RabbitLine, drawn, work_queue
from chatlab.resp import Script, mapped

#: Most members.
MEMBERS = 32
#: What the name of each sender's queue begins with.
FROM = "chatlab/insults/from/"
NEWS = Exchange("chatlab/insults/news")
#: Pause between looks at a new queue's consumers, in seconds.
PAUSE_SECONDS = 0.02

# members | user, role, most members -> whether there is room. Who has a queue keeps it: a
# sender that now only listens is entered as both.
ENTER = Script("""
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
local queue = before and before ~= 'consumer'
redis.call('HSET', KEYS[1], ARGV[1], queue and ARGV[2] == 'consumer' and 'both' or ARGV[2])
return 1
""")

# members | user
LEAVE = Script("""
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before == 'consumer' then redis.call('HDEL', KEYS[1], ARGV[1])
elseif before then redis.call('HSET', KEYS[1], ARGV[1], 'left') end
return 1
""")


class NotMeLine(RabbitLine):
    """One member's line: out on its own queue, in on those of all others."""

    def __init__(self, life: Life, connections: Connections, registry: Registry) -> None:
        super().__init__(life, connections, registry)
        self._redis = registry.redis
        self._members = self._redis.key("insults:members")
        self._options: dict[str, Any] = {}
        self._consumers: dict[str, Consumer] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._ready: asyncio.Queue[Drawn | ChatlabError | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._news: Consumer | None = None
        self._stopped = False

    @property
    def queue(self) -> str:
        return FROM + self._life.user

    # ---------------------------------------------------------------- coming and going

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        self._options = options
        user = self._life.user
        if not await self._redis.run(ENTER, [self._members], [user, role, MEMBERS]):
            raise NotPossible(
                f"rabbitmq-not-me has at most {MEMBERS} members; {user} would be one more.",
                todo="Use the backend rabbitmq, or let somebody leave first.",
            )
        connection = self._connections.consuming
        if role == "producer":
            await connection.ensure(NEWS)
        else:
            await self._listen(on_lost, on_back)
        if role != "consumer":
            await connection.ensure(*self.things)
        await self._tell()
        if role != "consumer":
            await self._await_listeners()

    async def _listen(
        self, on_lost: Callable[[ChatlabError], None], on_back: Callable[[], None]
    ) -> None:
        connection = self._connections.consuming
        inbox = Queue(
            f"{NEWS.name}/{self._life.user}",
            exclusive=True,
            arguments={"x-max-length": 1},  # one is enough to look at the list
        )
        await connection.ensure(DEAD_QUEUE, NEWS, inbox, Binding(inbox.name, NEWS.name))

        def back() -> None:
            self._changed.set()
            on_back()

        self._news = Consumer(
            inbox.name, prefetch=0, auto_ack=True, on_lost=on_lost, on_back=back
        )
        await connection.consume(self._news)
        self._pump(self._hear(self._news))
        await self._attach()
        self._watcher = asyncio.create_task(self._watch())

    async def _tell(self) -> None:
        """Say that the list of members has changed."""
        connection = self._connections.publishing
        with suppress(ChatlabError):
            await connection.ensure(NEWS)
            news = Outgoing(NEWS.name, "", b"members", Properties(), mandatory=False)
            batch = connection.submit([news])
            await connection.outcomes(batch, LOOK_SECONDS)

    async def _roles(self) -> dict[str, str]:
        with mapped(self._redis.address):
            found = self._redis.driver.hgetall(self._members)
            return cast("dict[str, str]", await cast("Any", found))

    async def _await_listeners(self) -> None:
        """Until all who listen have attached to our queue; a crashed one never does."""
        roles = await self._roles()
        others = sum(
            role in ("both", "consumer") and user != self._life.user
            for user, role in roles.items()
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                while await self._attached() < others:  # noqa: ASYNC110 (RabbitMQ knows)
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _attached(self) -> int:
        depth = await self._look()
        return (depth.consumers or 0) if depth is not None else 0

    async def _hear(self, news: Consumer) -> None:
        while await news.take():
            self._changed.set()

    async def _watch(self) -> None:
        """Attach to new queues whenever the list may have changed."""
        pause = 0.0
        while True:
            await self._changed.wait()
            await asyncio.sleep(pause)
            self._changed.clear()
            try:
                await self._attach()
                pause = 0.0
            except ChatlabError:  # a service is away: at the latest, its return is news
                pause = 1.0
                self._changed.set()

    async def _attach(self) -> None:
        connection = self._connections.consuming
        missing = [
            FROM + user
            for user, role in (await self._roles()).items()
            if user != self._life.user and role != "consumer" and not self._hears(FROM + user)
        ]
        await connection.ensure(*(work_queue(queue, self.limit) for queue in missing))
        for queue in missing:
            if self._stopped:
                return
            consumer = Consumer(
                queue,
                prefetch=self._options["prefetch"],
                auto_ack=self._options["ack"] == "auto",
            )
            await connection.consume(consumer)
            self._consumers[queue] = consumer
            self._pump(self._draw(consumer))

    def _hears(self, queue: str) -> bool:
        known = self._consumers.get(queue)
        return known is not None and not known.finished

    def _pump(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumped)

    def _pumped(self, task: asyncio.Task[None]) -> None:
        self._pumps.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ChatlabError):
            self._ready.put_nowait(error)
        elif error is not None:
            raise error

    async def _draw(self, consumer: Consumer) -> None:
        try:
            while batch := await consumer.take(1):
                self._ready.put_nowait(drawn(consumer, batch[0]))
        except ChatlabError:
            self._connections.consuming.topology.forget_queue(consumer.queue)
            raise

    async def take(self) -> Drawn | None:
        found = await self._ready.get()
        if isinstance(found, ChatlabError):
            raise found
        return found

    async def stop(self) -> None:
        self._stopped = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        if self._news is not None:
            await self._news.close()
            with suppress(ChatlabError):  # then it ends with its connection
                await self._connections.consuming.delete_queue(self._news.queue)
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers.values()))
        self._ready.put_nowait(None)

    async def close(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*(consumer.close() for consumer in self._consumers.values()))
        self._consumers.clear()
        with suppress(ChatlabError):  # then it is listed for longer, which does no harm
            await self._redis.run(LEAVE, [self._members], [self._life.user])

    def abandon(self) -> None:
        self._stopped = True
        for task in (self._watcher, *self._pumps):
            if task is not None:
                task.cancel()
        for consumer in (self._news, *self._consumers.values()):
            if consumer is not None:
                consumer.abandon()

    def state(self) -> dict[str, Any]:
        return {"unacked": sum(consumer.unacked for consumer in self._consumers.values())}
