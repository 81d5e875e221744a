"""One TCP connection to RabbitMQ for as long as it lives, awaitable; no recovery here.

The only module that imports pika. A :class:`Wire` is made on the running loop, hands out
:class:`Channel` objects and tells ``on_lost`` once when it is over, whoever ended it. A
channel turns pika's callbacks into awaitable calls, one at a time. Nothing of pika's raises
out of here: :func:`_mapped` turns all of it into errors of :mod:`chatlab.amqp.errors`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika  # type: ignore[import-untyped]
import pika.exceptions  # type: ignore[import-untyped]
from pika.adapters.asyncio_connection import (  # type: ignore[import-untyped]
    AsyncioConnection,
    _AsyncioIOServicesAdapter,
)
from pika.adapters.utils import connection_workflow  # type: ignore[import-untyped]

from chatlab.amqp.errors import REFUSALS, Lost, NotAllowed, from_code
from chatlab.amqp.names import Names
from chatlab.errors import ChatlabError, InvalidInput
from chatlab.services.addresses import RabbitAddress, trust

Properties = pika.BasicProperties

#: A graceful close that RabbitMQ does not answer within this is made an abrupt one.
CLOSE_SECONDS = 1.0

#: What pika raises or reports; its assertions count, for it uses them on lost connections.
DRIVER_ERRORS = (
    pika.exceptions.AMQPError,
    pika.exceptions.ChannelError,
    connection_workflow.AMQPConnectorException,
    AssertionError,
    OSError,
)

CLOSED_BY_US = (
    pika.exceptions.ConnectionClosedByClient,
    pika.exceptions.ChannelClosedByClient,
)
CLOSED_BY_BROKER = (
    pika.exceptions.ConnectionClosedByBroker,
    pika.exceptions.ChannelClosedByBroker,
)

# pika logs a lost connection as an error with a traceback; here it is an ordinary event.
_log = logging.getLogger("pika")
_log.addHandler(logging.NullHandler())
if _log.level == logging.NOTSET:
    _log.setLevel(logging.CRITICAL)


class _Services(_AsyncioIOServicesAdapter):  # type: ignore[misc]
    """What pika asks of the loop. pika 1.4.4 raises inside a callback when a connection is
    reset between its establishment and its first use; nobody is told, and the attempt ends
    only at its deadline. Here it fails at once, as any other."""

    def create_streaming_connection(
        self, protocol_factory: Any, sock: Any, on_done: Callable[[Any], None], **tls: Any
    ) -> Any:
        try:
            return super().create_streaming_connection(protocol_factory, sock, on_done, **tls)
        except ValueError as error:
            reset = error.__context__
            if not isinstance(reset, OSError):  # it complains of something else
                raise
            sock.close()
            return self.call_later(0, lambda: on_done(reset))


class _Driver(AsyncioConnection):  # type: ignore[misc]
    """pika's connection, with what is written in one turn of the loop sent at once: a
    message is three frames, and pika itself makes a system call for each."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._unsent: list[bytes] = []
        super().__init__(*args, **options)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._unsent.append(data)

    def _send_all(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if self._transport is not None:  # else the connection was lost meanwhile
            with suppress(*DRIVER_ERRORS):  # it was lost just now, and that is told by itself
                super()._adapter_emit_data(data)


class Wire:
    """One connection. Make it with :meth:`open`."""

    def __init__(self, address: RabbitAddress, on_lost: Callable[[ChatlabError], None]) -> None:
        self.where = f"RabbitMQ at {address.host}:{address.port}"
        #: How what we name is called there.
        self.names = Names(address.prefix)
        #: Why it ended; ``None`` while it lives.
        self.lost: ChatlabError | None = None
        #: Why RabbitMQ blocks publishers (``low on memory``); empty: it doesn't.
        self.blocked = ""
        self._on_lost = on_lost
        self._ended = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._driver: Any  # pika's connection

    @classmethod
    async def open(
        cls,
        address: RabbitAddress,
        properties: dict[str, Any],
        *,
        heartbeat: int,
        timeout: float,
        on_lost: Callable[[ChatlabError], None],
    ) -> Wire:
        """Connect within ``timeout`` seconds.

        Args:
            properties: client properties, shown by RabbitMQ's own tools
                (``connection_name`` names the connection there).
            heartbeat: seconds.
            on_lost: called once if it opened, when it is over.

        Raises:
            Lost: nobody answers; trying again may work.
            AccessRefused, NotAllowed: the credentials or the virtual host are wrong.
        """
        self = cls(address, on_lost)
        self._driver = _Driver(
            _parameters(address, properties, heartbeat, timeout),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=_Services(asyncio.get_running_loop()),
        )
        self._driver.add_on_connection_blocked_callback(self._on_blocked)
        self._driver.add_on_connection_unblocked_callback(self._on_unblocked)
        try:
            async with asyncio.timeout(timeout):
                await self._opened
        except TimeoutError:
            self.drop()
            raise Lost(f"{self.where} does not answer.") from None
        except asyncio.CancelledError:
            self.drop()
            raise
        return self

    @property
    def alive(self) -> bool:
        """False from the moment of the loss on, before ``on_lost`` is called."""
        return self.lost is None and not self._driver.is_closed

    async def channel(self) -> Channel:
        """Open a channel.

        Raises:
            Lost: the connection is over.
        """
        if self.lost:
            raise self.lost
        channel = Channel(self)
        try:
            await channel.open(self._driver)
        except DRIVER_ERRORS as error:
            raise self.lost or _mapped(error, self.where) from error
        except asyncio.CancelledError:
            channel.discard()
            raise
        return channel

    async def close(self) -> None:
        """Say goodbye, for at most :data:`CLOSE_SECONDS`; then as :meth:`drop`."""
        if self.lost:
            return
        with suppress(*DRIVER_ERRORS):
            self._driver.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ended.wait()
        self.drop()

    def drop(self) -> None:
        """End the connection without a goodbye, as a crash does."""
        if self.lost or self._driver.is_closed:
            return
        # pika's own way out after a missed heartbeat. transport.abort() alone would raise
        # an AssertionError, because no reason was noted.
        with suppress(*DRIVER_ERRORS):
            self._driver._terminate_stream(pika.exceptions.StreamLostError("dropped"))

    def _on_open(self, _: object) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_open_error(self, _: object, error: BaseException) -> None:
        self.lost = _mapped(error, self.where)
        if not self._opened.done():
            self._opened.set_exception(self.lost)

    def _on_close(self, _: object, error: BaseException) -> None:
        self.lost = _mapped(error, self.where)
        self._ended.set()
        self._on_lost(self.lost)

    def _on_blocked(self, _: object, frame: Any) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, *_: object) -> None:
        self.blocked = ""


class Channel:
    """One channel of a :class:`Wire`; after a refusal RabbitMQ has closed it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        #: Why it ended; ``None`` while it is open.
        self.closed: ChatlabError | None = None
        #: Called when it ends, with the reason; not after :meth:`close`.
        self.on_closed: Callable[[ChatlabError], None] | None = None
        #: pika's channel, for the hot paths (publish, ack); see :meth:`send`.
        self.raw: Any = None
        #: A call was given up; its late answer could be taken for the next one's.
        self._spoiled = False
        self._answer: asyncio.Future[Any] | None = None
        self._ended = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def usable(self) -> bool:
        """Whether :meth:`call` may be used again."""
        return self.closed is None and not self._spoiled

    async def open(self, driver: Any) -> None:
        """Used by :meth:`Wire.channel`."""
        self._answer = asyncio.get_running_loop().create_future()
        self.raw = driver.channel(on_open_callback=_answering(self._answer))
        self.raw.add_on_close_callback(self._on_close)
        self.raw.add_callback(self._on_empty, [pika.spec.Basic.GetEmpty], one_shot=False)
        await self._answer

    async def call(self, method: str, /, **arguments: Any) -> Any:
        """Do one of pika's channel methods that RabbitMQ answers; returns the answer.

        Raises:
            Lost: the connection is over.
            ChatlabError: RabbitMQ refused and closed the channel (see REFUSALS).
        """
        named = self.wire.names.of_call(arguments)
        frame = await self._ask(
            lambda answer: getattr(self.raw, method)(callback=_answering(answer), **named)
        )
        return frame.method

    async def get(self, queue: str) -> tuple[Any, Any, bytes] | None:
        """Fetch one message: ``basic.get-ok``, its properties, its body; ``None`` when the
        queue is empty.

        Raises:
            As :meth:`call`.
        """

        def ask(answer: asyncio.Future[Any]) -> None:
            got = _answering(answer)
            self.raw.basic_get(self.wire.names.there(queue), lambda _, *message: got(message))

        found: tuple[Any, Any, bytes] | None = await self._ask(ask)
        return found

    async def _ask(self, ask: Callable[[asyncio.Future[Any]], None]) -> Any:
        """What RabbitMQ answers; ``ask`` sends the question."""
        async with self._turn:
            if self.closed:
                raise self.closed
            answer = self._answer = asyncio.get_running_loop().create_future()
            try:
                ask(answer)
            except DRIVER_ERRORS as error:
                raise self.closed or _mapped(error, self.wire.where) from error
            try:
                return await answer
            except asyncio.CancelledError:
                self._spoiled = True
                raise

    def send(self, method: str, /, *arguments: Any, **options: Any) -> bool:
        """Do one of pika's channel methods that has no answer; False when it is closed.

        Raises:
            InvalidInput: AMQP cannot carry these arguments.
        """
        if self.closed:
            return False
        if self.wire.names.prefix and method == "basic_publish":
            arguments = self.wire.names.of_publish(*arguments)
        try:
            getattr(self.raw, method)(*arguments, **options)
        except DRIVER_ERRORS as error:
            if self.wire.alive and self.raw.is_open:
                raise InvalidInput(f"AMQP cannot carry this: {error!r}.") from error
            return False
        return True

    async def close(self) -> None:
        """Close it and wait for that; RabbitMQ takes back what was not acknowledged."""
        self.on_closed = None
        if self.closed:
            return
        with suppress(*DRIVER_ERRORS):
            self.raw.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ended.wait()

    def discard(self) -> None:
        """Close it without waiting."""
        self.on_closed = None
        with suppress(*DRIVER_ERRORS):
            self.raw.close()

    def _on_empty(self, _: object) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _on_close(self, _: object, error: BaseException) -> None:
        self.closed = _mapped(error, self.wire.where)
        self.closed.what = self.wire.names.here(self.closed.what)
        self._ended.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self.closed)
        if self.on_closed is not None:
            self.on_closed(self.closed)


def _answering(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    def answer(frame: Any) -> None:
        if not future.done():
            future.set_result(frame)

    return answer


def _parameters(
    address: RabbitAddress, properties: dict[str, Any], heartbeat: int, timeout: float
) -> Any:
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(address.user, address.password),
        client_properties=properties,
        heartbeat=heartbeat,
        socket_timeout=timeout,
        stack_timeout=timeout,
        ssl_options=(
            pika.SSLOptions(trust(address.authority), address.certificate_host)
            if address.tls
            else None
        ),
    )


def _mapped(error: BaseException, where: str) -> ChatlabError:
    """What pika raised or reported, as an error of ours with pika's as its cause."""
    mapped = _translate(error, where)
    mapped.__cause__ = error
    return mapped


def _translate(error: BaseException, where: str) -> ChatlabError:
    while isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed) or (
        type(error) is pika.exceptions.AMQPConnectionError
        and error.args
        and isinstance(error.args[0], connection_workflow.AMQPConnectionWorkflowFailed)
    ):
        failed = error if hasattr(error, "exceptions") else error.args[0]
        error = failed.exceptions[-1]
    if isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        error = error.exception
    if isinstance(error, CLOSED_BY_US):
        return Lost(f"The connection to {where} was closed here.")
    if isinstance(error, CLOSED_BY_BROKER):
        return from_code(error.reply_code, error.reply_text, where)
    if isinstance(
        error,
        pika.exceptions.ProbableAuthenticationError | pika.exceptions.ProbableAccessDeniedError,
    ):
        # pika's guess; it holds only when RabbitMQ itself closed, with a code of its own.
        found = re.search(r"ConnectionClosedByBroker: \((\d+)\) '?([^']*)", str(error))
        if found is None:
            return Lost(f"{where} broke off while we connected.")
        return from_code(int(found[1]), found[2], where)
    if isinstance(error, pika.exceptions.AuthenticationError):
        return REFUSALS[403](f"{where} refuses our credentials.")
    if isinstance(error, pika.exceptions.NoFreeChannels):
        return NotAllowed(f"{where} allows no more channels on this connection.")
    if isinstance(error, ConnectionRefusedError):
        return Lost(f"{where} is not running.")
    return Lost(f"The connection to {where} broke ({type(error).__name__}).")
