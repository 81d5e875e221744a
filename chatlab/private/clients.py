"""Which client belongs to which backend, and what all of them can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from chatlab.client import Life, OnMessage
from chatlab.errors import ChatlabError
from chatlab.messages import Message, Receipt
from chatlab.private.as_reported import AS_REPORTED
from chatlab.private.as_reported_client import AsReportedClient
from chatlab.private.client import Locate, MailboxClient


class PrivateClient(Protocol):
    """One user's end of the private chats, whatever the backend."""

    @property
    def connected(self) -> bool:
        """Whether it receives now."""

    async def open(self) -> None:
        """Connect and begin to receive. Idempotent while open."""

    async def close(self) -> None:
        """Say goodbye. Idempotent; bounded."""

    def abandon(self) -> None:
        """Crash: drop everything at once, without a goodbye."""

    async def send(self, messages: Sequence[Message]) -> list[Receipt]:
        """Send in order; one receipt per message, single outcomes are never raised."""

    async def history(self, peer: str, limit: int) -> list[Message]:
        """The conversation with ``peer`` so far, oldest first; ``NotPossible`` where nobody
        remembers it."""

    async def presence(self, names: Sequence[str]) -> list[tuple[str, bool, float]]:
        """Of each name with an account: whether it receives now, and when it last did."""

    def state(self) -> dict[str, Any]:
        """What this client remembers."""


def private_client(
    life: Life,
    backend: str,
    locate: Locate,
    on_message: OnMessage,
    on_end: Callable[[ChatlabError], None] | None = None,
) -> PrivateClient:
    """The client of ``backend``, a name of :data:`chatlab.backends.PRIVATE`; not open yet."""
    kind = AsReportedClient if backend == AS_REPORTED else MailboxClient
    return kind(life, backend, locate, on_message, on_end)
