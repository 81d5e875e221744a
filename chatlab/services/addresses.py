"""Where RabbitMQ, Redis and the chat server are: frozen values, secrets out of ``repr``."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass, field, replace
from typing import Any

from chatlab.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class RabbitAddress:
    """A RabbitMQ and the virtual host that one lab has on it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str = "/"
    tls: bool = False
    #: Whose certificate it shows; empty: that of ``host``.
    named: str = ""
    #: The only root to trust, PEM; empty: the system's.
    authority: str = field(default="", repr=False)
    #: Begins the name of everything that a lab declares where it has no virtual host of its
    #: own: ``chatlab-<lab>.``.
    prefix: str = ""
    #: ``http://127.0.0.1:15672`` (no credentials in it), empty when there is none.
    management_url: str = ""
    version: str = ""
    #: An account of the lab that may look and change nothing; empty: there is none.
    monitor: str = ""
    monitor_password: str = field(default="", repr=False)

    @property
    def certificate_host(self) -> str:
        """Whose certificate it has to show, whatever the way to it."""
        return self.named or self.host

    def through(self, host: str, port: int) -> RabbitAddress:
        """The same broker reached through a link."""
        return replace(self, host=host, port=port, named=self.certificate_host)

    def watched(self) -> RabbitAddress:
        """The same broker with the account that only looks, where there is one."""
        if not self.monitor:
            return self
        return replace(self, user=self.monitor, password=self.monitor_password)


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """A Redis and the key prefix that one lab has on it."""

    host: str
    port: int
    password: str = field(default="", repr=False)
    user: str = ""
    db: int = 0
    tls: bool = False
    #: Whose certificate it shows; empty: that of ``host``.
    named: str = ""
    #: The only root to trust, PEM; empty: the system's.
    authority: str = field(default="", repr=False)
    #: Begins every key of the lab: ``chatlab:<lab>:``.
    prefix: str = ""
    version: str = ""
    #: ``Redis`` or ``Valkey``; pictures say which one it was.
    product: str = "Redis"

    @property
    def certificate_host(self) -> str:
        """Whose certificate it has to show, whatever the way to it."""
        return self.named or self.host

    def through(self, host: str, port: int) -> RedisAddress:
        """The same server reached through a link."""
        return replace(self, host=host, port=port, named=self.certificate_host)


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """A chat server, as the name server lists it. Nothing in it is secret."""

    #: Where the server itself listens; its certificate is for this host.
    host: str
    port: int
    #: The only root to trust, PEM; empty: no TLS.
    certificate: str = field(default="", repr=False)
    #: ``host:port`` of a link to connect to instead; empty: none.
    link: str = ""

    def __str__(self) -> str:
        """The server's own ``host:port``: which server it is, whatever the way to it."""
        return join_host_port(self.host, self.port)

    @property
    def target(self) -> str:
        """``host:port`` to connect to."""
        return self.link or str(self)

    def through(self, host: str, port: int) -> ServerAddress:
        """The same server reached through a link."""
        return replace(self, link=join_host_port(host, port))


def trust(authority: str) -> ssl.SSLContext:
    """What a TLS connection of ours asks of the other end: a certificate for the host's name,
    signed by ``authority`` (PEM) and nobody else; empty: by one that the system trusts.

    Raises:
        InvalidInput: that is no certificate.
    """
    return _only(authority) if authority else ssl.create_default_context()


@functools.cache
def _only(authority: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(
            "The setting authority is not a certificate.",
            todo="It is all from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
        ) from error


def join_host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def to_dict(address: RabbitAddress | RedisAddress | ServerAddress) -> dict[str, Any]:
    """All fields, secrets included: for a child process of ours, over a private channel."""
    return dict(vars(address))
