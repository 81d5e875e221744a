"""Finding others: what a user's client asks the name server, and the way to the answer.

The answer is an address; the way there leads through the user's own link, so that a fault can
be done to this user alone (:class:`Ways`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from chatlab.discovery import Registry
from chatlab.errors import PeerAway, ServiceUnavailable, UnknownAccount
from chatlab.services.addresses import ServerAddress

#: The kind of the way to a user: ``direct/bob``.
DIRECT_KIND = "direct/"


class Ways(Protocol):
    """A user's own links, wherever its client is."""

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        """The same server, reached by the link of that kind."""

    async def expose(self, port: int) -> str:
        """Where others reach a port of the client: ``host:port``, behind its own link."""


class Finder:
    """Looks others up for one user."""

    def __init__(self, registry: Registry, ways: Ways, user: str) -> None:
        self._registry = registry
        self._ways = ways
        self._user = user
        #: The life that asks; the name server refuses an older one.
        self.incarnation = 0

    async def find_server(self, kind: str, avoid: Collection[str]) -> ServerAddress:
        """A chat server of a kind (``mailbox-redis``); rather none of ``avoid``.

        Raises:
            ServiceUnavailable: none is registered.
        """
        found = await self._registry.find_server(kind, avoid)
        if found is None:
            raise ServiceUnavailable(
                f"No {kind} chat server is registered.", todo="Start it: lab.server.start()."
            )
        return await self._ways.through(kind, found)

    async def find_peer(self, peer: str) -> ServerAddress:
        """A user's own endpoint.

        Raises:
            UnknownAccount: there is no such user.
            PeerAway: the name server does not list it as there.
        """
        found = await self._registry.find_user(peer)
        if found is None:
            if not await self._registry.account_exists(peer):
                raise UnknownAccount(f"There is no account {peer}.")
            raise PeerAway(f"{peer} is not there.")
        host, _, port = found.rpartition(":")
        if not port.isdigit():
            raise PeerAway(f"{peer} is there and cannot be called: it gave no address.")
        address = ServerAddress(host=host, port=int(port))
        return await self._ways.through(DIRECT_KIND + peer, address)

    async def issue_ticket(self, peer: str) -> str:
        """Proof of who we are, for ``peer``."""
        return await self._registry.issue_ticket(self._user, self.incarnation, peer)

    async def redeem_ticket(self, ticket: str, caller: str) -> int | None:
        """The caller's incarnation; None when the ticket is not its for us."""
        return await self._registry.redeem_ticket(ticket, caller, self._user)

    async def last_seen(self, name: str) -> tuple[bool, float]:
        """Whether the user is there, and when it was last known to be."""
        return await self._registry.last_seen(name)
