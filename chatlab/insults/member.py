"""A member of the insult channel: its role, its work on each insult, and the facts.

The same on every backend; what differs is behind a :class:`~chatlab.insults.line.Line`.
One insult at a time: it is shown (fact: Delivered), worked on for ``work`` seconds, and then
either done (Handled, and Acked where the backend waits for that) or, when its text contains
the word of ``fails_on``, its handler has failed: it is given back (Rejected) and counts as
not yet shown, so that this member works on it again if it is the one who gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from chatlab.amqp import Connections
from chatlab.backends import INSULTS, full_text, parse_backend, with_options
from chatlab.client import Life, OnMessage
from chatlab.errors import (
    BackendMismatch,
    ChatClosed,
    ChatlabError,
    InvalidInput,
    NotPossible,
)
from chatlab.groups.member import OnEnd
from chatlab.insults.as_reported import ReportedLine
from chatlab.insults.line import Drawn, Line, Registry, Role
from chatlab.insults.memory import MemoryLine
from chatlab.insults.not_me import NotMeLine
from chatlab.insults.rabbitmq import RabbitLine
from chatlab.insults.redis import ListLine, StreamLine
from chatlab.messages import INSULTS as CHAT
from chatlab.messages import Message, Receipt

#: The backend of a scene's channel whose first member named none.
DEFAULT_BACKEND = "rabbitmq"

_LINES: dict[str, Callable[[Life, Connections, Registry], Line]] = {
    "rabbitmq": RabbitLine,
    "rabbitmq-not-me": NotMeLine,
    "redis-list": ListLine,
    "redis-stream": StreamLine,
    "memory": MemoryLine,
    "as-reported": ReportedLine,
}


class InsultMember:
    """One user's part in the insult channel. Takes none until :meth:`join`.

    Args:
        registry: knows the backend of the channel.
        on_message: called for each insult drawn.
        on_end: called when receiving ended without being asked to.
    """

    def __init__(
        self,
        life: Life,
        connections: Connections,
        registry: Registry,
        on_message: OnMessage,
        on_end: OnEnd | None = None,
    ) -> None:
        #: The role now; ``None``: takes no part.
        self.role: Role | None = None
        #: Receives now. False while the connection is lost, and for a mere producer.
        self.connected = False
        #: With all options.
        self.backend = ""
        self._life = life
        self._connections = connections
        self._registry = registry
        self._on_message = on_message
        self._on_end = on_end
        self._seen = life.seen(CHAT)
        self._options: dict[str, Any] = {}
        self._drawn = 0
        self._last_id = ""
        self._line: Line | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._leaving = False
        self._verb = asyncio.Lock()

    # ------------------------------------------------------------------- taking part

    async def join(
        self, role: Role = "both", *, backend: str | None = None, **options: Any
    ) -> None:
        """Take part, or change how. Fact: Connected, with role and options.

        Args:
            role: ``producer`` sends, ``consumer`` draws, ``both``.
            backend: with options; ``None`` takes the channel's. All of a scene's channel
                have one backend, that of its first member; options are each member's own.
            options: the same as in ``backend``, and win over it: ``prefetch`` (most
                insults held unacknowledged; 0: no limit), ``ack`` (``manual``: after the
                work; ``auto``: as it is handed out), ``work`` (seconds on each insult),
                ``fails_on`` (the handler of an insult with this word fails).

        Raises:
            InvalidInput: a role, backend or option that does not exist.
            BackendMismatch: the channel has another backend; both are named.
            NotPossible: the backend takes no more members.
            ServiceUnavailable: a broker or the name server does not answer.
        """
        if role not in ("both", "producer", "consumer"):
            raise InvalidInput(
                f"There is no role {role!r}.", todo="Roles: both, producer, consumer."
            )
        name, chosen = await self._choose(backend, options)
        async with self._verb:
            if (role, chosen) == (self.role, self._options):
                return
            await self._stop()
            await self._start(role, name, chosen)

    async def _choose(
        self, backend: str | None, options: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        wanted = with_options(backend or DEFAULT_BACKEND, options)
        name, chosen = parse_backend(wanted, INSULTS)  # refused before anything is agreed on
        found = await self._registry.agree(CHAT, name)
        if found == name:
            return name, chosen
        if backend is not None:
            raise BackendMismatch(
                f"The insult channel of this scene has the backend {found}, not {name}.",
                todo="Leave out backend=, or begin a new scene for another one.",
            )
        return parse_backend(with_options(found, options), INSULTS)

    async def leave(self) -> None:
        """Take part no more. The insult in hand is finished first, others go back to the
        queue. Fact: Disconnected."""
        async with self._verb:
            if self.role is not None:
                await self._stop()
                self.role, self._options = None, {}
                self._life.fact("Disconnected", CHAT, "")

    def abandon(self) -> None:
        """Drop everything as in a crash: no goodbye, no facts."""
        if self._receiver is not None:
            self._receiver.cancel()
        if self._line is not None:
            self._line.abandon()
        self._line = self._receiver = None
        self.role, self.connected = None, False

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        return {
            "role": self.role or "",
            **{key: value for key, value in self._options.items() if value != ""},
            "connected": self.connected,
            "drawn": self._drawn,
            "last id": self._last_id,
            **(self._line.state() if self._line is not None else {}),
        }

    async def dead_letters(self) -> list[Message]:
        """The insults that failed too often, oldest first.

        Raises:
            ChatClosed: this user takes no part.
            NotPossible: the backend keeps none.
        """
        return await self._taking_part().dead_letters()

    async def _start(self, role: Role, name: str, options: dict[str, Any]) -> None:
        line = _LINES[name](self._life, self._connections, self._registry)
        try:
            await line.open(role, options, self._lost, self._came)
        except BaseException:
            line.abandon()
            raise
        self.role, self._options = role, options
        self.backend = full_text(name, options)
        self._line, self._leaving = line, False
        self._came()
        if role != "producer":
            self._receiver = asyncio.create_task(self._receive(line))

    async def _stop(self) -> None:
        """Draw no more: finish the insult in hand, give back the others."""
        line, receiver = self._line, self._receiver
        if line is None:
            return
        self._leaving = True
        await line.stop()
        if receiver is not None:
            if not self._life.gate.is_set():
                receiver.cancel()
            await asyncio.wait([receiver])
        await line.close()
        self._line = self._receiver = None
        self.connected = False

    def _taking_part(self) -> Line:
        if self._line is None:
            raise ChatClosed(f"{self._life.user} takes no part in the insult channel.")
        return self._line

    # --------------------------------------------------------------------- receiving

    async def _receive(self, line: Line) -> None:
        gate = self._life.gate
        try:
            while (drawn := await line.take()) is not None:
                late = not gate.is_set()
                if late:
                    await gate.wait()
                if self._leaving:
                    return
                if await line.ours(drawn, late):
                    await self._draw(line, drawn)
        except ChatlabError as error:
            self._ended(error)

    async def _draw(self, line: Line, drawn: Drawn) -> None:
        life, insult = self._life, drawn.message
        if self._seen.add(insult.id):
            life.clock.see(insult.clock)
            self._drawn += 1
            self._last_id = insult.id
            life.fact("Delivered", CHAT, insult, drawn.redelivered)
            self._on_message(insult, drawn.redelivered)
            if self._options["work"]:
                await asyncio.sleep(self._options["work"])
                await life.gate.wait()
            if self._fails(insult):
                self._seen.forget(insult.id)
                life.fact("Rejected", CHAT, insult.id, await line.failed(drawn))
                return
            life.fact("Handled", CHAT, insult.id)
        else:
            life.fact("Discarded", CHAT, insult.id)
        if await line.done(drawn):
            life.fact("Acked", CHAT, insult.id)

    def _fails(self, insult: Message) -> bool:
        word = self._options["fails_on"]
        return bool(word) and word in insult.body

    def _came(self) -> None:
        self.connected = self.role != "producer"
        self._life.fact("Connected", CHAT, self.backend, self.role)

    def _lost(self, error: ChatlabError) -> None:
        self.connected = False
        self._life.fact("Disconnected", CHAT, error.what)

    def _ended(self, error: ChatlabError) -> None:
        """The queue was deleted, or the broker refused it after a reconnect."""
        if self._line is not None:
            self._line.abandon()
        self._line = self._receiver = None
        self.role, self._options = None, {}
        self._lost(error)
        if self._on_end is not None:
            self._on_end(error)

    # ----------------------------------------------------------------------- sending

    async def send(
        self, messages: Sequence[Message], *, require_listener: bool = False
    ) -> list[Receipt]:
        """Send in order, pipelined; one receipt each, whatever became of it.

        ``listeners`` counts all who would be handed it, the sender too where it may draw
        its own; ``waiting`` what nobody holds.

        Args:
            require_listener: an insult that nobody is connected for is ``unroutable``
                and goes nowhere; otherwise it waits.

        Raises:
            ChatClosed: this user takes no part.
            NotPossible: it only draws.
        """
        line = self._taking_part()
        if self.role == "consumer":
            raise NotPossible(
                f"{self._life.user} only draws insults.",
                todo='Change the role: insults(role="both") or insults(role="producer").',
            )
        for message in messages:
            self._life.fact("Sent", CHAT, message)
        receipts = await line.send(messages, require_listener)
        for message, receipt in zip(messages, receipts, strict=True):
            self._note(message, receipt)
        return receipts

    def _note(self, message: Message, receipt: Receipt) -> None:
        life, id = self._life, message.id
        if receipt.outcome == "uncertain":
            life.unsettled(message)
            life.fact("Uncertain", CHAT, id, receipt.reason)
            return
        life.settled(id)
        if receipt.outcome == "confirmed":
            life.fact("Confirmed", CHAT, id, receipt.waiting, receipt.listeners)
        elif receipt.outcome == "unroutable":
            life.fact("Returned", CHAT, id, receipt.reason)
        else:
            life.fact("Failed", CHAT, id, receipt.reason)
