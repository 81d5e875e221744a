"""DirectClient: private chats without a relay (``direct``).

A user's client serves an endpoint of its own (``endpoint``) and calls those of others; the
protocol is ``protos/chatlab/v1/direct_chat.proto``. A conversation is a :class:`_Talk`: an
outbox, and the line over which it empties::

    nothing to say ──send──► dialling ──accepted──► on the line ──lost──► dialling …
          ▲                     │                       │
          └──given up: away, refused, no answer─────────┴── both have all: it may stay open

The peer's own call is a line just as well, so who calls does not matter; when both call at the
same moment there are two lines, each end writes on the one it has had first, and reads both.
Nothing is kept for a peer that is not there: whoever sends is told at once. A letter that was
on its way when the line broke is sent again on the next line, under the same id, before
anything new; when there is no next line, its outcome is uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Protocol

import grpc
import grpc.aio

from chatlab.client import Life, OnMessage
from chatlab.errors import (
    ChatClosed,
    ChatlabError,
    ChatRefused,
    InvalidInput,
    NotPossible,
    PeerAway,
    Taken,
)
from chatlab.messages import Message, Receipt, check_name
from chatlab.private import wire
from chatlab.private.line import AnswerersLine, CallersLine, Line
from chatlab.private.outbox import Outbox, chat_of
from chatlab.private.screen import Screen
from chatlab.services.addresses import ServerAddress

#: The backend's name.
DIRECT = "direct"
#: A goodbye that takes longer is given up, seconds.
CLOSE_SECONDS = 1.0
#: Before a peer whose line was lost is called again, seconds.
REDIAL_SECONDS = 0.05


class Exchange(Protocol):
    """What a client asks the name server."""

    async def find_peer(self, peer: str) -> ServerAddress:
        """Where the peer's endpoint is, as this user reaches it.

        Raises:
            UnknownAccount, PeerAway.
        """

    async def issue_ticket(self, peer: str) -> str:
        """Proof of who we are, for that peer."""

    async def redeem_ticket(self, ticket: str, caller: str) -> int | None:
        """The caller's incarnation; None when the ticket is not its for us."""

    async def last_seen(self, name: str) -> tuple[bool, float]:
        """Whether the user is there, and when it was last known to be."""


class DirectClient:
    """The client of one life of one user.

    Args:
        life: whose client this is; facts are recorded through it.
        exchange: the name server.
        on_message: called for each message shown, after Delivered and before the ack.
        on_end: called once when the client ends by itself, for instance with ``Taken``.
        refusal: asked for each caller; why it is refused, or nothing.
    """

    backend = DIRECT

    def __init__(
        self,
        life: Life,
        exchange: Exchange,
        on_message: OnMessage,
        on_end: Callable[[ChatlabError], None] | None = None,
        refusal: Callable[[str], str] = lambda caller: "",
    ) -> None:
        self.life = life
        self.exchange = exchange
        self.screen = Screen(life, DIRECT, on_message)
        self._on_end = on_end
        self._refusal = refusal
        self._talks: dict[str, _Talk] = {}
        self._error: ChatlabError | None = None

    @property
    def connected(self) -> bool:
        """Whether it may be called: until it is closed."""
        return self._error is None

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        return {
            "conversations": sorted(peer for peer, talk in self._talks.items() if talk.line),
            "unanswered": sum(len(talk.outbox) for talk in self._talks.values()),
            "ids seen": len(self.screen),
        }

    async def open(self) -> None:
        """Nothing to open: the endpoint serves already."""

    async def close(self) -> None:
        """Say goodbye to all. Idempotent; bounded.

        Sends without a receipt get one second, then they have failed or are uncertain.
        """
        if self._error is not None:
            return
        self._error = ChatClosed("The private chats were closed.")
        await asyncio.gather(*(talk.close() for talk in self._talks.values()))

    def abandon(self) -> None:
        """Crash: drop everything at once, without a goodbye and without a fact."""
        self._error = ChatClosed("The private chats' client crashed.")
        self._on_end = None
        for talk in self._talks.values():
            talk.abandon()

    # -- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send, pipelined; one receipt per message, in order.

        Single outcomes are never raised: ``failed`` (away, refused, unknown) and
        ``uncertain`` carry a reason.
        """
        runs = [(to, list(run)) for to, run in groupby(messages, lambda message: message.to)]
        done = await asyncio.gather(*(self._talk(to).send(run) for to, run in runs))
        return [receipt for receipts in done for receipt in receipts]

    def _talk(self, peer: str) -> _Talk:
        if peer not in self._talks:
            self._talks[peer] = _Talk(self, peer)
        return self._talks[peer]

    @property
    def error(self) -> ChatlabError | None:
        """Why nothing can be sent any more."""
        return self._error

    def end(self, error: ChatlabError) -> None:
        """End by itself: a newer life has taken over, or a defect."""
        if self._error is None:
            self._error = error
            for talk in self._talks.values():
                talk.abandon()
                talk.outbox.give_up(None, error.what, type(error).__name__)
            if self._on_end is not None:
                self._on_end(error)

    # -- being called

    async def answer(self, caller: str, peer: str, ticket: str, context: Any) -> None:
        """Talk to a caller until one of both leaves.

        Raises:
            PeerAway: somebody else is called.
            InvalidInput: no name, or a frame that breaks a limit.
            ServiceUnavailable: the ticket is no good, or cannot be looked at.
            Taken: the caller is an older life.
            ChatRefused: for the reason that the user gave.
        """
        if peer != self.life.user or self._error is not None:
            raise PeerAway(f"{peer} is not here.")
        check_name(caller, "caller")
        incarnation = await self.exchange.redeem_ticket(ticket, caller)
        if incarnation is None:
            raise NotPossible(f"The ticket is not one of {caller} for {peer}.")
        talk = self._talks.get(caller)
        if talk is not None and talk.line is not None:
            if talk.line.incarnation > incarnation:
                raise Taken(f"A newer client of {caller} took over.")
        elif why := self._refusal(caller):
            raise ChatRefused(f"{peer} does not talk now: {why}")
        line = AnswerersLine(caller, incarnation, context)
        await line.accept(self.life.incarnation)
        await self._talk(caller).serve(line)

    # -- asking

    async def history(self, peer: str, limit: int) -> list[Message]:
        """Refused: nobody keeps it.

        Raises:
            NotPossible.
        """
        raise NotPossible(
            "Direct chats are kept nowhere, so there is no history.",
            todo="chat.messages has what this scene has shown; mailbox backends keep more.",
        )

    async def presence(self, names: Sequence[str]) -> list[tuple[str, bool, float]]:
        """By the name server's leases: name, whether it is there, and when it last was."""
        found = await asyncio.gather(*(self.exchange.last_seen(name) for name in names))
        return [(name, there, at) for name, (there, at) in zip(names, found, strict=True)]


class _Talk:
    """The conversation with one peer."""

    def __init__(self, client: DirectClient, peer: str) -> None:
        self.peer = peer
        self.outbox = Outbox(client.life, {}, self._carry_on)
        #: The line that is written on.
        self.line: Line | None = None
        self._client = client
        self._life = client.life
        self._chat = chat_of(client.life.user, peer)
        self._lines: list[Line] = []
        self._dialling: asyncio.Task[None] | None = None
        self._served: set[asyncio.Task[Any]] = set()

    # -- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        if self._client.error is not None:
            return self.outbox.refuse(messages, self._client.error)
        return await self.outbox.send(messages)

    def _carry_on(self) -> None:
        """Something waits to leave: write it, or call."""
        if self.line is not None:
            self.line.work.set()
        elif len(self.outbox) and self._client.error is None and self._dialling is None:
            self._dialling = asyncio.create_task(self._dial())
            self._dialling.add_done_callback(self._dialled)

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dialling = None
        if not task.cancelled():
            self._carry_on()

    async def _dial(self) -> None:
        """Call, and talk as long as the line lasts."""
        try:
            async with asyncio.timeout(self._life.settings.send_seconds):
                await self._life.gate.wait()
                line = await self._call()
        except Taken as error:
            self._client.end(error)
        except ChatlabError as error:
            self.outbox.give_up(None, error.what, type(error).__name__)
        except TimeoutError:
            self.outbox.give_up(None, f"{self.peer} does not answer", PeerAway.__name__)
        else:
            with contextlib.suppress(ChatlabError):
                await self.serve(line)
            await asyncio.sleep(REDIAL_SECONDS)

    async def _call(self) -> Line:
        exchange = self._client.exchange
        address = await exchange.find_peer(self.peer)
        ticket = await exchange.issue_ticket(self.peer)
        return await CallersLine.dial(self._life, self.peer, address, ticket)

    # -- on a line

    async def serve(self, line: Line) -> None:
        """Talk on a line until it ends.

        Raises:
            InvalidInput: the peer broke a limit.
        """
        current = asyncio.current_task()
        assert current is not None
        self._served.add(current)
        self._lines.append(line)
        if self.line is None or line.incarnation > self.line.incarnation:
            self._use(line)
        self._life.fact("Connected", self._chat, DIRECT, "both")
        why = "the line broke"
        try:
            why = await self._until_it_ends(line)
        finally:
            self._served.discard(current)
            self._lines.remove(line)
            if self.line is line:
                self._use(self._lines[-1] if self._lines else None)
            if self._client.error is None or line.leaving.is_set():
                self._life.fact("Disconnected", self._chat, why)
            await line.close()
            if self._dialling is not current:
                self._carry_on()

    def _use(self, line: Line | None) -> None:
        """From now on write on this one; what is on its way has to go again."""
        if self.line is not None:
            self.outbox.rewind()
        self.line = line
        if line is not None:
            line.work.set()

    async def _until_it_ends(self, line: Line) -> str:
        """Returns why: empty when we left."""
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(line), self._write(line), line.leaving.wait())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if line.leaving.is_set():
            return ""
        for task in done:
            error = task.exception()
            if isinstance(error, grpc.aio.AioRpcError | grpc.RpcError):
                return "the line broke"
            if isinstance(error, ChatlabError):
                raise error
            if error is not None:  # a defect, of ours or of on_message: never silent
                what = f"The client of {self._life.user} failed: {error!r}."
                asyncio.get_running_loop().call_exception_handler(
                    {"message": what, "exception": error}
                )
                self._client.end(ChatlabError(what))
        return f"{self.peer} left"

    async def _read(self, line: Line) -> None:
        """Until the peer says goodbye."""
        life = self._life
        while (frame := await line.read()) is not None:
            await life.gate.wait()
            if frame.letters:
                messages = wire.messages_of(
                    frame.letters, self.peer, line.incarnation, life.user
                )
                faults = [wire.fault_of_frame([messages]), *map(wire.fault_of_letter, messages)]
                fault = next(filter(None, faults), "")
                if fault:
                    raise InvalidInput(fault)
                self._client.screen.show(messages)
                line.shown += len(messages)
                line.work.set()
            if frame.acked > line.answered:
                count = frame.acked - line.answered
                line.answered = frame.acked
                if line is self.line:
                    self._acknowledged(count)

    def _acknowledged(self, count: int) -> None:
        """The peer was shown so many more of our letters."""
        newest = self.outbox.newest(count)
        self.outbox.answer([wire.Answer(count, "confirmed", waiting=0, listeners=1)])
        self._life.fact("Reached", self._chat, newest)

    async def _write(self, line: Line) -> None:
        """Letters and acknowledgements, whatever waits."""
        while True:
            await line.work.wait()
            line.work.clear()
            await self._life.gate.wait()
            while True:
                letters: Sequence[Message] = ()
                if line is self.line and self.outbox.ready:
                    letters = self.outbox.take()
                acked = line.shown if line.shown > line.told else 0
                if not letters and not acked:
                    break
                line.told = max(line.told, acked)
                await line.write(wire.letters_of(letters), acked)

    # -- the end

    async def close(self) -> None:
        """Goodbye: what is on its way gets a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self.line is not None:
                    await self.outbox.empty()
                while any(line.shown > line.told for line in self._lines):  # noqa: ASYNC110
                    await asyncio.sleep(0)
        for line in self._lines:
            line.leaving.set()
        if self._dialling is not None and self.line is None:
            self._dialling.cancel()
        if self._served:
            await asyncio.wait(self._served, timeout=CLOSE_SECONDS)
        self.outbox.give_up(None, "the chat was closed", ChatClosed.__name__)

    def abandon(self) -> None:
        for task in (*self._served, *([self._dialling] if self._dialling else [])):
            task.cancel()
