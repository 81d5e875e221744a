"""Where on the horizontal axis a moment stands. Pure.

Two scales. *Order*: every event shown gets a column, since messages take milliseconds and
cells are minutes apart; several strips agree on the columns of their sends, so that the same
sends stand below one another. *Time*: seconds, with every stretch of more than a second in
which nothing happened cut out and labelled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Literal, Protocol

from chatlab.plots.story import Absence, Fault, Flight, Moment, Story

AxisKind = Literal["order", "time"]
EventKind = Literal["send", "seen", "edge"]

#: A longer stretch without events is cut out of the axis of time, in seconds.
GAP_SECONDS = 1.0
#: Width of a cut, in pixels.
CUT_PIXELS = 46.0
#: Most pixels between two neighbouring columns of the axis of order.
WIDEST_COLUMN = 110.0


class Scale(Protocol):
    """From a moment of strip ``strip`` to an x in pixels."""

    def x(self, strip: int, moment: Moment) -> float: ...


def events(story: Story, flights: Iterable[Flight]) -> list[tuple[Moment, EventKind, str]]:
    """What gets a place on the axis: moment, kind, and the message seen."""
    found: list[tuple[Moment, EventKind, str]] = []
    found += [(send.when, "send", send.id) for send in story.sends]
    for flight in flights:
        found += [
            (when, "seen", flight.send.id) for when in (flight.seen, *flight.again) if when
        ]
    stretches: tuple[Absence | Fault, ...] = (*story.absences, *story.faults)
    for stretch in stretches:
        found += [(when, "edge", "") for when in (stretch.began, stretch.ended) if when]
    return sorted(found)


#: Units between an event and the one before it: (kind before, kind) -> units.
_UNITS: dict[tuple[EventKind, EventKind], float] = {
    ("send", "send"): 0.8,
    ("send", "seen"): 1.0,
    ("send", "edge"): 1.0,
    ("seen", "send"): 1.0,
    ("seen", "seen"): 0.9,
    ("seen", "edge"): 1.0,
    ("edge", "send"): 0.7,
    ("edge", "seen"): 1.0,
    ("edge", "edge"): 0.8,
}


@dataclass
class OrderScale:
    """Columns in the order of events, ``left`` to ``right`` in pixels."""

    left: float
    right: float
    unit: float = field(init=False, default=WIDEST_COLUMN)
    _steps: list[list[int]] = field(init=False, default_factory=list)
    _places: list[list[float]] = field(init=False, default_factory=list)

    @classmethod
    def of(
        cls,
        strips: Sequence[list[tuple[Moment, EventKind, str]]],
        left: float,
        right: float,
        return_units: float = 1.9,
    ) -> OrderScale:
        """Columns for all strips together; the n-th sends of all share one.

        ``return_units`` is the room between a return and the first sight after it.
        """
        scale = cls(left, right)
        units = {**_UNITS, ("edge", "seen"): return_units}
        local = [_columns(strip, units) for strip in strips]
        sends = max((len(anchors) for _, anchors in local), default=0)
        starts: list[float] = []  # of the n-th send, common to all strips
        for number in range(sends):
            before = [
                anchors[number] - (anchors[number - 1] if number else 0.0)
                for _, anchors in local
                if number < len(anchors)
            ]
            starts.append((starts[-1] if starts else 0.0) + max(before))
        for (places, anchors), strip in zip(local, strips, strict=True):
            shifted = []
            for place in places:
                number = bisect_right(anchors, place) - 1
                origin = starts[number] - anchors[number] if number >= 0 else 0.0
                shifted.append(place + origin)
            scale._steps.append([moment.step for moment, _, _ in strip])
            scale._places.append(shifted)
        total = max((places[-1] for places in scale._places if places), default=0.0)
        scale.unit = min((right - left) / total, WIDEST_COLUMN) if total else WIDEST_COLUMN
        return scale

    def x(self, strip: int, moment: Moment) -> float:
        steps, places = self._steps[strip], self._places[strip]
        at = bisect_right(steps, moment.step) - 1
        return self.left + self.unit * (places[at] if 0 <= at < len(places) else 0.0)


def _columns(
    strip: list[tuple[Moment, EventKind, str]],
    units: dict[tuple[EventKind, EventKind], float],
) -> tuple[list[float], list[float]]:
    """Place of each event, in units, and of each send. Sights of one message that follow
    one another share a column; the second end of two absences too."""
    places: list[float] = []
    anchors: list[float] = []
    before: tuple[EventKind, str] | None = None
    place = 0.0
    for _, kind, id in strip:
        if before is not None and not (kind == "seen" and before == ("seen", id)):
            place += units[before[0], kind]
        places.append(place)
        if kind == "send":
            anchors.append(place)
        before = (kind, id)
    return places, anchors


@dataclass
class TimeScale:
    """Seconds since each strip's first event, gaps cut, ``left`` to ``right`` in pixels."""

    left: float
    right: float
    origins: list[float]
    #: Stretches that are drawn: begin and end in seconds, x of the begin.
    pieces: list[tuple[float, float, float]]
    pixels_per_second: float

    @classmethod
    def of(
        cls, strips: Sequence[list[tuple[Moment, EventKind, str]]], left: float, right: float
    ) -> TimeScale:
        origins = [min((m.at for m, _, _ in strip), default=0.0) for strip in strips]
        times = sorted(
            moment.at - origin
            for strip, origin in zip(strips, origins, strict=True)
            for moment, _, _ in strip
        )
        bounds: list[list[float]] = []
        for time in times or [0.0]:
            if bounds and time - bounds[-1][1] <= GAP_SECONDS:
                bounds[-1][1] = time
            else:
                bounds.append([time, time])
        cut = min(CUT_PIXELS, (right - left) / 2 / len(bounds))
        drawn = sum(end - begin for begin, end in bounds)
        room = right - left - cut * (len(bounds) - 1)
        rate = room / drawn if drawn > 0 else 0.0
        pieces, x = [], left
        for begin, end in bounds:
            pieces.append((begin, end, x))
            x += (end - begin) * rate + cut
        return cls(left, right, origins, pieces, rate)

    def x(self, strip: int, moment: Moment) -> float:
        return self.at(moment.at - self.origins[strip])

    def at(self, seconds: float) -> float:
        """The x of a time since the first event; inside a cut: its middle part."""
        number = max(bisect_right(self.pieces, (seconds, float("inf"), 0.0)) - 1, 0)
        begin, end, x = self.pieces[number]
        if seconds <= end or number + 1 == len(self.pieces):
            return x + max(min(seconds, end) - begin, 0.0) * self.pixels_per_second
        following = self.pieces[number + 1]
        edge = x + (end - begin) * self.pixels_per_second
        share = (seconds - end) / (following[0] - end)
        return edge + share * (following[2] - edge)

    def cuts(self) -> list[tuple[float, float, float]]:
        """Each cut: x of its begin and end, and the seconds left out."""
        found = []
        for (begin, end, x), (resumed, _, following) in zip(
            self.pieces, self.pieces[1:], strict=False
        ):
            found.append((x + (end - begin) * self.pixels_per_second, following, resumed - end))
        return found

    def ticks(self, apart: float = 70.0) -> list[tuple[float, str]]:
        """x and label of round seconds at least ``apart`` pixels from one another."""
        if not self.pixels_per_second:
            return [(self.left, "0")]
        step = round_up(apart / self.pixels_per_second)
        digits = max(0, -floor(log10(step) + 1e-9))
        found: list[tuple[float, str]] = []
        for begin, end, _ in self.pieces:
            number = ceil(begin / step - 1e-9)
            while number * step <= end + 1e-9:
                x = self.at(number * step)
                if not found or x - found[-1][0] >= apart * 0.8:
                    found.append((x, f"{number * step:.{digits}f}"))
                number += 1
        return found


def round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 … (times a power of ten)."""
    power = 10.0 ** floor(log10(value))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= value * (1 - 1e-9))
