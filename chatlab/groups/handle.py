"""What the members of a group share, whatever stores or carries its messages.

A backend adds the seven verbs below the line "what a backend adds". The order of the facts,
the repeated attempts, and what a receipt says are the same for all of them:

- ``Sent`` is recorded before a message leaves, ``Delivered`` before it is acknowledged.
- A batch that could not be sent is sent again with the same ids, before anything new, until
  ``send_seconds`` are over. Then it *failed* if no attempt can have had an effect; otherwise
  it is *uncertain*.
- A lost connection is recorded as Disconnected with the reason, then made again with
  back-off. What was missed meanwhile is one more pair of Disconnected (the reason says how
  many) and Connected: a gap is reported, never hidden.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress, repeat
from typing import Any

from chatlab import messages as m
from chatlab.amqp import Connections
from chatlab.backends import parse_backend
from chatlab.backoff import BACKOFF_SECONDS, patiently
from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError, SendUncertain, ServiceUnavailable
from chatlab.groups.member import OnEnd, Registry
from chatlab.messages import Message, Receipt

#: At a goodbye, what has already arrived here is shown within this time, in seconds.
DRAIN_SECONDS = 1.0
#: Services that do not answer a goodbye within this time are not waited for, in seconds.
GOODBYE_SECONDS = 2.0


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


class Handle(ABC):
    """One user's handle on one group; see :class:`chatlab.groups.GroupMember`."""

    def __init__(
        self,
        life: Life,
        connections: Connections,
        registry: Registry,
        group: str,
        backend: str,
        on_message: OnMessage,
        on_end: OnEnd | None = None,
    ) -> None:
        self.group = group
        self.backend = backend
        self.subscribed = False
        self.connected = False
        #: Messages known to have been missed since the handle was made.
        self.missed = 0
        self._life = life
        self._registry = registry
        self._options: dict[str, Any] = parse_backend(backend)[1]
        self._on_message = on_message
        self._on_end = on_end
        self._chat = m.group(group)
        self._seen = life.seen(self._chat)
        self._last_ids: dict[str, str] = {}
        self._receiver: asyncio.Task[None] | None = None
        #: One verb at a time; and one send at a time, in order.
        self._verb = asyncio.Lock()
        self._turn = asyncio.Lock()

    # ---------------------------------------------------------- what a backend adds

    @abstractmethod
    async def _enrol(self) -> None:
        """From now on the group's messages are meant for this user. Raises Taken."""

    @abstractmethod
    async def _attach(self) -> None:
        """Begin to receive. Raises Taken."""

    @abstractmethod
    async def _reattach(self) -> str:
        """The same after a lost connection. Returns what was missed, in words."""

    @abstractmethod
    async def _show_all(self) -> None:
        """Show what comes; ends when :meth:`_stop` was called and the rest is shown.

        Raises:
            ServiceUnavailable, SendUncertain: the connection is lost.
            Taken, ChatClosed: the membership has ended.
        """

    @abstractmethod
    def _stop(self) -> None:
        """Let :meth:`_show_all` end."""

    @abstractmethod
    async def _detach(self) -> None:
        """Receive no more; the subscription stays."""

    @abstractmethod
    async def _leave(self) -> None:
        """Remove what is stored for this user."""

    @abstractmethod
    async def _post(self, batch: Sequence[Message]) -> Answer:
        """One attempt to send; it may be repeated."""

    @abstractmethod
    def _drop(self) -> None:
        """Drop connections at once."""

    # ------------------------------------------------------------------- membership

    async def subscribe(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._subscribe()

    async def connect(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            if self._receiver is not None:
                return
            await self._subscribe()
            await self._attach()
            try:
                await self._enter(connected=True)
            except BaseException:
                self._stop()
                with suppress(ChatlabError):
                    await self._detach()
                raise
            self._came()
            self._receiver = asyncio.create_task(self._receive())

    async def disconnect(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._disconnect()

    async def unsubscribe(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._disconnect()
            await self._leave()
            await self._registry.leave_group(self.group, self._life.user)
            if self.subscribed:
                self.subscribed = False
                self._life.fact("Left", self._chat)

    async def close(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        await self.disconnect()
        self._drop()

    def abandon(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        if self._receiver is not None:
            self._receiver.cancel()
        self._receiver = None
        self.connected = False
        self._drop()

    def state(self) -> dict[str, Any]:
        """See :class:`chatlab.groups.GroupMember`."""
        return {
            "backend": self.backend,
            "subscribed": self.subscribed,
            "connected": self.connected,
            "last ids": dict(self._last_ids),
            "missed": self.missed,
        }

    async def _subscribe(self) -> None:
        if self.subscribed:
            return
        await self._registry.open_group(self.group, self.backend)
        await self._enrol()
        await self._enter(connected=False)
        self.subscribed = True
        self._life.fact("Subscribed", self._chat, self.backend)

    async def _enter(self, *, connected: bool) -> None:
        life = self._life
        await self._registry.enter_group(self.group, life.user, life.incarnation, connected)

    async def _disconnect(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        self._stop()
        idle = not self._life.gate.is_set() or not self.connected
        await asyncio.wait([receiver], timeout=0 if idle else DRAIN_SECONDS)
        if self._receiver is None:  # it ended by itself while we waited
            return
        receiver.cancel()
        await asyncio.wait([receiver])
        self._gone("")
        self._receiver = None
        # A goodbye to services that are away is not an error: the connection is gone with
        # what it held, and the name server knows by the lease.
        with suppress(ChatlabError, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                with suppress(ChatlabError):
                    await self._detach()
                await self._enter(connected=False)

    # -------------------------------------------------------------------- receiving

    async def _receive(self) -> None:
        """Show what comes until stopped or ended; connect again when that is lost."""
        try:
            while True:
                try:
                    return await self._show_all()
                except (ServiceUnavailable, SendUncertain) as error:
                    self._gone(error.what)
                missed = await patiently(self._again)
                self._came()
                if missed:
                    self._gap(missed)
        except ChatlabError as error:
            self._ended(error)

    async def _again(self) -> str:
        await self._enter(connected=True)
        return await self._reattach()

    def _show(self, messages: Sequence[Message], again: int = 0) -> None:
        """Show what this life has not seen; the first ``again`` are marked redelivered."""
        life, chat = self._life, self._chat
        flags = [number < again for number in range(len(messages))]
        new = self._seen.add_all([message.id for message in messages])
        if not all(new):
            copies = [x.id for x, first in zip(messages, new, strict=True) if not first]
            life.facts("Discarded", chat, copies)
            flags = list(compress(flags, new))
            messages = list(compress(messages, new))
        if not messages:
            return
        life.clock.see(*(message.clock for message in messages))
        self._last_ids.update((message.sender, message.id) for message in messages)
        life.facts("Delivered", chat, messages, flags)
        for message, redelivered in zip(messages, flags, strict=True):
            self._on_message(message, redelivered)

    def _came(self) -> None:
        self.connected = True
        self._life.fact("Connected", self._chat, self.backend, "member")

    def _gone(self, reason: str) -> None:
        if self.connected:
            self.connected = False
            self._life.fact("Disconnected", self._chat, reason)

    def _gap(self, what: str) -> None:
        """Report that messages were missed although the user did not leave."""
        self._gone(what)
        self._came()

    def _ended(self, error: ChatlabError) -> None:
        """A newer client took over, or what was stored for this user is gone."""
        self._receiver = None
        self._gone(error.what)
        self._drop()
        if isinstance(error, ChatClosed):  # subscribing again is a new beginning
            self.subscribed = False
        if self._on_end is not None:
            self._on_end(error)

    # ---------------------------------------------------------------------- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """See :class:`chatlab.groups.GroupMember`."""
        if messages:
            self._life.facts("Sent", self._chat, messages)
        until = asyncio.get_running_loop().time() + self._life.settings.send_seconds
        receipts: list[Receipt] = []
        async with self._turn:
            for batch in m.batches(messages):
                receipts += await self._send(batch, until)
        return receipts

    async def _send(self, batch: Sequence[Message], until: float) -> list[Receipt]:
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
                return self._receipts(batch, answer)
            await asyncio.sleep(min(pause * random.uniform(0.5, 1), until - loop.time()))  # noqa: S311
            pause = min(2 * pause, longest)
        if unsure is not None:
            return self._uncertain(batch, unsure)
        return [self._failed(message, error.what, type(error).__name__) for message in batch]

    def _receipts(self, batch: Sequence[Message], answer: Answer) -> list[Receipt]:
        life, chat = self._life, self._chat
        life.settled(*(message.id for message in batch))
        if not answer.refused:
            ids = [message.id for message in batch]
            if answer.nobody:
                reason = f"nobody else listens to {self.group}"
                life.facts("Returned", chat, ids, repeat(reason))
                return [Receipt(id, "unroutable", 0, 0, reason) for id in ids]
            life.facts(
                *("Confirmed", chat, ids), repeat(answer.waiting), repeat(answer.listeners)
            )
            return [Receipt(id, "confirmed", answer.waiting, answer.listeners) for id in ids]
        receipts = []
        accepted = Answer(answer.listeners, answer.waiting, answer.nobody)
        for index, message in enumerate(batch):
            if index not in answer.refused:
                receipts += self._receipts([message], accepted)
            else:
                receipts.append(self._failed(message, answer.refused[index], "MailboxFull"))
        return receipts

    def _failed(self, message: Message, reason: str, error: str) -> Receipt:
        self._life.settled(message.id)
        self._life.fact("Failed", self._chat, message.id, reason)
        return Receipt(message.id, "failed", reason=reason, error=error)

    def _uncertain(self, batch: Sequence[Message], error: ChatlabError) -> list[Receipt]:
        for message in batch:
            self._life.unsettled(message)
        ids = [message.id for message in batch]
        self._life.facts("Uncertain", self._chat, ids, repeat(error.what))
        return [
            Receipt(id, "uncertain", reason=error.what, error="SendUncertain") for id in ids
        ]
