"""A line: one open conversation of ``direct_chat.proto``, the same from both of its ends.

The caller's end is a call on a channel of its own, the other one a call that its endpoint is
serving. Whatever ends the stream is raised by whoever reads or writes next.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio

from chatlab.client import Life
from chatlab.errors import ChatlabError, ChatRefused, PeerAway, Taken
from chatlab.private.channel import open_channel
from chatlab.private.security import lab_metadata
from chatlab.services.addresses import ServerAddress
from chatlab.v1 import direct_chat_pb2 as pb
from chatlab.v1 import direct_chat_pb2_grpc as pb_grpc
from chatlab.v1.letter_pb2 import Letter

#: Refusals of a call; every other status is ``PeerAway``: nobody who answers is there.
REFUSALS: dict[grpc.StatusCode, type[ChatlabError]] = {
    grpc.StatusCode.FAILED_PRECONDITION: ChatRefused,
    grpc.StatusCode.ABORTED: Taken,
}


class Frame(NamedTuple):
    """What is read at once."""

    letters: Sequence[Letter]
    acked: int


class Line(ABC):
    """One end. What it counts is for whoever uses it; ``close`` ends it without waiting."""

    def __init__(self, peer: str, incarnation: int) -> None:
        self.peer = peer
        #: Which life of the peer's client is at the other end.
        self.incarnation = incarnation
        #: Letters of the peer that were shown, and how many of them it was told.
        self.shown = 0
        self.told = 0
        #: Our letters that the peer has shown.
        self.answered = 0
        #: Set when there may be something to write.
        self.work = asyncio.Event()
        self.leaving = asyncio.Event()

    @abstractmethod
    async def read(self) -> Frame | None:
        """The next frame; None when the peer said goodbye."""

    @abstractmethod
    async def write(self, letters: Sequence[Letter], acked: int) -> None:
        """Write one frame."""

    @abstractmethod
    async def close(self) -> None:
        """End it: with a goodbye when ``leaving`` is set."""


class CallersLine(Line):
    """Our call. Made by :meth:`dial`."""

    def __init__(self, peer: str, incarnation: int, channel: Any, call: Any) -> None:
        super().__init__(peer, incarnation)
        self._channel = channel
        self._call = call

    @classmethod
    async def dial(
        cls, life: Life, peer: str, address: ServerAddress, ticket: str
    ) -> CallersLine:
        """Call ``peer``. Whoever calls bounds the time.

        Raises:
            ChatRefused: it does not want to talk.
            PeerAway: nobody answers there, or not the one who is called.
            Taken: a newer life of our own client has called or claimed the name.
        """
        channel = open_channel(address, life.settings)
        try:
            call = pb_grpc.DirectChatServiceStub(channel).Talk(  # type: ignore[no-untyped-call]
                metadata=lab_metadata(life.settings)
            )
            hello = pb.Hello(caller=life.user, peer=peer, ticket=ticket)
            await call.write(pb.TalkRequest(hello=hello))
            first = await call.read()
            if first is grpc.aio.EOF:
                raise PeerAway(f"{peer} has just left.")
            return cls(peer, first.incarnation, channel, call)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as failure:
            error = await _why(call, failure)
            await channel.close()
            raise _refusal(peer, address, error) from failure
        except BaseException:
            await channel.close()
            raise

    async def read(self) -> Frame | None:
        frame = await self._call.read()
        return None if frame is grpc.aio.EOF else Frame(frame.letters, frame.acked)

    async def write(self, letters: Sequence[Letter], acked: int) -> None:
        try:
            await self._call.write(pb.TalkRequest(letters=letters, acked=acked))
        except asyncio.InvalidStateError as ended:  # its reader knows why
            raise await _why(self._call, ended) from ended

    async def close(self) -> None:
        if self.leaving.is_set() and not self._call.done():
            await self._call.done_writing()
        await self._channel.close()


class AnswerersLine(Line):
    """A call that our endpoint serves; it ends when the handler returns."""

    def __init__(self, peer: str, incarnation: int, context: Any) -> None:
        super().__init__(peer, incarnation)
        self._context = context

    async def accept(self, mine: int) -> None:
        """Say that we talk, and which life of ours this is."""
        await self._context.write(pb.TalkResponse(incarnation=mine))

    async def read(self) -> Frame | None:
        frame = await self._context.read()
        return None if frame is grpc.aio.EOF else Frame(frame.letters, frame.acked)

    async def write(self, letters: Sequence[Letter], acked: int) -> None:
        await self._context.write(pb.TalkResponse(letters=letters, acked=acked))

    async def close(self) -> None:
        """The handler's return says it."""


async def _why(call: Any, failure: Exception) -> grpc.aio.AioRpcError:
    """The status of a call that has ended."""
    if isinstance(failure, grpc.aio.AioRpcError):
        return failure
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        await call.details(),
    )


def _refusal(peer: str, address: ServerAddress, failure: grpc.aio.AioRpcError) -> ChatlabError:
    kind = REFUSALS.get(failure.code())
    if kind is not None:
        return kind(failure.details() or failure.code().name)
    return PeerAway(f"{peer} does not answer at {address} ({failure.code().name}).")
