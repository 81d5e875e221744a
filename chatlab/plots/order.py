"""The order picture: per member, which place a message had when it was sent, and when seen.

A square per member: rightwards the messages meant for it in the order of sending, upwards in
the order in which it was shown them. In order is the diagonal. What lies below it was
overtaken. An *inversion* is a pair of one sender's messages that one life of a receiver saw
the wrong way round; between senders no order is promised, so their pairs do not count. What
was sent more than once under one id has no place of its own and does not count either.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from matplotlib.axes import Axes

from chatlab.journal import Delivered, Journal, Sent
from chatlab.plots.board import Board
from chatlab.plots.events import journal_of, read, sources
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.measures import labels
from chatlab.plots.story import Flight, Story
from chatlab.plots.style import (
    GREY,
    HEIGHT,
    INK,
    LEFT,
    RIGHT,
    RULE,
    SOFT,
    own_style,
    palette,
)
from chatlab.plots.words import caption, counted, named, sentence, tier

#: Most members of one scene with a square of their own: those with most inversions.
MOST_MEMBERS = 8
#: Squares side by side, and their largest and smallest edge, in pixels.
_ABREAST, _LARGEST, _SMALLEST = 4, 250.0, 112.0
#: Room above a square (name, count), below it, and beside it for the words of its scene.
_ABOVE, _UNDER, _BESIDE = 46.0, 30.0, 190.0
#: What stands above the first square and below the last.
_TOP, _BELOW = 54.0, 52.0


@dataclass(frozen=True)
class Member:
    """What one receiver was shown, in which order. Places count from 1."""

    name: str
    #: Sender, place sent, place seen, and whether a later one was seen before it.
    places: tuple[tuple[str, int, int, bool], ...]
    #: Place sent and place of the last one seen before, for each second copy.
    again: tuple[tuple[int, int], ...]
    #: Places sent of what was lost.
    lost: tuple[int, ...]
    #: How many were meant for it.
    meant: int
    #: Pairs of one sender's messages seen the wrong way round.
    inversions: int

    @property
    def late(self) -> int:
        """How many were seen after a later one of the same sender."""
        return sum(late for _, _, _, late in self.places)


@own_style()
def order(*scenes: object, ax: Axes | None = None, chat: str | None = None) -> Axes:
    """Draw the order of sending against the order of seeing, a square per member.

    Args:
        scenes: scenes, runs or journals; several: one below the other.
        ax: draw here instead of on a card of its own.
        chat: only this conversation, for instance ``"sd"`` or ``"ana + bob"``.

    Raises:
        InvalidInput: no scene, not a scene, or no such conversation.
    """
    stories = [read(scene, chat) for scene in sources(scenes)]
    names = labels(stories)
    found = [
        members(journal_of(scene), story) for scene, story in zip(scenes, stories, strict=True)
    ]
    shown = [sorted(every, key=lambda m: -m.inversions)[:MOST_MEMBERS] for every in found]
    shown = [[m for m in every if m in few] for every, few in zip(found, shown, strict=True)]
    edge, height = _sizes(shown)
    board = Board(ax, height)
    colours = palette(user for story in stories for user in story.roster)
    y, left = _TOP, LEFT + (_BESIDE if len(scenes) > 1 else 0.0)
    for label, every, few in zip(names, found, shown, strict=True):
        if len(scenes) > 1:
            _heading(board, label, every, few, y + _ABOVE)
        y = _squares(board, few, edge, left, y, colours)
    if not any(found):
        words = "nothing was sent to anybody else"
        board.text(450, board.height / 2, words, size=13, color=SOFT, ha="center")
    _axes_words(board, any(found))
    line = caption(stories, *_legend(found, shown), backends=len(scenes) == 1)
    finding = board.frame(findings(names, found), line, tier(stories))
    rows = [_row(name, m) for name, every in zip(names, found, strict=True) for m in every]
    return board.finish(finding, line, rows)


def members(journal: Journal, story: Story) -> list[Member]:
    """The receivers in the order of the roster, each with what it was shown."""
    attempts = Counter(fact.message.id for fact in journal.facts(Sent))
    lives: dict[tuple[str, str], tuple[int, int]] = {}
    for fact in journal.facts(Delivered):
        life = fact.message.incarnation, fact.incarnation
        lives.setdefault((fact.user, fact.message.id), life)
    flights: dict[str, list[Flight]] = defaultdict(list)
    for flight in story.flights:
        if flight.receiver:
            flights[flight.receiver].append(flight)
    once = {id for id, number in attempts.items() if number == 1}
    return [_member(user, flights[user], lives, once) for user in story.roster if flights[user]]


def _member(
    user: str,
    flights: Sequence[Flight],
    lives: dict[tuple[str, str], tuple[int, int]],
    once: set[str],
) -> Member:
    sent = sorted(flights, key=lambda flight: flight.send.when)
    place = {flight.send.id: number for number, flight in enumerate(sent, 1)}
    seen = sorted((f.seen, f) for f in sent if f.seen is not None) if sent else []
    ways: dict[Any, list[int]] = defaultdict(list)
    inversions, places = 0, []
    for number, (_, flight) in enumerate(seen, 1):
        id = flight.send.id
        overtaken = 0
        if id in once:
            before = ways[flight.send.chat, flight.send.sender, lives[user, id]]
            overtaken = len(before) - bisect_right(before, place[id])
            insort(before, place[id])
        inversions += overtaken
        places.append((flight.send.sender, place[id], number, overtaken > 0))
    steps = [when.step for when, _ in seen]
    again = [
        (place[flight.send.id], bisect_right(steps, when.step))
        for flight in sent
        for when in flight.again
    ]
    lost = [place[flight.send.id] for flight in sent if flight.fate == "lost"]
    return Member(user, tuple(places), tuple(again), tuple(lost), len(sent), inversions)


def findings(names: Sequence[str], found: Sequence[Sequence[Member]]) -> list[str]:
    """``Bob saw 3 pairs of messages the wrong way round``, ``… in the order of sending``."""
    every = [member for members in found for member in members]
    if not any(member.places for member in every):
        return ["Nobody was shown anything" if every else "No messages were sent"]
    if not any(member.inversions for member in every):
        who = named([m.name for m in every if m.places], 1).replace("users", "members")
        if len(found) > 1:
            cases = f"in all {len(found)} cases"
            return [
                f"Each sender's messages were seen in order, {cases}",
                f"Each sender's messages in order, {cases}",
                f"In order {cases}",
            ]
        who = who.replace("2 members", "both members") if len(every) == 2 else who
        who = f"all {who}" if len(every) > 2 else who
        return [sentence(f"{who} saw each sender's messages in order"), "All seen in order"]
    if len(found) > 1:
        counts = [sum(member.inversions for member in members) for members in found]
        parts = [f"{name} {count:,}" for name, count in zip(names, counts, strict=True)]
        wrong = sum(map(bool, counts))
        short = f"Inversions in {wrong} of {len(found)} cases, {sum(counts):,} in all"
        return ["Inversions: " + ", ".join(parts), short]
    worst = max(every, key=lambda member: member.inversions)
    total = sum(member.inversions for member in every)
    pairs = f"{counted(worst.inversions, 'pair')} of messages in the wrong order"
    others = total - worst.inversions
    rest = f", others {others:,}" if others else ", others none" if len(every) > 1 else ""
    return [
        sentence(f"{named([worst.name])} saw {pairs}{rest}"),
        sentence(f"{named([worst.name])} saw {worst.inversions:,} inversions{rest}"),
        f"{counted(total, 'inversion')} in all",
    ]


def _row(label: str, member: Member) -> dict[str, Any]:
    return {
        "backend": label,
        "member": member.name,
        "meant": member.meant,
        "seen": len(member.places),
        "inversions": member.inversions,
        "late": member.late,
        "duplicates": len(member.again),
        "lost": len(member.lost),
    }


def _sizes(shown: Sequence[Sequence[Member]]) -> tuple[float, float]:
    """The edge of a square, and the height of the card."""
    lines = sum(max(1, ceil(len(members) / _ABREAST)) for members in shown)
    room = (HEIGHT - _TOP - _BELOW) / lines - _ABOVE - _UNDER
    abreast = max((_abreast(members) for members in shown), default=1)
    wide = (RIGHT - LEFT - (_BESIDE if len(shown) > 1 else 0.0)) / abreast - 50
    edge = min(max(min(room, _LARGEST), _SMALLEST), wide)
    return edge, max(HEIGHT, _TOP + _BELOW + lines * (edge + _ABOVE + _UNDER))


def _abreast(members: Sequence[Member]) -> int:
    lines = max(1, ceil(len(members) / _ABREAST))
    return ceil(len(members) / lines) or 1


def _heading(
    board: Board, label: str, every: Sequence[Member], few: Sequence[Member], y: float
) -> None:
    inversions = sum(member.inversions for member in every)
    hidden = len(every) - len(few)
    name = fit(label, _BESIDE - 10, 12.5)
    board.text(LEFT, y + 12, name, size=12.5, color="black")
    count = f"{inversions:,}" if every else "nothing sent"
    board.text(LEFT, y + 38, count, size=16, bold=True)
    if every:
        words = "inversion" if inversions == 1 else "inversions"
        board.text(LEFT, y + 58, words, color=SOFT)
    if hidden:
        board.text(LEFT, y + 78, f"{hidden} more members", color=SOFT)


def _squares(
    board: Board,
    members: Sequence[Member],
    edge: float,
    left: float,
    top: float,
    colours: dict[str, str],
) -> float:
    """Draws them in rows from ``top`` down; returns where the last one ends."""
    lines, abreast = max(1, ceil(len(members) / _ABREAST)), _abreast(members)
    pitch = min((RIGHT - left) / abreast, edge + 120)
    start = (left + RIGHT - pitch * abreast) / 2 if left == LEFT else left
    for at, member in enumerate(members):
        line, column = divmod(at, abreast)
        x = start + pitch * column + (44 if left != LEFT else (pitch - edge) / 2 + 12)
        y = top + line * (edge + _ABOVE + _UNDER) + _ABOVE
        room = min(start + pitch * (column + 1), RIGHT) - x - 8
        _Square(board, member, x, y, edge, room, colours).draw()
    return top + lines * (edge + _ABOVE + _UNDER)


@dataclass
class _Square:
    """One member's square."""

    board: Board
    member: Member
    left: float
    top: float
    edge: float
    room: float
    colours: dict[str, str]

    def draw(self) -> None:
        self._frame()
        member = self.member
        dot = min(9.0, max(2.5, self._pitch() * 0.9))
        late = [self._at(sent, seen) for _, sent, seen, late in member.places if late]
        self.board.discs(late, dot + 5, INK, z=4)
        self.board.discs(late, dot + 2, "white", z=4.5)
        for sender in dict.fromkeys(sender for sender, *_ in member.places):
            points = [self._at(x, y) for who, x, y, _ in member.places if who == sender]
            self.board.discs(points, dot, self.colours[sender])
        self.board.discs(
            [self._at(x, y) for x, y in member.again], dot + 3, GREY, hollow=True, z=3.5
        )
        lost = [(self._at(x, 1)[0], self.top + self.edge) for x in member.lost]
        self.board.crosses(lost, size=min(11.0, dot + 4), width=min(3.0, dot / 2.5))

    def _pitch(self) -> float:
        return (self.edge - 16) / max(self.member.meant - 1, 1)

    def _at(self, sent: int, seen: int) -> tuple[float, float]:
        if self.member.meant == 1:
            return self.left + self.edge / 2, self.top + self.edge / 2
        x = self.left + 8 + (sent - 1) * self._pitch()
        return x, self.top + self.edge - 8 - (seen - 1) * self._pitch()

    def _frame(self) -> None:
        board, member, right, bottom = (
            self.board,
            self.member,
            self.left + self.edge,
            self.top + self.edge,
        )
        ends = (self.left, bottom), (right, self.top)
        board.line(*ends, color=RULE, width=1.0, z=1.5)
        board.line((self.left, self.top), (self.left, bottom), (right, bottom), color=RULE)
        board.box(self.left, self.top - 38, self.left + 14, self.top - 24, self._chip())
        name = fit(member.name, self.room - 24, 13, bold=True)
        board.text(self.left + 20, self.top - 31, name, size=13, bold=True)
        words, bold = self._words(), member.inversions > 0
        board.text(self.left, self.top - 11, fit(words, self.room, 11, bold=bold), bold=bold)
        for number in (1, member.meant) if member.meant > 1 else (1,):
            x, y = self._at(number, number)
            last = number == member.meant and number > 1
            board.text(x, bottom + 16, f"{number:,}", color=SOFT, ha="center")
            if not last or text_width(f"{number:,}", 11) < 40:
                board.text(self.left - 6, y, f"{number:,}", color=SOFT, ha="right")

    def _chip(self) -> str:
        return self.colours[self.member.name]

    def _words(self) -> str:
        member = self.member
        parts = [counted(member.inversions, "inversion") if member.places else "nothing seen"]
        if member.again:
            parts.append(f"{len(member.again):,} again")
        if member.lost:
            parts.append(f"{len(member.lost):,} lost")
        return " · ".join(parts)


def _axes_words(board: Board, drawn: bool) -> None:
    if drawn:
        words = "→ place among the sent,  ↑ place among the seen"
        board.text((LEFT + RIGHT) / 2, board.height - 34, words, color=SOFT, ha="center")


def _legend(found: Sequence[Sequence[Member]], shown: Sequence[Sequence[Member]]) -> list[str]:
    every = [member for members in found for member in members]
    words = []
    if any(member.inversions for member in every):
        words.append("ringed = after a later one of the same sender")
    if any(len({sender for sender, *_ in member.places}) > 1 for member in every):
        words.append("colour = sender, only pairs of one sender count")
    if any(member.again for member in every):
        words.append("hollow = seen again")
    if any(member.lost for member in every):
        words.append("× = lost")
    hidden = len(every) - sum(map(len, shown))
    if hidden:
        words.append(f"{hidden} members with fewest inversions not drawn")
    return words


__all__ = ["Member", "findings", "members", "order"]
