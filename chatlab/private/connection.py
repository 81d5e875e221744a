"""One connection of one client: a channel, the claimed session, the two streams.

Everything that ends a stream is raised as ``AioRpcError`` by whoever reads or writes next;
:mod:`chatlab.private.client` decides what it means.

Opening has a deadline as a whole: Claim, and until the receiving stream has begun; so has
the sending stream, which is opened for the first message. The two then live as long as the
connection and have none; a peer that is gone or frozen ends them within keepalive's time, and
whoever sends waits for its receipt no longer than ``settings.send_seconds``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from chatlab.client import Life
from chatlab.errors import ServiceUnavailable
from chatlab.messages import BATCH_MESSAGES, Message
from chatlab.private import wire
from chatlab.private.channel import SESSION_KEY, error_of, open_channel
from chatlab.private.security import lab_metadata
from chatlab.private.wire import Answer
from chatlab.services.addresses import ServerAddress
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc


class Connection:
    """Made by :meth:`open`; ``close`` ends it without waiting for anybody."""

    def __init__(
        self, life: Life, channel: Any, stub: Any, metadata: tuple[tuple[str, Any], ...]
    ) -> None:
        self._user = life.user
        self._seconds = life.settings.send_seconds
        self._channel = channel
        self._stub = stub
        self._metadata = metadata
        self._sending: Any = None
        self._receiving: Any = None
        self._sends = asyncio.Event()  # whether the sending stream is open
        self._asking = asyncio.Lock()  # gRPC allows one write at a time

    @classmethod
    async def open(cls, life: Life, address: ServerAddress, seconds: float) -> Connection:
        """Connect, claim, and start to receive.

        Raises:
            ServiceUnavailable: no answer to all of it within ``seconds``.
            NameInUse, UnknownAccount, Taken, NotAdmitted: the claim was refused.
            NotPossible: the server offers no TLS where it must.
        """
        channel = open_channel(address, life.settings)
        try:
            async with asyncio.timeout(seconds):
                return await cls._start(channel, life)
        except grpc.aio.AioRpcError as failure:
            await channel.close()
            raise error_of(failure) from failure
        except TimeoutError:
            await channel.close()
            raise ServiceUnavailable(f"The chat server at {address} does not answer.") from None
        except BaseException:
            await channel.close()
            raise

    @classmethod
    async def _start(cls, channel: Any, life: Life) -> Connection:
        stub = pb_grpc.PrivateChatServiceStub(channel)  # type: ignore[no-untyped-call]
        claim = pb.ClaimRequest(
            name=life.user, secret=life.secret, incarnation=life.incarnation
        )
        lab = lab_metadata(life.settings)
        answer = await stub.Claim(claim, metadata=lab, timeout=life.settings.send_seconds)
        connection = cls(life, channel, stub, (*lab, (SESSION_KEY, answer.session)))
        await connection._begin()
        return connection

    async def _begin(self) -> None:
        self._receiving = await _opened(self._stub.Receive(metadata=self._metadata))

    async def begin_sending(self) -> None:
        """Open the sending stream, unless it is open: one who only listens needs none, and
        costs the server a third less.

        Raises:
            ServiceUnavailable: the server does not answer in time.
        """
        if self._sends.is_set():
            return
        try:
            async with asyncio.timeout(self._seconds):
                self._sending = await _opened(self._stub.Send(metadata=self._metadata))
        except TimeoutError:
            raise ServiceUnavailable("The chat server takes no messages.") from None
        self._sends.set()

    async def write(self, messages: Sequence[Message]) -> None:
        """Send one frame, after :meth:`begin_sending`."""
        await _write(self._sending, pb.SendRequest(parcels=wire.parcels_of(messages)))

    async def answers(self) -> Sequence[Answer] | None:
        """What became of the oldest messages without an answer; None at the stream's end."""
        await self._sends.wait()
        response = await self._sending.read()
        return (
            None if response is grpc.aio.EOF else list(map(wire.answer_of, response.receipts))
        )

    async def frame(self) -> pb.ReceiveResponse | None:
        """The next frame; None at the stream's end."""
        response = await self._receiving.read()
        return None if response is grpc.aio.EOF else response

    async def acknowledge(self, through: int) -> None:
        """The first ``through`` letters of this connection are dealt with."""
        async with self._asking:
            await _write(self._receiving, pb.ReceiveRequest(acked=through))

    async def await_reached(self, receivers: Sequence[str]) -> None:
        """Ask how far these receivers have come; the answers come in frames."""
        for first in range(0, len(receivers), BATCH_MESSAGES):
            some = receivers[first : first + BATCH_MESSAGES]
            async with self._asking:
                await _write(self._receiving, pb.ReceiveRequest(awaiting=some))

    async def leave(self) -> None:
        """Ask to be handed nothing more; ``frame`` then comes to the stream's end."""
        async with self._asking:
            await _write(self._receiving, pb.ReceiveRequest(leaving=True))

    async def history(self, peer: str, limit: int) -> list[Message]:
        """The conversation with ``peer``, oldest first."""
        me, found = self._user, list[Message]()
        request = pb.GetHistoryRequest(peer=peer, limit=limit)
        async for part in self._stub.GetHistory(
            request, metadata=self._metadata, timeout=self._seconds
        ):
            for delivery in part.deliveries:
                found += wire.delivered(delivery, me if delivery.sender == peer else peer)
        return found

    async def presence(self, names: Sequence[str]) -> list[tuple[str, bool, float]]:
        """Name, whether it receives now, and when it last did, of those with an account."""
        request = pb.GetPresenceRequest(names=names)
        answer = await self._stub.GetPresence(
            request, metadata=self._metadata, timeout=self._seconds
        )
        return [(entry.name, entry.online, entry.last_seen) for entry in answer.presences]

    async def close(self) -> None:
        """End streams and channel now."""
        await self._channel.close()


async def _opened(call: Any) -> Any:
    """A stream that the server has begun to serve; for receiving: it holds the mailbox."""
    await call.initial_metadata()
    if call.done():
        await call.read()  # raises why
    return call


async def _write(call: Any, request: Any) -> None:
    try:
        await call.write(request)
    except asyncio.InvalidStateError:  # the call has ended: its reader knows why
        await call.read()
