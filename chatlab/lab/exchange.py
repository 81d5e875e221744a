"""Finding others: what a user's client asks the name server, and the way to the answer.

The answer is an address; the way there leads through the user's own link, so that a fault can
be done to this user alone (:class:`Ways`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from chatlab.discovery import Registry
from chatlab.errors import PeerAway, SendFailed, ServiceUnavailable, UnknownAccount
from chatlab.services.addresses import ServerAddress
from chatlab.services.machine import is_loopback, machine_id

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
            PeerAway: the name server does not list it as there, or it is out of reach.
        """
        found = await self._registry.whereabouts(peer)
        if found is None:
            if not await self._registry.account_exists(peer):
                raise UnknownAccount(f"There is no account {peer}.")
            raise PeerAway(f"{peer} is not there.")
        host, _, port = found.address.rpartition(":")
        host = host.strip("[]")
        if not port.isdigit():
            raise PeerAway(f"{peer} is there and cannot be called: it gave no address.")
        if is_loopback(host) and found.machine not in ("", machine_id()):
            raise PeerAway(
                f"{peer} is on another computer and takes no direct calls: the client there "
                "listens on loopback only (client_host in its chatlab.toml)."
            )
        address = ServerAddress(host=host, port=int(port), certificate=found.certificate)
        return await self._ways.through(DIRECT_KIND + peer, address)

    async def find_older(self, where: str) -> ServerAddress | None:
        """The endpoint of an older life of ours, if one is listed and is not at ``where``."""
        try:
            older = await self.find_peer(self._user)
        except SendFailed:
            return None
        return None if str(older) == where else older

    async def issue_ticket(self, peer: str) -> tuple[str, str]:
        """A ticket that says who we are, for ``peer``, and the proof that it is told for it.

        Raises:
            Taken: a newer life of ours has begun.
        """
        return await self._registry.issue_ticket(self._user, self.incarnation, peer)

    async def redeem_ticket(self, ticket: str, caller: str) -> tuple[int, str] | None:
        """The caller's incarnation, and the proof that it waits for; None when the ticket is
        not its for us.

        Raises:
            Taken: a newer life of ours has begun.
        """
        return await self._registry.redeem_ticket(ticket, caller, self._user, self.incarnation)

    async def last_seen(self, name: str) -> tuple[bool, float] | None:
        """Whether the user is there, and when it was last known to be; None: no account."""
        there, at = await self._registry.last_seen(name)
        if not at and not await self._registry.account_exists(name):
            return None
        return there, at
