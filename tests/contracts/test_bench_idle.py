"""The measurement of idle users; what it finds is for ``python -m chatlab.bench.idle``."""

from __future__ import annotations

import pytest

from chatlab.bench.idle import BACKENDS, idle
from chatlab.resp import Redis


@pytest.mark.parametrize("backend", BACKENDS)
async def test_users_cost_the_server_memory_and_are_all_there(
    redis: Redis, backend: str
) -> None:
    measured = await idle(redis.address, backend, users=60, seconds=0.1)
    assert 0 < measured.megabytes < 60 * 0.2
    assert measured.row()["users"] == 60
