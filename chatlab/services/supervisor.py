"""The supervisor: one process a machine, user and folder; parent and reaper of brokers.

``python -m chatlab.services.supervisor`` starts it in the background and returns when it
listens. Clients hold *leases*: a lease is an open connection to its Unix socket, so a client
that is killed gives it back. It runs one port mapper and pairs of brokers, all started on
demand; it creates a namespace for each lab and removes it with the lab's last lease. When no
lease has been held for ``idle_seconds`` it stops the brokers and exits.

A lock that it holds while it lives makes it the only one of its folder; whoever gets the
lock next first ends what a killed predecessor left running. Nothing in its folder outlives
it but its own log: labs' names are never used twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import filelock

from chatlab.errors import ServiceMissing
from chatlab.services import packages, wire
from chatlab.services.broker import Broker, State
from chatlab.services.find import RabbitProgram, find_rabbitmq
from chatlab.services.pairs import SHARED, Pair
from chatlab.services.processes import end_leftovers
from chatlab.services.rabbitmq_node import PortMapper, RabbitNode
from chatlab.services.sessions import Session
from chatlab.services.spaces import Spaces
from chatlab.settings import Settings

log = logging.getLogger(__name__)

#: A broker that got SIGTERM is killed after so long (RabbitMQ takes 1–6 s).
STOP_SECONDS = 8.0
#: A shared broker that ends by itself is started again, unless it was up for less.
RESTART_SECONDS = 30.0
#: How long starts take, until one was seen.
EXPECTED_SECONDS = {"rabbitmq": 9.0, "redis": 0.2}


class Supervisor:
    """All that the process does, on one loop."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.ledger = folder / wire.LEDGER
        self.idle_seconds = settings.idle_seconds
        self.spaces = Spaces(self._new_pair)
        self.sessions: set[Session] = set()
        self.expected = _load_expected(folder)
        #: Set when it shall end.
        self.over = asyncio.Event()
        self._started = time.time()
        self._program: RabbitProgram | None = None
        self._mapper: PortMapper | None = None
        self._one_at_a_time = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    # --- life ---------------------------------------------------------------------------

    async def run(self, ready: int) -> None:
        """Serve until SIGTERM, a client's ``stop``, or nobody has come for long enough.

        Args:
            ready: file descriptor that gets a byte when clients can connect.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.over.set)
        socket = self.folder / wire.SOCKET
        socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(
            self._connected, str(socket), limit=wire.LINE_BYTES
        )
        os.write(ready, b"+")
        os.close(ready)
        log.info("listening, process %d", os.getpid())
        self._watch_idle()
        await self.over.wait()
        log.info("ending")
        socket.unlink(missing_ok=True)
        server.close()
        await self._end()

    async def _end(self) -> None:
        ends = (session.end() for session in list(self.sessions))
        await asyncio.gather(*ends, return_exceptions=True)  # the brokers end in any case
        await self.spaces.settle()
        pairs = self.spaces.pairs.values()
        await asyncio.gather(*(pair.stop(STOP_SECONDS) for pair in pairs))
        if self._mapper is not None:
            await self._mapper.child.stop(STOP_SECONDS)
        self.ledger.unlink(missing_ok=True)
        _clear(self.folder)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        session = Session(self, wire.Channel(reader, writer))
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)
            self._watch_idle()

    def leases(self) -> list[Session]:
        """The sessions that hold, or wait for, a lab."""
        return [session for session in self.sessions if session.lab]

    def touched(self, idle_seconds: float) -> None:
        """A lease is asked for; the newest client's idle time counts from now on."""
        self.idle_seconds = idle_seconds
        self._watch_idle()

    def _watch_idle(self) -> None:
        if self.leases():
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
        elif self._idle is None:  # a visitor without a lease does not begin it anew
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self.idle_seconds, self.over.set)

    # --- brokers ------------------------------------------------------------------------

    def _new_pair(self, name: str) -> Pair:
        pair = Pair(
            name,
            self.folder / "pairs" / name,
            ledger=self.ledger,
            limit=self.settings.start_seconds,
            find=self._find_rabbitmq,
            mapper=self._mapper_port,
        )
        for broker in pair.brokers.values():
            broker.on_state = partial(self._changed, pair, broker)
        return pair

    def _changed(
        self, pair: Pair, broker: Broker, before: State, lasted: float, state: State
    ) -> None:
        log.info("%s of %s is %s", broker.name, pair.name, state)
        if state == "up" and before == "starting":
            self._remember(broker)
        if state in ("up", "paused", "down"):
            for session in self.sessions:
                if session.pair is pair:
                    session.event(broker.name, state)
        died = state == "down" and before == "up" and not self.over.is_set()
        if died and pair.name == SHARED and lasted > RESTART_SECONDS:
            pair.start(broker.name)

    def _remember(self, broker: Broker) -> None:
        self.expected[broker.name] = round(broker.boot_seconds or 0.0, 1)
        with suppress(OSError):
            (self.folder / "boot-seconds").write_text(json.dumps(self.expected))

    async def _find_rabbitmq(self, node: RabbitNode) -> RabbitProgram:
        async with self._one_at_a_time:
            if self._program is None:
                self._program = await asyncio.to_thread(self._find_or_fetch, node)
            return self._program

    def _find_or_fetch(self, node: RabbitNode) -> RabbitProgram:
        def report(text: str) -> None:
            node.text = text

        try:
            return find_rabbitmq(self.settings)
        except ServiceMissing:
            return packages.install(self.settings.folder, report)

    async def _mapper_port(self, program: RabbitProgram) -> int:
        async with self._one_at_a_time:
            if self._mapper is None or self._mapper.child.ended:
                self._mapper = await PortMapper.start(program, self.folder, self.ledger)
            return self._mapper.port.number

    # --- what it knows ------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """For ``chatlab status``; no secrets."""
        mapper = self._mapper
        return {
            "pid": os.getpid(),
            "protocol": wire.PROTOCOL,
            "folder": str(self.folder),
            "started": self._started,
            "idle_seconds": self.idle_seconds,
            "epmd": mapper and {"pid": mapper.child.pid, "port": mapper.port.number},
            "pairs": {pair.name: pair.describe() for pair in self.spaces.pairs.values()},
            "leases": [session.describe() for session in self.leases()],
        }


def _clear(folder: Path) -> None:
    """Remove brokers' data, secrets and logs, and the logs of leases' processes."""
    for name in ("pairs", "leases"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _load_expected(folder: Path) -> dict[str, float]:
    with suppress(OSError, ValueError):
        seen: dict[str, float] = json.loads((folder / "boot-seconds").read_text())
        return EXPECTED_SECONDS | seen
    return dict(EXPECTED_SECONDS)


def _raise_file_limit() -> None:
    """As many open files as we may have; RabbitMQ inherits it (a connection takes one)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _serve(settings: Settings, folder: Path, ready: int) -> None:
    left = end_leftovers(folder / wire.LEDGER)
    if left:
        log.warning("ended what a killed supervisor had left: %s", ", ".join(left))
    _clear(folder)
    asyncio.run(Supervisor(settings, folder).run(ready))


def main() -> int:
    """Start a supervisor in the background; returns 0 when it listens, 1 when it cannot.

    The process that was started forks: the first half is the client's child and ends as soon
    as the second half listens, so that the supervisor is nobody's child and leaves no zombie.
    """
    settings = Settings.load()
    folder = wire.run_folder(settings)
    os.umask(0o077)
    wire.make_private(folder)
    _raise_file_limit()
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return 0 if os.read(reading, 1) else 1
    os.close(reading)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    code = 1
    try:
        # A predecessor that is ending holds it until its brokers have stopped.
        lock = filelock.FileLock(folder / wire.ALIVE_LOCK)
        lock.acquire(timeout=3 * STOP_SECONDS)
        _serve(settings, folder, writing)
        code = 0
    except Exception:
        log.exception("the supervisor ends")
    finally:
        logging.shutdown()
        os._exit(code)  # with the lock held to the last: who gets it next is alone


if __name__ == "__main__":
    sys.exit(main())
