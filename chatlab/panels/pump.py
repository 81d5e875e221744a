"""Pump: one task on the lab's loop keeps all panels of the kernel up to date.

Twenty times a second it lets each panel look at the facts, and sends what changed: however
many messages a second there are, a panel is one update a tick. It runs while there is a
panel, and ends with the last one.
"""

from __future__ import annotations

import asyncio
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

    def end(self) -> None:
        """The lab has been closed; nothing changes any more."""


class Pump:
    """Feeds panels. :meth:`add` and :meth:`remove` from any thread."""

    def __init__(self) -> None:
        self._panels: list[Fed] = []
        self._lock = threading.Lock()
        self._running = False

    def add(self, panel: Fed) -> None:
        """Keep ``panel`` up to date from now on."""
        with self._lock:
            self._panels.append(panel)
            starting, self._running = not self._running, True
        if starting:
            try:
                panel.lab.background(self._run())
            except BaseException:
                self._running = False
                raise

    def remove(self, panel: Fed) -> None:
        """No longer. Idempotent."""
        with self._lock:
            if panel in self._panels:
                self._panels.remove(panel)

    async def _run(self) -> None:
        try:
            while panels := self._fed():
                for panel in panels:
                    self._feed(panel)
                await asyncio.sleep(TICK_SECONDS)
        except BaseException:  # the loop is closed
            with self._lock:
                self._running = False
            raise

    def _fed(self) -> list[Fed]:
        """Those there are; without any the pump has ended, in one step."""
        with self._lock:
            self._running = bool(self._panels)
            return self._panels[:]

    def _feed(self, panel: Fed) -> None:
        if panel.lab.closed:
            self.remove(panel)
            panel.end()
        else:
            panel.refresh()


PUMP = Pump()
