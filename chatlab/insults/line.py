"""What an insult backend is: a line that insults come in on and go out on.

:class:`~chatlab.insults.member.InsultMember` does what is the same everywhere: roles, the
work on each insult, one at a time, and the facts. A :class:`Line` does what differs: where
insults wait, who gets the next one, what acknowledging and giving back mean there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from chatlab.errors import ChatlabError
from chatlab.messages import Message, Receipt
from chatlab.resp import Redis

Role = Literal["both", "producer", "consumer"]
Ack = Literal["manual", "auto"]

#: An insult is delivered so often; if its handler failed each time it is a dead letter.
DELIVERIES = 5
#: The newest so many dead letters are kept.
DEAD_LETTERS = 1_000
#: Most insults that wait in a channel.
QUEUE_MESSAGES = 100_000
#: Why an insult was not accepted when a listener was required.
NOBODY = "nobody listens"


class Registry(Protocol):
    """What the insult channel needs of the name server
    (:class:`chatlab.discovery.Registry` has it)."""

    redis: Redis

    async def agree(self, on: str, proposal: str) -> str:
        """What was proposed first in this scene."""
        ...


class Drawn(NamedTuple):
    """One insult as it came."""

    message: Message
    #: Handed out before, to whoever did not finish it.
    redelivered: bool
    #: What the line needs to know it by.
    tag: Any


class Line(Protocol):
    """One member's line. ``open`` first; all but ``abandon`` and ``state`` may raise
    ServiceUnavailable."""

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        """Be ready to send; unless a producer, be handed insults from now on. ``on_lost``
        and ``on_back`` are called when receiving stops and goes on by itself.

        Raises:
            NotPossible: no more members fit, or it does not reach this process.
        """

    async def take(self) -> Drawn | None:
        """The next insult; ``None`` once stopped.

        Raises:
            ChatlabError: receiving is over for good.
        """

    async def ours(self, drawn: Drawn, late: bool) -> bool:
        """Whether it is still this member's to work on. ``late``: the client was frozen."""
        ...

    async def done(self, drawn: Drawn) -> bool:
        """The work is done; True when this acknowledged it."""
        ...

    async def failed(self, drawn: Drawn) -> bool:
        """The work failed: give it back. True when it goes to nobody any more."""
        ...

    async def stop(self) -> None:
        """Be handed no more; ``take`` returns."""

    async def close(self) -> None:
        """Give back what was taken and is not done; after ``stop`` and the last work."""

    def abandon(self) -> None:
        """Drop all as in a crash."""

    async def send(self, messages: Sequence[Message], listened: bool) -> list[Receipt]:
        """Send in order, one receipt each. ``listened``: only if somebody listens, else
        ``unroutable`` because of :data:`NOBODY`."""
        ...

    async def dead_letters(self) -> list[Message]:
        """The insults that failed :data:`DELIVERIES` times, oldest first, at most
        :data:`DEAD_LETTERS`."""
        ...

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        ...


def refused(messages: Sequence[Message]) -> list[Receipt]:
    """The receipts of messages that were not sent because nobody listens."""
    return [Receipt(message.id, "unroutable", 0, 0, NOBODY) for message in messages]
