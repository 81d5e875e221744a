"""Where RabbitMQ, Redis and the chat server are: frozen values, secrets out of ``repr``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RabbitAddress:
    """A RabbitMQ and the virtual host that one lab has on it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str = "/"
    tls: bool = False
    #: ``http://127.0.0.1:15672`` (no credentials in it), empty when there is none.
    management_url: str = ""
    version: str = ""

    def through(self, host: str, port: int) -> RabbitAddress:
        """The same broker reached through a link."""
        return replace(self, host=host, port=port)


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """A Redis and the key prefix that one lab has on it."""

    host: str
    port: int
    password: str = field(default="", repr=False)
    user: str = ""
    db: int = 0
    tls: bool = False
    #: Begins every key of the lab: ``chatlab:<lab>:``.
    prefix: str = ""
    version: str = ""
    #: ``Redis`` or ``Valkey``; pictures say which one it was.
    product: str = "Redis"

    def through(self, host: str, port: int) -> RedisAddress:
        """The same server reached through a link."""
        return replace(self, host=host, port=port)


def to_dict(address: RabbitAddress | RedisAddress) -> dict[str, Any]:
    """All fields, secrets included: for a child process of ours, over a private channel."""
    return dict(vars(address))
