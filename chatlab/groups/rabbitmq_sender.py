"""Sending to a group on RabbitMQ, and what the sender is told.

Publishes are ``mandatory`` and confirmed, in a window. After a confirm the sender looks: a
passive declare of the other members' queues says who listens and how much waits. On a fanout
a nack means that *some* queue refused the message, hence *uncertain*.

Without confirms (``confirms=no``, ``as-reported``) a message is ``sent`` when its bytes were
handed to the connection. The receipt says no more, and the journal has nothing after Sent:
what RabbitMQ loses or has no queue for is lost without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chatlab.amqp import Connections, Depth, Outcome, Outgoing
from chatlab.client import Life
from chatlab.errors import ChatlabError
from chatlab.groups.member import Registry
from chatlab.groups.rabbitmq_kinds import Kind, queue_name
from chatlab.messages import Message, Receipt

#: Receipts tell who listens only in groups of at most so many others …
LOOK_MEMBERS = 32
#: … and when the answers come within this time, in seconds.
LOOK_SECONDS = 1.0


class Look(NamedTuple):
    """What a look at the other members' queues said; ``None``: not known."""

    listeners: int | None
    waiting: int | None
    #: Nobody but the sender has a queue.
    nobody: bool = False


UNKNOWN = Look(None, None)
#: What the other members' queues said -> what it means to the sender. Args: the members and
#: whether each is connected by the registry, the others' depths, whether the sender is one.
Meaning = Callable[[dict[str, bool], dict[str, Depth | None], bool], Look]


class Sender:
    """One user's sending to one group."""

    def __init__(
        self,
        life: Life,
        connections: Connections,
        registry: Registry,
        group: str,
        kind: Kind,
        outgoing: Callable[[Message], Outgoing],
        meaning: Meaning,
    ) -> None:
        self._life = life
        self._connections = connections
        self._registry = registry
        self._group = group
        self._kind = kind
        self._outgoing = outgoing
        self._meaning = meaning
        #: One send at a time until it is handed over.
        self._turn = asyncio.Lock()

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send in order; one receipt each, whatever became of it."""
        outcomes = await self._publish(messages)
        accepted = any(outcome.kind == "acked" for outcome in outcomes)
        look = await self._look() if accepted else UNKNOWN
        return [
            self._receipt(message, outcome, look)
            for message, outcome in zip(messages, outcomes, strict=True)
        ]

    async def _publish(self, messages: Sequence[Message]) -> list[Outcome]:
        connection = self._connections.publishing
        items = list(map(self._outgoing, messages))
        async with self._turn:  # a first send that waits is not overtaken
            try:
                await connection.ensure(self._kind.exchange(self._group))
            except ChatlabError as error:
                return [Outcome("failed", error.what)] * len(items)
            if not self._kind.confirms:
                return await connection.tell([i._replace(mandatory=False) for i in items])
            submitted = connection.submit(items)
        return await connection.outcomes(submitted, self._life.settings.send_seconds)

    async def _look(self) -> Look:
        """Ask the queues of the other members who listens and how much waits."""
        user = self._life.user
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                members = await self._registry.group_members(self._group)
                others = [member for member in members if member != user]
                if len(others) > LOOK_MEMBERS:
                    return UNKNOWN
                depths = await self._connections.publishing.depths(
                    [queue_name(self._group, other) for other in others]
                )
        except (TimeoutError, ChatlabError):
            return UNKNOWN  # the message was confirmed; only who listens is not known
        return self._meaning(members, dict(zip(others, depths, strict=True)), user in members)

    def _receipt(self, message: Message, outcome: Outcome, look: Look) -> Receipt:
        id, reason = message.id, outcome.reason
        if outcome.kind == "sent":
            return Receipt(id, "sent", reason=reason)
        if outcome.kind == "returned" or (outcome.kind == "acked" and look.nobody):
            return Receipt(id, "unroutable", 0, 0, f"nobody else listens to {self._group}")
        if outcome.kind == "acked":
            return Receipt(id, "confirmed", look.waiting, look.listeners)
        if outcome.kind == "failed":
            return Receipt(id, "failed", reason=reason, error=outcome.error)
        return Receipt(id, "uncertain", reason=reason, error="SendUncertain")


def of_queues(members: dict[str, bool], depths: dict[str, Depth | None], member: bool) -> Look:
    """Where each member has a queue of its own."""
    listeners, waiting, unknown, queues = 0, 0, False, 0
    for other, depth in depths.items():
        if depth is None:
            continue
        queues += 1
        if depth.consumers is None:  # exclusive: its member's connection lives
            listeners += members[other]
            unknown |= not members[other]
        elif depth.consumers:
            listeners += 1
        else:
            waiting += depth.messages or 0
    # Who is no member knows by the return; a member's own queue takes the message.
    return Look(listeners, None if unknown else waiting, not queues and member)


def of_seats(members: dict[str, bool], depths: dict[str, Depth | None], _member: bool) -> Look:
    """Where the messages are in a log, and a connected member has a seat. The log keeps them
    whoever listens; how much of it a member that is away has not read, is not asked."""
    listeners = sum(depth is not None and members[other] for other, depth in depths.items())
    return Look(listeners, 0 if listeners == len(depths) else None)
