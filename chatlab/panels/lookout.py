"""Lookout: asks the services how they are, four times a second, while a stage is shown.

It is a task on the lab's loop and waits for answers there, so that panels never do: they show
what it saw last, and when that was. A service that does not answer is asked again; the time of
its first silence is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chatlab.errors import ChatlabError, LabClosed
from chatlab.panels.situation import Situation, is_paused
from chatlab.panels.stores import Stores, Topology

if TYPE_CHECKING:
    from chatlab.lab import Lab

#: The pause between two looks, and how many times as long as a look took it is at least.
LOOK_SECONDS, LOOK_SHARE = 0.25, 4

State = Literal["up", "down", "starting", "paused", "not watched"]


@dataclass(frozen=True)
class Seen:
    """What was seen of one service."""

    state: State = "not watched"
    #: Since when, by the monotonic clock.
    since: float = field(default_factory=time.monotonic)
    #: How long its last start took; 0: not known.
    boot_seconds: float = 0.0

    def back(self) -> str:
        """``back in about 9 s`` while it starts."""
        if self.state != "starting":
            return ""
        left = math.ceil(self.boot_seconds - (time.monotonic() - self.since))
        if left > 0:
            return f"back in about {left} s"
        return "back at any moment" if self.boot_seconds else "starting"


class Lookout:
    """Of one lab and one of its groups. :meth:`begin` it, and :meth:`close` it."""

    def __init__(self, lab: Lab, situation: Situation) -> None:
        self.lab = lab
        self.situation = situation
        self.services = {name: Seen() for name in ("rabbitmq", "redis", "server")}
        #: What was seen last of the group's stores, when (monotonic), and how many looks
        #: there were.
        self.topology: Topology | None = None
        self.seen_at = 0.0
        self.looks = 0
        #: Since when who keeps the group has not answered, seconds since the epoch; 0: it does.
        self.silent_since = 0.0
        #: What went wrong in the lookout itself; it has ended then.
        self.failed = ""
        self._stores: Stores | None = None
        self._task: Future[None] | None = None

    @property
    def age(self) -> float:
        """How old what was seen last is, in seconds."""
        return time.monotonic() - self.seen_at

    def begin(self) -> None:
        """Look from now on, until it or the lab is closed.

        Raises:
            LabClosed: it is closed already.
        """
        self._task = self.lab.background(self._run())

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()

    def now(self) -> Topology | None:
        """Look once more and wait for the answer; from a cell.

        Raises:
            LabClosed: the lab has been closed.
            ChatlabError: who keeps the group does not answer.
        """
        backend = self.situation.follow(self.lab.journal).backend
        if not backend:
            return None

        async def look() -> Topology:
            stores = Stores(self.lab.lease)
            try:
                return await stores.of(self.situation.group, backend)
            finally:
                await stores.close()

        return self.lab.wait_for(look())

    async def _run(self) -> None:
        self._stores = Stores(self.lab.lease)
        try:
            while not self.lab.closed:
                began = time.monotonic()
                await asyncio.gather(self._look_at_services(), self._look_at_stores())
                took = time.monotonic() - began
                await asyncio.sleep(max(LOOK_SECONDS, LOOK_SHARE * min(took, 0.5)))
        except Exception as error:
            if not self.lab.closed:
                self.failed = f"{type(error).__name__}: {error}"
                raise
        finally:
            await self._stores.close()

    # -- services

    async def _look_at_services(self) -> None:
        lab = self.lab
        with contextlib.suppress(ChatlabError):
            status = await lab.lease.status()
            names = [each["pair"] for each in status["leases"] if _is_of(each, lab)]
            pair: dict[str, Any] = status["pairs"].get(names[0], {}) if names else {}
            for name, facts in pair.items():
                state = _STATES.get(facts["state"], "not watched")
                self.saw(name, state, facts.get("boot_seconds"))
        with contextlib.suppress(LabClosed):
            if await asyncio.to_thread(lambda: lab.server.running):
                self.saw("server", "up")
            else:
                paused = is_paused(self.situation.faults, "server")
                self.saw("server", "paused" if paused else "down")

    def saw(self, name: str, state: State, boot_seconds: float | None = None) -> None:
        """A service is so now. Any thread."""
        old = self.services[name]
        boot = boot_seconds or old.boot_seconds
        since = old.since if state == old.state else time.monotonic()
        self.services[name] = Seen(state, since, boot)

    # -- stores

    async def _look_at_stores(self) -> None:
        assert self._stores is not None
        backend = self.situation.follow(self.lab.journal).backend
        if not backend:
            self.topology, self.silent_since = None, 0.0
            self._answered()
            return
        try:
            self.topology = await self._stores.of(self.situation.group, backend)
        except ChatlabError:
            self.silent_since = self.silent_since or time.time()
        else:
            self._answered()

    def _answered(self) -> None:
        self.silent_since, self.seen_at = 0.0, time.monotonic()
        self.looks += 1


def _is_of(lease: dict[str, Any], lab: Lab) -> bool:
    return bool(lease["lab"] == lab.lease.lab)


#: What the supervisor says of a broker; one that is ``cold`` is not the one in use.
_STATES: dict[str, State] = {
    "up": "up",
    "down": "down",
    "starting": "starting",
    "paused": "paused",
}
