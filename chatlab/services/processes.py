"""Children of the supervisor: started in a session of their own, recorded, surely ended.

Each child gets a session of its own, so that no terminal's or kernel's signal reaches it and
so that a signal of ours reaches all that it started itself. Every start is appended to a
ledger (pid, time of creation); :func:`end_leftovers` reads it after a supervisor was killed
and ends what still runs. A pid alone proves nothing, since the system reuses them: the time
of creation has to match.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from chatlab.errors import InvalidInput, NotPossible

Action = Literal["kill", "terminate", "pause", "resume"]

SIGNALS: dict[str, signal.Signals] = {
    "kill": signal.SIGKILL,
    "terminate": signal.SIGTERM,
    "pause": signal.SIGSTOP,
    "resume": signal.SIGCONT,
}
#: Two readings of one process's time of creation differ by less.
CREATION_SECONDS = 2.0
#: A process that got SIGKILL is gone by then (an overloaded machine included).
KILL_SECONDS = 10.0


class Child:
    """A running or ended child process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self.log = log
        self.paused = False
        #: Done when the process has ended; its result is the exit code (-9: SIGKILL).
        self.end: asyncio.Task[int] = asyncio.create_task(self._reap(process))

    @classmethod
    async def start(
        cls,
        name: str,
        argv: Sequence[str | Path],
        *,
        environ: Mapping[str, str],
        log: Path,
        ledger: Path,
    ) -> Child:
        """Start ``argv``; its output goes to ``log``, its input is empty.

        Raises:
            InvalidInput: the program cannot be started.
        """
        with log.open("wb") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    env=dict(environ),
                    cwd=log.parent,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise InvalidInput(f"{argv[0]} cannot be started: {error}.") from error
        _record(ledger, name, process.pid)
        return cls(name, process, log)

    @property
    def ended(self) -> bool:
        """Whether it has ended and was reaped."""
        return self.end.done()

    def signal(self, action: str) -> None:
        """Kill, terminate, pause or resume the child and all that it started.

        Raises:
            NotPossible: it has ended already.
        """
        if self.ended:
            raise NotPossible(f"The process {self.name} has ended.")
        _signal_group(self.pid, SIGNALS[action])
        self.paused = action == "pause" or (self.paused and action != "resume")

    async def stop(self, seconds: float) -> None:
        """SIGTERM (a paused one goes on first), and SIGKILL after ``seconds``."""
        if not self.ended:
            _signal_group(self.pid, signal.SIGTERM)
            _signal_group(self.pid, signal.SIGCONT)
            await asyncio.wait([self.end], timeout=seconds)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait for the end. Does nothing to one that has ended."""
        if not self.ended:
            _signal_group(self.pid, signal.SIGKILL)
            await asyncio.wait([self.end], timeout=KILL_SECONDS)

    async def _reap(self, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        # What it started itself is of its session and must not outlive it.
        _signal_group(self.pid, signal.SIGKILL)
        return code


def end_leftovers(ledger: Path) -> list[str]:
    """End what a killed supervisor left running; blocks until all of it is gone.

    Returns:
        The names of the children that had to be ended.
    """
    alive: list[tuple[str, psutil.Process]] = []
    for name, pid, created in _entries(ledger):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < CREATION_SECONDS:
                _signal_group(pid, signal.SIGKILL)
                alive.append((name, process))
    deadline = time.monotonic() + KILL_SECONDS
    while any(_runs(process) for _, process in alive) and time.monotonic() < deadline:
        time.sleep(0.02)
    ledger.unlink(missing_ok=True)
    return [name for name, _ in alive]


def _record(ledger: Path, name: str, pid: int) -> None:
    """Append one line. A child that ended already needs none."""
    with suppress(psutil.Error):
        line = f"{pid} {psutil.Process(pid).create_time()} {name}\n"
        with ledger.open("a", encoding="utf-8") as file:
            file.write(line)


def _entries(ledger: Path) -> list[tuple[str, int, float]]:
    """The ledger's lines; one that was cut short by a crash is skipped."""
    if not ledger.exists():
        return []
    entries = []
    for line in ledger.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            pid, created, name = line.split(" ", 2)
            entries.append((name, int(pid), float(created)))
    return entries


def _signal_group(pid: int, number: signal.Signals) -> None:
    # macOS answers EPERM for a group of which only a zombie is left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def memory_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when there is none of this id."""
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0
