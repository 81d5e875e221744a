"""Memberships that see themselves to what a RabbitMQ connection does by itself.

A backend adds to :class:`~chatlab.groups.membership.Membership` how to receive until the
connection is lost, how to attach again, and one attempt to send. The rest is here:

- A lost connection is made again with back-off. What was missed meanwhile is one more pair of
  Disconnected (the reason says how many) and Connected: a gap is reported, never hidden.
- A batch that could not be sent is sent again with the same ids, before anything new, until
  ``send_seconds`` are over. Then it *failed* if no attempt can have had an effect; otherwise
  it is *uncertain*.
"""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatlab import messages as m
from chatlab.backoff import BACKOFF_SECONDS, patiently
from chatlab.errors import ChatlabError, SendUncertain, ServiceUnavailable
from chatlab.groups.membership import Membership
from chatlab.messages import Message, Receipt


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a batch."""

    #: Other members that receive now.
    listeners: int
    #: Messages that now wait for other members that do not.
    waiting: int
    #: There is no other member for whom it could be.
    nobody: bool = False
    #: Index in the batch -> why that message was refused.
    refused: dict[int, str] = field(default_factory=dict)


class Handle(Membership):
    """One user's handle on one group; see :class:`chatlab.groups.GroupMember`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: Messages known to have been missed since the handle was made.
        self.missed = 0
        #: One send at a time, in order.
        self._turn = asyncio.Lock()

    # ---------------------------------------------------------- what a backend adds

    @abstractmethod
    async def _reattach(self) -> str:
        """Attach after a lost connection. Returns what was missed, in words."""

    @abstractmethod
    async def _show_all(self) -> None:
        """Receive, on one connection.

        Raises:
            ServiceUnavailable, SendUncertain: the connection is lost.
            Taken, ChatClosed: the membership has ended.
        """

    @abstractmethod
    async def _post(self, batch: Sequence[Message]) -> Answer:
        """One attempt to send; it may be repeated."""

    # -------------------------------------------------------------------- receiving

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        return super().state() | {"missed": self.missed}

    async def _receive(self) -> None:
        while True:
            try:
                return await self._show_all()
            except (ServiceUnavailable, SendUncertain) as error:
                self._gone(error.what)
            missed = await patiently(self._again)
            self._came()
            if missed:
                self._gap(missed)

    async def _again(self) -> str:
        await self._enter(connected=True)
        return await self._reattach()

    def _gap(self, what: str) -> None:
        """Report that messages were missed although the user did not leave."""
        self._gone(what)
        self._came()

    # ---------------------------------------------------------------------- sending

    async def _send(self, messages: Sequence[Message]) -> list[Receipt]:
        until = asyncio.get_running_loop().time() + self._life.settings.send_seconds
        receipts: list[Receipt] = []
        async with self._turn:
            for batch in m.batches(messages):
                receipts += self._told(batch, await self._send_batch(batch, until))
        return receipts

    async def _send_batch(self, batch: Sequence[Message], until: float) -> list[Receipt]:
        """Try until it is answered or the loop's clock says ``until``."""
        loop = asyncio.get_running_loop()
        unsure: ChatlabError | None = None
        error: ChatlabError = ServiceUnavailable(
            f"Not sent within {self._life.settings.send_seconds:g} s: what was sent before "
            "has not been answered."
        )
        pause, longest = BACKOFF_SECONDS
        while loop.time() < until:
            try:
                async with asyncio.timeout_at(until):
                    answer = await self._post(batch)
            except TimeoutError:
                unsure = error = SendUncertain(
                    f"No answer within {self._life.settings.send_seconds:g} s."
                )
            except SendUncertain as broken:
                unsure = error = broken
            except ServiceUnavailable as away:
                error = away
            except ChatlabError as refusal:
                error = refusal
                break
            else:
                if answer.nobody and unsure is not None:
                    break  # it may have reached somebody the first time
                return list(self._receipts(batch, answer))
            await asyncio.sleep(min(pause * random.uniform(0.5, 1), until - loop.time()))  # noqa: S311
            pause = min(2 * pause, longest)
        outcome: m.Outcome = "failed" if unsure is None else "uncertain"
        error = unsure or error
        name = type(error).__name__
        return [Receipt(x.id, outcome, reason=error.what, error=name) for x in batch]

    def _receipts(self, batch: Sequence[Message], answer: Answer) -> Iterator[Receipt]:
        for index, message in enumerate(batch):
            if index in answer.refused:
                reason = answer.refused[index]
                yield Receipt(message.id, "failed", reason=reason, error="MailboxFull")
            elif answer.nobody:
                reason = f"nobody else listens to {self.group}"
                yield Receipt(message.id, "unroutable", 0, 0, reason)
            else:
                yield Receipt(message.id, "confirmed", answer.waiting, answer.listeners)
