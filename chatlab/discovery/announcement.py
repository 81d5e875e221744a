"""Saying that one is there, so that RabbitMQ itself knows, and answering who asks.

An online user holds an exclusive queue, which exists just as long as the connection, and
binds it to the exchange of questions. The binding's arguments, which a fanout exchange
ignores, say which life it is and where it is reached: so whoever lists the bindings, or is
told of new ones by the broker, knows as much as the name server. Membership of a group is no
presence: a durable queue waits for a user who is gone.

The queue is the user's ear as well: each question that comes to it is answered straight into
the queue of who asked. A question is acknowledged when it is answered, and few are handed out
at a time, so the others wait in the queue, which is bounded, and RabbitMQ forgets them there
when they are over. A client that was frozen thus finds only what is still worth an answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from chatlab.amqp import Binding, Connection, Consumer, Delivery, Exchange, Queue
from chatlab.client import Life
from chatlab.discovery.names import EXCHANGE, PRESENCE
from chatlab.discovery.questions import Answer, Question, Told
from chatlab.errors import ChatlabError, Taken
from chatlab.journal import now

#: Questions that a frozen client has not taken; the oldest go first.
EAR_MESSAGES = 100
#: Of those so many are handed out at a time.
PREFETCH = 10
#: A RabbitMQ that is silent is waited for so long when a user comes online, in seconds; one
#: that refuses the connection is not.
PATIENCE_SECONDS = 1.0
#: Between two attempts to announce, in seconds. Each waits for a connection besides.
RETRY_SECONDS = 0.5


class Announcement:
    """One life of a user saying that it is there. :meth:`start` first.

    Args:
        connection: held as long as the user is there; the consuming one.
        life: whose gate holds the answers back while it is frozen.
        address: where the user's client is reached.
        groups: tells which groups the user is in when somebody asks.
    """

    def __init__(
        self,
        connection: Connection,
        life: Life,
        address: str,
        groups: Callable[[], Iterable[Told]] = tuple,
    ) -> None:
        #: What became of the questions: ``answered``, ``over`` or ``bad`` -> how many.
        self.counts: Counter[str] = Counter()
        self._connection = connection
        self._life = life
        self._address = address
        self._groups = groups
        self._since = round(now() * 1000)
        self._queue = PRESENCE + life.user
        self._there = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce from now on, after a lost connection again. Returns when it is done, or
        when RabbitMQ turns out not to be there: then it is done as soon as that is back."""
        self._keeper = asyncio.create_task(self._keep(), name=f"announce {self._life.user}")
        waits = [self._there.wait(), self._connection.failing.wait()]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(
                tasks, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        """Answer no more. The queue goes with the connection, which is the owner's."""
        self.abandon()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    def abandon(self) -> None:
        """As :meth:`close`, without waiting."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def _keep(self) -> None:
        """Have the queue and listen to it. What ended it (RabbitMQ not there when the user
        came online, the virtual host made anew) is over some time, so it is tried again."""
        while True:
            with suppress(ChatlabError):
                try:
                    await self._connection.declare(*self._things())
                    await self._listen()
                except Taken:  # the queue is a newer client's; the lease tells this one
                    return
            await asyncio.sleep(RETRY_SECONDS)

    def _things(self) -> tuple[Exchange, Queue, Binding]:
        said = {
            "incarnation": self._life.incarnation,
            "address": self._address,
            "since": self._since,
        }
        return (
            Exchange(EXCHANGE),
            Queue(self._queue, exclusive=True, arguments={"x-max-length": EAR_MESSAGES}),
            Binding(self._queue, EXCHANGE, arguments=said),
        )

    async def _listen(self) -> None:
        ear = Consumer(self._queue, prefetch=PREFETCH)
        await self._connection.consume(ear)
        self._there.set()
        try:
            while deliveries := await ear.take():
                for delivery in deliveries:
                    await self._life.gate.wait()
                    self._hear(ear, delivery)
        finally:
            await ear.close()

    def _hear(self, ear: Consumer, delivery: Delivery) -> None:
        question = Question.read(delivery)
        if question is None:
            self.counts["bad"] += 1
        elif question.over and not delivery.redelivered:
            # Or our clock is wrong. RabbitMQ's own decides: what is given back comes again
            # only if its time is not over there.
            self.counts["over"] += 1
            ear.reject(delivery)
            return
        elif self._answer(question, delivery):
            self.counts["answered"] += 1
        ear.ack(delivery)

    def _answer(self, question: Question, delivery: Delivery) -> bool:
        """Answer on the channel that the question came by, without a confirm.

        The publishing connection of an idle user would be opened for this alone. A memory
        alarm blocks whoever publishes, which should not be a connection that consumes; but
        while it lasts the question itself is blocked, so there is nothing to answer.
        """
        life = self._life
        answer = Answer(
            life.user,
            life.incarnation,
            self._address,
            self._since / 1000,
            tuple(self._groups()),
        )
        return delivery.channel.send("basic_publish", *answer.outgoing(question))


def announced(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a binding says of a user, as fields of a Presence; nothing that is not ours."""
    found: dict[str, Any] = {}
    if isinstance(address := arguments.get("address"), str):
        found["address"] = address
    if isinstance(life := arguments.get("incarnation"), int):
        found["incarnation"] = life
    if isinstance(since := arguments.get("since"), int):
        found["since"] = since / 1000
    return found
