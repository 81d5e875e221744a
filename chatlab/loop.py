"""BackgroundLoop: the one door between threads and asyncio.

All network I/O of a kernel runs on one asyncio loop in one daemon thread. A cell (or any
other thread) hands a coroutine to :meth:`BackgroundLoop.call` and waits for its result; no
driver object is ever touched from outside. Two calls could never return and are refused by
name: one made from the loop's own thread, and one made after :meth:`close`. Interrupting the
waiting cell cancels the coroutine; closing the loop ends all calls that still wait.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chatlab.errors import ChatlabError, LoopMisuse, WaitTimeout

T = TypeVar("T")

#: How long what still runs at :meth:`BackgroundLoop.close` may take to end, in seconds.
END_SECONDS = 2.0


class BackgroundLoop:
    """An asyncio loop in a daemon thread. Use as a context manager or call ``close``."""

    def __init__(self, name: str = "chatlab") -> None:
        self._loop = asyncio.new_event_loop()
        # Whoever hands in work holds the lock, so that none comes after the loop's end.
        self._lock = threading.Lock()
        self._closed = False
        self._calls: set[concurrent.futures.Future[Any]] = set()
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
            LoopMisuse: called from the loop's own thread, after close, or closed meanwhile.
            WaitTimeout: ``timeout`` is over.
        """
        future = self.start(work)
        try:
            concurrent.futures.wait([future], timeout)
        finally:
            late = not future.done()  # timed out, or this thread was interrupted
            if late:
                future.cancel()
        if late:
            raise WaitTimeout(f"Not done within {timeout:g} s; cancelled.")
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self._closed:
                raise _closed("It may have been done in part.") from None
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run ``work`` on the loop without waiting; the future may be cancelled.

        Raises:
            LoopMisuse: called from the loop's own thread, or after close.
        """
        try:
            self._refuse_own_thread()
            with self._lock:
                if self._closed:
                    raise _closed()
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
                self._calls.add(future)
        except LoopMisuse:
            work.close()
            raise
        future.add_done_callback(self._calls.discard)
        return future

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` on the loop's thread soon; from any thread, never waits. After
        close it does nothing."""
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and join its thread. Idempotent.

        Raises:
            LoopMisuse: called from the loop's own thread.
        """
        self._refuse_own_thread()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        ended = asyncio.run_coroutine_threadsafe(self._end_tasks(), self._loop)
        concurrent.futures.wait([ended], 2 * END_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_SECONDS)
        for future in list(self._calls):  # of coroutines that would not end
            future.cancel()

    async def _end_tasks(self) -> None:
        async with asyncio.timeout(END_SECONDS):
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)  # they may have started others
        await self._loop.shutdown_asyncgens()

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise LoopMisuse(
                "This call was made on the background loop's own thread; it would wait "
                "for itself for ever.",
                todo="Await the coroutine instead, or call from a cell.",
            )

    def __enter__(self) -> BackgroundLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closed(effect: str = "") -> ChatlabError:
    return LoopMisuse("The background loop is closed.", effect, todo="Start a new lab.")
