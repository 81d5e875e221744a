"""The door between threads and asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.errors import LoopMisuse, WaitTimeout
from chatlab.loop import BackgroundLoop


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    with BackgroundLoop("test-loop") as background:
        yield background


class Wait:
    """A coroutine that waits for ever and says when it began and how it ended."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


def test_a_call_gives_the_result_of_the_coroutine(loop: BackgroundLoop) -> None:
    assert loop.call(answer(7)) == 7
    assert loop.call(answer(8), timeout=5) == 8


def test_many_threads_may_call_at_once(loop: BackgroundLoop) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda value: loop.call(answer(value)), range(100)))
    assert results == list(range(100))


def test_an_error_of_the_coroutine_is_raised_in_the_caller(loop: BackgroundLoop) -> None:
    async def fail() -> None:
        raise ValueError("of the coroutine")

    async def late() -> None:
        raise TimeoutError("of the coroutine")

    with pytest.raises(ValueError, match="of the coroutine"):
        loop.call(fail())
    with pytest.raises(TimeoutError, match="of the coroutine") as caught:
        loop.call(late(), timeout=5)
    assert not isinstance(caught.value, WaitTimeout)


def test_a_call_that_takes_too_long_is_cancelled(loop: BackgroundLoop) -> None:
    wait = Wait()
    with pytest.raises(WaitTimeout, match=r"0\.05 s"):
        loop.call(wait(), timeout=0.05)
    assert wait.cancelled.wait(2)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, as in a kernel; a shell's background job begins with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupting_the_caller_cancels_the_coroutine(loop: BackgroundLoop) -> None:
    wait = Wait()

    caller = threading.get_ident()

    def interrupt() -> None:
        wait.began.wait(2)
        while sys._current_frames()[caller].f_code.co_name != "wait":
            time.sleep(0.001)  # not yet where a person would interrupt it
        signal.pthread_kill(caller, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        loop.call(wait())
    assert wait.cancelled.wait(2)
    assert loop.call(answer(1)) == 1


def test_a_call_from_the_loops_own_thread_is_refused(loop: BackgroundLoop) -> None:
    async def call_again() -> int:
        return loop.call(answer(1))

    async def close() -> None:
        loop.close()

    for deadlock in (call_again(), close()):
        with pytest.raises(LoopMisuse, match="own thread"):
            loop.call(deadlock, timeout=5)
    assert not loop.closed
    assert loop.call(answer(1)) == 1


def test_a_call_after_close_is_refused_and_close_may_be_repeated() -> None:
    loop = BackgroundLoop()
    loop.close()
    loop.close()
    assert loop.closed
    with pytest.raises(LoopMisuse, match="closed"):
        loop.call(answer(1))
    called: list[int] = []
    loop.soon(called.append, 1)
    assert called == []


def test_close_ends_what_still_runs_and_whoever_waits_for_it() -> None:
    loop = BackgroundLoop()
    wait = Wait()
    errors: list[BaseException] = []

    def caller() -> None:
        try:
            loop.call(wait())
        except LoopMisuse as error:
            errors.append(error)

    thread = threading.Thread(target=caller)
    thread.start()
    assert wait.began.wait(2)
    loop.close()
    thread.join(2)
    assert wait.cancelled.is_set()
    assert [type(error) for error in errors] == [LoopMisuse]


def test_close_ends_the_waiting_for_a_coroutine_that_will_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatlab.loop.END_SECONDS", 0.1)
    loop = BackgroundLoop()

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                continue

    future = loop.start(stubborn())
    loop.soon(lambda: None)
    begun = time.monotonic()
    loop.close()
    assert time.monotonic() - begun < 2
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(2)


def test_close_ends_tasks_that_start_others_on_their_way_out() -> None:
    loop = BackgroundLoop()
    second = Wait()
    tasks: list[asyncio.Task[None]] = []
    began = threading.Event()

    async def first() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            tasks.append(asyncio.create_task(second()))
            await asyncio.sleep(0)

    loop.start(first())
    assert began.wait(2)
    loop.close()
    assert second.cancelled.is_set()
    assert tasks[0].cancelled()


def test_close_ends_asynchronous_generators() -> None:
    ended = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.set()

    loop = BackgroundLoop()
    generator = numbers()

    async def begin() -> int:
        return await anext(generator)

    assert loop.call(begin()) == 1
    loop.close()
    assert ended.is_set()


def test_no_call_is_left_hanging_by_a_close_at_the_same_time() -> None:
    for _ in range(20):
        loop = BackgroundLoop()
        barrier = threading.Barrier(5)

        def caller(loop: BackgroundLoop = loop, gate: threading.Barrier = barrier) -> str:
            gate.wait()
            try:
                loop.call(answer(1))
            except LoopMisuse:
                return "refused"
            return "done"

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            results = [threads.submit(caller) for _ in range(4)]
            barrier.wait()
            loop.close()
            assert {result.result(5) for result in results} <= {"done", "refused"}


def test_soon_runs_a_function_on_the_loops_thread(loop: BackgroundLoop) -> None:
    ran: concurrent.futures.Future[str] = concurrent.futures.Future()
    loop.soon(lambda: ran.set_result(threading.current_thread().name))
    assert ran.result(2) == "test-loop"


def test_a_started_coroutine_may_be_cancelled_through_its_future(
    loop: BackgroundLoop,
) -> None:
    wait = Wait()
    future = loop.start(wait())
    assert wait.began.wait(2)
    future.cancel()
    assert wait.cancelled.wait(2)
