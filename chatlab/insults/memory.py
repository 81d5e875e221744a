"""Insults in this process's memory: a stand-in, for fast tests and for reading first.

A :class:`Store` is what a broker does, in plain Python: insults that wait, listeners in the
order in which they are next, and a rule. The next insult goes to the first listener in line
that holds fewer than its ``prefetch`` (with ``ack=auto`` it holds none), who then goes to the
end of the line. What a listener gives back goes to the front, with its count of deliveries;
after the fifth it is a dead letter.

All members must be of one process. Nothing survives it, and nothing goes wrong on the way, so
what it shows is *stand-in*, not real.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatlab.amqp import Connections
from chatlab.client import Life, Seen
from chatlab.errors import ChatlabError, NotPossible
from chatlab.insults.line import (
    DEAD_LETTERS,
    DELIVERIES,
    QUEUE_MESSAGES,
    Drawn,
    Registry,
    Role,
    refused,
)
from chatlab.messages import Message, Receipt

#: Stores of so many scenes are kept, the newest.
STORES = 16


@dataclass(eq=False)
class Entry:
    """One insult, and how often it was handed out."""

    message: Message
    count: int = 0


@dataclass(eq=False)
class Listener:
    """One who is handed insults."""

    prefetch: int
    auto_ack: bool
    inbox: asyncio.Queue[Entry | None] = field(default_factory=asyncio.Queue)
    held: dict[Entry, None] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        return self.auto_ack or not self.prefetch or len(self.held) < self.prefetch


class Store:
    """The insults of one scene."""

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.line: deque[Listener] = deque()
        self.dead: deque[Message] = deque(maxlen=DEAD_LETTERS)
        self.seen = Seen(QUEUE_MESSAGES)

    def put(self, message: Message) -> None:
        """Take a message; once, however often it is sent."""
        if self.seen.add(message.id):
            self.waiting.append(Entry(message))
            self.hand_out()

    def hand_out(self) -> None:
        """Give what waits to those who have room, in turn."""
        while self.waiting:
            listener = next((one for one in self.line if one.has_room), None)
            if listener is None:
                return
            entry = self.waiting.popleft()
            entry.count += 1
            if not listener.auto_ack:
                listener.held[entry] = None
            self.line.remove(listener)
            self.line.append(listener)
            listener.inbox.put_nowait(entry)

    def settle(self, listener: Listener, entry: Entry) -> bool:
        """The listener is done with it."""
        known = entry in listener.held
        listener.held.pop(entry, None)
        self.hand_out()
        return known

    def fail(self, listener: Listener, entry: Entry) -> bool:
        """The listener gives it back; True when it is a dead letter."""
        if entry not in listener.held:
            return True  # forgotten when it was handed out
        del listener.held[entry]
        dead = entry.count >= DELIVERIES
        if dead:
            self.dead.append(entry.message)
        else:
            self.waiting.appendleft(entry)
        self.hand_out()
        return dead

    def leave(self, listener: Listener) -> None:
        """Gone, with or without a goodbye: what it held goes to others."""
        if listener in self.line:
            self.line.remove(listener)
        for entry in reversed(listener.held):
            if entry.count >= DELIVERIES:
                self.dead.append(entry.message)
            else:
                self.waiting.appendleft(entry)
        listener.held.clear()
        listener.inbox.put_nowait(None)
        self.hand_out()


_stores: dict[str, Store] = {}


class MemoryLine:
    """One member's line to the store of its scene."""

    #: Most insults that wait.
    limit = QUEUE_MESSAGES

    def __init__(self, life: Life, _connections: Connections, registry: Registry) -> None:
        self._life = life
        self._registry = registry
        self._store = Store()
        self._listener: Listener | None = None

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        mine = f"{os.getpid()}-{secrets.token_hex(8)}"
        token = await self._registry.agree("insults in memory", mine)
        if token.partition("-")[0] != str(os.getpid()):
            raise NotPossible(
                "The insult channel is in the memory of another process.",
                todo="With process=True use a backend on RabbitMQ or Redis.",
            )
        self._store = _stores.setdefault(token, self._store)
        while len(_stores) > STORES:
            del _stores[next(iter(_stores))]
        if role != "producer":
            self._listener = Listener(options["prefetch"], options["ack"] == "auto")
            self._store.line.append(self._listener)
            self._store.hand_out()

    async def take(self) -> Drawn | None:
        assert self._listener is not None
        entry = await self._listener.inbox.get()
        if entry is None:
            return None
        return Drawn(entry.message, entry.count > 1, entry)

    async def ours(self, drawn: Drawn, late: bool) -> bool:
        return True

    async def done(self, drawn: Drawn) -> bool:
        assert self._listener is not None
        return self._store.settle(self._listener, drawn.tag)

    async def failed(self, drawn: Drawn) -> bool:
        assert self._listener is not None
        return self._store.fail(self._listener, drawn.tag)

    async def stop(self) -> None:
        if self._listener is not None and self._listener in self._store.line:
            self._store.line.remove(self._listener)
            self._listener.inbox.put_nowait(None)

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self._listener is not None:
            for entry in _queued(self._listener):  # not begun: not delivered
                entry.count -= 1
            self._store.leave(self._listener)

    async def send(self, messages: Sequence[Message], listened: bool) -> list[Receipt]:
        store = self._store
        if listened and not store.line:
            return refused(messages)
        outcomes = []
        for message in messages:
            full = len(store.waiting) >= self.limit
            if not full:
                store.put(message)
            outcomes.append(full)
        waiting, listeners = len(store.waiting), len(store.line)
        reason = f"the insult queue holds {self.limit:,} insults, its limit"
        return [
            Receipt(message.id, "failed", waiting, listeners, reason, "MailboxFull")
            if full
            else Receipt(message.id, "confirmed", waiting, listeners)
            for message, full in zip(messages, outcomes, strict=True)
        ]

    async def dead_letters(self) -> list[Message]:
        return list(self._store.dead)

    def state(self) -> dict[str, Any]:
        listener = self._listener
        return {
            "unacked": len(listener.held) if listener is not None else 0,
            "waiting": len(self._store.waiting),
            "dead letters": len(self._store.dead),
        }


def _queued(listener: Listener) -> set[Entry]:
    """Handed out, and not yet taken from the inbox."""
    found = set()
    while not listener.inbox.empty():
        entry = listener.inbox.get_nowait()
        if entry is not None:
            found.add(entry)
    return found
