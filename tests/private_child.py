"""A receiving client as a process of its own, to be killed, stopped or cancelled by a test.

``python -m tests.private_child USER SECRET BACKEND WORK`` says ``["ready"]`` and then does what
it is told on standard input, a line each:

- ``["open", ADDRESS, INCARNATION]``: receive from the server there (the fields of a
  ``ServerAddress``), in the incarnation given. The one that it is in goes on: it remembers what
  it was shown;
- ``["forget"]``: be a broken client that does not remember what it was shown.

Each message shown takes WORK seconds. Facts are said as lines of JSON, each before anything
that follows from it: ``["open", incarnation]``, ``["shown", incarnation, sender, body,
redelivered]``, ``["ended", incarnation, class of the error]`` and, after SIGUSR1, which
cancels the client in the midst of a frame, ``["cancelled", incarnation]``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Collection
from typing import Any

from chatlab.client import Life, Seen
from chatlab.errors import ChatlabError
from chatlab.messages import Message
from chatlab.private import PrivateClient, private_client
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.settings import Settings


def say(*fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class Forgetful(Seen):
    """Everything is new to it."""

    def add(self, id: str) -> bool:
        return True

    def add_all(self, ids: list[str]) -> list[bool]:
        return [True] * len(ids)


class Receiver:
    """The user of this process, in one life after the other."""

    def __init__(self, user: str, secret: str, backend: str, work: float) -> None:
        self.user = user
        self.secret = secret
        self.backend = backend
        self.work = work
        self.forgetful = False
        self.life: Life | None = None
        self.client: PrivateClient | None = None

    async def open(self, address: ServerAddress, incarnation: int) -> None:
        if self.life is None or self.life.incarnation != incarnation:
            self.life = self.born(incarnation)
        self.life.gate.set()

        async def locate(_: Collection[str]) -> ServerAddress:
            return address

        def show(message: Message, redelivered: bool) -> None:
            say("shown", incarnation, message.sender, message.body, redelivered)
            time.sleep(self.work)  # holds the loop, as a busy client does

        def end(error: ChatlabError) -> None:
            say("ended", incarnation, type(error).__name__)

        self.client = private_client(self.life, self.backend, locate, show, end)
        await self.client.open()
        say("open", incarnation)

    def born(self, incarnation: int) -> Life:
        life = Life(
            lab="test",
            user=self.user,
            incarnation=incarnation,
            secret=self.secret,
            settings=Settings.load(),
            record=lambda *_: None,
            rabbitmq=RabbitAddress(host="127.0.0.1", port=1, user="", password=""),
            redis=RedisAddress(host="127.0.0.1", port=1),
        )
        if self.forgetful:
            life.seen = lambda _: Forgetful()  # type: ignore[method-assign]
        return life

    def cancel(self) -> None:
        """Between two messages of a frame: the gate is closed before the next one."""
        assert self.life is not None
        self.life.gate.clear()

    def cancelled(self) -> None:
        assert self.client is not None and self.life is not None
        self.client.abandon()
        say("cancelled", self.life.incarnation)


async def main(user: str, secret: str, backend: str, work: str) -> None:
    receiver = Receiver(user, secret, backend, float(work))
    loop = asyncio.get_running_loop()

    def on_signal(*_: object) -> None:
        receiver.cancel()
        loop.call_soon_threadsafe(receiver.cancelled)

    signal.signal(signal.SIGUSR1, on_signal)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    say("ready")
    while line := await commands.readline():
        match json.loads(line):
            case ["open", address, incarnation]:
                await receiver.open(ServerAddress(**address), incarnation)
            case ["forget"]:
                receiver.forgetful = True


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
