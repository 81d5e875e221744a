"""A chat server with a store, and clients whose messages a test can wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from chatlab.client import Life
from chatlab.errors import ChatlabError
from chatlab.journal import Delivered, Journal
from chatlab.messages import Message, Receipt, private
from chatlab.private import private_client
from chatlab.private.accounts import Accounts, MemoryAccounts
from chatlab.private.channel import SESSION_KEY, open_channel
from chatlab.private.mailbox import Batch, Hold, Limits, Mailboxes
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.server import ChatServer
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.settings import Settings
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc
from chatlab.v1.letter_pb2 import Letter

SECRET = "s3cret"
#: Long enough for a busy machine; a passing test does not wait for it.
PATIENCE_SECONDS = 10.0
NO_RABBIT = RabbitAddress(host="127.0.0.1", port=1, user="", password="")
NO_REDIS = RedisAddress(host="127.0.0.1", port=1)


class Person:
    """One life of a user: its client, and what it was shown."""

    def __init__(self, rig: Rig, life: Life) -> None:
        self.life = life
        self.shown: list[Message] = []
        self.redelivered: list[Message] = []
        self.ended: asyncio.Future[ChatlabError] = asyncio.get_running_loop().create_future()
        #: Freeze in the middle of a frame, when so many messages were shown.
        self.freeze_after = 0
        self._changed = asyncio.Event()
        #: How many messages were shown when the client ended by itself.
        self.shown_at_end: int | None = None
        self.client: Any = private_client(life, rig.backend, rig.locate, self._show, self._end)

    def _show(self, message: Message, redelivered: bool) -> None:
        self.shown.append(message)
        if redelivered:
            self.redelivered.append(message)
        if len(self.shown) == self.freeze_after:
            self.life.gate.clear()
        self._changed.set()

    def _end(self, error: ChatlabError) -> None:
        self.shown_at_end = len(self.shown)
        self.ended.set_result(error)

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.shown]

    async def wait_for(self, count: int) -> list[str]:
        """The bodies shown, once there are ``count``."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.shown) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.bodies

    def message(self, to: str, body: str) -> Message:
        return self.life.message(private(self.life.user, to), to, body)

    async def send(self, to: str, *bodies: str) -> list[Receipt]:
        return await self.client.send(
            self.life.messages(private(self.life.user, to), to, bodies)
        )


class Rig:
    """A server that may be stopped and started again over the same store."""

    def __init__(
        self, store: Mailboxes, accounts: Accounts, settings: Settings, limits: Limits
    ) -> None:
        self.store = store
        self.backend = store.backend
        self.accounts = accounts
        self.settings = settings
        self.limits = limits
        self.journal = Journal(tier="stand-in")
        self.server: ChatServer | None = None
        self.address = ServerAddress(host="127.0.0.1", port=1)
        self.people: list[Person] = []
        #: More arguments for the server: host, tls.
        self.options: dict[str, Any] = {}

    async def locate(self, avoid: Collection[str]) -> ServerAddress:
        return self.address

    async def start(self) -> ChatServer:
        self.server = ChatServer(
            self.store, self.accounts, self.settings, limits=self.limits, **self.options
        )
        self.address = await self.server.start()
        return self.server

    async def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop(grace=0.5)

    def person(self, user: str, incarnation: int = 1, **changes: object) -> Person:
        values: dict[str, object] = {
            "lab": "test",
            "user": user,
            "incarnation": incarnation,
            "secret": SECRET,
            "settings": self.settings,
            "record": self.journal.append,
            "rabbitmq": NO_RABBIT,
            "redis": NO_REDIS,
            **changes,
        }
        self.people.append(Person(self, Life(**values)))  # type: ignore[arg-type]
        return self.people[-1]

    async def online(self, user: str, incarnation: int = 1, **changes: object) -> Person:
        person = self.person(user, incarnation, **changes)
        await person.client.open()
        return person

    def delivered(self, user: str) -> list[Delivered]:
        return [fact for fact in self.journal.facts(Delivered) if fact.user == user]


def quick_settings(**changes: float | str) -> Settings:
    return Settings(
        **{
            "send_seconds": 5.0,
            "keepalive_seconds": 2.0,
            "keepalive_timeout_seconds": 1.0,
            "lease_seconds": 1.5,
            **changes,
        }  # type: ignore[arg-type]
    )


class Taking(MemoryMailboxes):
    """Takes a message out of the mailbox when it is handed out."""

    async def fetch(self, hold: Hold, *args: Any) -> Batch:
        batch = await super().fetch(hold, *args)
        if batch.messages:
            count, size = len(batch.messages), sum(batch.sizes)
            await super().ack(hold, batch.positions[-1], count, size, {})
        return batch

    async def ack(self, *_: object) -> None:
        pass


@asynccontextmanager
async def rig(
    store: Mailboxes | None = None,
    *,
    users: tuple[str, ...] = ("ana", "bob", "eva"),
    accounts: Accounts | None = None,
    settings: Settings | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> AsyncIterator[Rig]:
    """A started rig; everything that it made is closed afterwards."""
    limits = limits or Limits()
    made = Rig(
        store or MemoryMailboxes(limits),
        accounts or MemoryAccounts(dict.fromkeys(users, SECRET)),
        settings or quick_settings(),
        limits,
    )
    made.options = options
    await made.start()
    try:
        yield made
    finally:
        for person in made.people:
            person.life.gate.set()
            await person.client.close()
        await made.stop()


class Stock:
    """The service as a client sees it that knows nothing but the ``.proto``."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    async def claim(self, user: str, incarnation: int = 1, secret: str = SECRET) -> str:
        """The session."""
        request = pb.ClaimRequest(name=user, secret=secret, incarnation=incarnation)
        return str((await self.stub.Claim(request)).session)

    def streams(self, session: str | None) -> dict[str, Any]:
        """Both streams; None: without a session."""
        metadata = () if session is None else ((SESSION_KEY, session),)
        return {
            "Send": self.stub.Send(metadata=metadata),
            "Receive": self.stub.Receive(metadata=metadata),
        }

    async def send_bodies(self, session: str, to: str, bodies: list[str]) -> int:
        """Send one frame; how many of its letters were stored."""
        letters = [Letter(id=f"{n}", body=body) for n, body in enumerate(bodies)]
        call = self.streams(session)["Send"]
        await call.write(pb.SendRequest(parcels=[pb.Parcel(to=to, letters=letters)]))
        response = await call.read()
        return sum(r.count for r in response.receipts if r.outcome == pb.OUTCOME_STORED)


async def status_of(work: Any) -> grpc.StatusCode:
    """The status that an awaited call is refused with."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            await work
        except grpc.aio.AioRpcError as refusal:
            return refusal.code()
    return grpc.StatusCode.OK


@asynccontextmanager
async def stock_client(r: Rig) -> AsyncIterator[Stock]:
    async with open_channel(r.address, r.settings) as channel:
        yield Stock(pb_grpc.PrivateChatServiceStub(channel))  # type: ignore[no-untyped-call]
