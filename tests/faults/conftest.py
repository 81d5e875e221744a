"""A chat server of its own process, over Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from private_rig import rig
from process_rig import Lab

from chatlab.discovery.redis import Registry
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis


@pytest.fixture
async def lab(redis: Redis, registry: Registry) -> AsyncIterator[Lab]:
    """A rig whose server is to be a process: none runs yet."""
    async with rig(RedisMailboxes(redis)) as r:
        await r.stop()
        yield Lab(r, registry, redis.address)
