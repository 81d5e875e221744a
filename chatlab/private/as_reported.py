"""The chat server of the original report, its flaws included: the first row of comparisons.

A dictionary in memory holds one queue per client. Sending appends to the receiver's queue;
receiving takes from one's own and then writes to the stream::

    SendMessage ──put──► queues[receiver] ──get──► (in nobody's hands) ──yield──► stream

What it does wrong, on purpose, and what shows it:

===========================  ===============================================================
take, then write             what was taken when the reader dies is lost
a dictionary                 all is lost with the process
id = length of the queue     0 for everything while somebody reads
no accounts, no session      the caller names any sender, and any client to read for
one queue, many streams      two streams of one client get a part each
EXIT in the data             anyone ends another's session by forging the sender; one that
                             nobody took ends the next session at once
no keepalive                 a frozen reader is never noticed, and goes on being served
===========================  ===============================================================

The wire is ``protos/chatlab/v1/as_reported_chat.proto``; the client is
:mod:`chatlab.private.as_reported_client`. Loopback only, and never encrypted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import grpc.aio

from chatlab.errors import NotPossible, ServiceUnavailable
from chatlab.services.addresses import ServerAddress, join_host_port
from chatlab.services.machine import is_loopback
from chatlab.v1 import as_reported_chat_pb2 as pb
from chatlab.v1 import as_reported_chat_pb2_grpc as pb_grpc

#: The backend's name.
AS_REPORTED = "as-reported"
#: The command in the data: from a client's own name it ends that client's stream.
EXIT = "EXIT"
#: The one thing the report does not have: a queue is full at so many messages.
QUEUE_MESSAGES = 100_000
#: A stopping server waits no longer than this for gRPC itself, seconds.
STOP_SECONDS = 1.0

Context = Any  # grpc.aio.ServicerContext; grpcio carries no types
Queue = asyncio.Queue[pb.ReceiveMessagesResponse]


class AsReportedChat(pb_grpc.AsReportedChatServiceServicer):
    """The service: the queues, and how many streams each client has open."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.streams: Counter[str] = Counter()

    def _queue(self, client: str) -> Queue:
        if client not in self.queues:
            self.queues[client] = asyncio.Queue(QUEUE_MESSAGES)
        return self.queues[client]

    async def SendMessage(
        self, request: pb.SendMessageRequest, context: Context
    ) -> pb.SendMessageResponse:
        queue = self._queue(request.receiver)
        if queue.full():
            await _refuse(context, request.receiver)
        id = queue.qsize()
        queue.put_nowait(
            pb.ReceiveMessagesResponse(
                id=id,
                sender=request.sender,
                receiver=request.receiver,
                thread=request.thread,
                text=request.text,
                label=request.label if request.HasField("label") else None,
            )
        )
        return pb.SendMessageResponse(id=id)

    async def ReceiveMessages(
        self, request: pb.ReceiveMessagesRequest, context: Context
    ) -> AsyncIterator[pb.ReceiveMessagesResponse]:
        client = request.client_id
        queue = self._queue(client)
        self.streams[client] += 1
        try:
            await context.send_initial_metadata(())  # says that receiving has begun
            while True:
                message = await queue.get()
                if message.text == EXIT and message.sender == client:
                    return
                yield message  # in no queue any more, and not delivered yet
        finally:
            self.streams[client] -= 1


async def _refuse(context: Context, client: str) -> NoReturn:
    await context.abort(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"The queue of {client} is full: {QUEUE_MESSAGES:,} messages wait.",
    )
    raise AssertionError  # abort raises


class AsReportedServer:
    """A chat server of the report's kind on this loop.

    Args:
        host: a loopback address.
        port: 0 for any free one.

    Raises:
        NotPossible: another address.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if not is_loopback(host):
            raise NotPossible(
                f"The chat server as reported does not bind to {host}: it knows no encryption.",
                todo="Bind it to 127.0.0.1.",
            )
        self._host = host
        self._port = port
        self._service = AsReportedChat()
        self._server: Any = None
        self._stop: asyncio.Task[None] | None = None

    async def start(self) -> ServerAddress:
        """Begin to serve. Returns the address.

        Raises:
            ServiceUnavailable: the port is taken.
        """
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_AsReportedChatServiceServicer_to_server(self._service, self._server)  # type: ignore[no-untyped-call]
        wanted = join_host_port(self._host, self._port)
        try:
            port = self._server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise ServiceUnavailable(f"{wanted} is taken by another program.") from error
        await self._server.start()
        return ServerAddress(host=self._host, port=port)

    def streams(self) -> dict[str, int]:
        """How many streams each connected client has open here."""
        return {client: n for client, n in sorted(self._service.streams.items()) if n}

    def waiting(self) -> dict[str, int]:
        """How many messages each queue holds."""
        return {client: q.qsize() for client, q in sorted(self._service.queues.items())}

    async def wipe(self) -> None:
        """Empty all queues, and forget those that nobody reads."""
        queues = self._service.queues
        for client, queue in list(queues.items()):
            while not queue.empty():
                queue.get_nowait()
            if not self._service.streams[client]:
                del queues[client]

    async def stop(self) -> None:
        """End all calls and stop, also when a client is frozen; what waits is lost."""
        if self._server is None:
            return
        self._stop = asyncio.ensure_future(self._server.stop(0))
        await asyncio.wait({self._stop}, timeout=STOP_SECONDS)
