"""Both ends of a gRPC connection: options, and what a status means in chatlab.

Keepalive: each end pings an idle peer and gives up one that does not answer, because a frozen
process keeps its TCP connection. gRPC servers drop clients that ping more often than they
expect, so the server's minimum is set to half of the client's interval
(https://github.com/grpc/grpc/blob/master/doc/keepalive.md; the option is spelled
``min_ping_interval_without_data_ms`` in the library, whatever its macro is called).
"""

from __future__ import annotations

import ipaddress
from typing import Any

import grpc
import grpc.aio

from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    NameInUse,
    NotPossible,
    ServiceUnavailable,
    Taken,
    UnknownAccount,
)
from chatlab.settings import Settings

#: Carries the session of each call but Claim.
SESSION_KEY = "chatlab-session"
#: Largest frame: 512 KiB of bodies and room for the other fields of 100 messages.
FRAME_BYTES = 1024 * 1024

Options = list[tuple[str, int]]


def _common(settings: Settings) -> Options:
    timeout = int(settings.keepalive_timeout_seconds * 1000)
    return [
        ("grpc.max_receive_message_length", FRAME_BYTES),
        ("grpc.max_send_message_length", FRAME_BYTES),
        ("grpc.keepalive_time_ms", int(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", timeout),
        # What counts in fact (grpcio 1.85.1): without it a ping may go unanswered for 60 s.
        ("grpc.http2.ping_timeout_ms", timeout),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_options(settings: Settings) -> Options:
    """Of a server: its port is its own, frequent pings of clients are welcome."""
    interval = int(settings.keepalive_seconds * 500)
    return [
        *_common(settings),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", interval),
    ]


def client_options(settings: Settings) -> Options:
    """Of a client: a connection of its own, never through a proxy."""
    return [
        *_common(settings),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]


def check_loopback(host: str) -> str:
    """Return ``host``.

    Raises:
        NotPossible: it is not a loopback address; there is no encryption here.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NotPossible(
            f"The chat server does not bind to {host}: its traffic is not encrypted.",
            todo="Bind it to 127.0.0.1.",
        )
    return host


_ERRORS: dict[grpc.StatusCode, type[ChatlabError]] = {
    grpc.StatusCode.ABORTED: Taken,
    grpc.StatusCode.PERMISSION_DENIED: NameInUse,
    grpc.StatusCode.NOT_FOUND: UnknownAccount,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
}
_STATUSES = {error: status for status, error in _ERRORS.items()}


def error_of(failure: grpc.aio.AioRpcError) -> ChatlabError:
    """What a failed call means; ``ServiceUnavailable`` is worth another try."""
    kind = _ERRORS.get(failure.code())
    if kind is not None:
        return kind(failure.details() or failure.code().name)
    said = (failure.details() or "").splitlines()
    detail = f" ({failure.code().name}: {said[0][:200]})" if said else ""
    return ServiceUnavailable(f"The chat server does not answer{detail}.")


def status_of(error: ChatlabError) -> tuple[grpc.StatusCode, str]:
    """The status and text of a call that ends with ``error``."""
    return _STATUSES.get(type(error), grpc.StatusCode.UNAVAILABLE), error.what


def open_channel(address: str, settings: Settings) -> Any:
    """A channel to ``host:port`` with a TCP connection of its own."""
    return grpc.aio.insecure_channel(address, options=client_options(settings))
