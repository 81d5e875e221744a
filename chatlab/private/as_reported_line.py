"""One connection of one client of the report's chat server, and its messages on the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from chatlab import messages as values
from chatlab.errors import ServiceUnavailable
from chatlab.messages import Message
from chatlab.private.as_reported import EXIT
from chatlab.private.channel import error_of
from chatlab.v1 import as_reported_chat_pb2 as pb
from chatlab.v1 import as_reported_chat_pb2_grpc as pb_grpc

_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


def request_of(message: Message) -> pb.SendMessageRequest:
    """A message on its way up; with any sender, nobody checks."""
    return pb.SendMessageRequest(
        sender=message.sender,
        receiver=message.to,
        thread=values.private(message.sender, message.to),
        text=message.body,
        label=pb.Label(
            message_id=message.id,
            incarnation=message.incarnation,
            seq=message.seq,
            sent_at=message.sent_at,
            clock=message.clock,
        ),
    )


def goodbye_of(user: str) -> pb.SendMessageRequest:
    """The word that ends the stream of ``user``, whoever sends it."""
    return pb.SendMessageRequest(sender=user, receiver=user, text=EXIT)


def message_of(letter: pb.ReceiveMessagesResponse) -> Message:
    """A message that was received; one without label has no id, number and time."""
    label = letter.label
    return Message(
        label.message_id,
        letter.sender,
        label.incarnation,
        letter.receiver,
        letter.text,
        label.seq,
        label.sent_at,
        label.clock,
    )


class Line:
    """A connection: a channel of its own and a receiving stream on it."""

    def __init__(self, channel: Any, client: str) -> None:
        self._channel = channel
        self._stub = pb_grpc.AsReportedChatServiceStub(channel)  # type: ignore[no-untyped-call]
        self._receiving = self._stub.ReceiveMessages(
            pb.ReceiveMessagesRequest(client_id=client)
        )

    @classmethod
    async def open(cls, address: str, client: str, seconds: float) -> Line:
        """Connect and begin to receive what is for ``client``.

        Raises:
            ServiceUnavailable: no answer within ``seconds``.
        """
        line = cls(grpc.aio.insecure_channel(address, options=_OPTIONS), client)
        try:
            async with asyncio.timeout(seconds):
                await line._begun()
        except BaseException as failure:
            await line.close()
            if isinstance(failure, grpc.aio.AioRpcError):
                raise error_of(failure) from failure
            if isinstance(failure, TimeoutError):
                raise ServiceUnavailable("The chat server does not answer.") from None
            raise
        return line

    async def _begun(self) -> None:
        await self._receiving.initial_metadata()
        ended = self._receiving.done()
        if ended and await self._receiving.code() != grpc.StatusCode.OK:
            await self._receiving.read()  # raises why

    async def send(self, request: pb.SendMessageRequest, seconds: float) -> int:
        """Hand over one message. Returns the id that the server gave it.

        Raises:
            AioRpcError: it was refused, or nobody knows.
            ServiceUnavailable: the line was closed meanwhile; nobody knows.
        """
        try:
            answer = await self._stub.SendMessage(request, timeout=seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Closing the channel has cancelled the call, not us.
            raise ServiceUnavailable("The connection was closed.") from None
        return int(answer.id)

    async def read(self) -> pb.ReceiveMessagesResponse | None:
        """The next message; None after an EXIT."""
        message = await self._receiving.read()
        return None if message is grpc.aio.EOF else message

    async def close(self) -> None:
        """End stream and channel now."""
        await self._channel.close()
