"""The numbers of the persistence picture: who saw how much of the same sends. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from chatlab.messages import INSULTS, title
from chatlab.plots.events import read
from chatlab.plots.findings import starts
from chatlab.plots.story import Flight, Story
from chatlab.plots.words import backend_words, named, sentence

#: Most absent receivers in one strip.
MOST_RECEIVERS = 3


@dataclass(frozen=True)
class Tally:
    """What one receiver saw of what was sent to it."""

    receiver: str
    sent: int
    seen: int
    late: int
    waiting: int
    lost: int
    #: Not accepted, as the sender was told.
    refused: int = 0

    def words(self) -> str:
        """``sees 4 of 7``, ``sees all 7 late``."""
        if self.seen < self.sent:
            kept = f" ({self.waiting} still wait)" if self.waiting else ""
            return f"{self.seen:,} of {self.sent:,}{kept}"
        return f"all {self.sent:,}" + (" late" if self.late else "")


@dataclass(frozen=True)
class Strip:
    """One conversation of one scene."""

    title: str
    note: str
    story: Story
    senders: tuple[str, ...]
    tallies: tuple[Tally, ...]


def account(*scenes: object) -> list[Strip]:
    """The numbers of the picture: a strip per conversation in which something was sent."""
    found = []
    for scene in scenes:
        whole = read(scene)
        chats = [chat for chat in dict.fromkeys(s.chat for s in whole.sends) if chat != INSULTS]
        for chat in chats:
            # Users who were away in one conversation only are judged in that one.
            found.append(_strip(read(scene, chat), chat, named_scene=len(scenes) > 1))
    return found


def _strip(story: Story, chat: str, *, named_scene: bool) -> Strip:
    flights = sorted([*story.flights, *_refused(story, chat)], key=lambda f: f.send.when)
    story = replace(story, flights=tuple(flights))
    receivers = list(dict.fromkeys(flight.receiver for flight in story.flights))
    absent = {absence.user for absence in story.absences}
    missing = {flight.receiver for flight in story.flights if flight.fate == "lost"}
    shown = [user for user in receivers if user in absent | missing] or receivers
    tallies = [_tally(user, story.flights) for user in shown]
    tallies.sort(key=lambda tally: -tally.lost)
    chosen = tuple(tallies[:MOST_RECEIVERS])
    names = {tally.receiver for tally in chosen}
    flights = [flight for flight in story.flights if flight.receiver in names]
    sends = {flight.send.id: flight.send for flight in flights}
    numbered = {
        id: replace(send, number=number) for number, (id, send) in enumerate(sends.items(), 1)
    }
    reduced = replace(
        story,
        sends=tuple(numbered.values()),
        flights=tuple(replace(f, send=numbered[f.send.id]) for f in flights),
        absences=tuple(a for a in story.absences if a.user in names),
    )
    words = backend_words(story.backends.get(chat, "")) or title(chat)
    kind = "group " if chat.startswith("group:") else ""
    note = f"{kind}{title(chat)}" + (f" · {story.name}" if named_scene and story.name else "")
    senders = tuple(dict.fromkeys(send.sender for send in numbered.values()))
    return Strip(words, note, reduced, senders, chosen)


def _tally(user: str, flights: Sequence[Flight]) -> Tally:
    fates = [flight.fate for flight in flights if flight.receiver == user]
    late, waiting, lost = (fates.count(fate) for fate in ("waited", "waiting", "lost"))
    seen = fates.count("at once") + late
    return Tally(user, len(fates), seen, late, waiting, lost, fates.count("refused"))


def _refused(story: Story, chat: str) -> Iterator[Flight]:
    """What a private chat did not accept: it had one receiver."""
    kind, *users = chat.split(":")
    for send in story.sends if kind == "private" else ():
        if send.outcome == "refused":
            (receiver,) = (user for user in users if user != send.sender)
            yield Flight(send, receiver, "refused")


def persistence_finding(strips: Sequence[Strip]) -> list[str]:
    """``Same absence: bob sees 4 of 7, or all 7 late``."""
    tallies = [strip.tallies[0] for strip in strips if strip.tallies]
    if not tallies:
        return ["Nobody else was there to see anything" if strips else "No messages were sent"]
    users = list(dict.fromkeys(tally.receiver for tally in tallies))
    away = all(strip.story.absences for strip in strips)
    phrases = list(dict.fromkeys(tally.words() for tally in tallies))
    if len(strips) == 1:
        return _single(strips[0])
    if len(users) == 1:
        name = named(users)
        start = "Same absence: " if away else ""
        both = f" in all {len(tallies)} cases" if len(phrases) == 1 else ""
        every = sentence(f"{start}{name} sees {', or '.join(phrases)}{both}")
        least, most = min(tallies, key=_share), max(tallies, key=_share)
        short = f"{start}{name} sees {least.words()} … {most.words()}"
        return [every, sentence(short)]
    parts = [f"{named([tally.receiver])} sees {tally.words()}" for tally in tallies]
    seen, sent = sum(t.seen for t in tallies), sum(t.sent for t in tallies)
    return [sentence(", ".join(parts)), f"{seen} of {sent} seen in {len(tallies)} cases"]


def _single(strip: Strip) -> list[str]:
    """``Bob was away: 7 of 7 seen, 3 of them late``."""
    ends = [_result(tally) for tally in strip.tallies]
    openings = starts(strip.story)
    if len(ends) == 1:
        openings = openings or [named([strip.tallies[0].receiver])]
    else:
        each = ", ".join(f"{named([t.receiver])} sees {t.words()}" for t in strip.tallies)
        seen, sent = sum(t.seen for t in strip.tallies), sum(t.sent for t in strip.tallies)
        lost = sum(t.lost for t in strip.tallies)
        rest = f"{seen:,} of {sent:,} seen" + (f", {lost:,} never" if lost else "")
        ends = [each, rest]
    whole = [f"{start}: {end}" for end in ends for start in openings]
    return [sentence(words) for words in (*whole, *ends)]


def _result(tally: Tally) -> str:
    parts = [f"{tally.seen:,} of {tally.sent:,} seen"]
    parts += [f"{tally.late:,} of them late"] if tally.late else []
    parts += [f"{tally.lost:,} never"] if tally.lost else []
    parts += [f"{tally.refused:,} refused"] if tally.refused else []
    parts += [f"{tally.waiting:,} still wait"] if tally.waiting else []
    return ", ".join(parts)


def _share(tally: Tally) -> tuple[float, int]:
    return tally.seen / max(tally.sent, 1), -tally.late
