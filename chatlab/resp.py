"""Redis for the patterns: one connection pool a client, Lua scripts, errors mapped.

The only importer of the ``redis`` package. RESP2 and bytes-to-text decoding are set here,
because redis-py's defaults differ between major versions. Only commands of Redis 7.0 are
used. Reading the clock is Redis' own (``TIME`` inside the scripts), so that the machines'
clocks need not agree.

A command first takes a connection from the pool, which connects, logs in and notices a
dead one. Whatever fails until then is definite: the command has not left. What fails later
is not, unless Redis itself answers with an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import redis.asyncio
from redis import exceptions as driver_errors
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    SendFailed,
    SendUncertain,
    ServiceUnavailable,
)
from chatlab.services.addresses import RedisAddress, trust

#: Most connections of one client; further commands wait for a free one.
CONNECTIONS = 50
#: How long closing waits for the goodbyes of sockets whose other side does not read.
CLOSE_SECONDS = 1.0

#: Messages that a listener reads ahead of whoever takes them.
AHEAD_MESSAGES = 500

#: The module of asyncio that writes to sockets.
WRITER = "asyncio.selector_events"

#: Answers by which Redis says that it cannot work now; the command was not run.
_NOT_READY = ("LOADING", "MISCONF", "READONLY", "MASTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN")


class Script:
    """Lua source, loaded once per server; reloaded when the server forgot it (NOSCRIPT)."""

    def __init__(self, source: str) -> None:
        self.source = source
        #: The name by which Redis knows it (EVALSHA, by Redis' definition a SHA-1).
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class ScriptError(ChatlabError):
    """Redis refused the command or script; ``code`` is the first word of its answer, for
    instance that of a script's own ``redis.error_reply('CODE …')``."""

    def __init__(self, what: str, effect: str = "", todo: str = "", *, code: str = "") -> None:
        super().__init__(what, effect, todo)
        self.code = code


class Redis:
    """An awaitable Redis of one client.

    Args:
        address: where it is (through the user's link).
        deadline: seconds after which a command that got no answer is given up.
        name: shown by CLIENT LIST; what Redis does not allow in one is percent-encoded.
    """

    def __init__(self, address: RedisAddress, *, deadline: float = 5.0, name: str = "") -> None:
        self.address = address
        self.prefix = address.prefix
        self.deadline = deadline
        connection: type[redis.asyncio.Connection] = (
            _Secure if address.tls else redis.asyncio.Connection
        )
        secured: dict[str, Any] = {}
        if address.tls:
            secured = {
                "named": address.certificate_host,
                "trusted": trust(address.authority),
            }
        self._pool = _Pool(
            max_connections=CONNECTIONS,
            timeout=deadline,
            connection_class=connection,
            host=address.host,
            port=address.port,
            username=address.user or None,
            password=address.password or None,
            db=address.db,
            protocol=2,
            decode_responses=True,
            socket_timeout=deadline,
            socket_connect_timeout=deadline,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name=quote(name, safe="/:@") or None,
            **secured,
        )
        #: The driver, for plain commands; wrap them in :func:`mapped`.
        self.driver: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(self._pool)

    def key(self, *parts: str) -> str:
        """A key of this lab: the prefix and the parts joined by ``:``."""
        return self.prefix + ":".join(parts)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run a script atomically.

        Raises:
            ScriptError: the script answered with an error of its own.
            ServiceUnavailable: Redis was not reached; nothing happened.
            SendUncertain: the connection broke or timed out after the request left.
        """
        # redis-py's own Script object does the same and takes a fifth longer.
        words = (script.sha, len(keys), *keys, *args)
        execute: Callable[..., Awaitable[Any]] = self.driver.execute_command
        with mapped(self.address):
            try:
                return await execute("EVALSHA", *words)
            except driver_errors.NoScriptError:
                await execute("SCRIPT LOAD", script.source)
                return await execute("EVALSHA", *words)

    @asynccontextmanager
    async def subscription(self, *channels: str) -> AsyncIterator[PubSub]:
        """A pub/sub subscription that Redis has confirmed before the body runs.

        After a lost connection redis-py subscribes again without a word: what was published
        in between is not seen.
        """
        pubsub = self.driver.pubsub()
        try:
            with mapped(self.address):
                await pubsub.subscribe(*channels)
                await self._confirmed(pubsub, set(channels))
            yield pubsub
        finally:
            with suppress(driver_errors.RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _confirmed(self, pubsub: PubSub, channels: set[str]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.deadline
        while channels:
            message = await pubsub.get_message(timeout=max(0.0, until - loop.time()))
            if message is None:
                raise driver_errors.TimeoutError("SUBSCRIBE is not confirmed")
            if message["type"] == "subscribe":
                channels.discard(message["channel"])

    def abandon(self) -> None:
        """Drop all connections at once, listeners' too, as in a crash: no goodbye."""
        for connection in list(self._pool.made):
            connection._close()

    async def close(self) -> None:
        """Close all connections; never raises for a Redis that is gone."""
        with suppress(TimeoutError, OSError, driver_errors.RedisError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.driver.aclose()


class Listener:
    """A connection that only listens. Its loss is an error, never repaired in silence.

    ``open`` once; ``take`` what has arrived; ``close``. A task reads ahead, at most
    :data:`AHEAD_MESSAGES`, then leaves the rest to TCP and to Redis' own buffer, which has
    a limit, too: Redis ends the connection of a subscriber that is too slow.

    Args:
        redis: whose address and credentials are used; the connection is not of its pool.
        quiet_seconds: after so long without a word a PING asks; after as long again
            without an answer the connection is lost.
    """

    def __init__(self, redis: Redis, quiet_seconds: float) -> None:
        self._redis = redis
        self._quiet_seconds = quiet_seconds
        self._connection: Any = None
        self._arrived: deque[tuple[str, str]] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False
        #: Why the connection is lost.
        self.lost: ChatlabError | None = None

    async def open(self, channels: Sequence[str], *look: Sequence[str]) -> list[Any]:
        """Subscribe, and run the commands ``look`` in the same transaction: nothing is
        published between their answers and the subscription.

        Returns:
            The answers of ``look``.

        Raises:
            ServiceUnavailable: not reached.
            SendUncertain: the connection broke; trying again is safe.
            ScriptError: Redis refused a command.
        """
        connection = self._connection = self._redis._pool.make_connection()
        # One channel a command: then each answer of the transaction is one reply.
        commands = [*look, *(("SUBSCRIBE", channel) for channel in channels)]
        try:
            with mapped(self._redis.address):
                with _reaching():
                    await connection.connect()
                for words in (("MULTI",), *commands, ("EXEC",)):
                    await connection.send_command(*words, check_health=False)
                for _ in range(len(commands) + 1):  # OK, QUEUED, QUEUED, …
                    await connection.read_response()
                answers: list[Any] = await connection.read_response()
        except BaseException:
            connection._close()
            raise
        for answer in answers:
            if isinstance(answer, Exception):
                connection._close()
                raise _translate(answer, self._redis.address) from answer
        self._reader = asyncio.create_task(self._read())
        return answers[: len(look)]

    async def _read(self) -> None:
        try:
            with mapped(self._redis.address):
                await self._read_on()
        except ChatlabError as error:
            self.lost = error
        finally:
            self._news.set()

    async def _read_on(self) -> None:
        asked = False
        while True:
            reply = await self._connection.read_response(
                timeout=self._quiet_seconds, disconnect_on_error=False
            )
            if reply is None:  # nothing came in that time
                if asked:
                    raise driver_errors.TimeoutError("no answer to PING")
                asked = True
                await self._connection.send_command("PING", check_health=False)
                continue
            asked = False
            if reply[0] == "message":
                self._arrived.append((reply[1], reply[2]))
                self._news.set()
                while len(self._arrived) >= AHEAD_MESSAGES:
                    self._room.clear()
                    await self._room.wait()

    async def take(self) -> list[tuple[str, str]]:
        """What has arrived, as (channel, text), oldest first; waits for the first one.
        Empty: :meth:`stop` was called and nothing is left.

        Raises:
            ServiceUnavailable, SendUncertain: the connection is lost; what had arrived
                before was taken.
        """
        while not self._arrived:
            if self._stopped:
                return []
            if self.lost is not None:
                raise self.lost
            if self._reader is not None and self._reader.done():
                self._reader.result()  # a mistake of ours, not of the network
            self._news.clear()
            await self._news.wait()
        found = list(self._arrived)
        self._arrived.clear()
        self._room.set()
        return found

    def stop(self) -> None:
        """Read no more; what has arrived may still be taken."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()
        self._news.set()

    def close(self) -> None:
        """Stop, and drop the connection."""
        self.stop()
        if self._connection is not None:
            self._connection._close()


class _NotReached(driver_errors.ConnectionError):
    """No connection could be had: the command has not left."""


class _Secure(redis.asyncio.Connection):
    """TLS to a server whose certificate is for ``named``, by whatever way it is reached."""

    def __init__(self, *, named: str, trusted: ssl.SSLContext, **options: Any) -> None:
        self._named = named
        self._trusted = trusted
        super().__init__(**options)

    def _connection_arguments(self) -> Any:
        # The driver's SSLConnection would trust the system's roots as well.
        ours = {"ssl": self._trusted, "server_hostname": self._named}
        return {**super()._connection_arguments(), **ours}


class _Pool(redis.asyncio.BlockingConnectionPool):
    """A bounded pool that tells "not reached" from "broke afterwards"."""

    def __init__(self, **options: Any) -> None:
        #: Every connection that still exists, idle or in use.
        self.made: WeakSet[Any] = WeakSet()
        super().__init__(**options)

    def make_connection(self) -> Any:
        connection = super().make_connection()  # type: ignore[no-untyped-call]
        self.made.add(connection)
        return connection

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        with _reaching():
            return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]


@contextmanager
def _reaching() -> Iterator[None]:
    """What fails inside has not left this machine."""
    try:
        yield
    except (driver_errors.AuthenticationError, driver_errors.BusyLoadingError):
        raise
    except (driver_errors.ConnectionError, driver_errors.TimeoutError) as error:
        raise _NotReached(str(error)) from error


@contextmanager
def mapped(address: RedisAddress) -> Iterator[None]:
    """Turn what redis-py raises into errors of chatlab.

    Raises:
        ServiceUnavailable: not reached, refused the credentials, or not ready; definite.
        SendFailed: out of memory; definite.
        ScriptError: any other answer of Redis that is an error.
        SendUncertain: the connection broke or timed out after the request may have left.
    """
    before = _cancellations()
    error: Exception | None = None
    try:
        yield
    except ChatlabError:  # one of ours may be an OSError, too
        raise
    except (driver_errors.RedisError, OSError) as caught:
        error = caught
    except (TypeError, AttributeError) as caught:
        if not _written_to_a_lost_connection(caught):
            raise
        error = driver_errors.ConnectionError(str(caught))
    if _cancellations() > before:
        # redis-py has lost it: asyncio.wait_for of Python 3.11 swallows a cancellation
        # that arrives together with the result (github.com/python/cpython/issues/86296).
        raise asyncio.CancelledError from error
    if error is not None:
        raise _translate(error, address) from error


def _written_to_a_lost_connection(error: Exception) -> bool:
    """Whether asyncio raised it, which in Python 3.12 and up to 3.13.7 takes a connection that
    is lost for one that is there (github.com/python/cpython/issues/136234)."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == WRITER


def _cancellations() -> int:
    """How often the running task was asked to end; 0 outside of one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return task.cancelling() if task is not None else 0


def _translate(error: Exception, address: RedisAddress) -> ChatlabError:
    where = f"{address.product} at {address.host}:{address.port}"
    text = str(error)
    code = text.split(maxsplit=1)[0] if text else ""
    match error:
        case _NotReached():
            return ServiceUnavailable(f"{where} does not answer: {text.rstrip('.')}.")
        case driver_errors.AuthenticationError() | driver_errors.NoPermissionError():
            return ServiceUnavailable(f"{where} refuses our credentials.")
        case driver_errors.DataError():
            return InvalidInput(f"Redis takes text, bytes and numbers: {text.rstrip('.')}.")
        case driver_errors.OutOfMemoryError():
            return SendFailed(f"{where} is out of memory.")
        case driver_errors.BusyLoadingError() | driver_errors.ReadOnlyError():
            return ServiceUnavailable(f"{where} is not ready: {text.rstrip('.')}.")
        case driver_errors.ResponseError() if code in _NOT_READY:
            return ServiceUnavailable(f"{where} is not ready: {text.rstrip('.')}.")
        case driver_errors.ResponseError():
            return ScriptError(f"{where} refused: {text.rstrip('.')}.", code=code)
        case driver_errors.TimeoutError() | TimeoutError():
            return SendUncertain(f"{where} did not answer in time.")
        case _:
            return SendUncertain(f"The connection to {where} broke.")
