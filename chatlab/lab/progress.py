"""Progress of a slow start, shown where the reader is: a notebook or a terminal.

The waiting thread draws, never the loop's: what another thread prints lands in whatever cell
is newest.
"""

from __future__ import annotations

import concurrent.futures
import queue
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from html import escape
from typing import Any, TypeVar

from chatlab.services.progress import Progress, ProgressLine

T = TypeVar("T")

#: Nothing is shown for a start that is quicker than this.
QUIET_SECONDS = 0.5
STEP_SECONDS = 0.1


class Notebook:
    """One output of the cell, written over."""

    def __enter__(self) -> Notebook:
        from IPython import display

        show: Any = display
        self._html = show.HTML
        self._handle = show.display(show.HTML(""), display_id=True)
        return self

    def __call__(self, progress: Progress | str) -> None:
        self._handle.update(self._html(f"<span>{escape(str(progress))}</span>"))

    def __exit__(self, *_: object) -> None:
        self._handle.update(self._html(""))


def screen() -> Notebook | ProgressLine:
    """A context manager that shows what it is called with, each time in place of the last."""
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            return Notebook()
    return ProgressLine(sys.stderr)


def show(future: concurrent.futures.Future[T], reports: queue.SimpleQueue[Progress]) -> T:
    """Wait for ``future``, drawing the newest report meanwhile."""
    quiet_until = time.monotonic() + QUIET_SECONDS
    with ExitStack() as stack:
        draw: Callable[[Progress], None] | None = None
        while True:
            try:
                return future.result(timeout=STEP_SECONDS)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
            except KeyboardInterrupt:
                future.cancel()
                raise
            latest = None
            while not reports.empty():
                latest = reports.get()
            if latest is not None and time.monotonic() > quiet_until:
                if draw is None:
                    place: Any = screen()
                    draw = stack.enter_context(place)
                    assert draw is not None
                draw(latest)
