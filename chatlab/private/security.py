"""Who may reach a chat server: its address, TLS, and the lab's secret.

On loopback nothing needs to be set up. A server at any other address speaks TLS only and
lets nobody in who does not show the lab's secret; without a secret it refuses to start.

- *TLS*: the server makes a certificate authority and a certificate for its host when it
  starts, in memory (by ``trustme``). The authority's certificate stands beside its address in
  the name server; clients take it as the only root. So whoever can write the name server
  decides whom the clients trust: across computers, reach Redis by ``rediss://``.
- *The lab's secret* (``Settings.lab_secret``) is shown as metadata of each call and compared
  in constant time. Health (``grpc.health.v1``) is open to all, because a probe knows no
  secret and learns no more than up or down; all else, reflection too, is not.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from chatlab import logs
from chatlab.errors import NotPossible
from chatlab.services.machine import is_loopback
from chatlab.settings import Settings

#: Carries the lab's secret; ``-bin``: any bytes may be in it.
LAB_SECRET_KEY = "chatlab-lab-secret-bin"  # noqa: S105 (a name, not a secret)
#: In the trailing metadata of a refusal for want of the lab's secret: another try is no use.
NOT_ADMITTED_KEY = "chatlab-not-admitted"
#: Open to all.
HEALTH = "/grpc.health.v1.Health/"

log = logs.of(__name__)

Metadata = tuple[tuple[str, str | bytes], ...]


def check_host(host: str, lab_secret: str, who: str = "The chat server") -> None:
    """Whether a server may bind to ``host``.

    Raises:
        NotPossible: it is a wildcard, or not loopback while there is no lab secret.
    """
    if not host or _is_wildcard(host):
        raise _wildcard(host)
    if not is_loopback(host) and not lab_secret:
        raise NotPossible(
            f"{who} does not bind to {host} without a lab secret.",
            todo="Set lab_secret (CHATLAB_LAB_SECRET, or chatlab.toml), here and for all "
            "clients; or bind to 127.0.0.1.",
        )


async def check_name(host: str) -> None:
    """What ``check_host`` cannot know of a name: where it leads.

    Raises:
        NotPossible: nowhere, or to a wildcard (as ``0`` does).
    """
    try:
        ipaddress.ip_address(host)
        return
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise NotPossible(
            f"The chat server cannot bind to {host}: no address is known of it.",
            todo="Name one address of this machine.",
        ) from error
    for *_, address in found:
        if _is_wildcard(str(address[0])):
            raise _wildcard(host)


def _wildcard(host: str) -> NotPossible:
    return NotPossible(
        f"The chat server does not bind to {host or 'an empty host'}: clients could not be "
        "told one address, and its certificate is for one.",
        todo="Name one address of this machine.",
    )


def _is_wildcard(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address.is_unspecified or (mapped is not None and mapped.is_unspecified)


def make_credentials(host: str) -> tuple[Any, str]:
    """Fresh TLS credentials of a server, and the PEM certificate that clients trust."""
    import trustme  # takes a tenth of a second; most servers need none

    authority = trustme.CA(organization_name="chatlab")
    issued = authority.issue_cert(host, organization_name="chatlab")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
    return credentials, authority.cert_pem.bytes().decode("ascii")


def lab_metadata(settings: Settings) -> Metadata:
    """What a client shows at each call."""
    secret = settings.lab_secret
    return ((LAB_SECRET_KEY, secret.encode()),) if secret else ()


def doorkeepers(settings: Settings) -> list[Doorkeeper]:
    """The interceptors of a server: with a lab secret, one that asks for it."""
    return [Doorkeeper(settings.lab_secret)] if settings.lab_secret else []


class Doorkeeper(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets in the calls that show the lab's secret, and all of health."""

    def __init__(self, lab_secret: str) -> None:
        self._secret = lab_secret.encode()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], call: Any
    ) -> Any:
        shown = dict(call.invocation_metadata or ()).get(LAB_SECRET_KEY, b"")
        if call.method.startswith(HEALTH) or hmac.compare_digest(shown, self._secret):
            return await continuation(call)
        return _REFUSE_SHOWN if shown else _REFUSE_NONE


def _refusal(what: str) -> Any:
    """A handler that answers any kind of call with UNAUTHENTICATED."""

    async def refuse(_: object, context: Any) -> None:
        log.warning("refused", why=what, peer=context.peer())
        marker = ((NOT_ADMITTED_KEY, "1"),)
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, what, marker)

    # Of this kind, so that no request is waited for; the status fits a unary call, too.
    return grpc.stream_stream_rpc_method_handler(refuse)


_REFUSE_NONE = _refusal("This chat server asks for the lab's secret, and none was shown.")
_REFUSE_SHOWN = _refusal("The lab's secret that was shown is not that of this chat server.")
