"""The persistence picture: the same sends, a strip per backend or scene.

In each strip the senders' band stands above that of each receiver who was absent (hatched).
Vertical link = seen at once, pale track = waited, red × = never seen, grey × = refused. At
the right: how many of the messages sent were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes

from chatlab.plots.board import Board
from chatlab.plots.events import read, sources
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.scale import AxisKind, OrderScale, TimeScale, events, round_up
from chatlab.plots.story import Flight, Story
from chatlab.plots.style import (
    FAULT,
    GOOD,
    GREY,
    HEIGHT,
    INK,
    LEFT,
    LOSS,
    RIGHT,
    RULE,
    SOFT,
    own_style,
    pale,
    palette,
)
from chatlab.plots.tallies import Strip, Tally, account, persistence_finding
from chatlab.plots.words import (
    caption,
    duration,
    fault_words,
    named,
    tier,
)

_BANDS_RIGHT = 774.0
_NAME_WIDTH = 150.0


@own_style()
def persistence(*scenes: object, axis: AxisKind = "order", ax: Axes | None = None) -> Axes:
    """Draw who saw what of the same sends, across an absence.

    Args:
        axis: ``"order"``: messages in order; ``"time"``: seconds, gaps over 1 s cut.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: something given is no scene, run or journal.
    """
    strips = account(*sources(scenes))
    stories = [strip.story for strip in strips]
    bands = sum(1 + len(strip.tallies) for strip in strips)
    needed = 52 + 80 + sum(34 + 26 * (1 + len(s.tallies)) + 18 * len(s.tallies) for s in strips)
    board = Board(ax, max(HEIGHT, needed))
    whole = [read(scene) for scene in scenes]
    colours = palette(user for story in whole for user in story.roster)
    widest = max((text_width(_label(s), 13, bold=True) for s in strips), default=0.0)
    names = [t.receiver for s in strips for t in s.tallies]
    widest = max([widest, *(text_width(name, 13, bold=True) for name in names)])
    left = max(117.0, LEFT + min(widest, _NAME_WIDTH) + 34)
    drawn = [
        events(story, [f for f in story.flights if f.fate == "waited"]) for story in stories
    ]
    inner = (left + 36, _BANDS_RIGHT - 30)
    scale: OrderScale | TimeScale
    if axis == "order":
        scale = OrderScale.of(drawn, *inner, return_units=0.8)
    else:
        scale = TimeScale.of(drawn, *inner)
    if strips:
        floor = board.height - 80
        spare = (floor - 52 - 34 * len(strips)) / (
            bands + 0.6 * (bands - len(strips)) + 0.5 * len(strips)
        )
        thick = min(36.0 if len(strips) > 1 else 52.0, spare)
        y = 52.0
        for number, strip in enumerate(strips):
            tall = 34 + thick * (1 + 1.6 * len(strip.tallies) + 0.5)
            room = (
                floor - 52 - sum(34 + thick * (1.5 + 1.6 * len(s.tallies)) for s in strips)
            ) / len(strips)
            drawer = _Drawer(board, strip, scale, number, colours, left, thick, widest)
            drawer.draw(y + room / 2)
            y += tall + room
        _axis(board, stories, scale, left, floor)
    else:
        middle = board.height / 2
        board.text(450, middle, "no messages were sent", size=13, color=SOFT, ha="center")
    marks = _legend(strips)
    line = caption(stories or whole, *marks, backends=False)
    finding = board.frame(persistence_finding(strips), line, tier(whole))
    return board.finish(finding, line, [row for story in stories for row in story.table()])


def _label(strip: Strip) -> str:
    words = named(strip.senders)
    if len(strip.senders) < 2 or text_width(words, 13, bold=True) <= _NAME_WIDTH:
        return words
    return f"{len(strip.senders)} users"


def _legend(strips: Sequence[Strip]) -> list[str]:
    absences = [absence for strip in strips for absence in strip.story.absences]
    who = list(dict.fromkeys(absence.user for absence in absences))
    words = [f"hatched = {named(who)} {_why(absences)}"] if absences else []
    if any(tally.lost for strip in strips for tally in strip.tallies):
        words.append("× = never seen")
    if any(tally.refused for strip in strips for tally in strip.tallies):
        words.append("grey × = refused, the sender was told")
    return words


def _why(absences: Sequence[Any]) -> str:
    whys = {absence.why for absence in absences}
    return str(whys.pop()) if len(whys) == 1 else "absent"


def _axis(
    board: Board, stories: Sequence[Story], scale: OrderScale | TimeScale, left: float, y: float
) -> None:
    board.line((left, y), (_BANDS_RIGHT, y), color=RULE, width=1.2)
    ticks = _numbers(stories, scale) if isinstance(scale, OrderScale) else scale.ticks()
    for x, label in ticks:
        board.line((x, y), (x, y + 5), color=GREY, width=1.2)
        board.text(x, y + 16, label, color=SOFT, ha="center")
    passed = " and ".join(dict.fromkeys(duration(story.seconds) for story in stories[:3]))
    words = "seconds (idle gaps cut)"
    if isinstance(scale, OrderScale):
        words = f"messages in order  (real time passed: {passed})"
    else:
        for begin, end, _ in scale.cuts():
            x = (begin + end) / 2
            board.box(x - 4, y - 3, x + 4, y + 3, "white", z=3)
            for shift in (-6, 2):
                board.line((x + shift, y + 6), (x + shift + 5, y - 6), color=GREY, z=4)
    board.text((left + _BANDS_RIGHT) / 2, y + 36, words, color=SOFT, ha="center")


def _numbers(stories: Sequence[Story], scale: OrderScale) -> list[tuple[float, str]]:
    """A tick per message, or per round number where they would touch."""
    most = max(range(len(stories)), key=lambda number: len(stories[number].sends))
    sends = stories[most].sends
    apart = text_width(f"{len(sends):,}", 11) + 10
    step = max(round_up(len(sends) * apart / (scale.right - scale.left)), 1)
    found: list[tuple[float, str]] = []
    for send in sends:
        if send.number == 1 or send.number % step == 0:
            x = scale.x(most, send.when)
            if not found or x - found[-1][0] >= apart:
                found.append((x, f"{send.number:,}"))
    return found


@dataclass
class _Drawer:
    """One strip, its title at the top."""

    board: Board
    strip: Strip
    scale: OrderScale | TimeScale
    number: int
    colours: dict[str, str]
    left: float
    thick: float
    widest: float

    def draw(self, y: float) -> None:
        board, strip = self.board, self.strip
        heading = fit(strip.title, 420, 12.5)
        board.text(self.left, y + 16, heading, size=12.5, color="black")
        note_left = self.left + text_width(heading, 12.5) + 14
        faults = [self.scale.x(self.number, fault.began) for fault in strip.story.faults]
        note_right = min([RIGHT, *(x - 8 for x in faults)])  # what broke is named there
        board.text(note_left, y + 16, fit(strip.note, note_right - note_left, 11), color=GREY)
        top = y + 32
        sender_y = top + self.thick / 2
        bottom = top + self.thick * (1 + 1.6 * len(strip.tallies))
        self._faults(top - 4, bottom + 4)
        shade = self.colours[strip.senders[0]] if len(strip.senders) == 1 else "#8c959f"
        self._band(_label(strip), shade, sender_y)
        self._sends(sender_y)
        for place, tally in enumerate(strip.tallies):
            at = top + self.thick * (1.6 * (place + 1) + 0.5)
            self._receiver(tally, sender_y, at)
            self._count(tally, at if len(strip.tallies) > 1 else (top + bottom) / 2)

    def _band(self, name: str, colour: str, y: float) -> None:
        half = self.thick / 2
        self.board.box(self.left, y - half, _BANDS_RIGHT, y + half, pale(colour, 0.75))
        chip = self.left - 10 - min(self.widest, _NAME_WIDTH) - 23
        self.board.chip_name(name, colour, self.left - 10, y, chip, width=_NAME_WIDTH)

    def _faults(self, top: float, bottom: float) -> None:
        for fault in self.strip.story.faults:
            x0 = self.scale.x(self.number, fault.began)
            x1 = self.scale.x(self.number, fault.ended) if fault.ended else _BANDS_RIGHT
            self.board.box(x0, top, max(x1, x0 + 8), bottom, FAULT, z=1.2)
            words = fault_words(fault.fault, fault.target)
            self.board.text(x0, top - 10, words, color=SOFT, halo=True)

    def _sizes(self) -> tuple[float, float]:
        xs = sorted(self.scale.x(self.number, send.when) for send in self.strip.story.sends)
        closest = min((b - a for a, b in pairwise(xs)), default=15.0)
        disc = min(15.0, max(closest * 0.85, 3.0), self.thick * 0.6)
        return disc, min(13.0, disc)

    def _sends(self, y: float) -> None:
        sends = self.strip.story.sends
        places = [(self.scale.x(self.number, send.when), y) for send in sends]
        self.board.discs(places, self._sizes()[0], [self.colours[s.sender] for s in sends])

    def _receiver(self, tally: Tally, sender_y: float, y: float) -> None:
        board, story = self.board, self.strip.story
        half = self.thick / 2
        self._band(tally.receiver, self.colours[tally.receiver], y)
        for absence in story.absences:
            if absence.user == tally.receiver:
                x0 = self.scale.x(self.number, absence.began)
                x1 = self.scale.x(self.number, absence.ended) if absence.ended else _BANDS_RIGHT
                board.box(x0, y - half, max(x1, x0 + 5), y + half, "white", hatched=True, z=1.5)
        flights = [flight for flight in story.flights if flight.receiver == tally.receiver]
        links, shades, dots, dot_shades, crosses, refusals = [], [], [], [], [], []
        disc, dot = self._sizes()
        for flight in flights:
            x, shade = (
                self.scale.x(self.number, flight.send.when),
                self.colours[flight.send.sender],
            )
            if flight.fate == "at once":
                links.append([(x, sender_y), (x, y)])
                shades.append(shade)
                dots.append((x, y))
                dot_shades.append(shade)
            elif flight.fate == "lost":
                links.append([(x, sender_y), (x, y - half - 9)])
                shades.append(LOSS)
                crosses.append((x, y - half - 9))
            elif flight.fate == "refused":
                refusals.append((x, sender_y + half + 9))
        board.lines(links, shades, width=min(2.0, disc / 4), z=4)
        size, width = min(15.0, disc * 1.05), min(3.6, disc / 4)
        board.crosses(crosses, size=size, width=width)
        board.crosses(refusals, size=size * 0.7, color=GREY, width=width * 0.8)
        waits = [f for f in flights if f.fate in ("waited", "waiting")]
        self._tracks(waits, sender_y, y, disc, dots, dot_shades)
        board.discs(dots, dot, dot_shades)

    def _tracks(
        self,
        waits: list[Flight],
        sender_y: float,
        y: float,
        disc: float,
        dots: list[tuple[float, float]],
        shades: list[str],
    ) -> None:
        """Each waits on a line of its own, the first lowest."""
        room = self.thick * 0.6
        width = min(2.0, disc / 4)
        stems, stem_colours, tracks, track_colours = [], [], [], []
        spread = min(8.0, room * 0.8 / max(len(waits), 1))
        low = y - self.thick / 2 - room * 0.18
        for number, flight in enumerate(waits):
            colour = self.colours[flight.send.sender]
            x0 = self.scale.x(self.number, flight.send.when)
            x1 = self.scale.x(self.number, flight.seen) if flight.seen else _BANDS_RIGHT
            at = low - number * spread
            stems.append([(x0, sender_y), (x0, at)])
            stem_colours.append(colour)
            tracks.append([(x0 - 1, at), (x1 + 1, at)])
            track_colours.append(pale(colour, 0.62))
            if flight.seen:
                stems.append([(x1, at), (x1, y)])
                stem_colours.append(colour)
                dots.append((x1, y))
                shades.append(colour)
        self.board.lines(tracks, track_colours, width=min(5, spread * 0.7), z=3)
        self.board.lines(stems, stem_colours, width=width, z=4)

    def _count(self, tally: Tally, y: float) -> None:
        colour = LOSS if tally.lost else GOOD if tally.seen == tally.sent else INK
        first, second = f"{tally.seen:,} of {tally.sent:,}", "seen"
        room = RIGHT - _BANDS_RIGHT - 10
        alone = len(self.strip.tallies) == 1
        if alone and text_width(first, 16, bold=True) > room:
            first, second = f"{tally.seen:,} of", f"{tally.sent:,} seen"
        if not alone:
            second = ""
        lines = [words for words in (first, second) if words]
        if tally.waiting and alone:
            lines.append(f"{tally.waiting:,} still wait")
        elif tally.refused and alone:
            lines.append(f"{tally.refused:,} refused")
        for number, words in enumerate(lines):
            size = 16.0 if number < 2 else 11.0
            if text_width(words, size, bold=True) > room:
                size = 11.0
            place = y + (number - (min(len(lines), 2) - 1) / 2) * 27
            place -= 4 if number == 2 else 0
            x = _BANDS_RIGHT + 13
            self.board.text(x, place, words, size=size, bold=number < 2, color=colour)


__all__ = ["account", "persistence"]
