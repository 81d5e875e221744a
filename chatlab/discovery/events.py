"""Discovery by events, scatter/gather: everybody is asked, everybody answers for itself.

The question goes to the fanout exchange that the presence queue of every online user is bound
to (:mod:`chatlab.discovery.announcement`); the answers come to an exclusive queue of the asker
and are told apart by their correlation ids, so one asker may have several questions out. A
question is over when nothing is missing or when its time is:

- Nothing is missing when all whose queues were bound as it went out have answered. Who that
  is the management API tells, which is asked at the same time; or the caller does.
- Without either, nobody can know that somebody is missing: answers are collected until the
  deadline. Only when nobody at all is bound, RabbitMQ says so at once (the question returns).

An answer is as true as its sender, and as new as its way here. A frozen client and one that
hangs are seen as what they are: silent. Who is away is not seen at all, nor is a group whose
members are all away.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress

from chatlab.amqp import Connections, Consumer, Delivery, Exchange, Outcome, Queue
from chatlab.discovery.names import ANSWERS, EXCHANGE, PRESENCE
from chatlab.discovery.presence import Presence, Presences
from chatlab.discovery.questions import Answer, Question, check_seconds
from chatlab.errors import ChatClosed, ChatlabError, InvalidInput, ServiceUnavailable
from chatlab.journal import now
from chatlab.messages import check_name
from chatlab.services.management import Management

SOURCE = "events"
#: How long answers are collected, in seconds, unless something else is said.
TIMEOUT = 1.0
#: Answers that wait to be read; the oldest go first. Also how many one question may have.
MOST_ANSWERS = 10_000
#: RabbitMQ gets so many seconds for a goodbye.
CLOSE_SECONDS = 1.0


class Asker:
    """Asks everybody who is online.

    Args:
        connections: the asker's own; they stay the caller's to close.
        management: tells who must answer; ``None``: there is no such API.
        vhost: the virtual host that is asked about.
    """

    def __init__(
        self, connections: Connections, management: Management | None, vhost: str
    ) -> None:
        #: Answers that were dropped: ``late``, ``repeated`` or ``bad`` -> how many.
        self.dropped: Counter[str] = Counter()
        self._connections = connections
        self._management = management
        self._vhost = vhost
        self._queue = ANSWERS + secrets.token_hex(8)
        self._rounds: dict[str, _Round] = {}
        self._collector: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def ask(
        self, timeout: float = TIMEOUT, expect: Collection[str] | None = None
    ) -> Presences:
        """Who is there; who did not answer is in ``silent``.

        ``messages`` of the answer counts the question, its copies (one a bound queue; where
        that is not known, one a user who answered) and the answers that came in.

        Args:
            timeout: seconds after which nothing more is waited for.
            expect: the names that must answer, instead of all whose queues are bound.

        Raises:
            InvalidInput: a time or a name that cannot be.
            ServiceUnavailable: RabbitMQ is not there, or went away meanwhile.
            ChatlabError: RabbitMQ refuses (its virtual host is gone).
        """
        seconds = check_seconds(timeout)
        awaited = None if expect is None else _names(expect)
        await self._open()
        question = Question(secrets.token_hex(8), self._queue, now(), seconds)
        one = self._rounds[question.id] = _Round(question, awaited)
        work = [asyncio.create_task(self._scatter(one))]
        if awaited is None and self._management is not None:
            work.append(asyncio.create_task(self._look(one, self._management)))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await one.over.wait()
        finally:
            del self._rounds[question.id]
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        for task in work:
            if not task.cancelled():
                task.result()
        return one.result()

    async def close(self) -> None:
        """Give up the queue; who still collects is told."""
        self.abandon()
        consuming = self._connections.consuming
        if self._collector is None:
            return
        await asyncio.wait([self._collector])
        if consuming.up:
            with suppress(ChatlabError, TimeoutError):  # then it goes with the connection
                async with asyncio.timeout(CLOSE_SECONDS):
                    await consuming.delete_queue(self._queue)

    def abandon(self) -> None:
        """As :meth:`close`, without a word to RabbitMQ."""
        self._break(ChatClosed("Who asked has ended."))
        if self._collector is not None:
            self._collector.cancel()

    # --------------------------------------------------------------------- scattering

    async def _open(self) -> None:
        """Be able to ask: both connections up, the queue there and listened to."""
        consuming, publishing = self._connections.consuming, self._connections.publishing
        async with self._opening:
            if self._collector is None or self._collector.done():
                bounded = {"x-max-length": MOST_ANSWERS}
                await consuming.declare(Queue(self._queue, exclusive=True, arguments=bounded))
                ear = Consumer(self._queue, prefetch=0, auto_ack=True, on_lost=self._break)
                await consuming.consume(ear)
                self._collector = asyncio.create_task(self._collect(ear))
            # In this order: after a loss the queue is there again when the question goes.
            await consuming.ready()
            await publishing.ensure(Exchange(EXCHANGE))
            await publishing.ready()

    async def _scatter(self, one: _Round) -> None:
        publishing = self._connections.publishing
        batch = publishing.submit([one.question.outgoing()])
        try:
            # Longer than the round: it is given up from there.
            await publishing.outcomes(batch, patience=2 * one.question.seconds)
        finally:
            one.asked(batch.results[0])

    async def _look(self, one: _Round, management: Management) -> None:
        """Learn who must answer."""
        with suppress(ServiceUnavailable):  # then the deadline ends the round
            bindings = await management.get(
                *("exchanges", self._vhost, EXCHANGE, "bindings", "source"),
                columns="destination",
            )
            one.bound([binding["destination"] for binding in bindings or ()])

    # ---------------------------------------------------------------------- gathering

    async def _collect(self, ear: Consumer) -> None:
        try:
            while deliveries := await ear.take():
                for delivery in deliveries:
                    self._file(delivery)
                await asyncio.sleep(0)  # a flood must not keep the others from the loop
        except ChatlabError as error:  # the next question opens it anew
            self._break(error)
        finally:
            await ear.close()

    def _file(self, delivery: Delivery) -> None:
        one = self._rounds.get(delivery.properties.correlation_id or "")
        if one is None:
            self.dropped["late"] += 1
            return
        answer = Answer.read(delivery)
        if answer is None or not one.has_room_for(answer.name):
            self.dropped["bad"] += 1
        elif not one.take(answer):
            self.dropped["repeated"] += 1

    def _break(self, error: ChatlabError) -> None:
        """Answers may have been lost: those who wait for them cannot be told who is there."""
        for one in self._rounds.values():
            one.broken(error)


class _Round:
    """One question and what is known of it so far."""

    def __init__(self, question: Question, awaited: frozenset[str] | None) -> None:
        self.question = question
        self.over = asyncio.Event()
        self._awaited = awaited
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._outcome: Outcome | None = None
        self._failure: ChatlabError | None = None
        #: Name -> answer, and when it came.
        self._answers: dict[str, tuple[Answer, float]] = {}
        self._received = 0
        self._copies: int | None = None

    # What happens to it.

    def asked(self, outcome: Outcome | None) -> None:
        """What became of the question."""
        self._outcome = outcome
        self._look()

    def bound(self, queues: list[str]) -> None:
        """The queues that got it."""
        self._copies = len(queues)
        self._awaited = frozenset(
            queue.removeprefix(PRESENCE) for queue in queues if queue.startswith(PRESENCE)
        )
        self._look()

    def broken(self, error: ChatlabError) -> None:
        """Answers may have been lost."""
        self._failure = error
        self.over.set()

    def has_room_for(self, name: str) -> bool:
        """Whether one more answer is believed."""
        return name in self._answers or len(self._answers) < MOST_ANSWERS

    def take(self, answer: Answer) -> bool:
        """Take it in; False when this user has answered before. Then the newest life counts."""
        self._received += 1
        known = self._answers.get(answer.name)
        if known is None or known[0].incarnation < answer.incarnation:
            self._answers[answer.name] = answer, self._loop.time()
        self._look()
        return known is None

    def _look(self) -> None:
        """Is there anything left to wait for?"""
        if self._outcome is None:
            return
        missing = self._awaited is None or self._awaited - self._answers.keys()
        if self._outcome.kind not in ("acked", "nacked") or not missing:
            self.over.set()

    # What it comes to.

    def result(self) -> Presences:
        """The answer.

        Raises:
            ServiceUnavailable: it could not be asked, or the answers not be collected.
        """
        self._check()
        ended = self._loop.time()
        copies = len(self._answers) if self._copies is None else self._copies
        return Presences(
            [*self._users(ended), *self._groups(ended)],
            via=SOURCE,
            seconds=ended - self._began,
            messages=1 + copies + self._received,
            silent=(self._awaited or frozenset()) - self._answers.keys(),
        )

    def _check(self) -> None:
        if self._failure is not None:
            raise ServiceUnavailable(
                f"The answers could not be collected: {self._failure.what}"
            ) from self._failure
        outcome = self._outcome
        if outcome is None or outcome.kind in ("acked", "nacked", "returned"):
            return
        if not self._answers:  # whoever answers was asked, confirmed or not
            reason = outcome.reason.rstrip(".")
            raise ServiceUnavailable(f"The question could not be asked: {reason}.")

    def _users(self, ended: float) -> Iterator[Presence]:
        for answer, came in self._answers.values():
            yield Presence(
                answer.name,
                "private",
                answer.address,
                since=answer.since,
                source=SOURCE,
                age=ended - came,
                incarnation=answer.incarnation,
            )

    def _groups(self, ended: float) -> Iterator[Presence]:
        """Each group as its members have told of it."""
        told: dict[str, dict[str, bool]] = {}
        backends: dict[str, str] = {}
        ages: dict[str, float] = {}
        for answer, came in self._answers.values():
            for group, backend, connected in answer.groups:
                told.setdefault(group, {})[answer.name] = connected
                backends.setdefault(group, backend)
                ages[group] = max(ages.get(group, 0.0), ended - came)
        for group, members in told.items():
            yield Presence(
                group,
                "group",
                group,
                members=tuple(sorted(name for name in members if members[name])),
                away=tuple(sorted(name for name in members if not members[name])),
                backend=backends[group],
                source=SOURCE,
                age=ages[group],
            )


def _names(expect: Collection[str]) -> frozenset[str]:
    if isinstance(expect, str):
        raise InvalidInput("Those expected are a list of names, not one text.")
    return frozenset(map(check_name, expect))
