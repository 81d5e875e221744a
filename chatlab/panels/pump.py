"""Pump: one task on the lab's loop keeps all panels of the kernel up to date.

Twenty times a second it lets each panel look at the facts, and sends what changed: however
many messages a second there are, a panel is one update a tick. It runs while there is a
panel, and ends with the last one. A panel that cannot look says so itself; the others go on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from chatlab.lab import Lab

#: The pause between two looks: at most twenty a second.
TICK_SECONDS = 0.05


class Fed(Protocol):
    """What is kept up to date."""

    lab: Lab

    def refresh(self) -> None:
        """Look, and show what changed. On the loop: quick, and waits for nothing."""

    def broken(self, error: Exception) -> None:
        """:meth:`refresh` raised this; it is called again at the next tick."""

    def end(self) -> None:
        """The lab has been closed; nothing changes any more."""


class Pump:
    """Feeds panels. :meth:`add` and :meth:`remove` from any thread."""

    def __init__(self) -> None:
        self._panels: list[Fed] = []
        self._lock = threading.RLock()
        #: The run there is; ``None``: there is no panel.
        self._task: concurrent.futures.Future[None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is somebody to feed."""
        with self._lock:
            return self._task is not None

    def add(self, panel: Fed) -> None:
        """Keep ``panel`` up to date from now on.

        Raises:
            LabClosed: its lab has been closed.
        """
        with self._lock:
            if self._task is None:
                self._task = task = panel.lab.background(self._run())
                task.add_done_callback(self._ended)
            self._panels.append(panel)

    def remove(self, panel: Fed) -> None:
        """No longer. Idempotent."""
        with self._lock:
            if panel in self._panels:
                self._panels.remove(panel)

    async def _run(self) -> None:
        await asyncio.sleep(0)  # the first panel is being added
        while panels := self._fed():
            for panel in panels:
                self._feed(panel)
                await asyncio.sleep(0)  # the loop is there for messages first
            await asyncio.sleep(TICK_SECONDS)

    def _fed(self) -> list[Fed]:
        """Those there are; without any the run has ended, in one step."""
        with self._lock:
            if not self._panels:
                self._task = None
            return self._panels[:]

    def _ended(self, task: concurrent.futures.Future[None]) -> None:
        """The loop was closed under it: the next panel begins a new run."""
        with self._lock:
            if self._task is task:
                self._task = None

    def _feed(self, panel: Fed) -> None:
        try:
            if panel.lab.closed:
                self.remove(panel)
                panel.end()
            else:
                panel.refresh()
        except Exception as error:
            panel.broken(error)


PUMP = Pump()
