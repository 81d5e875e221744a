"""A line: one open conversation of ``direct_chat.proto``, the same from both of its ends.

The caller's end is a call on a channel of its own, the other one a call that its endpoint is
serving. Whatever ends the stream without a goodbye is raised as :class:`LineBroke` by whoever
reads or writes next; what gRPC raises stays in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from chatlab.client import Life
from chatlab.errors import ChatlabError, ChatRefused, InvalidInput, PeerAway
from chatlab.private.channel import open_channel
from chatlab.private.security import lab_metadata
from chatlab.services.addresses import ServerAddress
from chatlab.v1 import direct_chat_pb2 as pb
from chatlab.v1 import direct_chat_pb2_grpc as pb_grpc
from chatlab.v1.letter_pb2 import Letter

#: Of what a peer says about a refusal at most so many characters are repeated.
REASON_CHARACTERS = 300


class LineBroke(Exception):
    """The other end is gone, and nobody said goodbye."""


class Frame(NamedTuple):
    """What is read at once."""

    letters: Sequence[Letter]
    acked: int
    #: The last one.
    leaving: bool


class Line(ABC):
    """One end. What it counts is for whoever uses it; ``close`` ends it without waiting."""

    def __init__(self, peer: str, incarnation: int) -> None:
        self.peer = peer
        #: Which life of the peer's client is at the other end.
        self.incarnation = incarnation
        #: Letters of the peer that were shown, and how many of them it was told.
        self.shown = 0
        self.told = 0
        #: Our letters that were written, and how many of them the peer has shown.
        self.written = 0
        self.answered = 0
        #: Set when there may be something to write.
        self.work = asyncio.Event()
        #: We are saying goodbye, or answer the peer's, which has said it.
        self.leaving = asyncio.Event()
        self.peer_left = False
        #: Set with ``error``: it is to end now, without a goodbye.
        self.dropped = asyncio.Event()
        self.error: ChatlabError | None = None

    def leave(self) -> None:
        """Say goodbye as soon as all that was shown is acknowledged."""
        self.leaving.set()
        self.work.set()

    def drop(self, error: ChatlabError) -> None:
        """End without a goodbye; the first error counts."""
        self.error = self.error or error
        self.dropped.set()

    @abstractmethod
    async def read(self) -> Frame:
        """The next frame.

        Raises:
            LineBroke: there is none; InvalidInput: that is none.
        """

    @abstractmethod
    async def write(
        self, letters: Sequence[Letter], acked: int, *, leaving: bool = False
    ) -> None:
        """Write one frame.

        Raises:
            LineBroke.
        """

    @abstractmethod
    async def finish(self) -> None:
        """Both have said goodbye: let our last frame reach the peer."""

    @abstractmethod
    async def close(self) -> None:
        """End it now."""


class CallersLine(Line):
    """Our call. Made by :meth:`dial`."""

    def __init__(self, peer: str, incarnation: int, channel: Any, call: Any) -> None:
        super().__init__(peer, incarnation)
        self._channel = channel
        self._call = call

    @classmethod
    async def dial(
        cls, life: Life, peer: str, address: ServerAddress, ticket: str, proof: str
    ) -> CallersLine:
        """Call ``peer``. Whoever calls bounds the time.

        Args:
            proof: what the peer, and nobody else, is told when it redeems the ticket.

        Raises:
            ChatRefused: it does not want to talk.
            PeerAway: nobody answers there, or not the one who is called.
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
            if first is None or not hmac.compare_digest(first.proof.encode(), proof.encode()):
                # Its port may be another program's by now.
                raise PeerAway(f"Whoever answers at {address} is not {peer}.")
            if first.letters or first.acked or first.leaving:
                raise PeerAway(f"{peer} does not keep to the protocol.")
            return cls(peer, first.incarnation, channel, call)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as failure:
            error = await _why(call, failure)
            await channel.close()
            raise _refusal(peer, address, error) from failure
        except BaseException:
            await channel.close()
            raise

    async def read(self) -> Frame:
        with _breaking():
            frame = await self._call.read()
        if frame is None:  # what gRPC makes of bytes that are no message
            raise InvalidInput(f"{self.peer} sent what is no frame.")
        return _frame(frame)

    async def write(
        self, letters: Sequence[Letter], acked: int, *, leaving: bool = False
    ) -> None:
        frame = pb.TalkRequest(letters=letters, acked=acked, leaving=leaving)
        with _breaking():
            await self._call.write(frame)

    async def finish(self) -> None:
        with contextlib.suppress(LineBroke), _breaking():
            await self._call.done_writing()
            await self._call.read()  # its end; a channel that is closed drops what it holds

    async def close(self) -> None:
        await self._channel.close()


class AnswerersLine(Line):
    """A call that our endpoint serves; it ends when the handler returns, or aborts it."""

    def __init__(self, peer: str, incarnation: int, context: Any) -> None:
        super().__init__(peer, incarnation)
        self._context = context

    async def accept(self, mine: int, proof: str) -> None:
        """Say that we talk, which life of ours this is, and that it is really we."""
        with _breaking():
            await self._context.write(pb.TalkResponse(incarnation=mine, proof=proof))

    async def read(self) -> Frame:
        with _breaking():
            return _frame(await self._context.read())

    async def write(
        self, letters: Sequence[Letter], acked: int, *, leaving: bool = False
    ) -> None:
        frame = pb.TalkResponse(letters=letters, acked=acked, leaving=leaving)
        with _breaking():
            await self._context.write(frame)

    async def finish(self) -> None:
        """The handler's return comes after it."""

    async def close(self) -> None:
        """The handler's end says it."""


def _frame(frame: Any) -> Frame:
    if frame is grpc.aio.EOF:  # a crash looks like that, too: no goodbye
        raise LineBroke
    return Frame(frame.letters, frame.acked, frame.leaving)


@contextlib.contextmanager
def _breaking() -> Iterator[None]:
    """What gRPC raises when the other end is gone, and for what is no message."""
    try:
        yield
    except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
        raise LineBroke from error
    except DecodeError as error:
        raise InvalidInput("That is no frame.") from error


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
    """A refused call. But for a refusal to talk, all that counts is that it is not there."""
    code, said = failure.code(), (failure.details() or "")[:REASON_CHARACTERS]
    if code == grpc.StatusCode.FAILED_PRECONDITION:
        return ChatRefused(said or code.name)
    return PeerAway(f"{peer} does not answer at {address} ({code.name}: {said}).")
