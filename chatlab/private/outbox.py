"""What one client has sent and has no answer for: order, batches, outcomes. No I/O.

A message waits, is in flight, and is answered; a lost connection makes all that is in flight
wait again, in order, before anything newer. What has left once and is never answered is
*uncertain*; what never left has *failed*.

::

    put ──► waiting ──take──► in flight ──answer──► receipt
               ▲                 │
               └─────rewind──────┘         give_up: from either to failed or uncertain

The messages of one ``send`` go through this in runs, not one by one: a :class:`_Part` is a
stretch of a job whose messages have fared alike so far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from chatlab import messages as values
from chatlab.client import Life
from chatlab.errors import ChatlabError
from chatlab.journal import now
from chatlab.messages import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    CHARACTER_BYTES,
    Message,
    Receipt,
    size_of,
)
from chatlab.private.wire import Answer

#: The conversation of two users; looked up once a fact.
chat_of = lru_cache(maxsize=4096)(values.private)

#: Messages on their way without an answer.
IN_FLIGHT = 8 * BATCH_MESSAGES


class Job:
    """The messages of one ``send``; ``done`` when each has its receipt."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.receipts: list[Receipt | None] = [None] * len(messages)
        self.open = len(messages)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Moved on by each answer; whoever waits reschedules its deadline.
        self.timeout: asyncio.Timeout | None = None

    @property
    def outcome(self) -> list[Receipt]:
        """The receipts there are."""
        return [receipt for receipt in self.receipts if receipt is not None]

    def answer(self, start: int, receipts: Sequence[Receipt]) -> None:
        self.receipts[start : start + len(receipts)] = receipts
        self.open -= len(receipts)
        if not self.open and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True)
class _Part:
    """Messages ``start`` to ``stop`` of a job."""

    job: Job
    start: int
    stop: int
    #: They have left, and may have been taken.
    left: bool = False
    #: The same for connections before the present one.
    doubtful: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def messages(self) -> Sequence[Message]:
        return self.job.messages[self.start : self.stop]

    def split(self, count: int) -> _Part:
        """Cut off the first ``count`` messages."""
        first = _Part(self.job, self.start, self.start + count, self.left, self.doubtful)
        self.start += count
        return first


class Outbox:
    """The outbox of one life of a client; records what becomes of each message.

    Args:
        life: whose.
        awaiting: receiver -> id of the newest message that was confirmed; kept up to date.
        on_work: called when a frame may be ready to leave.
    """

    def __init__(
        self, life: Life, awaiting: dict[str, str], on_work: Callable[[], object]
    ) -> None:
        self._life = life
        self._awaiting = awaiting
        self._on_work = on_work
        self._waiting: deque[_Part] = deque()
        self._flying: deque[_Part] = deque()
        self._in_flight = 0
        self._jobs: set[Job] = set()

    def __len__(self) -> int:
        """Messages without an answer, those given up excepted."""
        return sum(len(part) for part in (*self._waiting, *self._flying) if part.job.open)

    @property
    def ready(self) -> bool:
        """Whether a frame may leave now."""
        return bool(self._waiting) and self._in_flight < IN_FLIGHT

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Let them leave, and wait for their receipts.

        What has none when ``settings.send_seconds`` pass without an answer to any of these
        messages, or when the caller is cancelled, is given up.
        """
        job = self.put(messages)
        if messages:
            self._on_work()
            await self._answered(job)
        return job.outcome

    def refuse(self, messages: Sequence[Message], error: ChatlabError) -> list[Receipt]:
        """They do not leave at all, because of ``error``."""
        job = self.put(messages)
        self.give_up(job, error.what, type(error).__name__)
        return job.outcome

    async def empty(self) -> None:
        """Wait until every :meth:`send` has its receipts."""
        await asyncio.gather(*(asyncio.shield(job.done) for job in self._jobs))

    async def _answered(self, job: Job) -> None:
        seconds = self._life.settings.send_seconds
        self._jobs.add(job)
        try:
            async with asyncio.timeout(seconds) as job.timeout:
                await job.done
        except TimeoutError:
            self.give_up(job, f"no answer within {seconds:g} s")
        except asyncio.CancelledError:
            self.give_up(job, "interrupted")
            raise
        finally:
            self._jobs.discard(job)

    def put(self, messages: Sequence[Message]) -> Job:
        """Record Sent for each and let them wait."""
        job = Job(messages)
        if messages:
            life, at = self._life, now()
            common = ("Sent", at, life.user, life.incarnation)
            life.record(*[(*common, chat_of(x.sender, x.to), x) for x in messages])
            self._waiting += self._parts(job)
        return job

    def _parts(self, job: Job) -> Iterator[_Part]:
        """A whole job; those of unknown outcome, sent again, have left already."""
        start = 0
        for again, run in groupby(job.messages, self._life.is_unsettled):
            stop = start + sum(1 for _ in run)
            yield _Part(job, start, stop, left=again, doubtful=again)
            start = stop

    def take(self) -> list[Message]:
        """The next frame, now in flight: what waits, oldest first, within its limits."""
        frame: list[Message] = []
        count, size = BATCH_MESSAGES, BATCH_BYTES
        while self._waiting and count:
            part = self._waiting[0]
            if not part.job.open:  # given up meanwhile
                self._waiting.popleft()
                continue
            fitting, taken = _fitting(part, count, size, bool(frame))
            if not fitting:
                break
            first = part.split(fitting)
            first.left = True
            frame += first.messages
            count, size = count - fitting, size - taken
            self._flying.append(first)
            if not len(part):
                self._waiting.popleft()
        self._in_flight += len(frame)
        return frame

    def newest(self, count: int) -> str:
        """The id of the last of the oldest ``count`` in flight."""
        for part in self._flying:
            if count <= len(part):
                return part.messages[count - 1].id
            count -= len(part)
        raise IndexError("more than is in flight")

    def answer(self, answers: Iterable[Answer]) -> None:
        """What became of the oldest in flight, in order."""
        jobs: dict[int, Job] = {}
        for answer in answers:
            done = 0
            while done < answer.count:
                part = self._flying[0]
                first = part.split(min(len(part), answer.count - done))
                if not len(part):
                    self._flying.popleft()
                if first.job.open:
                    ids = [message.id for message in first.messages]
                    self._settle(first, answer.receipts(ids, done))
                    jobs[id(first.job)] = first.job
                done += len(first)
            self._in_flight -= done
        if self.ready:
            self._on_work()
        for job in jobs.values():
            if job.timeout is not None and job.open:
                job.timeout.reschedule(
                    asyncio.get_running_loop().time() + self._life.settings.send_seconds
                )

    def rewind(self, untaken: bool = False) -> None:
        """The connection is lost: what was in flight waits again, before all else.

        Args:
            untaken: the other side has left in order; what it did not answer, it did not take.
        """
        for part in self._flying:
            part.doubtful = part.left = part.doubtful or not untaken
        self._waiting.extendleft(reversed(self._flying))
        self._flying.clear()
        self._in_flight = 0

    def give_up(self, job: Job | None, reason: str, error: str = "") -> None:
        """Answer what a job (None: every job) has open: failed, or uncertain if it left.

        Args:
            reason: why, for people.
            error: the class of the error that would say the same of what never left.
        """
        for part in [*self._flying, *self._waiting]:
            if part.job.open and (job is None or part.job is job):
                ids = [message.id for message in part.messages]
                answer = (
                    Answer(len(ids), "uncertain", reason=reason)
                    if part.left
                    else Answer(len(ids), "failed", reason=reason, error=error)
                )
                self._settle(part, answer.receipts(ids))
        self._waiting = deque(part for part in self._waiting if part.job.open)

    def _settle(self, part: _Part, receipts: list[Receipt]) -> None:
        """The messages of a part have their receipts, all with the same outcome."""
        part.job.answer(part.start, receipts)
        life, messages, outcome = self._life, part.messages, receipts[0].outcome
        kind = _KINDS[outcome]
        common = (kind, now(), life.user, life.incarnation)
        chats = [chat_of(message.sender, message.to) for message in messages]
        if outcome == "confirmed":
            life.record(
                *[
                    (*common, chat, receipt.id, receipt.waiting, receipt.listeners)
                    for chat, receipt in zip(chats, receipts, strict=True)
                ]
            )
            self._awaiting.update([(message.to, message.id) for message in messages])
        else:
            life.record(
                *[
                    (*common, chat, receipt.id, receipt.reason)
                    for chat, receipt in zip(chats, receipts, strict=True)
                ]
            )
        if outcome == "uncertain":
            for message in messages:
                life.unsettled(message)
        else:
            life.settled(*[receipt.id for receipt in receipts])


_KINDS = {"confirmed": "Confirmed", "failed": "Failed", "uncertain": "Uncertain"}


def _fitting(part: _Part, count: int, size: int, more: bool) -> tuple[int, int]:
    """How many messages of a part, and bytes of bodies, fit into a frame.

    Args:
        count, size: the room that the frame has.
        more: something is in it already; else the first body fits in any case.
    """
    messages = part.job.messages[part.start : min(part.stop, part.start + count)]
    total = sum([len(message.body) for message in messages]) * CHARACTER_BYTES
    if total <= size:
        return len(messages), total  # more than it can be; exact sizes are seldom needed
    total = 0
    for number, message in enumerate(messages):
        length = size_of(message.body)
        if total + length > size and (more or number):
            return number, total
        total += length
    return len(messages), total
