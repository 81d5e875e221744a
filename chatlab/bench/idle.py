"""What connected users cost a chat server while nobody says anything.

The server runs in a process of its own, all clients in another one, so that the server's
memory and processor time are its own. A server forgets nothing that it needed once, so a few
users come and go first. ``stage`` says how far the users go, which shows where the memory is:

===========  ==================================================================
``connect``  a TCP connection with gRPC's own state, no call
``claim``    that, and one unary call that is over
``receive``  that, and the receiving stream: the mailbox is held
``full``     a whole :class:`~chatlab.private.client.MailboxClient`, which listens
``sent``     that, and a message to itself: the sending stream
===========  ==================================================================

``python -m chatlab.bench.idle`` prints every stage over every store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from chatlab.bench.report import Figure
from chatlab.client import Life, new_secret
from chatlab.discovery.redis import Registry
from chatlab.messages import private
from chatlab.private import MailboxClient
from chatlab.private.channel import SESSION_KEY, open_channel
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress, to_dict
from chatlab.services.redis_server import RedisServer
from chatlab.settings import Settings, child_environ
from chatlab.tables import Table
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

STAGES = ("connect", "claim", "receive", "full", "sent")
BACKENDS = ("mailbox-memory", "mailbox-redis")
USERS = 1_000
#: Two keepalive intervals: pings are what idle users cost.
IDLE_SECONDS = 60.0
#: Users that come and go before anything is measured.
WARM_USERS = 50
#: So many connect at a time.
AT_ONCE = 50
#: The promise for 1,000 users: memory in MB, and a processor's share that is not measurable.
MOST_MB = 60.0
MOST_PERCENT = 1.0
#: The process of the users, and what it says when all of them are there.
CROWD = ("chatlab.bench.idle", "--users")
HERE = b"here\n"
#: Files that a process may need besides one a user.
SPARE_FILES = 256


@dataclass(frozen=True)
class Idle:
    """What ``users`` idle users cost."""

    backend: str
    stage: str
    users: int
    #: Growth of the server's resident memory, MB (10^6 bytes).
    megabytes: float
    #: Of one processor, over the idle time.
    percent: float

    @property
    def met(self) -> bool:
        """Whether the goal is met in this run."""
        return all(figure.met for figure in self.figures())

    def figures(self) -> Iterator[Figure]:
        """Both goals, that of the memory for as many users as there are."""
        name = f"{self.users:,} idle users, {self.backend.removeprefix('mailbox-')}"
        most_mb = MOST_MB * self.users / USERS
        for what, ours, most, unit in (
            ("memory", self.megabytes, most_mb, "MB"),
            ("processor", self.percent, MOST_PERCENT, "%"),
        ):
            base = f"{most:g} {unit}"
            yield Figure(f"{name}: {what}", [ours], [most], base, at_most=1.0, unit=unit)

    def row(self) -> dict[str, object]:
        """A row of the report."""
        return {
            "backend": self.backend,
            "stage": self.stage,
            "users": self.users,
            "MB": f"{self.megabytes:.1f}",
            "KB a user": f"{1000 * self.megabytes / self.users:.1f}",
            "% of a core": f"{self.percent:.2f}",
            "met": self.met,
        }


async def idle(
    redis: RedisAddress,
    backend: str,
    stage: str = "full",
    users: int = USERS,
    seconds: float = IDLE_SECONDS,
) -> Idle:
    """Measure ``users`` idle users of a server over ``backend``.

    Args:
        redis: where the name server and, for ``mailbox-redis``, the mailboxes are; the prefix
            is this measurement's own.
        stage: how far the users go (module docstring).
        seconds: how long the processor time is counted.
    """
    allow_files(users + SPARE_FILES)
    secret = new_secret()
    connection = Redis(redis)
    registry = Registry(connection, Settings().lease_seconds)
    for number in range(users):
        await registry.create_account(name_of(number), secret)
    config = {"backend": backend, "redis": to_dict(redis)}
    try:
        async with _process(config, "chatlab.private.server") as server:
            address = await _found(registry, backend)
            crowd: dict[str, Any] = {
                "address": to_dict(address),
                "secret": secret,
                "stage": stage,
            }
            warm = {**crowd, "users": WARM_USERS, "incarnation": 1}
            async with _process(warm, *CROWD) as clients:
                await _here(clients)
            process = psutil.Process(server.pid)
            before = process.memory_info().rss
            crowd |= {"users": users, "incarnation": 2}
            async with _process(crowd, *CROWD) as clients:
                await _here(clients)
                grown = process.memory_info().rss - before
                spent = _processor_seconds(process)
                await asyncio.sleep(seconds)
                spent = _processor_seconds(process) - spent
    finally:
        await connection.close()
    return Idle(backend, stage, users, grown / 1e6, 100 * spent / seconds)


def idle_users(_rounds: int) -> Iterator[Figure]:
    """The promise for 1,000 users, over each store."""
    for one in asyncio.run(_all(["full"], BACKENDS, USERS)):
        yield from one.figures()


def name_of(number: int) -> str:
    """The name of an idle user."""
    return f"idle-{number}"


def allow_files(number: int) -> None:
    """Let this process, and those it starts, open so many files.

    Raises:
        OSError: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(hard, number)))


@asynccontextmanager
async def _process(config: dict[str, Any], *module: str) -> AsyncIterator[Process]:
    """A Python process that reads its configuration from standard input."""
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        env=child_environ(),
        stdin=PIPE,
        stdout=PIPE,
    )
    assert made.stdin is not None
    made.stdin.write(json.dumps(config).encode())
    made.stdin.close()
    try:
        yield made
    finally:
        if made.returncode is None:
            made.terminate()
        await made.wait()


async def _found(registry: Registry, backend: str) -> ServerAddress:
    while (address := await registry.find_server(backend)) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return address


async def _here(process: Process) -> None:
    """Until all users are there."""
    assert process.stdout is not None
    if await process.stdout.readline() != HERE:
        raise RuntimeError("The process of the users ended.")


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# -- the process of the users


async def _connect(life: Life, address: ServerAddress, stage: str) -> object:
    """Bring a user as far as ``stage``; what is returned keeps it there."""
    if stage in ("full", "sent"):

        async def locate(_: Collection[str]) -> ServerAddress:
            return address

        client = MailboxClient(life, "idle", locate, lambda *_: None)
        await client.open()
        if stage == "sent":
            me = life.user
            await client.send(life.messages(private(me, me), me, ["x"]))
        return client
    channel = open_channel(address, life.settings)
    await channel.channel_ready()
    if stage == "connect":
        return channel
    stub = pb_grpc.PrivateChatServiceStub(channel)  # type: ignore[no-untyped-call]
    claim = pb.ClaimRequest(name=life.user, secret=life.secret, incarnation=life.incarnation)
    answer = await stub.Claim(claim)
    if stage == "claim":
        return channel
    call = stub.Receive(metadata=((SESSION_KEY, answer.session),))
    await call.initial_metadata()
    return channel, call


async def _users(
    address: dict[str, Any], secret: str, stage: str, users: int, incarnation: int
) -> None:
    server = ServerAddress(**address)
    settings = replace(Settings.load(), send_seconds=60)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> object:
        life = Life(
            lab="bench",
            user=name_of(number),
            incarnation=incarnation,
            secret=secret,
            settings=settings,
            record=lambda *_: None,
            rabbitmq=RabbitAddress(host="", port=0, user="", password=""),
            redis=RedisAddress(host="", port=0),
        )
        async with gate:
            return await _connect(life, server, stage)

    here = await asyncio.gather(*map(one, range(users)))
    print(HERE.decode(), end="", flush=True)
    await asyncio.Event().wait()
    del here


async def _all(stages: Sequence[str], backends: Sequence[str], users: int) -> list[Idle]:
    with tempfile.TemporaryDirectory(prefix="chatlab-") as folder:
        redis = RedisServer(Path(folder, "redis"), ledger=Path(folder, "ledger"), limit=10)
        await redis.start()
        try:
            return [
                await idle(
                    replace(redis.address, prefix=f"{backend}:{stage}:"), backend, stage, users
                )
                for backend in backends
                for stage in stages
            ]
        finally:
            await redis.stop(5)
            redis.release()


def main(argv: list[str] | None = None) -> int:
    """Print the table; or, with ``--users``, be the process of the users."""
    parser = argparse.ArgumentParser(prog="chatlab.bench.idle", description=__doc__)
    parser.add_argument("--users", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=STAGES, action="append")
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--number", type=int, default=USERS)
    said = parser.parse_args(argv)
    if said.users:
        asyncio.run(_users(**json.load(sys.stdin)))
        return 0
    measured = asyncio.run(_all(said.stage or STAGES, said.backend or BACKENDS, said.number))
    print(Table((one.row() for one in measured), "idle users of one chat server"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
