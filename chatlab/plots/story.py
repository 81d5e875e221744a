"""What a picture shows, as values: sends, flights, absences, faults. Pure.

A *flight* is one message on its way to one receiver; its *fate* is computed from the journal
by :mod:`chatlab.plots.events`, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from chatlab import journal as j
from chatlab.messages import title

Fate = Literal["at once", "waited", "waiting", "under way", "unknown", "lost", "refused"]
Outcome = Literal["sent", "confirmed", "returned", "refused", "uncertain"]
Why = Literal["offline", "crashed", "frozen", "not connected"]


class Moment(NamedTuple):
    """A place in the journal and its time."""

    step: int
    at: float


@dataclass(frozen=True, slots=True)
class Send:
    """One message leaving its sender; ``number`` counts from 1 in the picture."""

    number: int
    id: str
    sender: str
    chat: str
    when: Moment
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Flight:
    """One message and one receiver (``""``: an insult that nobody got)."""

    send: Send
    receiver: str
    fate: Fate
    seen: Moment | None = None
    #: The first copy shown was already marked redelivered.
    marked: bool = False
    #: Further times that the same receiver was shown it.
    again: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Absence:
    """A stretch in which ``user`` could not receive; ``chat`` empty: from anybody."""

    user: str
    chat: str
    began: Moment
    ended: Moment | None
    why: Why

    def covers(self, begin: int, end: int) -> bool:
        """Does it overlap the steps ``begin`` to ``end``?"""
        return self.began.step < end and (self.ended is None or self.ended.step > begin)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault on a service or link; ``ended`` None: not over when the journal ends."""

    fault: str
    target: str
    began: Moment
    ended: Moment | None


@dataclass(frozen=True)
class Story:
    """All that the pictures need to know of one journal."""

    name: str
    header: dict[str, Any]
    #: Who took part, in the order of the roster.
    users: tuple[str, ...]
    #: Everybody, in the order in which the lab knows them (else of appearance): a user has
    #: the same colour in all figures of a lab.
    roster: tuple[str, ...]
    #: Conversation -> backend with options, for the conversations shown.
    backends: dict[str, str]
    sends: tuple[Send, ...]
    flights: tuple[Flight, ...]
    absences: tuple[Absence, ...]
    faults: tuple[Fault, ...]
    #: Rows of ``Connected`` to the insult channel, for its settings.
    attachments: tuple[tuple[Moment, j.Connected], ...] = ()
    #: Ids of insults whose work failed for the last time: they go to nobody any more.
    dead: frozenset[str] = frozenset()

    def count(self, *fates: Fate) -> int:
        """How many messages have a flight of one of these fates."""
        return len({flight.send.id for flight in self.flights if flight.fate in fates})

    @cached_property
    def repeated(self) -> int:
        """How many messages somebody was handed a second time."""
        return len({f.send.id for f in self.flights if f.marked or f.again})

    @property
    def seconds(self) -> float:
        """From the first event shown to the last."""
        times = [moment.at for moment in self.moments()]
        return max(times) - min(times) if times else 0.0

    def moments(self) -> Iterator[Moment]:
        """Every moment that a picture may show, unordered."""
        yield from (send.when for send in self.sends)
        for flight in self.flights:
            if flight.seen:
                yield flight.seen
            yield from flight.again
        stretches: tuple[Absence | Fault, ...] = (*self.absences, *self.faults)
        for stretch in stretches:
            yield stretch.began
            if stretch.ended:
                yield stretch.ended

    def table(self) -> list[dict[str, Any]]:
        """One dictionary a flight: what the picture shows, as numbers and words."""
        return [
            {
                "scene": self.name,
                "message": flight.send.number,
                "chat": title(flight.send.chat),
                "sender": flight.send.sender,
                "receiver": flight.receiver,
                "fate": flight.fate,
                "seconds": flight.seen.at - flight.send.when.at if flight.seen else None,
                "redelivered": len(flight.again) + flight.marked,
            }
            for flight in self.flights
        ]
