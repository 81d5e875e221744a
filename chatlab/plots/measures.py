"""What a journal says of speed: latencies, deliveries over time, what waited. Pure.

The numbers behind the pictures of latency, throughput and depth, and behind the figures of a
run: one definition of each, so that a picture and a number cannot disagree.

- A *delivery* is the first time that a receiver was shown a message; a second copy is none.
- A *latency* goes from the message's first send to a delivery.
- What *waits* is confirmed and not yet shown: per receiver, since each has a store of its own;
  insults wait in one queue. What nothing keeps (lost) does not wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from chatlab.journal import Confirmed, Delivered, Failed, Journal, Returned, Sent, Uncertain
from chatlab.messages import INSULTS
from chatlab.plots.events import journal_of, read
from chatlab.plots.story import Story

#: A moment, in seconds since the epoch, and how many more (or fewer) wait from then on.
Change = tuple[float, int]

_RANKS = {"min": 0.0, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Measures:
    """The moments of one journal, in seconds since the epoch."""

    #: id -> first send.
    sent: dict[str, float]
    #: id -> conversation.
    chats: dict[str, str]
    #: id -> first confirm.
    confirmed: dict[str, float]
    #: (receiver, id) -> first sight, in the journal's order.
    shown: dict[tuple[str, str], float]
    #: The last delivery or answer; the first send when there is none.
    ended: float

    @property
    def began(self) -> float:
        """The first send; 0 without any."""
        return min(self.sent.values(), default=0.0)

    @property
    def seconds(self) -> float:
        """From the first send to the last delivery (or answer)."""
        return max(0.0, self.ended - self.began) if self.sent else 0.0

    @property
    def rate(self) -> float:
        """Deliveries a second within that time; 0 when nothing was delivered."""
        return len(self.shown) / self.seconds if self.seconds else 0.0

    @cached_property
    def latencies(self) -> list[tuple[str, float]]:
        """Conversation and seconds of each delivery."""
        return [(self.chats[id], at - self.sent[id]) for (_, id), at in self.shown.items()]


def measure(source: object) -> Measures:
    """The moments of a scene, run or journal.

    Raises:
        InvalidInput: no scene, run or journal.
    """
    journal = journal_of(source)
    sent: dict[str, float] = {}
    chats: dict[str, str] = {}
    confirmed: dict[str, float] = {}
    ended = 0.0
    for fact in journal.facts(Sent):
        sent.setdefault(fact.message.id, fact.at)
        chats.setdefault(fact.message.id, fact.chat)
    for answer in journal.facts(Confirmed, Returned, Failed, Uncertain):
        ended = max(ended, answer.at)
        if isinstance(answer, Confirmed):
            confirmed.setdefault(answer.id, answer.at)
    return Measures(sent, chats, confirmed, *_shown(journal, sent, ended))


def _shown(
    journal: Journal, sent: dict[str, float], ended: float
) -> tuple[dict[tuple[str, str], float], float]:
    shown: dict[tuple[str, str], float] = {}
    for fact in journal.facts(Delivered):
        ended = max(ended, fact.at)
        if fact.message.id in sent:
            shown.setdefault((fact.user, fact.message.id), fact.at)
    return shown, ended or min(sent.values(), default=0.0)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median, 95th and 99th percentile (nearest rank) and most; empty of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {name: max(0, math.ceil(q * len(ordered)) - 1) for name, q in _RANKS.items()}
    return {name: ordered[rank] for name, rank in ranks.items()}


def waits(measures: Measures, story: Story) -> dict[str, list[Change]]:
    """Receiver (insults: ``insults``) -> how many more or fewer wait, by time. What still
    waits when the journal ends has no second change."""
    gone: dict[tuple[str, str], float] = {}
    for (user, id), at in measures.shown.items():
        store = INSULTS if measures.chats[id] == INSULTS else user
        gone[store, id] = min(at, gone.get((store, id), at))
    changes: dict[str, list[Change]] = {}
    for (store, id), at in gone.items():
        if id in measures.confirmed and measures.confirmed[id] < at:
            changes.setdefault(store, []).extend([(measures.confirmed[id], 1), (at, -1)])
    for flight in story.flights:
        if flight.fate == "waiting" and flight.send.id in measures.confirmed:
            store = INSULTS if flight.send.chat == INSULTS else flight.receiver
            changes.setdefault(store, []).append((measures.confirmed[flight.send.id], 1))
    return {store: sorted(marks) for store, marks in changes.items()}


def heights(changes: Sequence[Change]) -> Iterator[tuple[float, int]]:
    """Moment and how many wait from then on."""
    height = 0
    for at, change in changes:
        height += change
        yield at, height


def deepest(changes: Sequence[Change]) -> int:
    """The most that waited at a time."""
    return max((height for _, height in heights(changes)), default=0)


def depth(source: object) -> int:
    """The longest queue of a scene, run or journal."""
    marks = waits(measure(source), read(source))
    return max(map(deepest, marks.values()), default=0)


def backend_of(story: Story, chat: str) -> str:
    """The backend of a conversation: the run's own, else what its members said."""
    return str(story.header.get("backend") or story.backends.get(chat) or "backend unknown")


def labels(stories: Sequence[Story]) -> list[str]:
    """A name per scene or run: its backend, and what tells equal ones apart."""
    plain = [_backends(story) for story in stories]
    scenes = [str(story.header.get("scene") or story.name) for story in stories]
    named = [
        f"{words} · {scene}" if plain.count(words) > 1 and scene else words
        for words, scene in zip(plain, scenes, strict=True)
    ]
    return [
        f"{words} ({named[: at + 1].count(words)})" if named.count(words) > 1 else words
        for at, words in enumerate(named)
    ]


def _backends(story: Story) -> str:
    used = dict.fromkeys(backend_of(story, chat) for chat in story.backends)
    said = str(story.header.get("backend") or "")
    return said or " and ".join(used) or story.name or "backend unknown"
