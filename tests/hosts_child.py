"""A user on another computer: ``python -m tests.hosts_child NAME INVITATION``.

The client of the package, driven by lines of JSON on standard input: ``[number, verb,
arguments]``. It prints ``["done", number, value]`` or ``["failed", number, error's class,
text]``, and ``["shown", chat, sender, body]`` for each message that it shows.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from chatlab.errors import ChatlabError
from chatlab.lab.client import Client, Ticket
from chatlab.services.addresses import ServerAddress
from chatlab.services.place import enter
from chatlab.settings import Settings


class Straight:
    """No links: every address is where it says."""

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        return address

    async def expose(self, port: int) -> str:
        return f"127.0.0.1:{port}"


def say(*words: Any) -> None:
    print(json.dumps(words, default=str), flush=True)


def record(*rows: Any) -> None:
    for row in rows:
        if row[0] == "Delivered":
            say("shown", row[4], row[5].sender, row[5].body)


async def main(name: str, invitation: str) -> None:
    settings = Settings.load(file=Path(invitation))
    async with enter(settings) as place:
        ticket = Ticket(
            lab=place.lab,
            user=name,
            secret=f"secret of {name}",
            settings=settings,
            rabbitmq=place.rabbitmq,
            redis=place.redis,
        )
        client = Client(ticket, record, Straight(), lambda chat, error: say("ended", chat))
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        work: set[asyncio.Task[None]] = set()
        say("ready")
        while line := await reader.readline():
            task = asyncio.create_task(act(client, *json.loads(line)))
            work.add(task)
            task.add_done_callback(work.discard)
        await asyncio.gather(*work)
        await client.end()


async def act(client: Client, number: int, verb: str, arguments: dict[str, Any]) -> None:
    try:
        value = await getattr(client, verb)(**arguments)
    except ChatlabError as error:
        say("failed", number, type(error).__name__, str(error))
        return
    if verb == "send":
        value = [[receipt.outcome, receipt.reason] for receipt in value]
    say("done", number, value)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
