"""Who holds the namespace of a shared lab: an entry a supervisor, in the lab's own Redis.

Kernels of one computer share a supervisor, which counts them. Two computers that use the same
brokers have one each; the sorted set ``holders`` below the lab's prefix says which of them
live: token -> when the entry ends, in ms of Redis' own clock. A supervisor renews its entry
while a lab of its own is open, so a killed one is soon counted no more.

The first holder begins with an empty namespace, the last one removes it. Meanwhile the entry
``busy`` keeps others out; it ends by itself, too, should its writer be killed. The entry
``kept`` never ends: nobody is ever first or last in a namespace that has it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from chatlab.errors import ChatlabError, NotPossible
from chatlab.services.addresses import RedisAddress

#: The key, without the prefix; a scene does not wipe it.
HOLDERS = "holders"
#: An entry that is not renewed ends after so long. Generous: a lab is removed for all when a
#: supervisor that still uses it seems to be gone.
LEASE_SECONDS = 20.0
#: A lease is renewed so many times in its time.
RENEWALS = 4
#: Emptying or removing a namespace takes no longer.
BUSY_SECONDS = 30.0
#: How often one who is kept out looks again.
LOOK_SECONDS = 0.1
DEADLINE_SECONDS = 5.0

#: holders | act, token, lease, how long it may be busy. Answers ``BUSY``, or ``ALONE`` or
#: ``SHARED``: whether another one lives. Who enters or leaves alone is busy until ``done``.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local act, mine = ARGV[1], ARGV[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if act == 'keep' then
  redis.call('ZADD', KEYS[1], '+inf', 'kept')
  return 'SHARED'
end
if act == 'done' then
  redis.call('ZREM', KEYS[1], 'busy')
  return 'SHARED'
end
local entering = act == 'enter' or act == 'join'
if entering and redis.call('ZSCORE', KEYS[1], 'busy') then return 'BUSY' end
redis.call('ZREM', KEYS[1], mine)
local alone = redis.call('ZCARD', KEYS[1]) == 0
if act == 'join' and alone then return 'ALONE' end
if act ~= 'leave' then redis.call('ZADD', KEYS[1], now + ARGV[3], mine) end
if alone and act ~= 'renew' then redis.call('ZADD', KEYS[1], now + ARGV[4], 'busy') end
return alone and 'ALONE' or 'SHARED'
"""


class Holder:
    """One supervisor's hold on one shared lab.

    Every method may raise ServiceUnavailable or SendUncertain: Redis does not answer.
    """

    def __init__(self, address: RedisAddress) -> None:
        # Loaded here: a cold start need not wait for the driver's import.
        from chatlab.resp import Redis, Script

        self._redis = Redis(address, deadline=DEADLINE_SECONDS, name="chatlab-supervisor")
        self._script = Script(SCRIPT)
        self._token = secrets.token_hex(8)
        self._renewing: asyncio.Task[None] | None = None

    async def enter(
        self, empty: Callable[[], Awaitable[None]], *, join: bool = False, kept: bool = False
    ) -> None:
        """Hold it from now on.

        Args:
            empty: awaited when no other holder lives, while others are kept out.
            join: only if another holder lives.
            kept: what is in it stays from now on, also when nobody holds it.

        Raises:
            NotPossible: none does.
        """
        if kept:
            await self._do("keep")
        act = "join" if join else "enter"
        while (answer := await self._do(act)) == "BUSY":  # noqa: ASYNC110 (it ends by itself)
            await asyncio.sleep(LOOK_SECONDS)
        if answer == "ALONE":
            if join:
                raise NotPossible(
                    "No lab of this URL is open.",
                    todo="Start it first, where the URL comes from, and leave it open.",
                )
            try:
                await empty()
            finally:
                await self._do("done")
        self._renewing = asyncio.create_task(self._renew())

    async def leave(self, remove: Callable[[], Awaitable[None]]) -> None:
        """Hold it no more.

        Args:
            remove: awaited when no other holder lives, while others are kept out.
        """
        await self._stop()
        try:
            if await self._do("leave") == "ALONE":
                try:
                    await remove()
                finally:
                    await self._do("done")
        finally:
            await self._redis.close()

    async def abandon(self) -> None:
        """Renew it no more; the entry ends by itself."""
        await self._stop()
        await self._redis.close()

    async def _stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / RENEWALS)
            with suppress(ChatlabError):  # Redis is away: try again
                await self._do("renew")

    async def _do(self, act: str) -> str:
        times = round(LEASE_SECONDS * 1000), round(BUSY_SECONDS * 1000)
        key = self._redis.key(HOLDERS)
        return str(await self._redis.run(self._script, [key], [act, self._token, *times]))
