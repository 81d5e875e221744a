"""AsReportedClient: one user's end of the private chats of the original report.

One unary call per message, one after the other, and one stream that is read as it comes.
Nothing is acknowledged, nothing is sent a second time, nothing is recognised as a second
copy. It leaves as the report's client did, by sending itself the word ``EXIT``::

    open ──► receiving ──lost──► waiting (back-off with jitter) ──► receiving …
                 │
                 ├──its queue brought an EXIT──► deaf: it sends and is shown nothing more,
                 │                               until it is opened anew
                 └──close (sends an EXIT)──► closed

An ``EXIT`` that the user types is addressed to the user itself, too, whoever the chat is
with; after it this client sends nothing more. Any other EXIT in its queue (forged, or left
over from an earlier life) it cannot tell from its own.

The laboratory's part is small: it comes back after a lost connection, as the clients of the
other backends do, and it records what happens. It needs no server of ours but the report's
two methods.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from chatlab import messages as values
from chatlab.backoff import patiently
from chatlab.client import Life, OnMessage
from chatlab.errors import (
    ChatClosed,
    ChatlabError,
    MailboxFull,
    NotPossible,
    ServiceUnavailable,
)
from chatlab.messages import Message, Receipt
from chatlab.private.as_reported import EXIT
from chatlab.private.as_reported_line import Line, goodbye_of, message_of, request_of
from chatlab.private.channel import error_of
from chatlab.private.client import CLOSE_SECONDS, MAILBOX, Locate
from chatlab.v1 import as_reported_chat_pb2 as pb

#: The reason of Disconnected after an EXIT: the client does not come back by itself.
EXITED = "an EXIT ended the session"


class AsReportedClient:
    """The client of one life of one user.

    Args:
        life: whose client this is; facts are recorded through it.
        backend: ``as-reported``; goes into the facts.
        locate: asked at each connect.
        on_message: called for each message shown, after Delivered.
        on_end: called once when the client ends by itself.
    """

    def __init__(
        self,
        life: Life,
        backend: str,
        locate: Locate,
        on_message: OnMessage,
        on_end: Callable[[ChatlabError], None] | None = None,
    ) -> None:
        self.life = life
        self.backend = backend
        self._locate = locate
        self._on_message = on_message
        self._on_end = on_end
        self._line: Line | None = None
        #: Set while nothing is received.
        self._deaf = asyncio.Event()
        self._deaf.set()
        self._sending = asyncio.Lock()
        self._unanswered = 0
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        #: Why nothing more is sent; None while it may be.
        self._error: ChatlabError | None = ChatClosed("The private chats are not open.")

    @property
    def connected(self) -> bool:
        """Whether what is in the user's queue is received now."""
        return not self._deaf.is_set()

    async def history(self, peer: str, limit: int) -> list[Message]:
        """Refused: the report's server remembers nothing that was taken.

        Raises:
            NotPossible.
        """
        raise _not_in_the_report("keeps no history")

    async def presence(self, names: Sequence[str]) -> list[tuple[str, bool, float]]:
        """Refused: the report's server does not know who reads.

        Raises:
            NotPossible.
        """
        raise _not_in_the_report("does not know who is there")

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        return {"connected": self.connected, "unanswered": self._unanswered}

    # -- open and close

    async def open(self) -> None:
        """Connect and begin to receive. Idempotent while open.

        Raises:
            ServiceUnavailable: no server answered within ``settings.send_seconds``.
        """
        if self._runner is not None and not self._runner.done():
            return
        try:
            async with asyncio.timeout(self.life.settings.send_seconds):
                line = await patiently(self._connect)
        except TimeoutError:
            raise ServiceUnavailable("No chat server answered in time.") from None
        self._error, self._closing = None, False
        self._runner = asyncio.create_task(self._run(line))
        await asyncio.sleep(0)  # from its first step on, the runner closes the line

    async def close(self) -> None:
        """Leave: take what is on its way, then send the EXIT that ends the stream.

        Idempotent; gives up after a second. A stream that an EXIT has ended already is not
        ended again: that second EXIT would stay in the queue and end the next session.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._error, self._closing = ChatClosed("The private chats were closed."), True
        line, connected = self._line, self.connected
        if line is not None and connected:
            with contextlib.suppress(TimeoutError, ServiceUnavailable, grpc.aio.AioRpcError):
                async with asyncio.timeout(CLOSE_SECONDS), self._sending:
                    await line.send(goodbye_of(self.life.user), CLOSE_SECONDS)
                    await self._deaf.wait()
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
        if connected:
            self.life.fact("Disconnected", MAILBOX, "")

    def abandon(self) -> None:
        """Crash: drop everything at once, without a goodbye and without a fact."""
        runner, self._runner = self._runner, None
        self._error, self._closing = ChatClosed("The private chats' client crashed."), True
        self._on_end = None
        if runner is not None:
            runner.cancel()

    # -- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send one after the other; one receipt per message, in order.

        Single outcomes are never raised: ``failed`` and ``uncertain`` carry a reason. After
        one of them the rest is not sent, as the report's client ended at its first error.
        ``EXIT`` is a command and leaves no facts of a message.
        """
        for message in messages:
            self._fact("Sent", message, message)
        self._unanswered += len(messages)
        receipts: list[Receipt] = []
        try:
            async with self._sending:
                for message in messages:
                    await self._hand_over(message, receipts)
                    if receipts[-1].outcome != "confirmed":
                        break
        finally:
            for message in messages[len(receipts) :]:
                rest = _failed(message, "not sent: an earlier one was not confirmed")
                receipts.append(self._settled(message, rest))
        return receipts

    async def _hand_over(self, message: Message, receipts: list[Receipt]) -> None:
        """Add the receipt of one message, also when interrupted."""
        receipt = _failed(message, "interrupted")
        try:
            if not await self._thawed():
                receipt = _failed(message, f"{self.life.user} was frozen for too long")
            elif self._error is not None:
                receipt = _failed(message, self._error.what, ChatClosed.__name__)
            elif self._line is None:
                receipt = _failed(message, "The chat server is not connected.")
            else:
                receipt = Receipt(message.id, "uncertain", reason="interrupted")
                receipt = await self._call(self._line, message)
        finally:
            receipts.append(self._settled(message, receipt))

    async def _thawed(self) -> bool:
        """Whether the client runs; a frozen one has as long to go on as a server to answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.life.settings.send_seconds):
                await self.life.gate.wait()
        return self.life.gate.is_set()

    async def _call(self, line: Line, message: Message) -> Receipt:
        """One remote call; whatever becomes of it is the receipt."""
        seconds, leaving = self.life.settings.send_seconds, message.body == EXIT
        request = goodbye_of(message.sender) if leaving else request_of(message)
        try:
            waiting = await line.send(request, seconds)
        except ServiceUnavailable as closed:
            return Receipt(message.id, "uncertain", reason=closed.what)
        except grpc.aio.AioRpcError as failure:
            return _without_answer(message, failure, seconds)
        if leaving:
            await self._leave()
        return Receipt(message.id, "confirmed", waiting, None)

    async def _leave(self) -> None:
        """The user's EXIT is in its queue: the stream ends there, and sending here."""
        self._error = ChatClosed(f"{self.life.user} left with {EXIT}.")
        with contextlib.suppress(TimeoutError):  # another stream of ours may have taken it
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._deaf.wait()

    def _settled(self, message: Message, receipt: Receipt) -> Receipt:
        """Record what became of a message."""
        self._unanswered -= 1
        if receipt.outcome == "confirmed":
            self._fact("Confirmed", message, message.id, receipt.waiting, receipt.listeners)
        else:
            self._fact(receipt.outcome.capitalize(), message, message.id, receipt.reason)
        if receipt.outcome != "uncertain":
            self.life.settled(message.id)
        elif message.body != EXIT:
            self.life.unsettled(message)
        return receipt

    def _fact(self, kind: str, message: Message, *rest: Any) -> None:
        if message.body != EXIT:
            self.life.fact(kind, values.private(message.sender, message.to), *rest)

    # -- receiving, while the line lasts and after

    async def _run(self, line: Line) -> None:
        try:
            while True:
                error = await self._serve(line)
                if self._closing:
                    return
                self.life.fact("Disconnected", MAILBOX, error.what)
                if self._error is not None:  # the user has left
                    return
                await self.life.gate.wait()  # a frozen client does not reconnect
                line = await patiently(self._connect)
        except ChatlabError as failure:
            self._end(failure)
        except Exception as error:  # a defect, of ours or of on_message: never silent
            what = f"The client of {self.life.user} failed: {error!r}."
            asyncio.get_running_loop().call_exception_handler(
                {"message": what, "exception": error}
            )
            self._end(ChatlabError(what))

    def _end(self, error: ChatlabError) -> None:
        if not self._closing:
            self._error = error
            if self._on_end is not None:
                self._on_end(error)

    async def _connect(self) -> Line:
        address, settings = await self._locate(()), self.life.settings
        line = await Line.open(address.target, self.life.user, settings.send_seconds)
        self.life.fact("Connected", MAILBOX, self.backend, "both")
        return line

    async def _serve(self, line: Line) -> ChatlabError:
        """Until the line is lost; returns why. After an EXIT it goes on for sending."""
        self._line = line
        self._deaf.clear()
        try:
            while (letter := await line.read()) is not None:
                await self.life.gate.wait()
                self._show(letter)
            self._deaf.set()
            if not self._closing:
                self.life.fact("Disconnected", MAILBOX, EXITED)
            await asyncio.get_running_loop().create_future()  # cancelled by close()
            raise AssertionError
        except grpc.aio.AioRpcError as failure:
            return error_of(failure)
        finally:
            self._line = None
            self._deaf.set()
            await line.close()

    def _show(self, letter: pb.ReceiveMessagesResponse) -> None:
        life, message = self.life, message_of(letter)
        life.clock.see(message.clock)
        life.fact("Delivered", values.private(message.sender, life.user), message, False)
        self._on_message(message, False)


def _failed(message: Message, reason: str, error: str = "") -> Receipt:
    return Receipt(message.id, "failed", reason=reason, error=error)


def _without_answer(message: Message, failure: grpc.aio.AioRpcError, seconds: float) -> Receipt:
    """What a failed call means: only a full queue says for certain that it was refused."""
    if failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _failed(message, failure.details() or "", MailboxFull.__name__)
    late = failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    reason = f"no answer within {seconds:g} s" if late else error_of(failure).what
    return Receipt(message.id, "uncertain", reason=reason)


def _not_in_the_report(what: str) -> NotPossible:
    return NotPossible(
        f"The chat server as reported {what}.", todo="The mailbox backends can tell."
    )
