"""Find the supervisor of this machine, user and folder, or start it.

A lock between processes makes sure that two kernels which start at once share one: the
second finds the lock taken, waits, and then finds the supervisor.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import filelock

from chatlab.errors import ServiceUnavailable
from chatlab.services import wire
from chatlab.settings import Settings, child_environ

#: A supervisor listens by then, even if a predecessor has to end first.
START_SECONDS = 40.0
LOCK_POLL_SECONDS = 0.05
#: A log that is longer begins anew with the next supervisor.
LOG_BYTES = 1_000_000


async def reach(settings: Settings) -> wire.Channel:
    """Connect to the supervisor of these settings; start it if there is none.

    Raises:
        ServiceUnavailable: it does not start; quotes its log.
    """
    folder = wire.run_folder(settings)
    wire.make_private(folder)
    channel = await wire.dial(folder)
    if channel is None:
        async with locked(folder / wire.START_LOCK):
            channel = await wire.dial(folder)
            if channel is None:
                await _start(settings, folder)
                channel = await wire.dial(folder)
    if channel is None:
        raise _not_started(folder)
    return channel


async def _start(settings: Settings, folder: Path) -> None:
    """Start a supervisor; returns when it listens."""
    log = folder / wire.LOG
    anew = log.exists() and log.stat().st_size > LOG_BYTES
    with log.open("wb" if anew else "ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chatlab.services.supervisor",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_supervisor_environ(settings),
            cwd=folder,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            await process.wait()
    except TimeoutError:
        pass  # said below
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise _not_started(folder)


def _supervisor_environ(settings: Settings) -> dict[str, str]:
    """It has another working directory, and has to find this very chatlab, installed or not."""
    here = replace(settings, folder=settings.folder.expanduser().absolute())
    paths = [child_environ().get("PYTHONPATH", ""), str(Path(__file__).parents[2])]
    own = {"PYTHONPATH": ":".join(filter(None, paths)), "CHATLAB_CONFIG": ""}
    return child_environ(here.as_environ() | own)


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold a lock between processes; waiting for it can be cancelled.

    Raises:
        ServiceUnavailable: it was not to be had for :data:`START_SECONDS`.
    """
    lock = filelock.FileLock(path)
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    lock.acquire(timeout=0)
                    break
                except filelock.Timeout:
                    await asyncio.sleep(LOCK_POLL_SECONDS)
    except TimeoutError as error:
        raise ServiceUnavailable(f"{path} has been locked for {START_SECONDS:g} s.") from error
    try:
        yield
    finally:
        lock.release()


def _not_started(folder: Path) -> ServiceUnavailable:
    lines: list[str] = []
    with suppress(OSError):
        lines = (folder / wire.LOG).read_text(errors="replace").splitlines()[-5:]
    quoted = "".join(f"\n    {line[:160]}" for line in lines)
    return ServiceUnavailable(
        f"The supervisor of the private brokers does not start.{quoted}",
        todo=f"See {folder / wire.LOG}, and run `chatlab doctor`.",
    )
