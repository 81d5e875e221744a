"""One keeper for the leases of many users, who share a connection to Redis.

Each user alone costs a timer, a connection and a round trip for every renewal. The keeper has
one of each for all: at a third of the lease it renews every presence in one script. So one
user's lease cannot be cut off from the others'; a lab whose users have links of their own lets
each renew through its own (:meth:`chatlab.discovery.Registry.keep_alive`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatlab.discovery.redis import RENEWALS, Registry
from chatlab.errors import ChatlabError

#: A renewal that failed is tried again this many times sooner than the next one was due.
SOONER = 5

#: Called with :class:`~chatlab.errors.Taken` when a newer life holds the name.
OnLost = Callable[[ChatlabError], None]


class LeaseKeeper:
    """Renews presences until they are released. It begins with the first one.

    Args:
        registry: what has claimed the lives, or a :meth:`~Registry.sibling` of it.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._kept: dict[tuple[str, int], OnLost] = {}
        self._renewing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many presences are kept."""
        return len(self._kept)

    def keep(self, name: str, incarnation: int, on_lost: OnLost) -> None:
        """Renew this presence from now on.

        Args:
            on_lost: called once when a newer life holds the name; it is kept no longer then.

        Raises:
            InvalidInput: the registry has not claimed that life.
        """
        self.registry.check_claimed(name, incarnation)
        self._kept[name, incarnation] = on_lost
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())

    def release(self, name: str, incarnation: int) -> None:
        """Renew it no more. Idempotent."""
        self._kept.pop((name, incarnation), None)

    async def close(self) -> None:
        """Renew nothing any more."""
        self._kept.clear()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _renew(self) -> None:
        pause = self.registry.lease_seconds / RENEWALS
        good = True
        while self._kept:
            await asyncio.sleep(pause if good else pause / SOONER)
            good = await self._renew_all()

    async def _renew_all(self) -> bool:
        """Whether Redis has answered; if not, all of it may be done again."""
        try:
            lost = await self.registry.renew_many(self._kept)
        except ChatlabError:
            return False
        for life, error in lost.items():
            if on_lost := self._kept.pop(life, None):  # it may have been released meanwhile
                on_lost(error)
        return True
