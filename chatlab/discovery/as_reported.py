"""The name server of the original report, its flaws included: a repository without leases.

Two hashes in Redis, ``private_chat`` and ``group_chat``: identifier -> address. A client writes
its own entry when it comes online and removes it when it leaves in order; it writes that of a
group when it connects to it and removes it when it disconnects.

What it does wrong, on purpose, and what shows it:

=====================  ==================================================================
no lease               who crashes stays listed for ever, at an address where nobody is
one entry a group      the first member who leaves removes it for all; it comes back when
                       somebody connects again
no owner               the last writer wins, and whoever removes an entry removes its
                       successor's, too: a client that was taken over takes the new one's
                       with it
no members, no time    an entry says neither who is in a group nor since when it is true
=====================  ==================================================================

The laboratory's part is small: the hashes lie below the lab's prefix, so that a new scene
removes them, and a Redis that does not answer at once keeps nobody from coming online.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Literal, cast

from chatlab.discovery.presence import Presence, Presences
from chatlab.errors import ChatlabError
from chatlab.resp import Redis, mapped

SOURCE = "as-reported"
USERS = "private_chat"
GROUPS = "group_chat"
#: Nothing limits how old an entry is.
AGE = math.inf
#: Two questions and their answers.
MESSAGES = 4
#: Whoever writes waits no longer.
WRITE_SECONDS = 1.0


async def enter(redis: Redis, kind: str, name: str, address: str) -> None:
    """List a user (:data:`USERS`) or a group (:data:`GROUPS`), whoever did so before."""
    await _write(redis, redis.driver.hset(redis.key(kind), name, address))


async def leave(redis: Redis, kind: str, name: str) -> None:
    """List it no more, whoever listed it."""
    await _write(redis, redis.driver.hdel(redis.key(kind), name))


async def _write(redis: Redis, command: Any) -> None:
    with suppress(ChatlabError, TimeoutError):
        async with asyncio.timeout(WRITE_SECONDS):
            with mapped(redis.address):
                await command


async def discover(redis: Redis) -> Presences:
    """Who is listed; ``age`` is infinite and ``members`` empty, since both are unknown.

    Raises:
        ServiceUnavailable, SendUncertain: Redis does not answer.
    """
    began = asyncio.get_running_loop().time()
    with mapped(redis.address):
        users, groups = await _all(redis, USERS), await _all(redis, GROUPS)
    seconds = asyncio.get_running_loop().time() - began
    entries = [_entry(name, "private", address) for name, address in users.items()]
    entries += [_entry(name, "group", address) for name, address in groups.items()]
    return Presences(entries, via=SOURCE, seconds=seconds, messages=MESSAGES)


def _entry(name: str, kind: Literal["private", "group"], address: str) -> Presence:
    return Presence(name, kind, address, source=SOURCE, age=AGE)


async def _all(redis: Redis, kind: str) -> dict[str, str]:
    return await cast("Awaitable[dict[str, str]]", redis.driver.hgetall(redis.key(kind)))
