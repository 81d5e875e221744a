"""Direct clients that find each other through a name server in memory, over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from chatlab.client import Life
from chatlab.errors import ChatlabError, PeerAway, Taken, UnknownAccount
from chatlab.journal import Fact, Journal
from chatlab.messages import Message, Receipt, private
from chatlab.private.channel import client_options, server_options
from chatlab.private.direct import DirectClient
from chatlab.private.endpoint import Endpoint
from chatlab.private.security import lab_metadata
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.services.links import Link
from chatlab.settings import Settings
from chatlab.v1 import direct_chat_pb2 as pb
from chatlab.v1 import direct_chat_pb2_grpc as pb_grpc
from chatlab.v1.letter_pb2 import Letter

#: Long enough for a busy machine; a passing test does not wait for it.
PATIENCE_SECONDS = 10.0
NO_RABBIT = RabbitAddress(host="127.0.0.1", port=1, user="", password="")
NO_REDIS = RedisAddress(host="127.0.0.1", port=1)


class Names:
    """The name server: who exists, in which life, and where."""

    def __init__(self, *accounts: str) -> None:
        self.newest = dict.fromkeys(accounts, 0)
        self.addresses: dict[str, ServerAddress] = {}
        self.tickets: dict[str, tuple[str, int, str, str]] = {}
        #: Raised by whoever asks for a peer.
        self.broken: ChatlabError | None = None
        #: Cleared: questions for a peer, or about a ticket, wait.
        self.watchers: set[asyncio.Event] = set()
        self.finding = asyncio.Event()
        self.redeeming = asyncio.Event()
        self.finding.set()
        self.redeeming.set()

    def check(self, user: str, incarnation: int) -> None:
        if self.newest[user] > incarnation:
            raise Taken(f"A newer client of {user} has taken over.")

    def issue(self, user: str, incarnation: int, peer: str) -> tuple[str, str]:
        self.check(user, incarnation)
        ticket, proof = secrets.token_hex(4), secrets.token_hex(4)
        self.tickets[ticket] = user, incarnation, peer, proof
        self.changed()
        return ticket, proof

    def changed(self) -> None:
        """Whoever waits for something looks again."""
        for event in self.watchers:
            event.set()


class Questions:
    """What one life asks the name server."""

    def __init__(self, names: Names, life: Life) -> None:
        self._names = names
        self._me = life.user, life.incarnation
        self.redeemed = 0

    async def find_peer(self, peer: str) -> ServerAddress:
        names = self._names
        await names.finding.wait()
        if names.broken is not None:
            raise names.broken
        if peer not in names.newest:
            raise UnknownAccount(f"There is no account {peer}.")
        if peer not in names.addresses:
            raise PeerAway(f"{peer} is not there.")
        return names.addresses[peer]

    async def issue_ticket(self, peer: str) -> tuple[str, str]:
        return self._names.issue(*self._me, peer)

    async def redeem_ticket(self, ticket: str, caller: str) -> tuple[int, str] | None:
        names = self._names
        await names.redeeming.wait()
        self.redeemed += 1
        names.check(*self._me)
        user, incarnation, peer, proof = names.tickets.pop(ticket, ("", 0, "", ""))
        if (user, peer) != (caller, self._me[0]) or names.newest[user] > incarnation:
            return None
        return incarnation, proof

    async def last_seen(self, name: str) -> tuple[bool, float] | None:
        names = self._names
        return (name in names.addresses, 7.0) if name in names.newest else None


class Person:
    """One life of a user: its endpoint behind a link, its client, what it was shown."""

    def __init__(self, rig: Rig, life: Life) -> None:
        self.rig = rig
        self.life = life
        self.shown: list[Message] = []
        self.ended: list[ChatlabError] = []
        self.refusal = ""
        self.on_message: Callable[[Message], object] = lambda message: None
        self.questions = Questions(rig.names, life)
        self.client = DirectClient(
            life, self.questions, self._show, self._end, lambda caller: self.refusal
        )
        self.endpoint = Endpoint(life.settings)
        self.link: Any = None
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        return self.life.user

    @property
    def address(self) -> ServerAddress:
        return self.rig.names.addresses[self.name]

    async def online(self) -> Person:
        names, life = self.rig.names, self.life
        self.endpoint.client = self.client
        port = (await self.endpoint.start()).port
        self.link = Link(("127.0.0.1", port), user=self.name, service="direct")
        names.newest[self.name] = life.incarnation
        names.addresses[self.name] = ServerAddress(
            host="127.0.0.1", port=await self.link.open()
        )
        return self

    async def leave(self) -> None:
        await self.client.close()
        await self.stop()

    async def crash(self) -> None:
        """As a kill: the kernel resets what was open."""
        self.client.abandon()
        self.link.reset()
        await self.stop()

    async def stop(self) -> None:
        if self.rig.names.newest[self.name] == self.life.incarnation:
            self.rig.names.addresses.pop(self.name, None)
        if self.link is not None:
            link, self.link = self.link, None
            await self.endpoint.stop()
            await link.close()

    def _show(self, message: Message, redelivered: bool) -> None:
        self.shown.append(message)
        self._changed.set()
        self.on_message(message)

    def _end(self, error: ChatlabError) -> None:
        self.ended.append(error)
        self._changed.set()

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.shown]

    async def until(self, what: Callable[[], object]) -> None:
        """Until it is so; looks whenever something was shown, recorded, ended or issued."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not what():
                self._changed.clear()
                self.rig.names.watchers.add(self._changed)
                await self._changed.wait()

    async def wait_for(self, count: int) -> list[str]:
        await self.until(lambda: len(self.shown) >= count)
        return self.bodies

    async def send(self, peer: str | Person, *bodies: str) -> list[Receipt]:
        to = peer if isinstance(peer, str) else peer.name
        return await self.client.send(self.life.messages(private(self.name, to), to, bodies))

    def facts(self, *kinds: type[Any]) -> list[Any]:
        me = self.name, self.life.incarnation
        return [f for f in self.rig.journal.facts(*kinds) if (f.user, f.incarnation) == me]


class Stock:
    """A client of bare gRPC that keeps to nothing."""

    def __init__(self, rig: Rig, user: str, incarnation: int = 1) -> None:
        self.rig = rig
        self.user = user
        self.incarnation = incarnation
        self._channel: Any = None
        self.call: Any = None

    async def dial(
        self,
        person: Person,
        ticket: str | None = None,
        *,
        write: bool = True,
        raw: bool = False,
        metadata: Any = None,
        **changes: Any,
    ) -> Stock:
        """Call, and say hello; wait for nothing.

        Args:
            ticket: to show instead of a good one.
            write: say hello.
            raw: from now on what is written is bytes.
            changes: fields of the hello.
        """
        names, peer, settings = self.rig.names, person.name, self.rig.settings
        names.newest[self.user] = max(names.newest.get(self.user, 0), self.incarnation)
        if ticket is None:
            ticket, _ = names.issue(self.user, self.incarnation, peer)
        self._channel = grpc.aio.insecure_channel(
            person.address.target, options=client_options(settings)
        )
        stub = pb_grpc.DirectChatServiceStub(self._channel).Talk
        if raw:
            stub = self._channel.stream_stream("/chatlab.v1.DirectChatService/Talk")
        self.call = stub(metadata=lab_metadata(settings) if metadata is None else metadata)
        if write:
            hello = pb.Hello(**{"caller": self.user, "peer": peer, "ticket": ticket} | changes)
            request = pb.TalkRequest(hello=hello)
            await self.call.write(request.SerializeToString() if raw else request)
        return self

    async def accepted(self, person: Person) -> Stock:
        await self.dial(person)
        assert (await self.call.read()).incarnation == person.life.incarnation
        return self

    async def write(self, *letters: Letter, acked: int = 0) -> None:
        await self.call.write(pb.TalkRequest(letters=letters, acked=acked))

    async def refusal(self) -> tuple[grpc.StatusCode, str]:
        """The status with which the call ends; what is read before is dropped."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            return await self.call.code(), await self.call.details()

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


#: What a fake peer does with a call: it gets the hello and the context.
Answer = Callable[[pb.Hello, Any], Awaitable[None]]


@asynccontextmanager
async def fake_peer(rig: Rig, name: str, answer: Answer) -> AsyncIterator[None]:
    """An endpoint of bare gRPC, listed as that of ``name``."""

    class Fake(pb_grpc.DirectChatServiceServicer):
        async def Talk(self, _: object, context: Any) -> None:
            await answer((await context.read()).hello, context)

    server = grpc.aio.server(options=server_options(rig.settings))
    pb_grpc.add_DirectChatServiceServicer_to_server(Fake(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    rig.names.newest.setdefault(name, 1)
    rig.names.addresses[name] = ServerAddress(host="127.0.0.1", port=port)
    try:
        yield
    finally:
        await server.stop(None)


def letter(number: int, body: str = "hola", **changes: Any) -> Letter:
    fields: dict[str, Any] = {"id": f"stock:{number}", "body": body, "seq": number, "clock": 1}
    return Letter(**fields | changes)


class Rig:
    """A name server, and whoever was made to live in it."""

    def __init__(self, settings: Settings, accounts: Sequence[str]) -> None:
        self.settings = settings
        self.names = Names(*accounts)
        self.journal = Journal(tier="stand-in")
        self.people: list[Person] = []
        self.stocks: list[Stock] = []
        #: What the loop was told of defects; a test that expects one takes it out.
        self.defects: list[dict[str, Any]] = []

    def _record(self, *rows: Any) -> None:
        self.journal.append(*rows)
        self.names.changed()

    def person(self, user: str, incarnation: int = 1, **changes: Any) -> Person:
        values: dict[str, Any] = {
            "lab": "test",
            "user": user,
            "incarnation": incarnation,
            "secret": "s3cret",
            "settings": self.settings,
            "record": self._record,
            "rabbitmq": NO_RABBIT,
            "redis": NO_REDIS,
            **changes,
        }
        self.people.append(Person(self, Life(**values)))
        return self.people[-1]

    async def online(self, user: str, incarnation: int = 1, **changes: Any) -> Person:
        return await self.person(user, incarnation, **changes).online()

    def stock(self, user: str = "eva", incarnation: int = 1) -> Stock:
        self.stocks.append(Stock(self, user, incarnation))
        return self.stocks[-1]

    def facts(self, *kinds: type[Fact]) -> list[Any]:
        return list(self.journal.facts(*kinds))


@asynccontextmanager
async def direct_rig(
    *, accounts: Sequence[str] = ("ana", "bob", "eva"), **changes: Any
) -> AsyncIterator[Rig]:
    """A rig; everything that was made in it is closed afterwards."""
    values: dict[str, Any] = {
        "send_seconds": 5.0,
        "keepalive_seconds": 2.0,
        "keepalive_timeout_seconds": 1.0,
        **changes,
    }
    rig = Rig(Settings(**values), accounts)
    loop, grpc_log = asyncio.get_running_loop(), logging.getLogger("grpc")
    loop.set_exception_handler(lambda _, context: rig.defects.append(context))
    lines = _Lines(logging.WARNING)
    grpc_log.addHandler(lines)
    try:
        yield rig
    finally:
        rig.names.finding.set()
        rig.names.redeeming.set()
        for stock in rig.stocks:
            await stock.close()
        for person in rig.people:
            person.life.gate.set()
            if person.link is not None:
                person.link.heal()
        await asyncio.gather(*(person.leave() for person in rig.people))
        grpc_log.removeHandler(lines)
    gc.collect(1)  # a task whose exception nobody took says so now
    assert rig.defects == []
    assert lines.texts == [], "it would be printed into a cell"


class _Lines(logging.Handler):
    """Keeps what would be printed."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
