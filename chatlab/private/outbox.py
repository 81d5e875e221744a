"""What one client has sent and has no answer for: order, batches, outcomes. No I/O.

A message waits, is in flight, and is answered; a lost connection makes all that is in flight
wait again, in order, before anything newer. What has left once and is never answered is
*uncertain*; what never left has *failed*.

::

    put ──► waiting ──take──► in flight ──answer──► receipt
               ▲                 │
               └─────rewind──────┘         give_up: from either to failed or uncertain
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from chatlab import messages as values
from chatlab.client import Life
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, Message, Receipt
from chatlab.private import wire
from chatlab.v1 import private_chat_pb2 as pb

#: The conversation of two users; looked up once a fact.
chat_of = lru_cache(maxsize=4096)(values.private)

#: Frames on their way without an answer.
FRAMES_IN_FLIGHT = 8


class Job:
    """The messages of one ``send``; ``done`` when each has its receipt."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.receipts: list[Receipt | None] = [None] * len(messages)
        self.open = len(messages)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Moved on by each answer; whoever waits reschedules its deadline.
        self.timeout: asyncio.Timeout | None = None

    def answer(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


class _Item:
    """One message of a job."""

    __slots__ = ("index", "job", "left", "message")

    def __init__(self, message: Message, job: Job, index: int) -> None:
        self.message = message
        self.job = job
        self.index = index
        self.left = False

    @property
    def answered(self) -> bool:
        return self.job.receipts[self.index] is not None


class Outbox:
    """The outbox of one life of a client; records what becomes of each message."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._waiting: deque[_Item] = deque()
        self._flying: deque[list[_Item]] = deque()

    def __len__(self) -> int:
        """Messages without an answer, those given up excepted."""
        items = [*self._waiting, *(item for frame in self._flying for item in frame)]
        return sum(not item.answered for item in items)

    @property
    def ready(self) -> bool:
        """Whether a frame may leave now."""
        return bool(self._waiting) and len(self._flying) < FRAMES_IN_FLIGHT

    def put(self, messages: Sequence[Message]) -> Job:
        """Record Sent for each and let them wait."""
        job = Job(messages)
        for index, message in enumerate(messages):
            self._life.fact("Sent", chat_of(message.sender, message.to), message)
            self._waiting.append(_Item(message, job, index))
        return job

    def take(self) -> list[Message]:
        """The next frame, now in flight: what waits, oldest first, within its limits."""
        frame: list[_Item] = []
        size = 0
        while self._waiting and len(frame) < BATCH_MESSAGES:
            item = self._waiting[0]
            if item.answered:  # given up meanwhile
                self._waiting.popleft()
                continue
            size += wire.size_of(item.message.body)
            if frame and size > BATCH_BYTES:
                break
            item.left = True
            frame.append(self._waiting.popleft())
        if frame:
            self._flying.append(frame)
        return [item.message for item in frame]

    def answer(self, runs: Sequence[pb.Receipt]) -> None:
        """The oldest frame in flight was answered."""
        frame = self._flying.popleft()
        first = 0
        for run in runs:
            items = frame[first : first + run.count]
            first += run.count
            answers = wire.receipts(run, [item.message.id for item in items])
            for item, receipt in zip(items, answers, strict=True):
                if not item.answered:
                    self._settle(item, receipt)
        for job in {item.job for item in frame}:
            if job.timeout is not None and job.open:
                job.timeout.reschedule(
                    asyncio.get_running_loop().time() + self._life.settings.send_seconds
                )

    def rewind(self) -> None:
        """The connection is lost: what was in flight waits again, before all else."""
        for frame in reversed(self._flying):
            self._waiting.extendleft(reversed(frame))
        self._flying.clear()

    def give_up(self, job: Job | None, reason: str, error: str = "") -> None:
        """Answer what a job (None: every job) has open: failed, or uncertain if it left.

        Args:
            reason: why, for people.
            error: the class of the error that would say the same of what never left.
        """
        items = [*(item for frame in self._flying for item in frame), *self._waiting]
        for item in items:
            if (job is None or item.job is job) and not item.answered:
                id = item.message.id
                self._settle(
                    item,
                    Receipt(id, "uncertain", reason=reason)
                    if item.left
                    else Receipt(id, "failed", reason=reason, error=error),
                )
        self._waiting = deque(item for item in self._waiting if not item.answered)

    def _settle(self, item: _Item, receipt: Receipt) -> None:
        item.job.answer(item.index, receipt)
        life, message = self._life, item.message
        chat = chat_of(message.sender, message.to)
        if receipt.outcome == "confirmed":
            life.fact("Confirmed", chat, message.id, receipt.waiting, receipt.listeners)
        elif receipt.outcome == "failed":
            life.fact("Failed", chat, message.id, receipt.reason)
        else:
            life.fact("Uncertain", chat, message.id, receipt.reason)
            life.unsettled(message)
            return
        life.settled(message.id)
