"""BackgroundLoop: the one door between threads and asyncio.

All network I/O of a kernel runs on one asyncio loop in one daemon thread. A cell (or any
other thread) hands a coroutine to :meth:`BackgroundLoop.call` and waits for its result; no
driver object is ever touched from outside. Two calls could never return and are refused by
name: one made from the loop's own thread, and one made after :meth:`close`. Interrupting the
waiting cell cancels the coroutine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chatlab.errors import LoopMisuse, WaitTimeout

T = TypeVar("T")

#: How long an interrupted or late coroutine may take to end after it was cancelled.
CANCEL_SECONDS = 2.0


class BackgroundLoop:
    """An asyncio loop in a daemon thread. Use as a context manager or call ``close``."""

    def __init__(self, name: str = "chatlab") -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return self._closed

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run ``work`` on the loop and wait for its result.

        Args:
            work: a coroutine; closed unused when the call is refused.
            timeout: seconds; then the coroutine is cancelled.

        Raises:
            LoopMisuse: called from the loop's own thread, or after close.
            WaitTimeout: ``timeout`` is over.
        """
        future = self.start(work)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if future.done():  # the coroutine itself raised it
                raise
            self._cancel(future)
            raise WaitTimeout(f"Not done within {timeout:g} s; cancelled.") from None
        except BaseException:
            if not future.done():  # KeyboardInterrupt in the waiting thread
                self._cancel(future)
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run ``work`` on the loop without waiting; the future may be cancelled.

        Raises:
            LoopMisuse: called from the loop's own thread, or after close.
        """
        if self._closed or not self._thread.is_alive():
            work.close()
            raise LoopMisuse("The background loop is closed.", todo="Start a new lab.")
        if threading.current_thread() is self._thread:
            work.close()
            raise LoopMisuse(
                "This call was made on the background loop's own thread; it would wait "
                "for itself for ever.",
                todo="Await the coroutine instead, or call from a cell.",
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` on the loop's thread soon; from any thread, never waits."""
        if not self._closed:
            self._loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and join its thread. Idempotent."""
        if self._closed:
            return
        self.call(self._end_tasks(), timeout=2 * CANCEL_SECONDS)
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CANCEL_SECONDS)

    async def _end_tasks(self) -> None:
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        await self._loop.shutdown_asyncgens()

    def __enter__(self) -> BackgroundLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _cancel(future: concurrent.futures.Future[Any]) -> None:
        future.cancel()
