"""A user in a process of its own: the same Client, driven over two loopback sockets.

``RemoteClient`` (here, in the kernel) and :func:`main` (in the child) speak JSON Lines:

- *control*, both ways: ``{"call": n, "verb": …, "args": {…}}`` answered by ``{"reply": n,
  "value": …}`` or ``{"reply": n, "error": [class, what, effect, todo]}``. The child asks
  too (``through`` and ``expose``).
- *facts*, child to kernel: one journal row a line, written with a blocking ``sendall``
  before the child goes on. So what the child did before a SIGKILL is known: its facts are
  with the operating system already. An answer says how many facts came before it, and is
  given out when these have been read: a receipt is never ahead of its own facts.

The child is spawned by the supervisor and bound to the lab's lease, so it never outlives the
kernel. It proves itself with a one-time token; the account's secret travels on the socket,
not in the arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import fields
from pathlib import Path
from typing import Any

from chatlab import errors
from chatlab.errors import ChatlabError, ServiceUnavailable
from chatlab.journal import Record, Row, decode, encode
from chatlab.lab.client import Client, Ticket
from chatlab.lab.exchange import Ways
from chatlab.messages import Receipt
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress, to_dict
from chatlab.settings import Settings, one_time_token

#: A frame holds at most a full batch of the largest bodies, escaped.
LINE_BYTES = 16 * 1024 * 1024

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Peer:
    """One end of the control connection: calls out, answers calls in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: Facts that this end has written.
        self.facts = 0

    async def call(self, verb: str, **args: Any) -> tuple[Any, int]:
        """Have the other end do ``verb``: its value, and how many facts it had written.

        Raises:
            ChatlabError: what the other end raised; ServiceUnavailable when it is gone.
        """
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._write({"call": number, "verb": verb, "args": args})
            answer: tuple[Any, int] = await future
            return answer
        finally:
            self._waiting.pop(number, None)

    async def serve(self) -> None:
        """Read until the other end is gone."""
        try:
            while line := await self._reader.readline():
                frame = json.loads(line)
                if "call" in frame:
                    task = asyncio.create_task(self._answer(frame))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    self._settle(frame)
        except ConnectionError:
            pass  # a killed process: the same as the end of the stream
        finally:
            self.close()

    def close(self) -> None:
        """Whoever waits for an answer is told that none will come."""
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                gone = ServiceUnavailable("The user's process has ended.")
                gone.effect = "Nobody knows whether the operation took effect."
                future.set_exception(gone)
        for task in self._tasks:
            task.cancel()

    def _settle(self, frame: dict[str, Any]) -> None:
        future = self._waiting.get(frame["reply"])
        if future is None or future.done():
            return
        if "error" in frame:
            name, *texts = frame["error"]
            future.set_exception(getattr(errors, name, ChatlabError)(*texts))
        else:
            future.set_result((frame["value"], frame["facts"]))

    async def _answer(self, frame: dict[str, Any]) -> None:
        try:
            reply: dict[str, Any] = {"value": await self._handler(frame["verb"], frame["args"])}
        except ChatlabError as error:
            reply = {"error": [type(error).__name__, error.what, error.effect, error.todo]}
        self._write({"reply": frame["call"], "facts": self.facts, **reply})

    def _write(self, frame: dict[str, Any]) -> None:
        if self._writer.is_closing():
            raise ServiceUnavailable("The user's process has ended.")
        self._writer.write(json.dumps(frame).encode() + b"\n")


class RemoteClient:
    """The kernel's end: the verbs of :class:`Client`, carried out in the child.

    Args:
        ticket, record, ways, ended: as for :class:`Client`.
        spawn: starts ``argv`` with an environment, under the supervisor.
        child_ended: waits until that process has ended.
    """

    def __init__(
        self,
        ticket: Ticket,
        record: Record,
        ways: Ways,
        ended: Callable[[str, ChatlabError], None],
        spawn: Callable[[list[str], dict[str, str]], Awaitable[object]],
        child_ended: Callable[[], Coroutine[Any, Any, object]],
    ) -> None:
        self._ticket, self._record = ticket, record
        self._ways, self._ended, self._spawn = ways, ended, spawn
        self._child_ended = child_ended
        self._token = secrets.token_hex(16)
        self._server: asyncio.Server | None = None
        self._peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        self._facts_done = asyncio.Event()
        self._read = 0
        self._news = asyncio.Condition()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        """Start the child and wait until it has connected both sockets."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=LINE_BYTES
        )
        port = self._server.sockets[0].getsockname()[1]
        argv = [sys.executable, "-m", "chatlab.lab.remote", str(port)]
        await self._spawn(argv, {"CHATLAB_TOKEN": self._token})
        ended = asyncio.create_task(self._child_ended())
        either: set[asyncio.Future[Any]] = {self._peer, ended}
        done, _ = await asyncio.wait(
            either,
            timeout=self._ticket.settings.start_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        ended.cancel()
        if self._peer not in done:
            await self.close()
            raise ServiceUnavailable(
                f"The process of {self._ticket.user} did not start.",
                todo="Its log is in the folder that `chatlab status` shows.",
            )
        peer = self._peer.result()
        await peer.call("ticket", **_pack(self._ticket))

    async def call(self, verb: str, **args: Any) -> Any:
        """A verb of :class:`Client` by name."""
        value, facts = await (await asyncio.shield(self._peer)).call(verb, **args)
        async with self._news:
            await self._news.wait_for(lambda: self._read >= facts or self._facts_done.is_set())
        return [Receipt(**row) for row in value] if verb == "send" else value

    async def drained(self) -> None:
        """Wait until every fact of an ended child has arrived."""
        async with asyncio.timeout(5):
            await self._facts_done.wait()

    async def close(self) -> None:
        """Drop the sockets; the child ends when it sees that."""
        if self._peer.done() and not self._peer.cancelled():
            self._peer.result().close()
        else:
            self._peer.cancel()
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()  # ends their handlers; cancelling these makes asyncio complain

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        hello = (await reader.readline()).decode().split()
        if len(hello) != 2 or not hmac.compare_digest(hello[1], self._token):
            writer.close()
            return
        if hello[0] == "facts":
            await self._read_facts(reader)
            writer.close()
        elif not self._peer.done():
            peer = Peer(reader, writer, self._ask)
            self._peer.set_result(peer)
            await peer.serve()

    async def _ask(self, verb: str, args: dict[str, Any]) -> Any:
        if verb == "through":
            address = ServerAddress(**args["address"])
            return to_dict(await self._ways.through(args["kind"], address))
        if verb == "expose":
            return await self._ways.expose(args["port"])
        name, *texts = args["error"]
        self._ended(args["chat"], getattr(errors, name, ChatlabError)(*texts))
        return None

    async def _read_facts(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):  # the last line of a killed process may be cut
                    self._record(decode(line))
                    self._read += 1
                    await self._tell()
        except ConnectionError:
            pass  # reset by a kill: what had arrived was read
        finally:
            self._facts_done.set()
            await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


def _pack(ticket: Ticket) -> dict[str, Any]:
    settings = {f.name: str(getattr(ticket.settings, f.name)) for f in fields(Settings)}
    return {
        "lab": ticket.lab,
        "user": ticket.user,
        "secret": ticket.secret,
        "settings": settings,
        "rabbitmq": to_dict(ticket.rabbitmq),
        "redis": to_dict(ticket.redis),
    }


def _unpack(values: dict[str, Any]) -> Ticket:
    return Ticket(
        lab=values["lab"],
        user=values["user"],
        secret=values["secret"],
        settings=Settings.of(values["settings"]),
        rabbitmq=RabbitAddress(**values["rabbitmq"]),
        redis=RedisAddress(**values["redis"]),
    )


class _Child:
    """The child's end: one Client, made when the ticket comes."""

    def __init__(self, facts: socket.socket) -> None:
        self._facts = facts
        self._client: Client | None = None
        self._peer: Peer | None = None

    async def run(self, port: int, token: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LINE_BYTES)
        writer.write(f"control {token}\n".encode())
        self._peer = Peer(reader, writer, self._do)
        await self._peer.serve()

    def _record(self, *rows: Row) -> None:
        lines = "".join(encode(row) + "\n" for row in rows)
        self._facts.sendall(lines.encode())
        assert self._peer is not None
        self._peer.facts += len(rows)

    async def _do(self, verb: str, args: dict[str, Any]) -> Any:
        if verb == "ticket":
            self._client = Client(_unpack(args), self._record, self, self._ended)
            return None
        assert self._client is not None
        value = await getattr(self._client, verb)(**args)
        if verb == "send":
            return [receipt._asdict() for receipt in value]
        return value

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        """Asked of the kernel, where the links are."""
        assert self._peer is not None
        found, _ = await self._peer.call("through", kind=kind, address=to_dict(address))
        return ServerAddress(**found)

    async def expose(self, port: int) -> str:
        """Asked of the kernel, where the links are."""
        assert self._peer is not None
        found, _ = await self._peer.call("expose", port=port)
        return str(found)

    def _ended(self, chat: str, error: ChatlabError) -> None:
        assert self._peer is not None
        told = [type(error).__name__, error.what, error.effect, error.todo]
        self._task = asyncio.get_running_loop().create_task(
            self._peer.call("ended", chat=chat, error=told)
        )


def main() -> None:
    """Run as ``python -m chatlab.lab.remote PORT`` with ``CHATLAB_TOKEN`` set."""
    port, token = int(sys.argv[1]), one_time_token()
    facts = socket.create_connection(("127.0.0.1", port))
    facts.sendall(f"facts {token}\n".encode())
    with contextlib.suppress(KeyboardInterrupt, ConnectionError):
        asyncio.run(_Child(facts).run(port, token))
    facts.close()


if __name__ == "__main__":
    if not __package__:
        sys.exit(f"Run as a module: python -m chatlab.lab.{Path(__file__).stem}")
    main()
