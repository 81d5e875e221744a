"""A chat server of its own process, over Redis; and brokers that may be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from kill_rig import Killable
from private_rig import rig
from process_rig import Lab

from chatlab.discovery.redis import Registry
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.settings import Settings


@pytest.fixture
async def lab(redis: Redis, registry: Registry) -> AsyncIterator[Lab]:
    """A rig whose server is to be a process: none runs yet."""
    async with rig(RedisMailboxes(redis)) as r:
        await r.stop()
        yield Lab(r, registry, redis.address)


@pytest.fixture(scope="module")
def killable(lab_settings: Settings) -> Iterator[Killable]:
    """Brokers of the module's own. Where its ``namespace`` is wanted: let a fixture of that
    name return it."""
    held = Killable(lab_settings)
    yield held
    held.close()
