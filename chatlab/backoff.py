"""Back-off: how clients of a service that is away try again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chatlab.errors import SendUncertain, ServiceUnavailable

#: First and longest pause before connecting again, seconds; doubled each time, halved at
#: random so that clients do not come all at once.
BACKOFF_SECONDS = (0.05, 2.0)

T = TypeVar("T")


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """What ``attempt`` returns, once a service that it needs answers.

    Args:
        attempt: may be made again whatever became of it, as looking up a server and
            connecting to it may.
    """
    pause, longest = BACKOFF_SECONDS
    while True:
        try:
            return await attempt()
        except (ServiceUnavailable, SendUncertain):
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, longest)
