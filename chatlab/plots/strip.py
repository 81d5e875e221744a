"""One strip of the space-time picture: lanes, absences, faults, every message a line."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from chatlab.messages import INSULTS
from chatlab.plots import bands
from chatlab.plots.board import Board
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.lanes import Lane, heights, lanes, span, waits
from chatlab.plots.scale import OrderScale, TimeScale
from chatlab.plots.story import Flight, Moment, Send, Story
from chatlab.plots.style import (
    GREY,
    INK,
    LABEL,
    LOSS,
    RIGHT,
    RULE,
    SOFT,
    on,
    pale,
)
from chatlab.plots.words import fault_words

#: Beyond these, bands with counts.
MOST_USERS = 5
MOST_MESSAGES = 40

#: Diameters in pixels.
DISC, DOT = 25.0, 11.0
#: Where lanes end, and the widest names at their left, in pixels.
LANES_RIGHT, NAME_WIDTH, STORE_WIDTH = 874.0, 150.0, 160.0
#: Between the names of faults that would overlap, in pixels.
FAULT_ROW = 18.0


def is_banded(story: Story) -> bool:
    """Too much for single lines?"""
    return len(story.users) > MOST_USERS or len(story.sends) > MOST_MESSAGES


def refused(story: Story) -> set[str]:
    """The ids of messages that reached nobody, as their senders were told."""
    told = {send.id for send in story.sends if send.outcome in ("refused", "returned")}
    return told - {flight.send.id for flight in story.flights}


def name_width(user: str) -> float:
    return min(text_width(user, 13, bold=True), NAME_WIDTH) + 24


@dataclass
class Strip:
    """One story between ``y0`` and ``y1``."""

    #: Discs of these diameters hold a number of one digit, of two; its size in points.
    HOLD: ClassVar[tuple[float, float]] = (19, 22.5)
    NUMBER: ClassVar[float] = LABEL
    #: Most rows of names of faults below the first.
    FAULT_ROWS: ClassVar[int] = 3
    #: Size of what is said of a store, and how far from its bars: of what waited (towards
    #: the sender) and of what still waits (towards the receiver).
    STORE: ClassVar[tuple[float, float, float]] = (11.5, 21, 19)

    board: Board
    story: Story
    scale: OrderScale | TimeScale
    number: int
    colours: dict[str, str]
    left: float
    right: float
    y0: float
    y1: float
    alone: bool
    #: Where the strip's heading ends; the names of faults stand right of it, or below.
    heading: float = 0.0

    def draw(self) -> None:
        self._faults()
        if not self.story.users:
            self._say((self.y0 + self.y1) / 2, "nothing happened in this scene")
        elif is_banded(self.story):
            head = (24 if self.alone else 30) + self.lower
            places = (self.left, self.right, self.y0 + head, self.y1 - 8)
            bands.draw(self.board, self.story, self.colours, self._x, places)
        else:
            self._lanes()

    def _x(self, moment: Moment) -> float:
        return self.scale.x(self.number, moment)

    def _say(self, y: float, words: str) -> None:
        middle = (self.left + self.right) / 2
        self.board.text(middle, y, words, size=13, color=SOFT, ha="center", halo=True)

    def _rows(self) -> list[Lane]:
        """The lanes from top to bottom."""
        return lanes(self.story)

    def _room(self) -> tuple[float, float]:
        """The y of the first lane and of the last."""
        timed = 16 if isinstance(self.scale, TimeScale) else 0
        top = self.y0 + (56 if self.alone else 46) + self.lower
        bottom = self.y1 - (46 + timed if self.alone else 22)
        if self.alone and (bottom - top) < 36 * span(self.rows):
            top -= 12 if self.story.faults else 24
            bottom += 6
        return top, bottom

    def _lanes(self) -> None:
        self.rows = self._rows()
        ys = heights(self.rows, *self._room(), 100)
        self.gap = min((b - a for a, b in pairwise(ys)), default=100.0)
        self.user_y = {
            r.name: y for r, y in zip(self.rows, ys, strict=True) if r.kind == "user"
        }
        self.store_y = {
            (row.chat, row.receiver): y
            for row, y in zip(self.rows, ys, strict=True)
            if row.kind == "store"
        }
        for row, y in zip(self.rows, ys, strict=True):
            self._lane(row, y)
        self._absences()
        if not self.story.sends:
            # Between two lanes, or above the only one.
            self._say(
                (ys[0] + ys[1]) / 2 if len(ys) > 1 else ys[0] - 24, "no messages were sent"
            )
            return
        self._sizes()
        self.refused = refused(self.story)
        bars = self._bars()
        for flight in self.story.flights:
            self._flight(flight, bars)
        for send in self.story.sends:
            self._send(send)

    def _lane(self, row: Lane, y: float) -> None:
        if row.kind == "store":
            ends = (self.left, y), (self.right, y)
            self.board.line(*ends, color=RULE, width=1.2, dashed=True)
            name = next(
                (n for n in row.names if text_width(n, 11) <= STORE_WIDTH), row.names[-1]
            )
            name = fit(name, STORE_WIDTH, 11)
            self.board.text(self.left - 9, y, name, color=GREY, ha="right")
            return
        colour = self.colours[row.name]
        self.board.line((self.left, y), (self.right, y), color=colour, width=3)
        widest = max(name_width(user) for user in self.user_y)
        self.board.chip_name(
            *(row.name, colour, self.left - 9, y, self.left - 9 - widest), width=NAME_WIDTH
        )

    # -- background ------------------------------------------------------------------------

    def _faults(self) -> None:
        clear = [self.heading, *[0.0] * self.FAULT_ROWS]
        #: How far the names of faults push what is below them.
        self.lower = 0.0
        for fault in self.story.faults:
            x0 = self._x(fault.began)
            x1 = max(self._x(fault.ended) if fault.ended else self.right, x0 + 8)
            self.board.column(x0, x1, self.y0 + 24, self.y1, z=0.5)
            words = fault_words(fault.fault, fault.target)
            half = text_width(words, 11) / 2
            middle = min(max((x0 + x1) / 2, self.left + half), RIGHT - half)
            row = next((row for row, end in enumerate(clear) if end < middle - half), None)
            if row is not None:
                y = self.y0 + 14 + FAULT_ROW * row
                self.board.text(middle, y, words, color=SOFT, ha="center", halo=True)
                clear[row] = middle + half + 8
                self.lower = max(self.lower, FAULT_ROW * row)

    def _absences(self) -> None:
        half = min(17.5, self.gap * 0.3)
        lowest = max(self.user_y.values())
        clear: dict[str, float] = defaultdict(float)
        for absence in sorted(self.story.absences, key=lambda a: a.began.step):
            y = self.user_y.get(absence.user)
            if y is None:
                continue
            x0 = self._x(absence.began)
            x1 = max(self._x(absence.ended) if absence.ended else self.right, x0 + 10)
            self.board.box(x0, y - half, x1, y + half, "#f0f0f0", hatched=True, z=3)
            chat = absence.chat.partition(":")[2] if self.story.backends else ""
            why = f"not in {chat}" if chat and len(self.story.backends) > 1 else absence.why
            below = (y == lowest and self.alone) or self.gap > 95
            for words in (f"{absence.user} {why}", why):
                width = text_width(words, 11)
                middle = min(max((x0 + x1) / 2, self.left + width / 2), RIGHT - width / 2)
                fits = width < 200 and (below or width < x1 - x0 - 8)
                if fits and middle - width / 2 > clear[absence.user]:
                    place = y + half + 14 if below else y
                    self.board.text(middle, place, words, color=SOFT, ha="center", halo=True)
                    clear[absence.user] = middle + width / 2 + 8
                    break

    # -- messages --------------------------------------------------------------------------

    def _sizes(self) -> None:
        """Discs as large as their neighbours on the same lane allow."""
        places: dict[str, list[float]] = defaultdict(list)
        for send in self.story.sends:
            places[send.sender].append(self._x(send.when))
        distances = [
            after - before
            for xs in places.values()
            for before, after in zip(sorted(xs), sorted(xs)[1:], strict=False)
        ]
        closest = max(min(distances, default=DISC), 9.0)
        self.every = 1 if closest > 22 or len(self.story.sends) < 10 else 5
        self.clear: dict[str, float] = defaultdict(float)
        self.disc = min(DISC, closest * 0.94, self.gap * 0.68)
        # All numbers stand in their discs, or none does.
        most = max(send.number for send in self.story.sends)
        self.inside = self.disc >= self.HOLD[most > 9]
        self.dot = min(DOT, max(self.disc * 0.55, 5.0))
        unit = self.scale.unit if isinstance(self.scale, OrderScale) else 22.0
        self.enter, self.leave = min(35.0, unit * 0.7), min(20.0, unit * 0.45)

    def _send(self, send: Send) -> None:
        x, y, colour = self._x(send.when), self.user_y[send.sender], self.colours[send.sender]
        self.board.discs([(x, y)], self.disc, colour, z=6)
        if self.inside:
            self.board.text(
                *(x, y, str(send.number)),
                size=self.NUMBER,
                bold=True,
                color=on(colour),
                ha="center",
                z=7,
            )
        elif send.number % self.every == 0 or send.number == 1:
            half = text_width(str(send.number), 11) / 2
            if self.clear[send.sender] < x - half:
                up = y - self.disc / 2 - 9
                self.board.text(x, up, str(send.number), ha="center", halo=True, z=7)
                self.clear[send.sender] = x + half + 5
        if send.id in self.refused:
            end = (x + self.enter * 0.6, y + 30)
            self.board.line((x, y), end, color=GREY, width=1.6, z=3)
            self.board.crosses([end], size=10, color=GREY, width=2.6)

    def _bars(self) -> dict[tuple[str, str], tuple[float, float, float]]:
        """(id, receiver) -> begin, end and y of each waiting bar; draws bars and labels."""
        stores: dict[tuple[str, str], list[Flight]] = defaultdict(list)
        for flight in self.story.flights:
            if waits(flight):
                stores[self._store(flight)].append(flight)
        placed: dict[tuple[str, str], tuple[float, float, float]] = {}
        for store, flights in stores.items():
            for cluster in self._clusters(flights):
                self._cluster(store, cluster, placed)
        return placed

    def _store(self, flight: Flight) -> tuple[str, str]:
        return flight.send.chat, "" if flight.send.chat == INSULTS else flight.receiver

    def _span(self, flight: Flight) -> tuple[float, float]:
        begin = self._x(flight.send.when)
        if flight.seen is None:
            return begin + self.enter, self.right
        end = self._x(flight.seen)
        enter = min(begin + self.enter, (begin + end) / 2)
        return enter, max(end - self.leave, enter + 1)

    def _clusters(self, flights: list[Flight]) -> list[list[Flight]]:
        """Flights whose bars overlap stand above one another."""
        found: list[list[Flight]] = []
        reach = 0.0
        for flight in flights:
            begin, end = self._span(flight)
            if not found or begin > reach:
                found.append([])
                reach = end
            found[-1].append(flight)
            reach = max(reach, end)
        return found

    def _cluster(
        self,
        store: tuple[str, str],
        cluster: list[Flight],
        placed: dict[tuple[str, str], tuple[float, float, float]],
    ) -> None:
        centre = self.store_y[store]
        sender_y = self.user_y[cluster[0].send.sender]
        up = -1.0 if sender_y < centre else 1.0  # towards the sender
        spread = min(8.5, self.gap * 0.8 / len(cluster))
        for number, flight in enumerate(cluster):
            begin, end = self._span(flight)
            y = centre + up * (number - (len(cluster) - 1) / 2) * spread
            placed[flight.send.id, flight.receiver] = (begin, end, y)
            colour = pale(self.colours[flight.send.sender], 0.62)
            self.board.line(
                (begin, y), (end, y), color=colour, width=min(6, spread * 0.7), z=3.5
            )
        still = [flight for flight in cluster if flight.fate == "waiting"]
        box = "mailbox" if store[0].startswith("private:") else "queue"
        words = f"{len(cluster)} {'wait' if len(cluster) > 1 else 'waits'} in the {box}"
        if still and len(still) == len(cluster):
            words = words.replace("wait", "still wait", 1)
        size, away, still_away = self.STORE
        if still:  # nothing leaves the bar: there is room on the receiver's side
            y = placed[cluster[0].send.id, cluster[0].receiver][2] - up * still_away
            self.board.text(self.right, y, words, size=size, ha="right", halo=True, z=8)
            return
        begin, end, y = placed[cluster[-1].send.id, cluster[-1].receiver]
        x = min(begin + 16, RIGHT - text_width(words, size))
        self.board.text(x, y + up * away, words, size=size, halo=True, z=8)

    def _flight(
        self, flight: Flight, bars: dict[tuple[str, str], tuple[float, float, float]]
    ) -> None:
        send = flight.send
        start = self._x(send.when), self.user_y[send.sender]
        colour = self.colours[send.sender]
        bar = bars.get((send.id, flight.receiver))
        if bar is not None:
            begin, end, y = bar
            self.board.line(start, (begin, y), color=colour, width=2, z=4)
            start = (end, y)
        if flight.seen is None:
            if bar is None:
                self._unseen(flight, start)
            return
        spot = (self._x(flight.seen), self.user_y[flight.receiver])
        start = self._holder(flight) or start
        if flight.receiver != send.sender or bar is not None:
            short = self.dot / 2 - 1
            self.board.arrow(start, spot, colour, dashed=flight.marked, short=short)
        self.board.discs([spot], self.dot, colour, hollow=flight.marked)
        for when in flight.again:
            self._again(spot, self._x(when), colour)

    def _holder(self, flight: Flight) -> tuple[float, float] | None:
        """Where an insult was before it was taken back and handed to another member."""
        if not flight.marked or flight.send.chat != INSULTS or flight.seen is None:
            return None
        for other in self.story.flights:
            held = other.send.id == flight.send.id and other.receiver != flight.receiver
            if held and other.seen and other.seen.step < flight.seen.step:
                return self._x(other.seen), self.user_y[other.receiver]
        return None

    def _again(self, first: tuple[float, float], x: float, colour: str) -> None:
        """A second copy: a dashed line beside the lane, a hollow dot on it."""
        y = first[1]
        dip = min(20.0, self.gap * 0.35)
        corner = (max(first[0], x - 14), y + dip)
        self.board.line(first, (first[0] + 10, y + dip), corner, color=colour, dashed=True, z=4)
        self.board.arrow(corner, (x, y), colour, dashed=True, short=self.dot / 2 - 1)
        self.board.discs([(x, y)], self.dot, colour, hollow=True)

    def _unseen(self, flight: Flight, start: tuple[float, float]) -> None:
        """Lost: a red line that ends in ×. Under way or unknown: a grey one that stops."""
        x, y = start
        goal = self.user_y.get(flight.receiver, y)
        up = 1.0 if goal < y else -1.0
        end = (x + self.enter, goal + up * min(27.0, self.gap * 0.45))
        if flight.fate == "lost":
            self.board.line(start, end, color=LOSS, width=2, z=4)
            self.board.crosses([end], size=min(13.0, self.disc * 0.6 + 2))
            return
        half = (x + self.enter * 0.7, y + (goal + up * 6 - y) * 0.7)
        self.board.arrow(start, half, GREY, dashed=True, short=0, width=1.6, head=8)
        mark = "?" if flight.fate == "unknown" else "…"
        self.board.text(half[0] + 8, half[1], mark, color=INK, bold=True, halo=True)
