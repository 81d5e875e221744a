"""The insult channel as the original report has it: ``as-reported``.

One queue that hands out in turn; a producer connects anew for each insult, declares the queue,
publishes a transient message without asking for a confirm, and disconnects. A consumer
acknowledges automatically and sets no prefetch. What follows, and the notebooks show:

- a backlog goes to whoever attaches first, whole;
- who is killed takes along all that had been handed to it, unseen;
- a handler that fails has lost the insult; there are no dead letters;
- about 95 insults a second at most, one connection each.

The receipt says how full the queue is, which the original does not ask; without a confirm
the message itself may not be counted yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from chatlab.amqp import Queue, outgoing, publish_once
from chatlab.errors import ChatlabError, NotPossible
from chatlab.insults.line import QUEUE_MESSAGES, Role, refused
from chatlab.insults.rabbitmq import RabbitLine
from chatlab.messages import Message, Receipt

#: Bounded, so that a forgotten lab does not fill the disk: the oldest make room.
REPORTED = Queue("chatlab/insults/as-reported", arguments={"x-max-length": QUEUE_MESSAGES})


class ReportedLine(RabbitLine):
    """One member's line in the original."""

    @property
    def queue(self) -> str:
        return REPORTED.name

    @property
    def things(self) -> tuple[Queue, ...]:
        return (REPORTED,)

    async def open(
        self,
        role: Role,
        options: dict[str, Any],
        on_lost: Callable[[ChatlabError], None],
        on_back: Callable[[], None],
    ) -> None:
        await super().open(role, {**options, "prefetch": 0, "ack": "auto"}, on_lost, on_back)

    async def send(self, messages: Sequence[Message], listened: bool) -> list[Receipt]:
        if listened and await self._nobody():
            return refused(messages)
        async with self._turn:
            return [await self._publish_one(message) for message in messages]

    async def _publish_one(self, message: Message) -> Receipt:
        life = self._life
        item = outgoing(message, "", self.queue, persistent=False)
        seconds = life.settings.send_seconds
        try:
            async with asyncio.timeout(seconds):
                depth = await publish_once(
                    life.rabbitmq, life.connection_name, REPORTED, item, timeout=seconds
                )
        except (ChatlabError, TimeoutError) as error:
            reason = getattr(error, "what", "RabbitMQ did not answer in time")
            return Receipt(message.id, "uncertain", None, None, reason, "SendUncertain")
        return Receipt(message.id, "confirmed", depth.messages, depth.consumers)

    async def dead_letters(self) -> list[Message]:
        raise NotPossible("The insult channel as-reported keeps no dead letters.")
