"""The measurement of idle users; what it finds is for ``python -m chatlab.bench.idle``."""

from __future__ import annotations

import pytest

from chatlab.bench.figures import FIGURES
from chatlab.bench.idle import BACKENDS, Idle, idle
from chatlab.resp import Redis


@pytest.mark.parametrize("backend", BACKENDS)
async def test_users_cost_the_server_memory_and_are_all_there(
    redis: Redis, backend: str
) -> None:
    measured = await idle(redis.address, backend, users=60, seconds=0.1)
    assert 0 < measured.megabytes < 60 * 0.2
    assert measured.row()["users"] == 60


@pytest.mark.parametrize(
    "megabytes, percent, met", [(5, 0.1, True), (7, 0, False), (5, 2, False)]
)
def test_the_goals_are_60_mb_for_a_thousand_users_and_1_percent_of_a_processor(
    megabytes: float, percent: float, met: bool
) -> None:
    one = Idle("mailbox-redis", "full", 100, megabytes, percent)
    assert one.met is met
    memory, processor = (figure.row() for figure in one.figures())
    assert memory["figure"] == "100 idle users, redis: memory"
    assert (memory["base is"], memory["goal"]) == ("6 MB", "<= 1")
    assert str(memory["chatlab"]).startswith(f"{megabytes:.2f} MB")
    assert processor["base is"] == "1 %"
    assert "idle" in FIGURES
