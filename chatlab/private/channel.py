"""Both ends of a gRPC connection: options, and what a status means in chatlab.

Keepalive: each end pings an idle peer and gives up one that does not answer, because a frozen
process keeps its TCP connection. gRPC servers drop clients that ping more often than they
expect, so the server's minimum is set to half of the client's interval
(https://github.com/grpc/grpc/blob/master/doc/keepalive.md; the option is spelled
``min_ping_interval_without_data_ms`` in the library, whatever its macro is called).
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    MailboxFull,
    NameInUse,
    NotAdmitted,
    NotPossible,
    ServiceUnavailable,
    Taken,
    UnknownAccount,
)
from chatlab.private.security import NOT_ADMITTED_KEY
from chatlab.services.addresses import ServerAddress
from chatlab.services.machine import is_loopback
from chatlab.settings import Settings

#: Carries the session of each call but Claim.
SESSION_KEY = "chatlab-session"
#: Largest frame: 512 KiB of bodies and room for the other fields of 100 messages.
FRAME_BYTES = 1024 * 1024

Options = list[tuple[str, int | str]]


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


def open_channel(address: ServerAddress, settings: Settings) -> Any:
    """A channel to a server with a TCP connection of its own.

    Raises:
        NotPossible: the server is not on loopback and lists no certificate: no secret is
            sent to it in plain text.
    """
    options = client_options(settings)
    if address.certificate:
        # The certificate is for the server's own host, also when a link leads there.
        options.append(("grpc.ssl_target_name_override", address.host))
        credentials = grpc.ssl_channel_credentials(address.certificate.encode())
        return grpc.aio.secure_channel(address.target, credentials, options=options)
    if not is_loopback(address.host):
        raise NotPossible(
            f"The chat server at {address} lists no certificate, and is not on loopback.",
            todo="Start it with a lab secret: then it speaks TLS.",
        )
    return grpc.aio.insecure_channel(address.target, options=options)


#: Refusals, both ways. Every other status is ``ServiceUnavailable`` to a client: each call may
#: be repeated, so it connects again. Every other error of chatlab is UNAVAILABLE for a server.
_REFUSALS: dict[grpc.StatusCode, type[ChatlabError]] = {
    grpc.StatusCode.ABORTED: Taken,
    grpc.StatusCode.PERMISSION_DENIED: NameInUse,
    grpc.StatusCode.NOT_FOUND: UnknownAccount,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.FAILED_PRECONDITION: NotPossible,
    # Also gRPC's own limits (a message larger than FRAME_BYTES): it would not fit next time.
    grpc.StatusCode.RESOURCE_EXHAUSTED: MailboxFull,
    # Only with NOT_ADMITTED_KEY; without, the session is missing or old: claim again.
    grpc.StatusCode.UNAUTHENTICATED: NotAdmitted,
}
_STATUSES = {error: status for status, error in _REFUSALS.items()}
_UNKNOWN = "Whether it took effect is not known; doing it again is safe."


def error_of(failure: grpc.aio.AioRpcError) -> ChatlabError:
    """What a failed call means; ``ServiceUnavailable`` is worth another try."""
    code, said = failure.code(), (failure.details() or "").splitlines()
    kind = _REFUSALS.get(code)
    if kind is NotAdmitted and NOT_ADMITTED_KEY not in dict(failure.trailing_metadata() or ()):
        kind = None
    if kind is MailboxFull:
        what = said[0][:200] if said else "A limit was reached."
        return MailboxFull(what, todo="Wait until there is room, or send less at once.")
    if kind is not None:
        return kind(failure.details() or code.name)
    detail = f" ({code.name}: {said[0][:200]})" if said else f" ({code.name})"
    return ServiceUnavailable(f"The chat server does not answer{detail}.", _UNKNOWN)


def status_of(error: ChatlabError) -> tuple[grpc.StatusCode, str]:
    """The status and text of a call that ends with ``error``."""
    return _STATUSES.get(type(error), grpc.StatusCode.UNAVAILABLE), error.what
