"""Figures of merit: what a journal says of speed and cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chatlab.journal import (
    Acked,
    Confirmed,
    Delivered,
    Discarded,
    Fact,
    Failed,
    Journal,
    Returned,
    Sent,
    Uncertain,
)
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
    #: The most messages that were confirmed and waited for one receiver at a time.
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
    sent = {fact.message.id: fact.at for fact in facts if isinstance(fact, Sent)}
    shown: dict[tuple[str, str], float] = {}
    for fact in facts:
        if isinstance(fact, Delivered) and fact.message.id in sent:
            shown.setdefault((fact.user, fact.message.id), fact.at)
    ends = [fact.at for fact in facts if isinstance(fact, (Delivered, *_ANSWERS))]
    seconds = max(0.0, max(ends, default=0.0) - min(sent.values(), default=0.0)) if sent else 0
    wire = sum(
        isinstance(fact, (Sent, Delivered, Discarded, Acked, *_ANSWERS)) for fact in facts
    )
    return Figures(
        sent=len(sent),
        confirmed=sum(isinstance(fact, Confirmed) for fact in facts),
        delivered=len(shown),
        seconds=seconds,
        throughput=len(shown) / seconds if seconds else 0.0,
        latency=spread([at - sent[id] for (_, id), at in shown.items()]),
        depth=_depth(facts, shown),
        messages_per_operation=wire / len(sent) if sent else 0.0,
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median, 95th and 99th percentile (nearest rank) and most; empty of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {"min": 0.0, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[max(0, math.ceil(q * len(ordered)) - 1)] for name, q in ranks.items()}


def _depth(facts: Iterable[Fact], shown: dict[tuple[str, str], float]) -> int:
    """The longest queue: what each receiver was shown in the end, from its confirm on."""
    confirmed = {fact.id: fact.at for fact in facts if isinstance(fact, Confirmed)}
    changes: dict[str, list[tuple[float, int]]] = {}
    for (user, id), at in shown.items():
        if id in confirmed and confirmed[id] < at:
            changes.setdefault(user, []).extend([(confirmed[id], 1), (at, -1)])
    most = 0
    for marks in changes.values():
        depth = 0
        for _, change in sorted(marks):
            depth += change
            most = max(most, depth)
    return most
