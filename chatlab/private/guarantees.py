"""What each private backend promises, as data that checkers, notebooks and tests read.

- *kept*: every message is shown, sooner or later.
- *lost*: it is not, and that is how the backend works.
- *told*: it is not, and the sender is told at once, or told that nobody knows: what was
  confirmed has been shown already.
- *no server*: it cannot happen.

Redis is the store of ``mailbox-redis`` (with an append-only file, as the lab's has); the other
backends have only their name server in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from chatlab.backends import PRIVATE, parse_backend
from chatlab.tables import Table

Fate = Literal["kept", "lost", "told", "no server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What becomes of a confirmed message, situation by situation."""

    backend: str = ""
    tier: Literal["real", "stand-in"] = "real"
    #: Sent while the receiver is offline.
    away: Fate
    #: Handed to a receiver that is killed or frozen before it has shown it.
    killed: Fate
    #: Waiting in the chat server when it is stopped or killed, and started.
    server_killed: Fate
    #: Redis is stopped or killed, and started.
    redis_killed: Fate
    #: The link between the receiver and its server (``direct``: its peer) is cut.
    link_cut: Fate
    #: Messages of one sender are shown in its order, reconnects included.
    order: bool = True
    #: Whether one life is shown a message twice that was sent a second time.
    duplicates: Literal["never", "possible"] = "never"
    #: Receivers acknowledge what they were shown, and the journal says so.
    acknowledged: bool = True
    #: What a reader should know besides.
    note: str = ""


_MAILBOX = Guarantees(
    away="kept", killed="kept", server_killed="kept", redis_killed="kept", link_cut="kept"
)

_ROWS = {
    "mailbox-redis": _MAILBOX,
    "mailbox-memory": replace(
        _MAILBOX, server_killed="lost", note="mailboxes are in the server's own memory"
    ),
    "direct": Guarantees(
        away="told",
        killed="told",
        server_killed="no server",
        redis_killed="told",
        link_cut="told",
        acknowledged=False,
        note="confirmed is shown; nothing waits anywhere",
    ),
    "as-reported": Guarantees(
        away="kept",
        killed="lost",
        server_killed="lost",
        redis_killed="kept",
        link_cut="lost",
        duplicates="possible",
        acknowledged=False,
        note="taken from a queue in a dictionary, then written to the stream",
    ),
}


def guarantees(backend: str) -> Guarantees:
    """What ``backend`` promises.

    Raises:
        InvalidInput: there is no such private backend.
    """
    name, _ = parse_backend(backend, PRIVATE)
    return replace(_ROWS[name], backend=backend)


def table(backends: Iterable[str]) -> Table:
    """The rows of several backends, to compare."""
    return Table((asdict(guarantees(backend)) for backend in backends), "guarantees")
