"""A connection that comes back, and rebuilds what it had.

One task keeps the connection: it opens a :class:`~chatlab.amqp.wire.Wire`, declares again
what was declared (exchanges, queues, bindings), attaches the consumers, then the publisher,
which sends again what is unconfirmed before anything new. When the wire is lost it waits a
little longer each time (with jitter, so that many clients do not return in step) and starts
over. A refusal (wrong credentials, no such virtual host) ends it for good instead, and
everybody who uses it is told.

Operations wait until the connection is up, are repeated after a loss (all of them may be
done twice), and raise ServiceUnavailable at their deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from chatlab.amqp.consumer import Consumer, Delivery
from chatlab.amqp.errors import Forced, Locked, Lost, NotFound, NotYet
from chatlab.amqp.ghosts import evict
from chatlab.amqp.limits import raise_file_limit
from chatlab.amqp.publisher import (
    SENT,
    WRITE_BURST,
    Batch,
    Outcome,
    Outgoing,
    Publisher,
)
from chatlab.amqp.topology import Binding, Exchange, Queue, Thing, Topology, queue_of, settled
from chatlab.amqp.wire import Channel, Wire
from chatlab.errors import ChatClosed, ChatlabError, InvalidInput, ServiceUnavailable
from chatlab.services.addresses import RabbitAddress

T = TypeVar("T")

#: The first and the longest pause between attempts to connect, in seconds.
PAUSE_SECONDS = (0.05, 1.0)
#: A connection that held for so long was a good one: the pauses begin anew.
GOOD_SECONDS = 5.0
#: An older connection of ours is looked for so long. The management API lists a connection
#: when it next collects figures: every 5 s, unless its sample_retention_policies say less.
GHOST_SECONDS = 10.0
#: Spare channels kept for :meth:`Connection.depths`.
SPARE_CHANNELS = 4

_serials = itertools.count(1)


class Depth(NamedTuple):
    """What a queue says of itself; ``None``: it is another connection's, it won't say."""

    #: Messages ready, those handed out not counted.
    messages: int | None
    consumers: int | None


class Connection:
    """One named connection to RabbitMQ; opens at its first use.

    Args:
        address: where, through the user's link.
        name: ``lab/user/incarnation``, shown by RabbitMQ's own tools.
        role: ``consuming`` or ``publishing``; a client property beside the name.
        heartbeat: seconds.
        deadline: seconds an operation waits for a connection and an answer.
    """

    def __init__(
        self,
        address: RabbitAddress,
        name: str,
        *,
        role: str = "",
        heartbeat: int = 30,
        deadline: float = 5.0,
    ) -> None:
        self.address = address
        self.name = name
        self.role = role
        self.heartbeat = heartbeat
        self.deadline = deadline
        self.topology = Topology()
        self.publisher = Publisher()
        #: Numbers the connections of this process; tells our own from a ghost.
        self.serial = 0
        #: Set while it cannot be had: an attempt has failed, and none succeeded since.
        self.failing = asyncio.Event()
        self._where = f"RabbitMQ at {address.host}:{address.port}"
        self._consumers: list[Consumer] = []
        self._keeper: asyncio.Task[None] | None = None
        self._wire: Wire | None = None
        self._control: Channel | None = None
        #: Publishes without confirms; opened at the first :meth:`tell`.
        self._blind: Channel | None = None
        self._spare: list[Channel] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._peeking = asyncio.Lock()
        self._up = asyncio.Event()
        self._changed = asyncio.Event()
        self._trouble: ChatlabError | None = None
        self._failure: ChatlabError | None = None

    @property
    def up(self) -> bool:
        """Whether it is connected and has rebuilt what it had."""
        return self._up.is_set()

    # --------------------------------------------------------------------- operations

    async def run(self, step: Callable[[Wire], Awaitable[T]]) -> T:
        """Do ``step`` on the present wire, again on the next one when it is lost.

        Raises:
            ServiceUnavailable: not done within the deadline; says whether it was tried.
            ChatlabError: RabbitMQ refused.
        """
        tried = False
        trouble: ChatlabError | None = None
        try:
            async with asyncio.timeout(self.deadline):
                while True:
                    wire = await self._usable()
                    tried = True
                    try:
                        return await step(wire)
                    except NotYet as error:
                        trouble = error
                        await asyncio.sleep(PAUSE_SECONDS[0])
                    except Lost:
                        if wire.alive:  # closed here, under the step's feet
                            raise
        except TimeoutError:
            trouble = self._trouble or trouble
            raise ServiceUnavailable(
                trouble.what if trouble else f"{self._where} does not answer.",
                "It may or may not have taken effect; doing it again is safe." if tried else "",
            ) from trouble

    async def ready(self) -> None:
        """Wait until it is up.

        Raises:
            ServiceUnavailable: not within the deadline.
            ChatlabError: RabbitMQ refused.
        """

        async def step(_wire: Wire) -> None: ...

        await self.run(step)

    async def declare(self, *things: Thing) -> None:
        """Declare in this order, and again after each reconnect."""

        async def step(wire: Wire) -> None:
            new = [await self._declare(wire, thing) for thing in things]
            if any(new):
                await settled(await self._control_channel(wire))

        await self.run(step)
        for thing in things:
            self.topology.add(thing)

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with its messages and bindings; fine when there is none."""
        self.topology.forget_queue(name)

        async def step(wire: Wire) -> None:
            control = await self._control_channel(wire)
            await control.call("queue_delete", queue=name)

        await self.run(step)

    async def unbind(self, binding: Binding) -> None:
        """Remove a binding; the queue stays. Fine when there is none."""
        self.topology.forget(binding)

        async def step(wire: Wire) -> None:
            await binding.remove(await self._control_channel(wire))

        await self.run(step)

    async def consume(self, consumer: Consumer) -> None:
        """Attach ``consumer`` now and after each reconnect, until it is finished."""

        async def step(wire: Wire) -> None:
            await self._attach(wire, consumer)

        try:
            await self.run(step)
        except BaseException:
            await consumer.close()
            raise
        self._consumers = [*(c for c in self._consumers if not c.finished), consumer]

    async def ensure(self, *things: Thing) -> None:
        """Declare what this connection has not declared yet; see :meth:`declare`."""
        missing = [thing for thing in things if thing not in self.topology]
        if missing:
            await self.declare(*missing)

    def submit(self, items: Sequence[Outgoing]) -> Batch:
        """Take messages to publish, in this order and after all taken before."""
        self._start()
        batch = self.publisher.submit(items)
        if self._closed and self._failure is not None:
            self.publisher.fail(self._failure.what)
        return batch

    async def tell(self, items: Sequence[Outgoing]) -> list[Outcome]:
        """Publish on a channel without confirms: ``sent`` when the bytes were handed to the
        connection, and nobody learns what became of them. Never raises for a lost one."""
        outcomes: list[Outcome] = []
        try:
            while len(outcomes) < len(items):
                await self.run(lambda wire: self._tell(wire, items, outcomes))
        except ChatlabError as error:
            outcomes += [Outcome("failed", error.what)] * (len(items) - len(outcomes))
        return outcomes

    async def outcomes(self, batch: Batch, patience: float) -> list[Outcome]:
        """What became of them; see :meth:`Publisher.outcomes`."""
        return await self.publisher.outcomes(batch, patience)

    async def depths(self, queues: Sequence[str]) -> list[Depth | None]:
        """Ask each queue (passive declare); ``None`` where there is none."""
        return list(await asyncio.gather(*(self._depth(queue) for queue in queues)))

    async def peek(self, queue: str, most: int) -> list[Delivery]:
        """The oldest messages of a queue that nobody consumes, which stay where they are:
        they are fetched and given back. Who looks holds a lock meanwhile (an exclusive queue),
        so that nobody finds the queue empty because another is looking.

        Given back explicitly: pika cancels the consumers of a channel that it closes, and then
        RabbitMQ 3.10 answers before it has put back what they held.
        """

        async def step(wire: Wire) -> list[Delivery]:
            channel = await wire.channel()
            found: list[Delivery] = []
            try:
                while len(found) < most and (got := await channel.get(queue)) is not None:
                    how, properties, body = got
                    found.append(
                        Delivery(how.delivery_tag, how.redelivered, properties, body, channel)
                    )
                if found:
                    channel.send("basic_nack", found[-1].tag, multiple=True, requeue=True)
                    await channel.call("basic_qos", prefetch_count=0)  # it has been read
            finally:
                await channel.close()
            return found

        lock = Queue(f"{queue}/reader", exclusive=True)
        async with self._peeking:
            await self.declare(lock)
            try:
                return await self.run(step)
            finally:
                with suppress(ChatlabError):  # gone with its connection
                    await self.delete_queue(lock.name)

    async def close(self) -> None:
        """Say goodbye, as far as RabbitMQ answers."""
        wire, keeper = self._wire, self._keeper
        self._forget("the connection was closed")
        if wire is not None:
            await wire.close()
        if keeper is not None:
            await asyncio.gather(keeper, return_exceptions=True)

    def abandon(self) -> None:
        """End as in a crash: no goodbye, nobody is told."""
        wire = self._wire
        self._forget("the client ended")
        if wire is not None:
            wire.drop()

    # ----------------------------------------------------------------------- the keeper

    def _start(self) -> None:
        """Keep a connection from now on; after a refusal, try anew."""
        if self._closed or self._keeper is not None:
            return
        raise_file_limit()
        self._failure = None
        self._keeper = asyncio.create_task(self._keep(), name=f"amqp {self.name} {self.role}")

    async def _usable(self) -> Wire:
        self._start()
        while not (self._up.is_set() and self._wire is not None and self._wire.alive):
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        return self._wire

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        shortest, longest = PAUSE_SECONDS
        pause = shortest
        while True:
            started = loop.time()
            try:
                lost = await self._live()
            except Lost as error:
                lost = error
            except ChatlabError as error:
                self._fail(error)
                return
            if not isinstance(lost, Lost):
                self._fail(lost)
                return
            self._note(lost)
            self.failing.set()
            pause = shortest if loop.time() - started > GOOD_SECONDS else pause
            pause = longest if isinstance(lost, Forced) else pause
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, longest)

    async def _live(self) -> ChatlabError:
        """Connect, rebuild, and wait for the end; returns why it ended."""
        over: asyncio.Future[ChatlabError] = asyncio.get_running_loop().create_future()

        def on_lost(error: ChatlabError) -> None:
            self._down(error)
            if not over.done():  # cancelled by close
                over.set_result(error)

        self.serial = next(_serials)
        self._wire = wire = await Wire.open(
            self.address,
            {"connection_name": self.name, "role": self.role, "serial": self.serial},
            heartbeat=self.heartbeat,
            timeout=self.deadline,
            on_lost=on_lost,
        )
        try:
            async with asyncio.timeout(2 * self.deadline):
                await self._rebuild(wire)
        except (TimeoutError, Lost) as error:
            wire.drop()
            raise Lost(f"{wire.where} did not answer while we came back.") from error
        self._note(None)
        self.failing.clear()
        self._up.set()
        self._changed.set()
        return await over

    async def _rebuild(self, wire: Wire) -> None:
        new = False
        for thing in self.topology:
            try:
                new |= await self._declare(wire, thing)
            except Lost:
                raise
            except ChatlabError as error:
                self._end_consumers_of(thing, error)
        if new:
            await settled(await self._control_channel(wire))
        for consumer in self._consumers[:]:
            if consumer.finished:
                self._consumers.remove(consumer)
                continue
            try:
                await self._attach(wire, consumer)
            except Lost:
                raise
            except ChatlabError as error:
                consumer.end(error)
        await self._attach_publisher(wire)

    async def _attach_publisher(self, wire: Wire) -> None:
        if self.role == "consuming":
            return
        channel = await wire.channel()
        await self.publisher.attach(channel)

        def closed(error: ChatlabError) -> None:
            if wire.alive:
                self._forget_missing(error)
                self.publisher.refused(error)
                self._in_background(self._reopen_publisher(wire))

        channel.on_closed = closed

    async def _reopen_publisher(self, wire: Wire) -> None:
        with suppress(ChatlabError):  # the wire is lost: the keeper attaches it
            await self._attach_publisher(wire)

    def _forget_missing(self, error: ChatlabError) -> None:
        """An exchange that is gone is declared again by the next who needs it."""
        for thing in list(self.topology):
            if isinstance(thing, Exchange) and f"'{thing.name}'" in error.what:
                self.topology.forget_exchange(thing.name)

    def _end_consumers_of(self, thing: Thing, error: ChatlabError) -> None:
        for consumer in self._consumers:
            if queue_of(thing) in (consumer.queue, consumer.lock or consumer.queue):
                consumer.end(error)

    def _down(self, error: ChatlabError) -> None:
        """The wire is lost; called once, at once."""
        self._up.clear()
        self._wire = None
        self._control = None
        self._spare.clear()
        self._note(error)
        self.publisher.detach()
        for consumer in self._consumers:
            consumer.detach(error)

    def _note(self, trouble: ChatlabError | None) -> None:
        self._trouble = trouble
        self.publisher.trouble = trouble.what if trouble is not None else ""

    def _fail(self, error: ChatlabError) -> None:
        """RabbitMQ refuses us: all that waits or consumes here ends with ``error``."""
        self._failure = error
        self.failing.set()
        self._keeper = None
        self.topology = Topology()
        self._changed.set()
        self.publisher.fail(error.what)
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.end(error)

    def _forget(self, reason: str) -> None:
        self._closed = True
        for task in (self._keeper, *self._tasks):
            if task is not None:
                task.cancel()
        self._failure = ChatClosed(f"Nothing can be done here any more: {reason}.")
        self._up.clear()
        self._changed.set()
        self._wire = None
        for consumer in self._consumers:
            consumer.abandon()
        self._consumers.clear()
        self.publisher.fail(reason)

    # ------------------------------------------------------------------------- one step

    async def _control_channel(self, wire: Wire) -> Channel:
        control = self._control
        if control is None or not control.usable or control.wire is not wire:
            control = self._control = await wire.channel()
        return control

    async def _declare(self, wire: Wire, thing: Thing) -> bool:
        while True:
            control = await self._control_channel(wire)
            try:
                new = await thing.declare(control)
                break
            except Locked as error:
                # An exclusive queue is held by a connection of ours that RabbitMQ has not
                # yet missed, or by an older life of this user.
                self._note(error)
                await evict(self.address, self.name, self.role, self.serial)
                await asyncio.sleep(PAUSE_SECONDS[0])
        if isinstance(self._trouble, Locked):
            self._note(None)
        return new

    async def _attach(self, wire: Wire, consumer: Consumer) -> None:
        before = consumer.sole and await self._consumer_count(wire, consumer.queue)
        await consumer.attach(await wire.channel())
        if not consumer.sole:
            return
        if before or await self._consumer_count(wire, consumer.queue) > 1:
            self._in_background(self._evict_ghosts(wire, consumer))

    async def _evict_ghosts(self, wire: Wire, consumer: Consumer) -> None:
        """Until nobody else consumes a queue that is only ours to consume.

        A quorum queue counts its active consumer only, so that we and a ghost are one; there
        the proof is that a connection was closed.
        """
        pause = PAUSE_SECONDS[0]
        closed = 0
        try:
            async with asyncio.timeout(GHOST_SECONDS):
                while not closed or await self._consumer_count(wire, consumer.queue) > 1:
                    closed += await evict(self.address, self.name, self.role, self.serial)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, PAUSE_SECONDS[1])
        except (Lost, TimeoutError):
            pass  # asked again after a reconnect; or it goes when its heartbeat runs out
        except ChatlabError as error:  # Taken: we are the ghost
            consumer.end(error)
            await consumer.close()

    async def _consumer_count(self, wire: Wire, queue: str) -> int:
        control = await self._control_channel(wire)
        answer = await control.call("queue_declare", queue=queue, passive=True)
        return int(answer.consumer_count)

    async def _tell(
        self, wire: Wire, items: Sequence[Outgoing], outcomes: list[Outcome]
    ) -> None:
        """Write what has no outcome yet, a burst at a time."""
        blind = self._blind
        if blind is None or not blind.usable or blind.wire is not wire:
            # Also after RabbitMQ closed it because of a message (no such exchange):
            # without confirms nobody is told.
            blind = self._blind = await wire.channel()
        for item in items[len(outcomes) :]:
            try:
                written = blind.send("basic_publish", *item)
            except InvalidInput as error:
                outcomes.append(Outcome("failed", error.what, "InvalidInput"))
                continue
            if not written:
                return
            outcomes.append(SENT)
            if not len(outcomes) % WRITE_BURST:
                await asyncio.sleep(0)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _depth(self, queue: str) -> Depth | None:
        async def step(wire: Wire) -> Depth | None:
            channel = self._spare.pop() if self._spare else await wire.channel()
            try:
                answer: Any = await channel.call("queue_declare", queue=queue, passive=True)
            except NotFound:
                return None
            except Locked:
                return Depth(None, None)
            except asyncio.CancelledError:
                channel.discard()
                raise
            if len(self._spare) < SPARE_CHANNELS:
                self._spare.append(channel)
            else:
                await channel.close()
            return Depth(answer.message_count, answer.consumer_count)

        return await self.run(step)
