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
anything new; when there is no next line, its outcome is uncertain. After a goodbye it is not:
a peer that leaves has acknowledged all that it has shown.

What a peer says counts for the conversation with it and for nothing else. Whether a newer life
of our own user has taken over is asked of the name server: when a call is refused, and at
each call that we answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Protocol

from chatlab.client import Life, OnMessage
from chatlab.errors import (
    ChatClosed,
    ChatlabError,
    ChatRefused,
    InvalidInput,
    NotPossible,
    PeerAway,
    SendUncertain,
    ServiceUnavailable,
    Taken,
)
from chatlab.messages import Message, Receipt, check_name
from chatlab.private import wire
from chatlab.private.line import AnswerersLine, CallersLine, Line, LineBroke
from chatlab.private.outbox import Outbox, chat_of
from chatlab.private.screen import Screen
from chatlab.services.addresses import ServerAddress
from chatlab.v1.letter_pb2 import Letter

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

    async def issue_ticket(self, peer: str) -> tuple[str, str]:
        """A ticket that says who we are, for that peer, and the proof that only the peer is
        told for it.

        Raises:
            Taken: a newer life of ours has begun.
        """

    async def redeem_ticket(self, ticket: str, caller: str) -> tuple[int, str] | None:
        """The caller's incarnation, and the proof that it waits for; None when the ticket is
        not its for us.

        Raises:
            Taken: a newer life of ours has begun.
        """

    async def last_seen(self, name: str) -> tuple[bool, float] | None:
        """Whether the user is there, and when it was last known to be; None: no account."""


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
            talk.abandon(ServiceUnavailable("This client has ended."))

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
                talk.abandon(error)
                talk.outbox.give_up(None, error.what, type(error).__name__)
            if self._on_end is not None:
                self._on_end(error)

    def fail(self, error: BaseException) -> None:
        """End because of a defect, of ours or of ``on_message``: never silent."""
        what = f"The client of {self.life.user} failed: {error!r}."
        asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})
        self.end(ChatlabError(what))

    async def hang_up(self) -> None:
        """Say goodbye on every line. Whoever has more to say has to call again. Bounded."""
        await asyncio.gather(*(talk.hang_up() for talk in self._talks.values()))

    async def succeed(self, older: ServerAddress) -> None:
        """Call an older life of ours, which then asks the name server and ends. Bounded;
        nobody there is as well."""
        me = self.life.user
        with contextlib.suppress(ChatlabError, TimeoutError):
            async with asyncio.timeout(self.life.settings.send_seconds):
                ticket = await self.exchange.issue_ticket(me)
                line = await CallersLine.dial(self.life, me, older, *ticket)
                await line.close()

    # -- being called

    async def answer(self, caller: str, peer: str, ticket: str, context: Any) -> None:
        """Talk to a caller until one of both leaves.

        Raises:
            PeerAway: somebody else is called, or we are about to go.
            InvalidInput: no name, or a frame that breaks a limit.
            NotPossible: the ticket is no good.
            ServiceUnavailable, SendUncertain: it cannot be looked at.
            Taken: the caller is an older life, or has called anew.
            ChatRefused: for the reason that the user gave.
            LineBroke: the caller went without a goodbye.
        """
        me = self.life.user
        await self.life.gate.wait()
        if peer != me:
            raise PeerAway(f"{peer} is not here.")
        self.check_here()
        check_name(caller, "caller")
        try:
            found = await self.exchange.redeem_ticket(ticket, caller)
        except Taken as error:  # it is we who are older
            self.end(error)
            raise PeerAway(f"{me} is not here any more.") from error
        if found is None or caller == me:
            raise NotPossible(f"The ticket is not one of {caller} for {me}.")
        if why := self._refusal(caller):
            raise ChatRefused(f"{me} does not talk now: {why}")
        self.check_here()  # it may have ended meanwhile
        incarnation, proof = found
        line = AnswerersLine(caller, incarnation, context)
        await line.accept(self.life.incarnation, proof)
        await self._talk(caller).serve(line)

    def check_here(self) -> None:
        """Whether we may still be talked to.

        Raises:
            PeerAway.
        """
        if self._error is not None:
            raise PeerAway(f"{self.life.user} is not here.")

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
        return [(name, *seen) for name, seen in zip(names, found, strict=True) if seen]


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
        #: Set while there is no line.
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._dialling: asyncio.Task[None] | None = None

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
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._client.fail(error)
        else:
            self._carry_on()

    async def _dial(self) -> None:
        """Call, and talk as long as the line lasts."""
        try:
            async with asyncio.timeout(self._life.settings.send_seconds):
                await self._life.gate.wait()
                line = await self._call()
        except Taken as error:
            self._client.end(error)
        except SendUncertain as error:  # of a question to the name server: nothing has left
            self._not_reached(ServiceUnavailable(error.what))
        except ChatlabError as error:
            self._not_reached(error)
        except TimeoutError:
            self._not_reached(PeerAway(f"{self.peer} does not answer."))
        else:
            with contextlib.suppress(ChatlabError, LineBroke):
                await self.serve(line)
            await asyncio.sleep(REDIAL_SECONDS)

    async def _call(self) -> Line:
        exchange = self._client.exchange
        address = await exchange.find_peer(self.peer)
        ticket = await exchange.issue_ticket(self.peer)
        try:
            return await CallersLine.dial(self._life, self.peer, address, *ticket)
        except PeerAway:
            # Or is it we who are gone? The name server knows (Taken); a peer may say anything.
            await exchange.issue_ticket(self.peer)
            raise

    def _not_reached(self, error: ChatlabError) -> None:
        """A call failed. That is all the same when the peer has called us meanwhile."""
        if self.line is None:
            self.outbox.give_up(None, error.what, type(error).__name__)

    # -- on a line

    async def serve(self, line: Line) -> None:
        """Talk on a line until it ends.

        Raises:
            LineBroke: the peer is gone without a goodbye.
            InvalidInput: the peer broke a limit.
            PeerAway: we are about to go.
            Taken: another line has taken the place of this one.
            ServiceUnavailable: a defect here.
        """
        why = "the line broke"
        self._lines.append(line)
        self._quiet.clear()
        try:
            self._enter(line)
            why = await self._converse(line)
        except ChatlabError as error:
            why = error.what
            raise
        except LineBroke:
            raise
        except Exception as error:
            self._client.fail(error)
            raise ServiceUnavailable(f"The client of {self._life.user} failed.") from error
        finally:
            self._leave(line, why)
            await line.close()
            if self._dialling is not asyncio.current_task():
                self._carry_on()

    def _enter(self, line: Line) -> None:
        """A new line: those that it makes old end, so a peer has two at most."""
        self._client.check_here()
        for other in self._lines:
            if other.incarnation > line.incarnation:
                raise Taken(f"A newer client of {self.peer} took over.")
        for other in self._lines[:-1]:
            if other.incarnation < line.incarnation:
                other.drop(Taken(f"A newer client of {self.peer} took over."))
            elif isinstance(line, AnswerersLine) and isinstance(other, AnswerersLine):
                # The caller has lost its end, and we have not noticed.
                other.drop(Taken(f"{self.peer} has called anew."))
        if len(self._lines) == 1:
            self._life.fact("Connected", self._chat, DIRECT, "both")
        if self.line is None or self.line.error is not None:
            self._use(line)

    def _leave(self, line: Line, why: str) -> None:
        self._lines.remove(line)
        if line is self.line:
            others = [other for other in self._lines if other.error is None]
            self._use(others[-1] if others else None)
        if not self._lines:
            self._quiet.set()
            if self._client.error is None or line.leaving.is_set():
                self._life.fact("Disconnected", self._chat, why)

    def _use(self, line: Line | None) -> None:
        """From now on write on this one; what is on its way on the old one, which has ended or
        is about to, has to go again. If that was a goodbye, it was not shown."""
        if self.line is not None:
            self.outbox.rewind(untaken=self.line.peer_left)
        self.line = line
        if line is not None:
            line.work.set()

    async def _converse(self, line: Line) -> str:
        """Until both have said goodbye. Returns why: empty when we did first.

        No task of the handler of a call is ever cancelled from here: gRPC would leave the
        caller without a status.
        """
        reading = asyncio.create_task(self._read(line))
        writing = asyncio.create_task(self._write(line))
        dropped = asyncio.create_task(line.dropped.wait())
        tasks: tuple[asyncio.Task[Any], ...] = reading, writing, dropped
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if line.error is not None:
                raise line.error
            ours = line.leaving.is_set()
            for ended in (reading, writing):
                if ended.done():
                    ended.result()
            line.leave()
            async with asyncio.timeout(CLOSE_SECONDS):
                await writing
                await reading
                await line.finish()
            return "" if ours else f"{self.peer} left"
        except TimeoutError as error:
            raise LineBroke from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, line: Line) -> None:
        """Until the peer says goodbye."""
        life = self._life
        while not line.peer_left:
            frame = await line.read()
            await life.gate.wait()
            # Once we are leaving nothing more is shown: it could not be acknowledged.
            if frame.letters and not line.leaving.is_set():
                self._show(line, frame.letters)
            if frame.acked > line.answered:
                self._acknowledged(line, frame.acked)
            line.peer_left = frame.leaving

    def _show(self, line: Line, letters: Sequence[Letter]) -> None:
        messages = wire.messages_of(letters, self.peer, line.incarnation, self._life.user)
        faults = [wire.fault_of_frame([messages]), *map(wire.fault_of_letter, messages)]
        if fault := next(filter(None, faults), ""):
            raise InvalidInput(fault)
        self._client.screen.show(messages)
        line.shown += len(messages)
        line.work.set()

    def _acknowledged(self, line: Line, acked: int) -> None:
        """The peer was shown so many of our letters on this line."""
        if acked > line.written:
            raise InvalidInput(f"Only {line.written} letters were written on this line.")
        count = acked - line.answered
        line.answered = acked
        if line is self.line:  # one that is not any more is about to end
            newest = self.outbox.newest(count)
            self.outbox.answer([wire.Answer(count, "confirmed", waiting=0, listeners=1)])
            self._life.fact("Reached", self._chat, newest)

    async def _write(self, line: Line) -> None:
        """Letters and acknowledgements, whatever waits; the goodbye when we are leaving."""
        while not line.leaving.is_set():
            await line.work.wait()
            line.work.clear()
            await self._life.gate.wait()
            while not line.leaving.is_set():
                letters: Sequence[Message] = ()
                if line is self.line and self.outbox.ready:
                    letters = self.outbox.take()
                    line.written += len(letters)
                acked = line.shown if line.shown > line.told else 0
                if not letters and not acked:
                    break
                await line.write(wire.letters_of(letters), acked)
                line.told = max(line.told, acked)
        await line.write([], line.shown, leaving=True)

    # -- the end

    async def hang_up(self) -> None:
        """Say goodbye on each line, and wait until it is said; bounded."""
        for line in self._lines:
            line.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await self._quiet.wait()

    async def close(self) -> None:
        """Goodbye: what is on its way gets a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self.line is not None:
                    await self.outbox.empty()
        await self.hang_up()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling], timeout=CLOSE_SECONDS)
        self.outbox.give_up(None, "the chat was closed", ChatClosed.__name__)

    def abandon(self, error: ChatlabError) -> None:
        """Drop all lines; who hears it is told ``error``."""
        for line in self._lines:
            line.drop(error)
        if self._dialling is not None:
            self._dialling.cancel()
