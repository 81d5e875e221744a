"""Progress of a slow start, shown where the reader is: a notebook or a terminal.

The waiting thread draws, never the loop's: what another thread prints lands in whatever cell
is newest.
"""

from __future__ import annotations

import concurrent.futures
import queue
import sys
import time
from html import escape
from typing import Any, Protocol, TypeVar

from chatlab.services import Progress

T = TypeVar("T")

#: Nothing is shown for a start that is quicker than this.
QUIET_SECONDS = 0.5
STEP_SECONDS = 0.1


class Screen(Protocol):
    """Where a line of progress is drawn over the one before."""

    def line(self, text: str) -> None: ...
    def done(self) -> None: ...


class _Notebook:
    def __init__(self) -> None:
        from IPython import display

        show: Any = display
        self._html = show.HTML
        self._handle = show.display(show.HTML(""), display_id=True)

    def line(self, text: str) -> None:
        self._handle.update(self._html(f"<span>{escape(text)}</span>"))

    def done(self) -> None:
        self._handle.update(self._html(""))


class _Terminal:
    def line(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    def done(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


class _Nowhere:
    def line(self, text: str) -> None: ...
    def done(self) -> None: ...


def _screen() -> Screen:
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            return _Notebook()
    return _Terminal() if sys.stderr.isatty() else _Nowhere()


def show(future: concurrent.futures.Future[T], reports: queue.SimpleQueue[Progress]) -> T:
    """Wait for ``future``, drawing the newest report meanwhile."""
    started = time.monotonic()
    screen: Screen | None = None
    latest: Progress | None = None
    try:
        while True:
            try:
                return future.result(timeout=STEP_SECONDS)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
            while not reports.empty():
                latest = reports.get()
            seconds = time.monotonic() - started
            if seconds > QUIET_SECONDS and latest is not None:
                screen = screen or _screen()
                screen.line(_line(latest, seconds))
    except KeyboardInterrupt:
        future.cancel()
        raise
    finally:
        if screen is not None:
            screen.done()


def _line(progress: Progress, seconds: float) -> str:
    expected = f" of about {progress.expected:.0f}" if progress.expected else ""
    return f"{progress.service}: {progress.text} ({seconds:.0f}{expected} s)"
