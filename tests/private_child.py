"""A receiving client as a process of its own, to be killed or stopped by a test.

``python -m tests.private_child ADDRESS USER INCARNATION SECRET [BACKEND [WORK]]`` (the address
as JSON) prints ``open``, then one line a message: ``body`` or, when it was handed out before,
``body again``. It works for so many seconds on each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Collection

from chatlab.client import Life
from chatlab.messages import Message
from chatlab.private import private_client
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.settings import Settings


async def main(
    address: str,
    user: str,
    incarnation: str,
    secret: str,
    backend: str = "mailbox-redis",
    work: str = "0",
) -> None:
    life = Life(
        lab="test",
        user=user,
        incarnation=int(incarnation),
        secret=secret,
        settings=Settings.load(),
        record=lambda *_: None,
        rabbitmq=RabbitAddress(host="127.0.0.1", port=1, user="", password=""),
        redis=RedisAddress(host="127.0.0.1", port=1),
    )

    async def locate(_: Collection[str]) -> ServerAddress:
        return ServerAddress(**json.loads(address))

    def show(message: Message, redelivered: bool) -> None:
        time.sleep(float(work))  # holds the loop, as a busy client does
        print(message.body, "again" if redelivered else "", flush=True)

    client = private_client(life, backend, locate, show)
    await client.open()
    print("open", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
