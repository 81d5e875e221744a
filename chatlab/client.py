"""Life: one life of a user's client, and all that the patterns need to know of it.

A user has one :class:`Life` at a time; a crash, a restart or a takeover begins another with a
higher incarnation. The life owns the counters (message numbers, sequence numbers, Lamport
clock), the door to the journal and the addresses of the services *through the user's own
links*. It is the only thing that ``private``, ``groups``, ``insults`` and ``discovery`` are
handed, so each of them works the same in a notebook, in a process of its own and in a test.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from typing import Any

from chatlab.journal import Record, now
from chatlab.messages import Clock, Message, new_message
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings

#: Called for each message shown, after Delivered was recorded and before the ack.
OnMessage = Callable[[Message, bool], None]

#: Messages of unknown outcome that are kept for a resend with the same id.
UNSETTLED_LIMIT = 10_000


@dataclass(kw_only=True)
class Life:
    """One life of a user's client."""

    lab: str
    user: str
    incarnation: int
    #: The account's secret; whoever shows it may take the name over.
    secret: str = field(repr=False)
    settings: Settings
    record: Record = field(repr=False)
    rabbitmq: RabbitAddress
    redis: RedisAddress
    clock: Clock = field(default_factory=Clock)
    #: Set while the client runs; cleared while it is frozen. Receivers await it first.
    gate: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __post_init__(self) -> None:
        self.gate.set()
        self._numbers = 0
        self._seqs: defaultdict[str, int] = defaultdict(int)
        self._unsettled: dict[str, Message] = {}
        self._seen: defaultdict[str, Seen] = defaultdict(Seen)
        self._awaiting: defaultdict[str, dict[str, str]] = defaultdict(dict)

    @property
    def connection_name(self) -> str:
        """``lab/user/incarnation``: how the brokers' own tools show this client."""
        return f"{self.lab}/{self.user}/{self.incarnation}"

    def fact(self, kind: str, chat: str, *rest: Any) -> None:
        """Record a fact about this user."""
        self.record((kind, now(), self.user, self.incarnation, chat, *rest))

    def facts(self, kind: str, chat: str, *columns: Iterable[Any]) -> None:
        """Record facts of one kind that happen together, one for each row of ``columns``."""
        common = map(repeat, (kind, now(), self.user, self.incarnation, chat))
        self.record(*zip(*common, *columns))  # noqa: B905 (the first five are endless)

    def message(self, chat: str, to: str, body: str, id: str | None = None) -> Message:
        """The next message of this life in ``chat``; with the ``id`` of one whose outcome
        is unknown, that very message again."""
        if id is not None and id in self._unsettled:
            return self._unsettled[id]
        (new,) = self.messages(chat, to, [body])
        return new if id is None else new._replace(id=id)

    def messages(self, chat: str, to: str, bodies: Sequence[str]) -> list[Message]:
        """The next messages of this life in ``chat``, handed over together."""
        number, seq, clock = self._numbers + 1, self._seqs[chat] + 1, self.clock.value + 1
        self._numbers += len(bodies)
        self._seqs[chat] += len(bodies)
        self.clock.tick(len(bodies))
        prefix = f"{self.user}:{self.incarnation}:"
        ids = [f"{prefix}{n}" for n in range(number, number + len(bodies))]
        same = map(repeat, (self.user, self.incarnation, to))
        rest = (bodies, count(seq), repeat(now()), count(clock))
        return list(map(new_message, zip(ids, *same, *rest)))  # noqa: B905 (count is endless)

    def unsettled(self, message: Message) -> None:
        """Keep a message of unknown outcome, so that it can be sent again unchanged."""
        if len(self._unsettled) >= UNSETTLED_LIMIT:
            self._unsettled.pop(next(iter(self._unsettled)))
        self._unsettled[message.id] = message

    def is_unsettled(self, message: Message) -> bool:
        """Whether nobody knows what became of an earlier copy of this message."""
        return bool(self._unsettled) and message.id in self._unsettled

    def settled(self, *ids: str) -> None:
        """The outcome of each is known."""
        if self._unsettled:
            for id in ids:
                self._unsettled.pop(id, None)

    def seen(self, chat: str) -> Seen:
        """What this life was shown in ``chat``; it outlives the handles that showed it."""
        return self._seen[chat]

    def awaiting(self, backend: str) -> dict[str, str]:
        """Receiver -> the newest message confirmed by ``backend``, until its receiver's client
        is known to have acknowledged it."""
        return self._awaiting[backend]

    def last_seqs(self) -> dict[str, int]:
        """The last sequence number used in each conversation."""
        return dict(self._seqs)


def new_secret() -> str:
    """A random secret for an account, 128 bits."""
    return secrets.token_hex(16)


class Seen:
    """Ids that were shown already, the newest ``limit`` of them.

    ``add`` says whether an id is new. A client that sees a second copy drops it and records
    Discarded.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def add(self, id: str) -> bool:
        """True when ``id`` was not there yet."""
        if id in self._ids:
            return False
        self._keep([id])
        return True

    def add_all(self, ids: list[str]) -> list[bool]:
        """The same for each, in order."""
        if len(set(ids)) == len(ids) and self._ids.keys().isdisjoint(ids):
            self._keep(ids)
            return [True] * len(ids)
        return [self.add(id) for id in ids]

    def forget(self, id: str) -> None:
        """It was shown in vain (its handler failed): shown again, it is no second copy."""
        self._ids.pop(id, None)

    def _keep(self, ids: list[str]) -> None:
        self._ids.update(dict.fromkeys(ids))
        while len(self._ids) > self._limit:
            self._ids.pop(next(iter(self._ids)))

    def __len__(self) -> int:
        return len(self._ids)
