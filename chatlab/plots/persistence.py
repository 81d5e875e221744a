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
from chatlab.plots.scale import AxisKind, OrderScale, TimeScale, events
from chatlab.plots.story import Flight, Story
from chatlab.plots.style import (
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

#: Where the bands end at the most, and the widest names at their left, in pixels.
_BANDS_RIGHT, _NAME_WIDTH = 774.0, 150.0
#: Above the bands of a strip: its title; below them, where there are any: names of faults.
_HEAD, _FAULTS_ROOM = 34.0, 20.0


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
    around = sum(map(_around, strips))
    needed = (
        52 + 80 + around + sum(26 * (1 + len(s.tallies)) + 18 * len(s.tallies) for s in strips)
    )
    board = Board(ax, max(HEIGHT, needed))
    whole = [read(scene) for scene in scenes]
    colours = palette(user for story in whole for user in story.roster)
    widest = max((text_width(_label(s), 13, bold=True) for s in strips), default=0.0)
    names = [t.receiver for s in strips for t in s.tallies]
    widest = max([widest, *(text_width(name, 13, bold=True) for name in names)])
    left = max(117.0, LEFT + min(widest, _NAME_WIDTH) + 34)
    right = _right(strips)
    drawn = [
        events(story, [f for f in story.flights if f.fate == "waited"]) for story in stories
    ]
    inner = (left + 36, right - 30)
    scale: OrderScale | TimeScale
    if axis == "order":
        scale = OrderScale.of(drawn, *inner, return_units=0.8)
    else:
        scale = TimeScale.of(drawn, *inner)
    if strips:
        floor = board.height - 80
        spare = (floor - 52 - around) / (
            bands + 0.6 * (bands - len(strips)) + 0.5 * len(strips)
        )
        thick = min(36.0 if len(strips) > 1 else 52.0, spare)
        talls = [_around(s) + thick * (1.5 + 1.6 * len(s.tallies)) for s in strips]
        room = (floor - 52 - sum(talls)) / len(strips)
        y = 52.0
        for number, (strip, tall) in enumerate(zip(strips, talls, strict=True)):
            drawer = _Drawer(board, strip, scale, number, colours, left, right, thick, widest)
            drawer.draw(y + room / 2)
            y += tall + room
        _axis(board, stories, scale, left, right, floor)
    else:
        middle = board.height / 2
        board.text(450, middle, "no messages were sent", size=13, color=SOFT, ha="center")
    marks = _legend(strips)
    line = caption(stories or whole, *marks, backends=False)
    finding = board.frame(persistence_finding(strips), line, tier(whole))
    return board.finish(finding, line, [row for story in stories for row in story.table()])


def _around(strip: Strip) -> float:
    """The height of a strip beyond its bands, in pixels."""
    return _HEAD + (_FAULTS_ROOM if strip.story.faults else 0.0)


def _right(strips: Sequence[Strip]) -> float:
    """Where the bands end: left of the widest count."""
    counts = [text_width(_seen(t), 16, bold=True) for s in strips for t in s.tallies]
    notes = [text_width(_note(t), 11) for s in strips for t in s.tallies if _alone(s)]
    return min(_BANDS_RIGHT, RIGHT - 13 - max([*counts, *notes], default=0.0))


def _alone(strip: Strip) -> bool:
    return len(strip.tallies) == 1


def _seen(tally: Tally) -> str:
    return f"{tally.seen:,} of {tally.sent:,}"


def _note(tally: Tally) -> str:
    """What became of the others, in small letters."""
    if tally.waiting:
        return f"{tally.waiting:,} still wait{'s' if tally.waiting == 1 else ''}"
    return f"{tally.refused:,} refused" if tally.refused else ""


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
    board: Board,
    stories: Sequence[Story],
    scale: OrderScale | TimeScale,
    left: float,
    right: float,
    y: float,
) -> None:
    board.line((left, y), (right, y), color=RULE, width=1.2)
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
    board.text((left + right) / 2, y + 36, words, color=SOFT, ha="center")


def _numbers(stories: Sequence[Story], scale: OrderScale) -> list[tuple[float, str]]:
    """A tick per message, or per round number where they would touch."""
    most = max(range(len(stories)), key=lambda number: len(stories[number].sends))
    places = [(scale.x(most, send.when), send.number) for send in stories[most].sends]
    apart = text_width(f"{len(places):,}", 11) + 10
    for step in (n * 10**power for power in range(9) for n in (1, 2, 5)):
        shown = [place for place in places if place[1] % step == 0 or place[1] == 1]
        # The first of all gives way to the first round number.
        if len(shown) > 1 and shown[1][0] - shown[0][0] < apart:
            del shown[0]
        if all(b[0] - a[0] >= apart for a, b in pairwise(shown)):
            break
    return [(x, f"{number:,}") for x, number in shown]


@dataclass
class _Drawer:
    """One strip, its title at the top."""

    board: Board
    strip: Strip
    scale: OrderScale | TimeScale
    number: int
    colours: dict[str, str]
    left: float
    right: float
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
            self._count(tally, (top + bottom) / 2 if _alone(strip) else at)

    def _band(self, name: str, colour: str, y: float) -> None:
        half = self.thick / 2
        self.board.box(self.left, y - half, self.right, y + half, pale(colour, 0.75))
        chip = self.left - 10 - min(self.widest, _NAME_WIDTH) - 23
        self.board.chip_name(name, colour, self.left - 10, y, chip, width=_NAME_WIDTH)

    def _faults(self, top: float, bottom: float) -> None:
        clear = 0.0
        for fault in self.strip.story.faults:
            x0 = self.scale.x(self.number, fault.began)
            x1 = self.scale.x(self.number, fault.ended) if fault.ended else self.right
            x1 = max(x1, x0 + 8)
            self.board.column(x0, x1, top, bottom, z=1.2)
            words = fault_words(fault.fault, fault.target)
            half = text_width(words, 11) / 2
            middle = max((x0 + x1) / 2, self.left + half, clear + half)
            if middle + half <= RIGHT:
                self.board.text(middle, bottom + 10, words, color=SOFT, ha="center", halo=True)
                clear = middle + half + 12

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
                x1 = self.scale.x(self.number, absence.ended) if absence.ended else self.right
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
            x1 = self.scale.x(self.number, flight.seen) if flight.seen else self.right
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
        x = self.right + 13
        if not _alone(self.strip):
            self.board.text(x, y, _seen(tally), size=16, bold=True, color=colour)
            return
        for words, place in ((_seen(tally), y - 13.5), ("seen", y + 13.5)):
            self.board.text(x, place, words, size=16, bold=True, color=colour)
        self.board.text(x, y + 36, _note(tally), color=colour)


__all__ = ["account", "persistence"]
