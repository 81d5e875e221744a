"""MailboxClient: one user's end of the private chats.

Two streams on one connection: messages up with receipts down, messages down with
acknowledgements up. The client owns four things and nothing else: the connection, the outbox
(what has no receipt yet), the ids it has shown, and the rule what to do when the connection
goes::

    open ──► connected ──lost──► waiting (back-off with jitter) ──► connected …
                 │                  │
                 ├──close──► closed │      messages go on waiting in the outbox, until
                 └──────taken───────┴──►   each send's deadline
                             ended

After each loss it asks for the address again, claims the name with the same incarnation, and
sends what has no receipt under the same ids, in order, before anything new. Those that arrive
a second time within the life of the client are dropped and recorded as Discarded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio

from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError, ServiceUnavailable
from chatlab.messages import Message, Receipt
from chatlab.private import wire
from chatlab.private.backoff import patiently
from chatlab.private.channel import error_of
from chatlab.private.connection import Connection
from chatlab.private.outbox import Job, Outbox, chat_of
from chatlab.v1 import private_chat_pb2 as pb

#: The conversation name of facts about the connection to the chat server.
MAILBOX = "mailbox"
#: A goodbye that takes longer is given up, seconds.
CLOSE_SECONDS = 1.0

#: Answers ``host:port`` of the chat server, as this user reaches it.
Locate = Callable[[], Awaitable[str]]


class MailboxClient:
    """The client of one life of one user, at one backend.

    Args:
        life: whose client this is; facts are recorded through it.
        backend: ``mailbox-memory`` or ``mailbox-redis``; goes into the facts.
        locate: asked at each connect.
        on_message: called for each message shown, after Delivered and before the ack.
        on_end: called once when the client ends by itself, for instance with ``Taken``.
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
        self._outbox = Outbox(life)
        self._seen = life.seen(MAILBOX)
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._error: ChatlabError | None = ChatClosed("The private chats are not open.")
        self._work = asyncio.Event()
        self._jobs: set[Job] = set()

    @property
    def connected(self) -> bool:
        """Whether both streams are open now."""
        return self._connection is not None

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        return {
            "connected": self.connected,
            "unanswered": len(self._outbox),
            "ids seen": len(self._seen),
        }

    # -- open and close

    async def open(self) -> None:
        """Connect, claim the name and start both streams. Idempotent while open.

        Raises:
            ServiceUnavailable: no server answered within ``settings.send_seconds``.
            NameInUse, UnknownAccount, Taken: the claim was refused.
        """
        if self._runner is not None and not self._runner.done():
            return
        try:
            async with asyncio.timeout(self.life.settings.send_seconds):
                connection = await self._connect_patiently()
        except TimeoutError:
            raise ServiceUnavailable("No chat server answered in time.") from None
        self._error = None
        self._runner = asyncio.create_task(self._run(connection))
        await asyncio.sleep(0)  # from its first step on, the runner closes the connection

    async def close(self) -> None:
        """Say goodbye: take what is on its way, then leave. Idempotent; bounded.

        Sends without a receipt get one second, then they have failed or are uncertain.
        """
        runner, self._runner = self._runner, None
        if runner is None or self._error is not None:
            return
        self._error = ChatClosed("The private chats were closed.")
        connection = self._connection
        with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if connection is not None:
                    await asyncio.gather(*(asyncio.shield(job.done) for job in self._jobs))
                    await connection.leave()
                    await asyncio.shield(runner)
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
        self._outbox.give_up(None, "the chat was closed", ChatClosed.__name__)
        if connection is not None:
            self.life.fact("Disconnected", MAILBOX, "")

    def abandon(self) -> None:
        """Crash: drop everything at once, without a goodbye and without a fact."""
        runner, self._runner = self._runner, None
        self._error = ChatClosed("The private chats' client crashed.")
        self._on_end = None
        if runner is not None:
            runner.cancel()

    # -- sending

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send, pipelined; one receipt per message, in order.

        Single outcomes are never raised: ``failed`` and ``uncertain`` carry a reason. A
        message is given up when ``settings.send_seconds`` pass without an answer to any of
        this call's messages.
        """
        job = self._outbox.put(messages)
        if self._error is not None:
            self._outbox.give_up(job, self._error.what, type(self._error).__name__)
        elif messages:
            self._work.set()
            await self._answered(job)
        return [receipt for receipt in job.receipts if receipt is not None]

    async def _answered(self, job: Job) -> None:
        seconds = self.life.settings.send_seconds
        self._jobs.add(job)
        try:
            async with asyncio.timeout(seconds) as job.timeout:
                await job.done
        except TimeoutError:
            self._outbox.give_up(job, f"no answer within {seconds:g} s")
        except asyncio.CancelledError:
            self._outbox.give_up(job, "interrupted")
            raise
        finally:
            self._jobs.discard(job)

    # -- the connection, while it lasts and after

    async def _run(self, connection: Connection) -> None:
        try:
            while True:
                error = await self._serve(connection)
                if self._error is not None:  # closing
                    return
                self.life.fact("Disconnected", MAILBOX, error.what)
                if not isinstance(error, ServiceUnavailable):
                    raise error
                self._outbox.rewind()
                await self.life.gate.wait()  # a frozen client does not reconnect
                connection = await self._connect_patiently()
        except ChatlabError as failure:
            self._end(failure)
        except Exception as error:  # a defect, of ours or of on_message: never silent
            what = f"The client of {self.life.user} failed: {error!r}."
            asyncio.get_running_loop().call_exception_handler(
                {"message": what, "exception": error}
            )
            self._end(ChatlabError(what))

    def _end(self, error: ChatlabError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._outbox.give_up(None, error.what, type(error).__name__)
        if self._on_end is not None:
            self._on_end(error)

    async def _connect_patiently(self) -> Connection:
        connection = await patiently(self._connect)
        self.life.fact("Connected", MAILBOX, self.backend, "both")
        return connection

    async def _connect(self) -> Connection:
        return await Connection.open(self.life, await self._locate())

    async def _serve(self, connection: Connection) -> ChatlabError:
        """Until the connection ends; returns why."""
        self._connection = connection
        works = (
            self._write(connection),
            self._read_receipts(connection),
            self._receive(connection),
        )
        tasks = [asyncio.create_task(work) for work in works]
        self._work.set()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return _cause([task.exception() for task in done])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()
            self._connection = None

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._outbox.ready:
                await self.life.gate.wait()
                frame = self._outbox.take()
                if frame:
                    await connection.write(frame)

    async def _read_receipts(self, connection: Connection) -> None:
        while (runs := await connection.receipts()) is not None:
            await self.life.gate.wait()
            self._outbox.answer(runs)
            if self._outbox.ready:
                self._work.set()

    async def _receive(self, connection: Connection) -> None:
        count = 0
        gate = self.life.gate
        while (deliveries := await connection.deliveries()) is not None:
            for delivery in deliveries:
                if not gate.is_set():
                    await gate.wait()
                self._show(delivery)
            count += len(deliveries)
            await connection.acknowledge(count)
            for delivery in deliveries:
                self.life.fact("Acked", chat_of(self.life.user, delivery.sender), delivery.id)

    def _show(self, delivery: pb.Delivery) -> None:
        life, message = self.life, wire.delivered(delivery, self.life.user)
        chat = chat_of(message.sender, self.life.user)
        life.clock.see(message.clock)
        # Ids are unique per sender only: nobody can make another's message look seen.
        if not self._seen.add(f"{message.sender}/{message.id}"):
            life.fact("Discarded", chat, message.id)
            return
        life.fact("Delivered", chat, message, delivery.redelivered)
        self._on_message(message, delivery.redelivered)


def _cause(errors: Sequence[BaseException | None]) -> ChatlabError:
    """Why a connection ended; of several reasons the one that another try cannot cure."""
    cause: ChatlabError = ServiceUnavailable("The chat server ended the stream.")
    for error in errors:
        if isinstance(error, grpc.aio.AioRpcError):
            if isinstance(cause, ServiceUnavailable):
                cause = error_of(error)
        elif error is not None:
            raise error
    return cause
