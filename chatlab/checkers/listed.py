"""Listed: what discovery said in the course of a run, against who was there by the journal.

The truth is the journal's: a user is there from coming online (or thawing) until it leaves,
crashes or freezes. Who was cut off from Redis, where the registry is, is left out: whether such
a user is there depends on who is asked. So is time in which nobody asked. What is asked is
:func:`chatlab.checkers.presence.presence`'s question: whether somebody was listed without being
there for longer than a lease, or was there and not listed for longer than a return may take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from chatlab.checkers.conversation import WHOLE
from chatlab.checkers.history import History
from chatlab.checkers.presence import Listing, Stay, presence
from chatlab.checkers.verdict import CANNOT_TELL, Check

#: The lease, where the journal's header does not say.
LEASE_SECONDS = 3.0
#: On top of a lease: the time between two questions, and a busy machine.
MARGIN_SECONDS = 1.5
#: Who is back is listed by then.
BACK_SECONDS = 2.0
#: An answer says something of so long a time after it.
HOLD_SECONDS = 0.5
#: Where the registry is.
STORE = "redis"


def checks(history: History) -> tuple[Check, ...]:
    """One check for each way that was asked; none if nobody asked."""
    cut = {
        fault.target.rpartition("-")[0]
        for fault in history.faults
        if fault.target.endswith(f"-{STORE}")
    }
    rows = [row for row in history.rows if row[0] == "Listed"]
    clock = _Clock(row[1] for row in rows)
    listings = [Listing(clock.at(row[1]), row[5], frozenset(row[6]) - cut) for row in rows]
    if listings and any(fault.target == STORE for fault in history.faults):
        why = "The registry itself failed meanwhile: Redis was stopped."
        return (Check("presence", "", "", CANNOT_TELL, why, counted=False),)
    return presence(
        [
            Stay(stay.name, clock.at(stay.since), clock.at(stay.until))
            for stay in _stays(history)
            if stay.name not in cut
        ],
        listings,
        ghost_seconds=_lease(history) + MARGIN_SECONDS,
        missed_seconds=BACK_SECONDS,
    )


class _Clock:
    """Stands still when nobody has asked for :data:`HOLD_SECONDS`, until somebody does."""

    def __init__(self, asked: Iterable[float]) -> None:
        self._still = [
            (since + HOLD_SECONDS, until)
            for since, until in pairwise(sorted(asked))
            if until - since > HOLD_SECONDS
        ]

    def at(self, time: float) -> float:
        return time - sum(
            min(time, until) - since for since, until in self._still if since < time
        )


def _lease(history: History) -> float:
    settings: Any = history.header.get("settings")
    said = settings.get("lease_seconds") if isinstance(settings, dict) else None
    return float(said) if isinstance(said, int | float) else LEASE_SECONDS


def _stays(history: History) -> Iterator[Stay]:
    since: dict[str, float] = {}
    for kind, at, user, _, chat, *_ in history.rows:
        if chat != WHOLE:
            continue
        if kind in ("Connected", "Thawed"):
            since.setdefault(user, at)
        elif kind in ("Disconnected", "Crashed", "Frozen") and user in since:
            yield Stay(user, since.pop(user), at)
    yield from (Stay(user, at) for user, at in since.items())
