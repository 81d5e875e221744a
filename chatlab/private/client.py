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

After each loss it asks for an address again (of another server, if there is one), claims the
name with the same incarnation, and sends what has no receipt under the same ids, in order,
before anything new. Those that arrive a second time within the life of the client are dropped
and recorded as Discarded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import grpc.aio

from chatlab.client import Life, OnMessage
from chatlab.errors import ChatClosed, ChatlabError, SendUncertain, ServiceUnavailable
from chatlab.messages import Message, Receipt
from chatlab.private import wire
from chatlab.private.backoff import patiently
from chatlab.private.channel import error_of
from chatlab.private.connection import Connection
from chatlab.private.outbox import Outbox, chat_of
from chatlab.private.screen import Screen
from chatlab.services.addresses import ServerAddress

T = TypeVar("T")

#: The conversation name of facts about the connection to the chat server.
MAILBOX = "mailbox"
#: A goodbye that takes longer is given up, seconds.
CLOSE_SECONDS = 1.0

#: Acknowledgements follow each other after so many seconds …
ACK_SECONDS = 0.01
#: … or when so many messages wait for theirs, or so many characters in them.
ACK_MESSAGES = 250
ACK_CHARACTERS = 64 * 1024

#: Answers where a chat server is, as this user reaches it; rather none of those given
#: (``str`` of each address), which have not answered.
Locate = Callable[[Collection[str]], Awaitable[ServerAddress]]


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
        self._on_end = on_end
        self._awaiting = life.awaiting(backend)
        self._work = asyncio.Event()
        self._outbox = Outbox(life, self._awaiting, self._work.set)
        self._screen = Screen(life, MAILBOX, on_message)
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._error: ChatlabError | None = ChatClosed("The private chats are not open.")
        #: The server that is or was connected to; the last reason why connecting failed.
        self._served_by = ""
        self._refusal = ""
        self._acks: _Acks | None = None

    @property
    def connected(self) -> bool:
        """Whether it receives now, and may send."""
        return self._connection is not None

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        return {
            "connected": self.connected,
            "unanswered": len(self._outbox),
            "ids seen": len(self._screen),
        }

    # -- open and close

    async def open(self) -> None:
        """Connect, claim the name and start to receive. Idempotent while open.

        Raises:
            ServiceUnavailable: no server answered within ``settings.send_seconds``.
            NameInUse, UnknownAccount, Taken, NotAdmitted: the claim was refused.
            NotPossible: a server at another address than loopback lists no certificate.
        """
        self._refusal = ""
        if self._runner is not None and not self._runner.done():
            return
        try:
            async with asyncio.timeout(self.life.settings.send_seconds):
                connection = await self._connect_patiently()
        except TimeoutError:
            what = f"No chat server answered in time. {self._refusal}".rstrip()
            raise ServiceUnavailable(what) from None
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
                if connection is not None and self._acks is not None:
                    await self._outbox.empty()
                    self._acks.hurry()
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
        if self._error is not None:
            return self._outbox.refuse(messages, self._error)
        return await self._outbox.send(messages)

    # -- asking

    async def history(self, peer: str, limit: int) -> list[Message]:
        """The conversation with ``peer`` so far, oldest first: what this account sent, and
        what it was shown and has acknowledged, in this life and in earlier ones.

        Args:
            limit: the newest so many, 1 to 1,000.

        Raises:
            ServiceUnavailable: no connection now, or no answer in time.
            InvalidInput: a limit out of its range.
        """
        return await self._ask(lambda connection: connection.history(peer, limit))

    async def presence(self, names: Sequence[str]) -> list[tuple[str, bool, float]]:
        """Of each account in ``names`` (at most 100): its name, whether it receives now, and
        when it last did (seconds since the epoch, 0: never).

        Raises:
            ServiceUnavailable: no connection now, or no answer in time.
        """
        return await self._ask(lambda connection: connection.presence(names))

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        if self._error is not None:
            raise self._error
        if self._connection is None:
            raise ServiceUnavailable("The chat server is not connected now.")
        try:
            return await question(self._connection)
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure) from failure

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
                connection = await self._connect_patiently(self._served_by)
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

    async def _connect_patiently(self, *lost: str) -> Connection:
        """Try until a server takes us, those that were ``lost`` or did not answer last."""
        self._silent = set(lost)
        # The first one gets half of the time, so that there is some left for another.
        self._open_seconds = self.life.settings.send_seconds / 2
        connection = await patiently(self._connect)
        self.life.fact("Connected", MAILBOX, self.backend, "both")
        return connection

    async def _connect(self) -> Connection:
        self._served_by = ""
        try:
            address = await self._locate(self._silent)
            self._served_by = str(address)
            return await Connection.open(self.life, address, self._open_seconds)
        except (ServiceUnavailable, SendUncertain) as error:  # the latter: while locating
            self._refusal = error.what
            self._silent.add(self._served_by)
            self._open_seconds = self.life.settings.send_seconds
            raise

    async def _serve(self, connection: Connection) -> ChatlabError:
        """Until the connection ends; returns why."""
        self._connection = connection
        acks = self._acks = _Acks(self.life, connection)
        works = (
            self._write(connection),
            self._read_receipts(connection),
            self._receive(connection, acks),
            acks.run(),
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
                await connection.begin_sending()
                frame = self._outbox.take()
                if frame:
                    await connection.write(frame)

    async def _read_receipts(self, connection: Connection) -> None:
        while (answers := await connection.answers()) is not None:
            await self.life.gate.wait()
            self._outbox.answer(answers)

    async def _receive(self, connection: Connection, acks: _Acks) -> None:
        life = self.life
        if self._awaiting:
            await connection.await_reached(list(self._awaiting))
        while (frame := await connection.frame()) is not None:
            await life.gate.wait()
            for reached in frame.reached:
                self._reached(reached.receiver, reached.id)
            for delivery in frame.deliveries:
                messages = wire.delivered(delivery, life.user)
                self._screen.show(messages, delivery.redelivered)
                acks.add(messages)

    def _reached(self, receiver: str, id: str) -> None:
        """A receiver's client has acknowledged ``id``, and what we sent it before."""
        self.life.fact("Reached", chat_of(self.life.user, receiver), id)
        if self._awaiting.get(receiver) == id:
            del self._awaiting[receiver]


class _Acks:
    """The acknowledgements of one connection: at once when it is quiet, else together.

    Nobody waits for one, so it need not cost a frame for each message: after one has left the
    next leaves :data:`ACK_SECONDS` later, or as soon as it takes a good part of what the
    server lets be unacknowledged. A client that is killed before has just that tail shown
    again, marked as redelivered.
    """

    def __init__(self, life: Life, connection: Connection) -> None:
        self._life = life
        self._connection = connection
        self._shown = 0
        self._messages = 0
        self._characters = 0
        self._due: list[list[Message]] = []
        self._now = asyncio.Event()
        self._hurried = False
        self._next = 0.0  # when an acknowledgement may leave, by the loop's clock

    def add(self, messages: list[Message]) -> None:
        """They were shown, all from one sender."""
        if not self._due:
            self._messages = self._characters = 0
            asyncio.get_running_loop().call_at(self._next, self._now.set)
        self._due.append(messages)
        self._shown += len(messages)
        self._messages += len(messages)
        self._characters += sum([len(message.body) for message in messages])
        many = self._messages >= ACK_MESSAGES or self._characters >= ACK_CHARACTERS
        if self._hurried or many:
            self._now.set()

    def hurry(self) -> None:
        """From now on at once: the client is leaving."""
        self._hurried = True
        self._now.set()

    async def run(self) -> None:
        """Until cancelled, or until the connection is lost."""
        while True:
            await self._now.wait()
            await self._life.gate.wait()  # a frozen client says nothing
            self._now.clear()
            due, self._due = self._due, []
            if due:
                self._next = asyncio.get_running_loop().time() + ACK_SECONDS
                await self._connection.acknowledge(self._shown)
            for messages in due:
                chat = chat_of(self._life.user, messages[0].sender)
                self._life.facts("Acked", chat, [message.id for message in messages])


def _cause(errors: Sequence[BaseException | None]) -> ChatlabError:
    """Why a connection ended; of several reasons the one that another try cannot cure."""
    cause: ChatlabError = ServiceUnavailable("The chat server ended the stream.")
    for error in errors:
        if isinstance(error, grpc.aio.AioRpcError):
            if isinstance(cause, ServiceUnavailable):
                cause = error_of(error)
        elif isinstance(error, ChatlabError):
            cause = error
        elif error is not None:
            raise error
    return cause
