"""What every group backend is: the Protocol, and what it needs of the name server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from chatlab.errors import ChatlabError
from chatlab.messages import Message, Receipt

#: Called when a membership ended without being asked to, with the reason.
OnEnd = Callable[[ChatlabError], None]


class Registry(Protocol):
    """What groups need of the name server (:class:`chatlab.discovery.Registry` has it)."""

    async def find_group(self, group: str) -> str | None:
        """The group's backend, ``None`` when there is no such group."""

    async def open_group(self, group: str, backend: str | None) -> str:
        """Record the backend at the first call; raises BackendMismatch for another one."""
        ...

    async def enter_group(
        self, group: str, member: str, incarnation: int, connected: bool
    ) -> None:
        """Record a membership, and whether the member receives now."""

    async def leave_group(self, group: str, member: str) -> None:
        """Forget a membership."""

    async def group_members(self, group: str) -> dict[str, bool]:
        """Each member, and whether it is connected."""
        ...

    async def keep_position(
        self, group: str, member: str, incarnation: int, position: int, handed: int
    ) -> None:
        """Record how far a member has read the group's log; raises Taken."""

    async def position(self, group: str, member: str) -> tuple[int, int] | None:
        """Position and handed as recorded last."""
        ...

    async def forget_position(self, group: str, member: str) -> None:
        """The member reads the log no more."""


class GroupMember(Protocol):
    """One user's handle on one group. Made by :func:`chatlab.groups.open_group`."""

    group: str
    #: With its options.
    backend: str
    #: From its first subscribe to its unsubscribe.
    subscribed: bool
    #: Receives now. False while the connection is lost.
    connected: bool

    async def subscribe(self) -> None:
        """Exchange, queue and binding exist from now on. Idempotent. Fact: Subscribed.

        Raises:
            BackendMismatch: the group has another backend.
            Taken: a newer client of this user has the queue.
            ServiceUnavailable: the broker or the name server does not answer.
        """

    async def connect(self) -> None:
        """Receive what waits, oldest first, and what comes; subscribes when needed.
        Idempotent. Fact: Connected. Raises as :meth:`subscribe`."""

    async def disconnect(self) -> None:
        """Stop receiving, after showing what has arrived here. Fact: Disconnected."""

    async def unsubscribe(self) -> None:
        """Leave for good: queue and binding are deleted. Fact: Left."""

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send in order, pipelined; one receipt each, whatever became of it."""
        ...

    async def close(self) -> None:
        """Disconnect if connected; the subscription stays. Nothing is received any more."""

    def abandon(self) -> None:
        """Drop everything as in a crash: no goodbye, no facts."""

    def state(self) -> dict[str, Any]:
        """What this client remembers."""
        ...
