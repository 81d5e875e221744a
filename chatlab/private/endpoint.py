"""Endpoint: the small gRPC server of one user, where others call it (``direct``).

It serves from when the user comes online until it goes, at any free port of
``settings.client_host``; the address stands in the name server as that of the user's presence.
That host is loopback, unless others shall call from other computers: then it speaks TLS with a
certificate made at each start, which stands there, too, and asks for the lab's secret. What a
call means is up to the :class:`~chatlab.private.direct.DirectClient`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from chatlab.errors import (
    ChatlabError,
    ChatRefused,
    InvalidInput,
    NotPossible,
    PeerAway,
    ServiceUnavailable,
    Taken,
)
from chatlab.private.channel import server_options
from chatlab.private.direct import DirectClient
from chatlab.private.line import REASON_CHARACTERS, LineBroke
from chatlab.private.security import check_host, check_name, doorkeepers, make_credentials
from chatlab.services.addresses import ServerAddress, join_host_port
from chatlab.services.machine import is_loopback
from chatlab.settings import Settings
from chatlab.v1 import direct_chat_pb2 as pb
from chatlab.v1 import direct_chat_pb2_grpc as pb_grpc

#: After its grace a stopping endpoint waits no longer than this for gRPC itself, seconds.
STOP_SECONDS = 1.0

_STATUSES: dict[type[ChatlabError], grpc.StatusCode] = {
    ChatRefused: grpc.StatusCode.FAILED_PRECONDITION,
    PeerAway: grpc.StatusCode.NOT_FOUND,
    NotPossible: grpc.StatusCode.UNAUTHENTICATED,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    Taken: grpc.StatusCode.ABORTED,
}


class Endpoint(pb_grpc.DirectChatServiceServicer):
    """One user's endpoint on this loop."""

    def __init__(self, settings: Settings) -> None:
        #: Who answers; calls before there is one find nobody here.
        self.client: DirectClient | None = None
        self._settings = settings
        self._server: Any = None
        self._stop: asyncio.Task[None] | None = None

    async def start(self) -> ServerAddress:
        """Begin to serve. Returns the address.

        Raises:
            NotPossible: ``client_host`` is no address for it, or needs a lab secret.
            ServiceUnavailable: it is not an address of this computer.
        """
        host = self._settings.client_host
        check_host(host, self._settings.lab_secret, "A client that takes direct calls")
        await check_name(host)
        self._server = grpc.aio.server(
            interceptors=doorkeepers(self._settings), options=server_options(self._settings)
        )
        pb_grpc.add_DirectChatServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        port, certificate = self._bind(host)
        await self._server.start()
        return ServerAddress(host=host, port=port, certificate=certificate)

    def _bind(self, host: str) -> tuple[int, str]:
        """The port, and the PEM certificate that callers trust (empty on loopback)."""
        wanted, certificate = join_host_port(host, 0), ""
        try:
            if is_loopback(host):
                return self._server.add_insecure_port(wanted), certificate
            credentials, certificate = make_credentials(host)
            return self._server.add_secure_port(wanted, credentials), certificate
        except RuntimeError as error:
            raise ServiceUnavailable(
                f"{host} is no address of this machine.",
                todo="Set client_host to one (CHATLAB_CLIENT_HOST, or chatlab.toml).",
            ) from error

    async def stop(self, grace: float = 0.0) -> None:
        """End all calls; returns soon also when a caller is frozen."""
        if self._server is not None:
            self._stop = asyncio.ensure_future(self._server.stop(grace))
            await asyncio.wait({self._stop}, timeout=grace + STOP_SECONDS)

    async def Talk(self, _: object, context: Any) -> None:
        try:
            hello = await self._hello(context)
            if hello is None:
                return
            if self.client is None:
                raise PeerAway("Nobody lives here yet.")
            await self.client.answer(hello.caller, hello.peer, hello.ticket, context)
        except LineBroke:
            # Perhaps for us only; then this is heard.
            await _abort(context, ServiceUnavailable("The line broke."))
        except ChatlabError as error:
            await _abort(context, error)

    async def _hello(self, context: Any) -> pb.Hello | None:
        """What the caller says first; None when it has gone again."""
        try:
            async with asyncio.timeout(self._settings.send_seconds):
                request = await context.read()
        except TimeoutError:
            raise InvalidInput("A call begins with a hello; none came.") from None
        except DecodeError as error:
            raise InvalidInput("That is no frame.") from error
        if request is grpc.aio.EOF:
            return None
        # They would be neither shown nor counted.
        if request.letters or request.acked or request.leaving:
            raise InvalidInput("The first frame holds a hello and nothing else.")
        hello: pb.Hello = request.hello
        return hello


async def _abort(context: Any, error: ChatlabError) -> None:
    """End a call with the status of ``error``. A status of more than some kilobytes would be
    no status at all: gRPC refuses it at the other end."""
    code = _STATUSES.get(type(error), grpc.StatusCode.UNAVAILABLE)
    await context.abort(code, error.what[:REASON_CHARACTERS])
