"""The laboratory's end of a process in which code that is not ours runs.

It is spawned through the lab's lease, so it never outlives the kernel, and what it prints goes
to a log of the lease. All coroutines, on the lab's loop. The other end is
:mod:`chatlab.experiments.outside_child`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatlab.errors import ChatlabError, ServiceUnavailable
from chatlab.experiments.outside import Outside
from chatlab.journal import Row, decode
from chatlab.services import Lease

#: A method from which nothing has come for so long, in seconds, hangs.
HANG_SECONDS = 20.0
#: A client that is asked to go, by Ctrl-C or ``close``, has so long.
GOODBYE_SECONDS = 3.0
#: A new Python has started by then.
START_SECONDS = 30.0
LINE_BYTES = 16 * 1024 * 1024
CHILD = Path(__file__).with_name("outside_child.py")


class ClientFailed(ServiceUnavailable):
    """The code under test raised, hung or ended; says where in it."""

    effect = "What it was doing may or may not have taken effect."
    todo = "Mend the client; the laboratory itself is well."


def client_failed(client: Outside, verb: str, error: dict[str, Any]) -> ClientFailed:
    """What a child reports of an exception, as the three lines."""
    where = f"line {error['line']} of {client.file.name}" if error["line"] else client.file.name
    return ClientFailed(f"{client.doing(verb)} ended: {error['what']} ({where}).")


class OutsideProcess:
    """One object in a process of its own.

    Args:
        lease: spawns it.
        client: whose code.
        name: unique under the lease.
        record: takes its facts.
        trouble: told what the code did wrong while nobody waited for an answer.
        gone: told when the process ended while it listened, without a word.
    """

    def __init__(
        self,
        lease: Lease,
        client: Outside,
        name: str,
        record: Callable[[Row], None],
        trouble: Callable[[ClientFailed], None],
        gone: Callable[[], None],
    ) -> None:
        self.name = name
        #: Whether ``listen`` is running, and whether it has ended without being asked to.
        self.listening = False
        self.ended_itself = False
        self._killed = False
        #: Whether ``subscribe`` was called.
        self.subscribed = False
        #: Looks at its link while it listens; stops before it is ended from here.
        self.watcher: asyncio.Task[None] | None = None
        self._lease, self._client = lease, client
        self._record, self._trouble, self._went = record, trouble, gone
        self._token = secrets.token_hex(16)
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._gone = asyncio.Event()
        self._stopped = asyncio.Event()
        self._numbers = itertools.count(1)
        #: Number of a call -> its verb and who waits for the answer.
        self._waiting: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._heard = 0

    async def start(self, **about: Any) -> None:
        """Start it and have it make its object.

        Raises:
            ClientFailed: the class raised, or hung.
        """
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=LINE_BYTES
        )
        port = self._server.sockets[0].getsockname()[1]
        argv = [sys.executable, "-P", str(CHILD), str(port)]
        await self._lease.spawn(self.name, argv, {"CHATLAB_TOKEN": self._token})
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._connected.wait()
            await self.call("build", **about)
        except TimeoutError:
            await self.kill()
            raise ClientFailed("A process for the client did not start.") from None
        except BaseException:
            await self.kill()
            raise

    async def call(self, verb: str, **args: Any) -> Any:
        """Do a verb in the child.

        Raises:
            ClientFailed: it raised; or nothing came from it for :data:`HANG_SECONDS`, and it
                was killed; or the process has ended.
        """
        answer = self._ask(verb, **args)
        while not answer.done():
            heard = self._heard
            await asyncio.wait([answer], timeout=HANG_SECONDS)
            if not answer.done() and heard == self._heard:
                raise await self._hung(verb)
        return answer.result()

    def _ask(self, verb: str, **args: Any) -> asyncio.Future[Any]:
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(done: asyncio.Future[Any]) -> None:
            self._waiting.pop(number, None)
            if not done.cancelled():
                done.exception()  # it may interest nobody any more

        future.add_done_callback(answered)
        if self._gone.is_set() or self._writer is None:
            future.set_exception(self._died())
            return future
        self._waiting[number] = verb, future
        self._write({"call": number, "verb": verb, "args": args})
        return future

    async def _hung(self, verb: str) -> ClientFailed:
        line = None
        with contextlib.suppress(ChatlabError, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                line = await self._ask("where")
        await self.kill()
        where = f" (it is in line {line} of {self._client.file.name})" if line else ""
        return ClientFailed(
            f"{self._client.doing(verb)} has not returned for {HANG_SECONDS:g} s{where}.",
            todo="Give what it waits for a time limit. The process was killed.",
        )

    def _died(self) -> ClientFailed:
        return ClientFailed(f"The process of {self._client.name} has ended.")

    async def listen(self) -> None:
        """``listen`` runs from now on."""
        self._stopped.clear()
        await self.call("listen")

    async def leave(self) -> bool:
        """Ctrl-C, if it listens; then a goodbye; killed when it takes too long.

        Returns:
            Whether it went by itself.
        """
        went = True
        self._unwatch()
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                if self.listening:
                    self._write({"call": 0, "verb": "interrupt"})
                    await self._stopped.wait()
                with contextlib.suppress(ClientFailed):
                    await self._ask("end")
        except TimeoutError:
            went = False
        await self.kill()
        return went

    async def signal(self, action: Any) -> None:
        """``pause`` or ``resume``."""
        with contextlib.suppress(ChatlabError):  # it has ended by itself
            await self._lease.signal(self.name, action)

    async def kill(self) -> None:
        """SIGKILL; returns when all that it had written has been read."""
        self._killed = True
        self._unwatch()
        with contextlib.suppress(ChatlabError):  # it has ended by itself
            await self._lease.signal(self.name, "kill")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                if self._writer is not None:
                    await self._gone.wait()
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
        self.listening = False

    def _unwatch(self) -> None:
        if self.watcher is not None:
            self.watcher.cancel()

    # -- the socket

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = (await reader.readline()).strip().decode("ascii", "replace")
        if self._writer is not None or not hmac.compare_digest(hello, self._token):
            writer.close()
            return
        self._writer = writer
        self._connected.set()
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):  # the last one of a killed process may be cut
                    self._heard += 1
                    self._take(json.loads(line))
        except ConnectionError:
            pass  # reset by a kill: what had arrived was read
        finally:
            self._over()
            writer.close()

    def _take(self, frame: dict[str, Any]) -> None:
        if "fact" in frame:
            self._record(decode(json.dumps(frame["fact"])))
        elif "trouble" in frame:
            self._trouble(client_failed(self._client, "listen", frame["trouble"]))
        elif "ended" in frame:
            self.listening = False
            self._stopped.set()
            if frame["ended"] is not None:
                self.ended_itself = True
                self._trouble(client_failed(self._client, "listen", frame["ended"]))
        else:
            self._settle(frame)

    def _settle(self, frame: dict[str, Any]) -> None:
        verb, future = self._waiting.get(frame["reply"], ("", None))
        if future is None or future.done():
            return
        if "error" in frame:
            future.set_exception(client_failed(self._client, verb, frame["error"]))
        else:
            # Here, not where the answer is waited for: by then it may be over again.
            self.listening = self.listening or verb == "listen"
            future.set_result(frame["value"])

    def _over(self) -> None:
        if self.listening and not self._killed:
            self.ended_itself = True
            self._went()
            self._trouble(self._died())
        self._gone.set()
        self._stopped.set()
        self.listening = False
        for _, future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(self._died())

    def _write(self, frame: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(frame).encode() + b"\n")
