"""Recent: the last dozen columns of events as a space-time strip, at the foot of a stage.

It is drawn in a thread of its own, at most twice a second and only when there is something
new; a drawing that took long is followed by a longer pause, so that a flood of messages does
not make the kernel draw all the time.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from chatlab.panels.panel import Panel, look_of
from chatlab.plots.events import read
from chatlab.plots.recent import Tail, newest, recent
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import Lab, User

#: The pause between two drawings, and how many times as long as a drawing it is at least.
PAUSE_SECONDS, PAUSE_SHARE = 0.5, 4


class Recent(Panel):
    """Part of a :class:`chatlab.panels.stage.Stage`.

    Args:
        group: what the stage stands for.
        users: who has a lane first.
    """

    _esm = look_of("recent.js")
    _css = look_of("recent.css")

    def __init__(self, lab: Lab, group: str, users: Sequence[User]) -> None:
        self._users = [user.name for user in users]
        self._tail, self._scene = Tail(), lab.current
        #: What is shown, what it is drawn from: (scene, news).
        self._picture: dict[str, str] = {"finding": "", "picture": ""}
        self._drawn: tuple[object, int] = (None, -1)
        self._pencil = ThreadPoolExecutor(1, "chatlab strip")
        self._drawing: Future[dict[str, str]] | None = None
        self._free_at = 0.0
        super().__init__(lab, group)
        self.begin()

    def look(self) -> dict[str, Any]:
        if self.lab.current is not self._scene:
            self._tail, self._scene = Tail(), self.lab.current
        self._tail.read(self.lab.journal.rows)
        if self._drawing is not None and self._drawing.done():
            self._picture, self._drawing = self._drawing.result(), None
        wanted = (self._scene, self._tail.news)
        idle = self._drawing is None and time.monotonic() >= self._free_at
        if idle and wanted != self._drawn and not self._over:
            self._drawn = wanted
            self._drawing = self._pencil.submit(self._draw, self._tail.copy())
        return {**self._picture}

    def _draw(self, tail: Tail) -> dict[str, str]:
        began = time.monotonic()
        try:
            finding, png = recent(tail, self.lab.journal.header, self._users)
        except Exception as error:  # the page says so and goes on
            finding, png = f"This could not be drawn: {error!r}", b""
        took = time.monotonic() - began
        self._free_at = began + took + max(PAUSE_SECONDS - took, PAUSE_SHARE * took)
        return {"finding": finding, "picture": b64encode(png).decode()}

    def table(self) -> Table:
        """What the strip shows, a row a message and receiver."""
        tail = Tail()
        tail.read(self.lab.journal.rows[:])
        whole = read(tail.journal(self.lab.journal.header))
        story, _ = newest(whole, tail.numbers(send.id for send in whole.sends))
        return Table(story.table(), "the last events")

    def close(self) -> None:
        super().close()
        self._pencil.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        super().end()
        self._pencil.shutdown(wait=False, cancel_futures=True)
