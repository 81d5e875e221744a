"""One connection of one client: a channel, the claimed session, the two streams.

Everything that ends a stream is raised as ``AioRpcError`` by whoever reads or writes next;
:mod:`chatlab.private.client` decides what it means.

Opening has a deadline as a whole: Claim, and until both streams have begun. The two streams
then live as long as the connection and have none; a peer that is gone or frozen ends them
within keepalive's time, and whoever sends waits for its receipt no longer than
``settings.send_seconds``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from chatlab.client import Life
from chatlab.errors import ServiceUnavailable
from chatlab.messages import Message
from chatlab.private import wire
from chatlab.private.channel import SESSION_KEY, error_of, open_channel
from chatlab.private.security import lab_metadata
from chatlab.services.addresses import ServerAddress
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc


class Connection:
    """Made by :meth:`open`; ``close`` ends it without waiting for anybody."""

    def __init__(self, channel: Any, sending: Any, receiving: Any) -> None:
        self._channel = channel
        self._sending = sending
        self._receiving = receiving
        self._asking = asyncio.Lock()  # gRPC allows one write at a time

    @classmethod
    async def open(cls, life: Life, address: ServerAddress, seconds: float) -> Connection:
        """Connect, claim, and start both streams; from then on the user receives.

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
        metadata = (*lab, (SESSION_KEY, answer.session))
        receiving, sending = stub.Receive(metadata=metadata), stub.Send(metadata=metadata)
        for stream in (receiving, sending):
            await stream.initial_metadata()  # receiving: the mailbox is held for us now
            if stream.done():
                await stream.read()  # raises why
        return cls(channel, sending, receiving)

    async def write(self, messages: Sequence[Message]) -> None:
        """Send one frame."""
        letters = [wire.letter_of(message) for message in messages]
        await _write(self._sending, pb.SendRequest(letters=letters))

    async def receipts(self) -> Sequence[pb.Receipt] | None:
        """The answer to the oldest frame without one; None at the stream's end."""
        response = await self._sending.read()
        return None if response is grpc.aio.EOF else response.receipts

    async def deliveries(self) -> Sequence[pb.Delivery] | None:
        """The next frame of messages; None at the stream's end."""
        response = await self._receiving.read()
        return None if response is grpc.aio.EOF else response.deliveries

    async def acknowledge(self, through: int) -> None:
        """The first ``through`` deliveries of this connection are dealt with."""
        async with self._asking:
            await _write(self._receiving, pb.ReceiveRequest(acked=through))

    async def leave(self) -> None:
        """Ask to be handed nothing more; ``deliveries`` then comes to its end."""
        async with self._asking:
            await _write(self._receiving, pb.ReceiveRequest(leaving=True))

    async def close(self) -> None:
        """End streams and channel now."""
        await self._channel.close()


async def _write(call: Any, request: Any) -> None:
    try:
        await call.write(request)
    except asyncio.InvalidStateError:  # the call has ended: its reader knows why
        await call.read()
