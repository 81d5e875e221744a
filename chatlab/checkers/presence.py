"""Presence: who was listed, against who was there, in seconds. Pure, of plain values.

An observation holds until the next one of the same way. A *ghost* is a name that is listed
while nobody of that name is there (after a crash: until its lease ends; or one that was never
there at all); somebody is *missed* while it is there and not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chatlab.checkers.verdict import BROKEN, CANNOT_TELL, KEPT, Check, Example, Outcome


@dataclass(frozen=True)
class Stay:
    """``name`` was there from ``since`` to ``until``, in seconds of one clock."""

    name: str
    since: float
    until: float = float("inf")


@dataclass(frozen=True)
class Listing:
    """At ``at``, one way of discovery listed these names."""

    at: float
    way: str
    names: frozenset[str]


def presence(
    truth: Iterable[Stay],
    listings: Iterable[Listing],
    *,
    ghost_seconds: float,
    missed_seconds: float,
) -> tuple[Check, ...]:
    """One check per way, in the order of first appearance.

    Args:
        truth: who was there and when.
        listings: what was observed; of one way at least two.
        ghost_seconds: the longest that a name may be listed without being there (a lease, and
            the time between two observations).
        missed_seconds: the longest that a name may be there and not be listed.
    """
    stays: dict[str, list[Stay]] = {}
    for stay in truth:
        stays.setdefault(stay.name, []).append(stay)
    ways: dict[str, list[Listing]] = {}
    for listing in listings:
        ways.setdefault(listing.way, []).append(listing)
    allowed = {"ghost": ghost_seconds, "missed": missed_seconds}
    return tuple(
        _check(way, sorted(seen, key=lambda each: each.at), stays, allowed)
        for way, seen in ways.items()
    )


def _check(
    way: str,
    seen: Sequence[Listing],
    stays: Mapping[str, Sequence[Stay]],
    allowed: Mapping[str, float],
) -> Check:
    stretches = _stretches(seen, stays)
    totals = {kind: sum(s for k, _, _, s in stretches if k == kind) for kind in allowed}
    longest = {
        kind: max((s for k, _, _, s in stretches if k == kind), default=0.0) for kind in allowed
    }
    counts = {
        "listings": len(seen),
        "ghosts": len({name for kind, name, _, _ in stretches if kind == "ghost"}),
        "ghost_ms": round(1000 * totals["ghost"]),
        "longest_ghost_ms": round(1000 * longest["ghost"]),
        "missed": len({name for kind, name, _, _ in stretches if kind == "missed"}),
        "missed_ms": round(1000 * totals["missed"]),
        "longest_missed_ms": round(1000 * longest["missed"]),
    }
    wrong = [entry for entry in stretches if entry[3] > allowed[entry[0]]]
    outcome, why = _judged(seen, stays, longest, bool(wrong))
    return Check("presence", "", way, outcome, why, counts, _example(way, wrong, allowed))


def _stretches(
    seen: Sequence[Listing], stays: Mapping[str, Sequence[Stay]]
) -> list[tuple[str, str, float, float]]:
    """(ghost or missed, name, since, seconds): each without a break."""
    names = dict.fromkeys([*stays, *(name for one in seen for name in sorted(one.names))])
    found: list[tuple[str, str, float, float]] = []
    for name in names:
        edges = {edge for stay in stays.get(name, ()) for edge in (stay.since, stay.until)}
        times = [listing.at for listing in seen]
        cuts = sorted({*times, *(e for e in edges if times[0] < e < times[-1])})
        number = 0
        kinds: list[tuple[str, float, float]] = []
        for since, until in pairwise(cuts):
            while number + 1 < len(seen) and seen[number + 1].at <= since:
                number += 1
            there = any(stay.since <= since < stay.until for stay in stays.get(name, ()))
            listed = name in seen[number].names
            kinds.append(
                ("" if there == listed else "ghost" if listed else "missed", since, until)
            )
        found += [
            (kind, name, since, until - since) for kind, since, until in _joined(kinds) if kind
        ]
    return found


def _joined(pieces: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Neighbours of one kind are one."""
    joined: list[tuple[str, float, float]] = []
    for kind, since, until in pieces:
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1], until)
        else:
            joined.append((kind, since, until))
    return joined


def _judged(
    seen: Sequence[Listing],
    stays: Mapping[str, Sequence[Stay]],
    longest: Mapping[str, float],
    wrong: bool,
) -> tuple[Outcome, str]:
    text = (
        f"The longest ghost lasted {longest['ghost']:.3g} s, the longest absence from the list "
        f"{longest['missed']:.3g} s"
    )
    if wrong:
        return BROKEN, f"{text}: too long."
    if len(seen) < 2:
        return CANNOT_TELL, "One look shows nothing over time."
    edges = [
        edge for each in stays.values() for stay in each for edge in (stay.since, stay.until)
    ]
    if not any(seen[0].at < edge < seen[-1].at for edge in edges):
        return CANNOT_TELL, "Nobody came or went while it was looked at."
    return KEPT, f"{text}."


def _example(
    way: str, wrong: Sequence[tuple[str, str, float, float]], allowed: Mapping[str, float]
) -> Example:
    if not wrong:
        return Example()
    kind, name, since, seconds = max(wrong, key=lambda entry: entry[3] - allowed[entry[0]])
    what = "was listed without being there" if kind == "ghost" else "was there and not listed"
    return Example(
        (),
        f"By {way}, {name} {what} for {seconds:.3g} s from {since:.3f} on; "
        f"{allowed[kind]:.3g} s is the most.",
    )
