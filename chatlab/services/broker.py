"""What a private RabbitMQ and a private Redis have in common: one program with a life cycle.

::

    cold ──start──> starting ──answers──> up ──pause──> paused
                        │                 │ <──resume──
                        └──> down <──dies─┴─ kill, stop
                              └──start (same ports, same data)──> starting

A broker's first start draws ports and empties its data folder; a port that somebody took
meanwhile is replaced and the start repeated. From then on ports and credentials are fixed,
because clients know them.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from chatlab.errors import ServiceUnavailable
from chatlab.services.ports import Port, reserve
from chatlab.services.processes import Child

State = Literal["cold", "starting", "up", "paused", "down"]

#: How often a starting broker is asked whether it answers.
POLL_SECONDS = 0.05
#: A first start is repeated with other ports so many times.
PORT_ATTEMPTS = 3
#: So many lines of a failed broker's log go into the error.
LOG_LINES = 12


class PortTaken(ServiceUnavailable):
    """Somebody listens on a port that was free a moment ago."""


class Broker(ABC):
    """One private service.

    Args:
        folder: its own, for configuration, data and logs.
        ledger: where its process is recorded.
        limit: seconds; a start that takes longer has failed.
    """

    #: ``rabbitmq`` or ``redis``.
    name: ClassVar[str]
    #: As people write it.
    title: ClassVar[str]
    port_count: ClassVar[int] = 1

    def __init__(self, folder: Path, *, ledger: Path, limit: float) -> None:
        self.folder = folder
        self.ledger = ledger
        self.limit = limit
        self.state: State = "cold"
        #: Whether it behaves as one whose memory is full; see :meth:`memory_alarm`.
        self.alarmed = False
        #: What it is doing, for people who wait.
        self.text = f"{self.title} starts"
        #: How long its last start took, in seconds.
        self.boot_seconds: float | None = None
        #: Called with the state before, the seconds it lasted, and the state now.
        self.on_state: Callable[[State, float, State], None] = lambda *_: None
        self.ports: list[Port] = []
        self.child: Child | None = None
        self._since = time.monotonic()
        self._starting = asyncio.Lock()

    @property
    def seconds(self) -> float:
        """How long it has been in its present state."""
        return time.monotonic() - self._since

    @abstractmethod
    async def prepare(self) -> None:
        """Before the first start: find the program, make what the start needs."""

    @abstractmethod
    def configure(self) -> None:
        """Write the configuration for the ports at hand into the folder."""

    @abstractmethod
    async def launch(self) -> Child:
        """Start the process."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether it does all that clients need; raises nothing when it does not."""

    async def settle_in(self) -> None:
        """After its first start, before anybody uses it; by default nothing."""
        return

    @abstractmethod
    def port_taken(self, log: str) -> bool:
        """Whether this log of a failed start says that a port was in use."""

    def diagnosis(self, log: str) -> str:
        """What of this log of a failed start says why."""
        return log

    def _log(self) -> str:
        if self.child is None or not self.child.log.exists():
            return ""
        return self.child.log.read_text(encoding="utf-8", errors="replace")

    async def start(self) -> None:
        """Start it if it is not up, and return when it answers.

        Raises:
            ServiceUnavailable: it ended or did not answer in time; quotes its log.
        """
        async with self._starting:
            if self.state == "up":
                return
            if self.state == "paused":
                self.resume()
                return
            first = self.state == "cold"
            self._become("starting")
            try:
                await (self._first_start() if first else self._boot())
            except BaseException:
                await self._discard(first)
                raise
            self.boot_seconds = self.seconds
            self._become("up")

    async def kill(self) -> None:
        """SIGKILL: what it had not written is lost. Returns when it is gone."""
        if self.child is not None:
            await self.child.kill()

    async def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended ``seconds`` later."""
        if self.child is not None:
            await self.child.stop(seconds)

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self._running().signal("pause")
        self._become("paused")

    def resume(self) -> None:
        """SIGCONT."""
        self._running().signal("resume")
        self._become("up")

    async def memory_alarm(self, on: bool) -> None:
        """Have it believe that its memory is full, or believe so no more. It forgets this
        when it is started again.

        Raises:
            ServiceUnavailable: it is not running, or does not take the limit.
        """
        self._running()
        await self.limit_memory(on)
        self.alarmed = on

    @abstractmethod
    async def limit_memory(self, on: bool) -> None:
        """Set its own memory limit to next to nothing, or back to the usual."""

    def release(self) -> None:
        """Forget ports and data: the next start is a first start."""
        for port in self.ports:
            port.release()
        self.ports = []
        self._become("cold")

    def _running(self) -> Child:
        if self.child is None or self.child.ended or self.state not in ("up", "paused"):
            raise ServiceUnavailable(f"{self.title} is not running.")
        return self.child

    async def _first_start(self) -> None:
        await self.prepare()
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.ports = [reserve() for _ in range(self.port_count)]
            if self.folder.exists():
                await asyncio.to_thread(shutil.rmtree, self.folder)
            self.folder.mkdir(parents=True, mode=0o700)
            self.configure()
            try:
                await self._boot()
                await self.settle_in()
            except PortTaken:
                if attempt == PORT_ATTEMPTS:
                    raise
                for port in self.ports:
                    port.release()
            else:
                return

    async def _boot(self) -> None:
        self.text = f"{self.title} starts"
        self.alarmed = False
        child = self.child = await self.launch()
        child.end.add_done_callback(lambda _: self._ended(child))
        ready = asyncio.create_task(self._until_answers())
        try:
            await asyncio.wait(
                [ready, child.end], timeout=self.limit, return_when=asyncio.FIRST_COMPLETED
            )
            if child.ended:
                raise self._failed(f"ended with code {child.end.result()} while starting")
            if not ready.done():
                raise self._failed(f"did not answer within {self.limit:g} s")
            ready.result()
        finally:
            ready.cancel()

    async def _until_answers(self) -> None:
        while not await self.answers():  # noqa: ASYNC110 — another program: nothing to wait on
            await asyncio.sleep(POLL_SECONDS)

    async def _discard(self, first: bool) -> None:
        """A start failed or was cancelled: leave nothing half-way behind."""
        await self.kill()
        if first:
            self.release()
        else:
            self._become("down")

    def _failed(self, what: str) -> ServiceUnavailable:
        log = self._log()
        kind = PortTaken if self.port_taken(log) else ServiceUnavailable
        lines = [line for line in self.diagnosis(log).splitlines() if line.strip()]
        quoted = "".join(f"\n    {line[:160]}" for line in lines[:LOG_LINES])
        return kind(
            f"{self.title} {what}." + (f" Its log says:{quoted}" if quoted else ""),
            todo="Run `chatlab doctor`.",
        )

    def _ended(self, child: Child) -> None:
        if child is self.child and self.state in ("up", "paused"):
            self._become("down")

    def _become(self, state: State) -> None:
        if state != self.state:
            before, lasted = self.state, self.seconds
            self.state, self._since = state, time.monotonic()
            self.on_state(before, lasted, state)
