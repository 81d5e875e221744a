"""Which lanes a space-time picture has, and in what order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from chatlab.messages import INSULTS
from chatlab.plots.story import Absence, Flight, Story
from chatlab.plots.words import store_words

#: Distance between neighbouring lanes: (kind, kind below) -> units.
_GAPS = {
    ("user", "user"): 1.0,
    ("user", "store"): 1.3,
    ("store", "user"): 1.3,
    ("store", "store"): 1.0,
}


@dataclass(frozen=True, slots=True)
class Lane:
    """A user's lane, or that of a store where something waited."""

    kind: str
    name: str
    #: For a store: the conversation and the receiver it belongs to.
    chat: str = ""
    receiver: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The name, then shorter ones for where it does not fit."""
        kind, _, group = self.chat.partition(":")
        if kind != "group":
            return (self.name, self.name.partition(" of ")[0])
        store = self.name.partition(" ")[0]
        return (self.name, f"{group}.{self.receiver}", f"{store} {group}", group)


def order(story: Story) -> list[str]:
    """Users from top to bottom: a sender between its receivers, so that as few lines as
    possible cross a lane and none crosses an absent user's; the absent one lowest."""
    users = list(story.users)
    absent = Counter(absence.user for absence in story.absences)
    lines: Counter[tuple[str, str, frozenset[str]]] = Counter()
    for flight in story.flights:
        if flight.receiver:
            away = _away(story.absences, flight.send.when.step, users)
            lines[flight.send.sender, flight.receiver, away] += 1

    def cost(lanes: tuple[str, ...]) -> tuple[int, int, list[int]]:
        at = {user: number for number, user in enumerate(lanes)}
        crossed = absent_crossed = 0
        for (sender, receiver, away), weight in lines.items():
            low, high = sorted((at[sender], at[receiver]))
            between = lanes[low + 1 : high]
            crossed += weight * len(between)
            absent_crossed += weight * sum(user in away for user in between)
        # Of equals: absent users low, then by appearance.
        depth = [-at[user] for user, _ in absent.most_common()]
        return absent_crossed, crossed, depth + [users.index(user) for user in lanes]

    best = min(permutations(users), key=cost)
    return list(best)


def _away(absences: Iterable[Absence], step: int, users: Iterable[str]) -> frozenset[str]:
    return frozenset(a.user for a in absences if a.covers(step, step + 1)) & frozenset(users)


def lanes(story: Story, users: Sequence[str] = ()) -> list[Lane]:
    """All lanes from top to bottom: each store beside its receiver, on the senders' side;
    ``users`` from top to bottom, by default in the order of :func:`order`."""
    users = list(users) or order(story)
    found = [Lane("user", user) for user in users]
    for chat, receiver, senders in _stores(story):
        backend = story.backends.get(chat, "")
        store = Lane("store", store_words(chat, backend, receiver), chat, receiver)
        names = [lane.name if lane.kind == "user" else "" for lane in found]
        owner = receiver or senders.most_common(1)[0][0]
        above = sum(count for user, count in senders.items() if _above(names, user, owner))
        lower = above * 2 >= senders.total() if receiver else owner == names[-1]
        # The place above the owner's lane is its own index, that below is the next.
        found.insert(names.index(owner) + (0 if lower else 1), store)
    return found


def _above(names: list[str], user: str, owner: str) -> bool:
    return names.index(user) < names.index(owner)


def _stores(story: Story) -> list[tuple[str, str, Counter[str]]]:
    """(conversation, receiver, who sent how many) of each store that held something."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for flight in story.flights:
        if waits(flight):
            key = (flight.send.chat, "" if flight.send.chat == INSULTS else flight.receiver)
            found.setdefault(key, Counter())[flight.send.sender] += 1
    return [(*key, senders) for key, senders in found.items()]


def waits(flight: Flight) -> bool:
    """Did it lie, or does it still lie, in a store?"""
    return flight.fate in ("waited", "waiting")


def heights(found: Sequence[Lane], top: float, bottom: float, widest: float) -> list[float]:
    """The y of each lane between ``top`` and ``bottom``, centred when there is room."""
    places = _places(found)
    if len(found) < 2:
        return [(top + bottom) / 2] * len(found)
    unit = min((bottom - top) / places[-1], widest)
    start = (top + bottom - unit * places[-1]) / 2
    return [start + unit * place for place in places]


def span(found: Sequence[Lane]) -> float:
    """From the first lane to the last, in units."""
    return _places(found)[-1]


def _places(found: Sequence[Lane]) -> list[float]:
    places = [0.0]
    for lane, below in pairwise(found):
        places.append(places[-1] + _GAPS[lane.kind, below.kind])
    return places
