"""Figures of merit: what a journal says of speed and cost. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from chatlab.journal import (
    Acked,
    Confirmed,
    Delivered,
    Discarded,
    Failed,
    Journal,
    Returned,
    Sent,
    Uncertain,
)
from chatlab.plots.measures import depth, measure, spread
from chatlab.tables import card

_ANSWERS = (Confirmed, Returned, Failed, Uncertain)


@dataclass(frozen=True)
class Figures:
    """Speed and cost of one run. Times are in seconds."""

    sent: int
    confirmed: int
    delivered: int
    #: From the first send to the last delivery (or answer).
    seconds: float
    #: Deliveries a second within that time; 0 when nothing was delivered.
    throughput: float
    #: From the send to the first time that a receiver was shown the message, all receivers
    #: together: ``min``, ``median``, ``p95``, ``p99``, ``max``; empty without deliveries.
    latency: dict[str, float]
    #: The most messages that were confirmed and waited for one receiver at a time, or in the
    #: one queue of the insults.
    depth: int
    #: What went over the wire for a message sent: publish, answer, deliveries, acks.
    messages_per_operation: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def _repr_html_(self) -> str:
        shown = {k: v for k, v in asdict(self).items() if k != "latency"}
        return card("figures", shown | {f"latency {k}": v for k, v in self.latency.items()})


def figures(journal: Journal) -> Figures:
    """What happened, in numbers."""
    facts = list(journal)
    found = measure(journal)
    wire = sum(
        isinstance(fact, (Sent, Delivered, Discarded, Acked, *_ANSWERS)) for fact in facts
    )
    return Figures(
        sent=len(found.sent),
        confirmed=sum(isinstance(fact, Confirmed) for fact in facts),
        delivered=len(found.shown),
        seconds=found.seconds,
        throughput=found.rate,
        latency=spread([seconds for _, seconds in found.latencies]),
        depth=depth(journal),
        messages_per_operation=wire / len(found.sent) if found.sent else 0.0,
    )


__all__ = ["Figures", "figures", "spread"]
