"""What all memberships share, whatever stores or carries the group's messages.

The verbs, their order and their facts are here; a backend adds the methods below the line
"what a backend adds". Two families are built on this one: :mod:`chatlab.groups.handle` (Redis
and memory) and :mod:`chatlab.groups.rabbitmq`.

``Sent`` is recorded before a message leaves, ``Delivered`` before it is acknowledged. A lost
connection is recorded as Disconnected with the reason, its return as Connected. Facts of
messages that come or go together are recorded together, one call for each run of the same.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from chatlab import messages as m
from chatlab.amqp import Connections
from chatlab.backends import parse_backend, shared_text
from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError
from chatlab.groups.member import OnEnd, Registry
from chatlab.messages import Message, Receipt

#: At a goodbye, what has already arrived here is shown within this time, in seconds.
DRAIN_SECONDS = 1.0
#: A service that does not answer a goodbye within this time is not waited for, in seconds.
GOODBYE_SECONDS = 2.0

#: Outcome of a message -> the fact that says the same.
_TOLD = {"unroutable": "Returned", "failed": "Failed", "uncertain": "Uncertain"}


class Membership(ABC):
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
        self.backend = shared_text(backend)
        self.subscribed = False
        #: Whether :meth:`_enrol` begins at the first message that is kept.
        self._from_first = False
        self.connected = False
        self._life = life
        self._connections = connections
        self._registry = registry
        #: All options, also those that are this member's own.
        self._options: dict[str, Any] = parse_backend(backend)[1]
        self._on_message = on_message
        self._on_end = on_end
        self._chat = m.group(group)
        self._seen = life.seen(self._chat)
        self._last_ids: dict[str, str] = {}
        #: Runs from connect to disconnect, also while the connection is lost.
        self._receiver: asyncio.Task[None] | None = None
        #: One verb at a time.
        self._verb = asyncio.Lock()

    # ---------------------------------------------------------- what a backend adds

    @abstractmethod
    async def _enrol(self) -> None:
        """From now on the group's messages are meant for this user. Raises Taken."""

    @abstractmethod
    async def _attach(self) -> None:
        """Begin to receive. Raises Taken."""

    @abstractmethod
    async def _receive(self) -> None:
        """Show what comes; return when :meth:`_stop` was called and the rest is shown.

        Raises:
            ChatlabError: the membership has ended; ChatClosed: with what was stored for it.
        """

    @abstractmethod
    async def _stop(self) -> None:
        """Let :meth:`_receive` return."""

    @abstractmethod
    async def _detach(self) -> None:
        """Receive no more; the subscription stays."""

    async def _leave(self) -> None:
        """Remove what is stored for this user, and the membership."""
        await self._registry.leave_group(self.group, self._life.user)

    @abstractmethod
    async def _send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send in order; :meth:`_told` what became of each."""

    @abstractmethod
    def _drop(self) -> None:
        """Drop at once what :meth:`_attach` made."""

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
                with suppress(ChatlabError):
                    await self._detach()
                raise
            self._came()
            self._receiver = asyncio.create_task(self._until_the_end())

    async def disconnect(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._disconnect()

    async def unsubscribe(self) -> None:
        """See :class:`chatlab.groups.GroupMember`."""
        async with self._verb:
            await self._disconnect()
            await self._leave()
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
        }

    async def _subscribe(self) -> None:
        if self.subscribed:
            return
        await self._registry.open_group(self.group, self.backend)
        await self._enrol()
        await self._enter(connected=False)
        self.subscribed = True
        self._life.fact("Subscribed", self._chat, self.backend, self._from_first)

    async def _enter(self, *, connected: bool) -> None:
        life = self._life
        await self._registry.enter_group(self.group, life.user, life.incarnation, connected)

    async def _disconnect(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        await self._stop()
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
        for goodbye in (self._detach, partial(self._enter, connected=False)):
            with suppress(ChatlabError, TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await goodbye()

    # -------------------------------------------------------------------- receiving

    async def _until_the_end(self) -> None:
        try:
            await self._receive()
        except ChatlabError as error:
            self._ended(error)

    def _show(self, messages: Sequence[Message], marks: Sequence[bool] = ()) -> list[str]:
        """Record and show, in order: Delivered, or Discarded where this life has seen a
        message already. Returns the ids.

        Args:
            marks: which of them are redelivered; left out: none.
        """
        marks = marks or [False] * len(messages)
        ids = [message.id for message in messages]
        news = self._seen.add_all(ids)
        if ids and all(news):
            self._show_new(messages, marks)
            return ids
        for new, run in groupby(zip(news, messages, marks, strict=True), itemgetter(0)):
            _, shown, again = zip(*run, strict=True)
            if new:
                self._show_new(shown, again)
            else:
                self._life.facts("Discarded", self._chat, [message.id for message in shown])
        return ids

    def _show_new(self, messages: Sequence[Message], marks: Sequence[bool]) -> None:
        self._life.clock.see(*(message.clock for message in messages))
        self._last_ids.update((message.sender, message.id) for message in messages)
        self._life.facts("Delivered", self._chat, messages, marks)
        for message, mark in zip(messages, marks, strict=True):
            self._on_message(message, mark)

    def _came(self) -> None:
        self.connected = True
        self._life.fact("Connected", self._chat, self.backend, "member")

    def _gone(self, reason: str) -> None:
        if self.connected:
            self.connected = False
            self._life.fact("Disconnected", self._chat, reason)

    def _ended(self, error: ChatlabError) -> None:
        """Not asked for: a newer client took over, or what was stored for this user is gone."""
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
        if not messages:
            return []
        self._life.facts("Sent", self._chat, messages)
        return await self._send(messages)

    def _told(self, messages: Sequence[Message], receipts: list[Receipt]) -> list[Receipt]:
        """Record what the sender was told. Returns the receipts."""
        life, chat = self._life, self._chat
        number = 0
        for outcome, run in groupby(receipts, attrgetter("outcome")):
            ids, _, waiting, listeners, reasons, _ = zip(*run, strict=True)
            if outcome == "uncertain":
                for message in messages[number : number + len(ids)]:
                    life.unsettled(message)
            else:
                life.settled(*ids)
            number += len(ids)
            if outcome == "confirmed":
                life.facts("Confirmed", chat, ids, waiting, listeners)
            elif outcome != "sent":  # nothing was asked for
                life.facts(_TOLD[outcome], chat, ids, reasons)
        return receipts
