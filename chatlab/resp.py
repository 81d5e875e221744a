"""Redis for the patterns: one connection pool a client, Lua scripts, errors mapped.

The only importer of the ``redis`` package. RESP2 and bytes-to-text decoding are set here,
because redis-py's defaults differ between major versions. Only commands of Redis 7.0 are
used. Reading the clock is Redis' own (``TIME`` inside the scripts), so that the machines'
clocks need not agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis.asyncio
import redis.exceptions
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chatlab.errors import ChatlabError, SendFailed, SendUncertain, ServiceUnavailable
from chatlab.services.addresses import RedisAddress


class Script:
    """Lua source, loaded once per server; reloaded when the server forgot it (NOSCRIPT)."""

    def __init__(self, source: str) -> None:
        self.source = source


class ScriptError(ChatlabError):
    """A script's own ``redis.error_reply('CODE …')``; ``code`` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Redis refused: {text}.")
        self.code = text.split()[0] if text else ""


class Redis:
    """An awaitable Redis of one client.

    Args:
        address: where it is (through the user's link).
        deadline: seconds after which a command that got no answer is given up.
        name: shown by CLIENT LIST.
    """

    def __init__(self, address: RedisAddress, *, deadline: float = 5.0, name: str = "") -> None:
        self.address = address
        self.prefix = address.prefix
        self.deadline = deadline
        self._scripts: dict[Script, Any] = {}
        #: The driver, for plain commands; wrap them in :meth:`mapped`.
        self.driver: redis.asyncio.Redis = redis.asyncio.Redis(
            host=address.host,
            port=address.port,
            username=address.user or None,
            password=address.password or None,
            db=address.db,
            ssl=address.tls,
            protocol=2,
            decode_responses=True,
            socket_timeout=deadline,
            socket_connect_timeout=deadline,
            retry=Retry(NoBackoff(), 0),
            client_name=name or None,
        )

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
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self.driver.register_script(script.source)
        with mapped(self.address):
            return await registered(keys=list(keys), args=list(args))

    @asynccontextmanager
    async def subscription(self, *channels: str) -> AsyncIterator[PubSub]:
        """A pub/sub subscription that Redis has confirmed before the body runs."""
        pubsub = self.driver.pubsub()
        try:
            with mapped(self.address):
                await pubsub.subscribe(*channels)
                for _ in channels:
                    await pubsub.get_message(timeout=self.deadline)
            yield pubsub
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close all connections; never raises for a Redis that is gone."""
        try:
            async with asyncio.timeout(1):
                await self.driver.aclose()
        except (TimeoutError, OSError, redis.exceptions.RedisError):
            self.driver.connection_pool.reset()


@contextmanager
def mapped(address: RedisAddress) -> Iterator[None]:
    """Turn what redis-py raises into errors of chatlab.

    A refused or failed *connect* is definite (ServiceUnavailable); a time-out or a break
    after the request may have left is not (SendUncertain).
    """
    where = f"{address.product} at {address.host}:{address.port}"
    try:
        yield
    except redis.exceptions.TimeoutError as error:
        if "connecting" in str(error):
            raise ServiceUnavailable(f"{where} does not answer.") from error
        raise SendUncertain(f"{where} did not answer in time.") from error
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise ServiceUnavailable(f"{where} refuses our credentials.") from error
    except (redis.exceptions.BusyLoadingError, redis.exceptions.ReadOnlyError) as error:
        raise ServiceUnavailable(f"{where} is not ready: {error}.") from error
    except redis.exceptions.ConnectionError as error:
        if isinstance(error.__cause__, OSError) and "connecting" in str(error):
            raise ServiceUnavailable(f"{where} is not running.") from error
        raise SendUncertain(f"The connection to {where} broke.") from error
    except redis.exceptions.OutOfMemoryError as error:
        raise SendFailed(f"{where} is out of memory.") from error
    except redis.exceptions.ResponseError as error:
        raise ScriptError(str(error)) from error
