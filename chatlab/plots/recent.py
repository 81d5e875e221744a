"""The newest events of a scene as a low strip, for a panel that shows them live.

A space-time picture of 900 x 160 pixels: the finding, and the last dozen columns of events.
The lanes keep the order of the lab's users, so that nothing jumps while it moves on. What
happened before its left edge is not drawn, only known: who was away, which fault went on.

A live scene may have a hundred thousand facts. A :class:`Tail` reads each once and keeps the
newest about messages, those about presence and faults, and how many messages there were.

It is drawn in a thread of a panel's own while cells draw pictures, so it leaves Matplotlib's
settings alone: they belong to the whole process, and setting them for a moment here would
change a picture that is drawn there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chatlab.journal import Journal, Row
from chatlab.plots.board import Board
from chatlab.plots.events import read
from chatlab.plots.findings import spacetime_finding
from chatlab.plots.fonts import DPI, fit, text_width
from chatlab.plots.lanes import Lane, lanes
from chatlab.plots.scale import EventKind, OrderScale, events
from chatlab.plots.story import Moment, Send, Story
from chatlab.plots.strip import LANES_RIGHT, MOST_USERS, STORE_WIDTH, Strip, name_width
from chatlab.plots.style import LEFT, RIGHT, SOFT, palette
from chatlab.plots.words import tier

HEIGHT = 160
#: So many columns of events; who sees the same message at once shares one.
COLUMNS = 12
#: The newest facts about messages that are kept; of a dozen columns none needs more.
KEPT_ROWS = 600
#: So many facts about presence and faults are kept …
KEPT_CHANGES = 2_000
#: … and so many sends, for what is seen long afterwards.
KEPT_SENDS = 20_000

#: Where lanes begin at the least: it does not move when a queue appears that holds something.
_NAMES_LEFT = 132.0
_OF_MESSAGES = frozenset(
    {"Sent", "Confirmed", "Returned", "Failed", "Uncertain", "Delivered", "Rejected"}
)
_UNSEEN = frozenset({"Acked", "Handled", "Reached", "Discarded"})

_Event = tuple[Moment, EventKind, str]


class Tail:
    """The newest facts of a journal. Fed with its rows, in order; reads each once."""

    def __init__(self) -> None:
        #: How many rows of those that a picture shows were read.
        self.news = 0
        self._read = 0
        self._rows: deque[tuple[int, Row]] = deque(maxlen=KEPT_ROWS)
        self._changes: deque[tuple[int, Row]] = deque(maxlen=KEPT_CHANGES)
        #: Message -> its number in the scene, and its fact with its place.
        self._sends: dict[str, tuple[int, int, Row]] = {}
        self._sent = 0

    def read(self, rows: list[Row]) -> None:
        """Take the rows that were appended since the last call."""
        for place in range(self._read, len(rows)):
            row = rows[place]
            if row[0] in _UNSEEN:
                continue
            self.news += 1
            (self._rows if row[0] in _OF_MESSAGES else self._changes).append((place, row))
            if row[0] == "Sent" and row[5].id not in self._sends:
                self._sent += 1
                self._sends[row[5].id] = (self._sent, place, row)
                if len(self._sends) > KEPT_SENDS:
                    del self._sends[next(iter(self._sends))]
        self._read = max(self._read, len(rows))

    def copy(self) -> Tail:
        """The same as it is now, for another thread."""
        made = Tail()
        made.news, made._read, made._sent = self.news, self._read, self._sent
        made._rows, made._changes = self._rows.copy(), self._changes.copy()
        made._sends = self._sends.copy()
        return made

    def journal(self, header: dict[str, Any]) -> Journal:
        """What is kept, as a journal. A message whose send is forgotten is left out: when it
        was sent is not known any more."""
        kept = dict(self._changes)
        for place, row in self._rows:
            id = row[5].id if row[0] in ("Sent", "Delivered") else row[5]
            if id in self._sends:
                _, sent, send = self._sends[id]
                kept[sent] = send
                kept[place] = row
        return Journal((kept[place] for place in sorted(kept)), **header)

    def numbers(self, ids: Iterable[str]) -> dict[str, int]:
        """Message -> its number in the scene, from 1."""
        return {id: self._sends[id][0] for id in ids if id in self._sends}


@dataclass
class _Low(Strip):
    """A strip without room to spare."""

    HOLD: ClassVar[tuple[float, float]] = (12, 15)
    NUMBER: ClassVar[float] = 8.5
    FAULT_ROWS: ClassVar[int] = 0
    STORE: ClassVar[tuple[float, float, float]] = (9.5, 14, -16)

    #: The first step that is shown: what is older comes from the left edge.
    first: int = 0

    def _x(self, moment: Moment) -> float:
        return self.left + 4 if moment.step < self.first else super()._x(moment)

    def _send(self, send: Send) -> None:
        if send.when.step >= self.first:
            super()._send(send)

    def _rows(self) -> list[Lane]:
        return lanes(self.story, self.story.users)

    def _room(self) -> tuple[float, float]:
        return self.y0 + (34 if self.story.faults else 20), self.y1 - 14


def recent(tail: Tail, header: dict[str, Any], users: Sequence[str] = ()) -> tuple[str, bytes]:
    """The finding and a PNG of the last dozen columns of events.

    Args:
        header: of the journal that ``tail`` was fed with: its users, its tier.
        users: who has a lane first, where there are more than five.
    """
    picture = draw(tail, header, users)
    figure = picture.get_figure(root=True)
    assert isinstance(figure, Figure)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return str(getattr(picture, "finding", "")), file.getvalue()


def draw(tail: Tail, header: dict[str, Any], users: Sequence[str] = ()) -> Axes:
    """The picture itself."""
    whole = read(tail.journal(header))
    whole, columns = newest(whole, tail.numbers(send.id for send in whole.sends))
    story = _with_lanes(whole, users)
    board = Board(None, HEIGHT)
    left = _left_edge(story)
    scale = OrderScale.of([columns], left + 34, LANES_RIGHT - 30, 1.2)
    colours = palette(story.roster)
    first = columns[0][0].step if columns else 0
    places = (left, LANES_RIGHT, 26, HEIGHT)
    _Low(board, story, scale, 0, colours, *places, alone=False, first=first).draw()
    left_out = len(whole.users) - len(story.users)
    words = f"{left_out} more users not drawn" if left_out else ""
    finding = _title(board, spacetime_finding([whole]), words, tier([story]))
    return board.finish(finding, "", story.table())


def newest(story: Story, numbers: dict[str, int]) -> tuple[Story, list[_Event]]:
    """What the last dozen columns of events are about, and these events.

    Args:
        numbers: message -> its number; after 99 they begin again with 1.
    """
    columns = _columns(events(story, story.flights))
    if not columns:
        return story, columns
    first = columns[0][0].step
    shown = {id for _, _, id in columns if id}
    sends = tuple(
        replace(send, number=(numbers.get(send.id, send.number) - 1) % 99 + 1)
        for send in story.sends
        if send.id in shown
    )
    by_id = {send.id: send for send in sends}
    flights = tuple(
        replace(flight, send=by_id[flight.send.id])
        for flight in story.flights
        if flight.send.id in shown
    )
    users = set(story.users) if len(story.users) <= 3 else _involved(story, first, shown)
    return replace(
        story,
        users=tuple(user for user in story.roster if user in users),
        sends=sends,
        flights=flights,
        absences=tuple(a for a in story.absences if not _before(a.ended, first)),
        faults=tuple(f for f in story.faults if not _before(f.ended, first)),
    ), columns


def _with_lanes(story: Story, wanted: Sequence[str]) -> Story:
    """The same with five users at most: those wanted first, then the lab's first."""
    if len(story.users) <= MOST_USERS:
        return story
    there = dict.fromkeys([u for u in wanted if u in story.users] + list(story.users))
    users = set(list(there)[:MOST_USERS])
    return replace(
        story,
        users=tuple(user for user in story.users if user in users),
        sends=tuple(send for send in story.sends if send.sender in users),
        flights=tuple(f for f in story.flights if {f.send.sender, f.receiver} <= users),
        absences=tuple(a for a in story.absences if a.user in users),
    )


def _before(ended: Moment | None, first: int) -> bool:
    return ended is not None and ended.step < first


def _involved(story: Story, first: int, shown: set[str]) -> set[str]:
    flights = [f for f in story.flights if f.send.id in shown]
    found = {f.send.sender for f in flights} | {f.receiver for f in flights}
    found |= {send.sender for send in story.sends if send.id in shown}
    return found | {a.user for a in story.absences if not _before(a.ended, first)}


def _columns(found: list[_Event]) -> list[_Event]:
    """The events of the last columns: sights of one message in a row share one."""
    count, before = 0, ("", "")
    for number in range(len(found) - 1, -1, -1):
        _, kind, id = found[number]
        if not (kind == "seen" and before == ("seen", id)):
            count += 1
        if count > COLUMNS:
            return found[number + 1 :]
        before = (kind, id)
    return found


def _left_edge(story: Story) -> float:
    """Where the lanes begin: right of the widest name."""
    widest = [
        name_width(lane.name)
        if lane.kind == "user"
        else min(text_width(lane.name, 11), STORE_WIDTH)
        for lane in (lanes(story, story.users) if story.users else ())
    ]
    return max(_NAMES_LEFT, LEFT + max(widest, default=0.0) + 9)


def _title(board: Board, findings: Sequence[str], words: str, tier: str) -> str:
    """The first finding that fits; at the right ``words``, and the badge unless it is real."""
    badge = "" if tier in ("real", "") else tier.upper()
    right: float = RIGHT
    if badge:
        left = RIGHT - text_width(badge, 10, bold=True) - 14
        board.box(left, 6, RIGHT, 26, "#fff3cd", edge="#b58900")
        middle = (left + RIGHT) / 2
        board.text(middle, 16, badge, size=10, bold=True, ha="center", color="#6b5200")
        right = left - 10
    if words:
        board.text(right, 16, words, size=9, ha="right", color=SOFT)
        right -= text_width(words, 9) + 10
    room = right - LEFT
    finding = next((f for f in findings if text_width(f, 13, bold=True) <= room), findings[-1])
    shown = fit(finding, room, 13, bold=True)
    board.text(LEFT - 8, 16, shown, size=13, bold=True, color="black")
    return finding
