"""The throughput picture: deliveries a second over time, a strip per run, faults shaded.

Time is cut into at most about sixty stretches of equal length; a stretch stands as high as
the deliveries in it, divided by its length. At the right stands the rate of the whole run,
from the first send to the last delivery (or answer).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from matplotlib.axes import Axes

from chatlab.plots import series
from chatlab.plots.board import Board
from chatlab.plots.events import read, sources
from chatlab.plots.measures import Measures, labels, measure
from chatlab.plots.scale import round_up
from chatlab.plots.story import Story
from chatlab.plots.style import own_style, palette
from chatlab.plots.words import caption, duration, sentence, tier

#: About so many stretches, none shorter than so many seconds.
_STRETCHES, _SHORTEST = 60, 1e-3


@dataclass(frozen=True)
class Pace:
    """The deliveries of one run, in seconds since its first send, in order of time."""

    label: str
    times: tuple[float, ...]
    measures: Measures
    #: Name, begin and end of each fault.
    faults: tuple[tuple[str, float, float | None], ...]

    @property
    def seconds(self) -> float:
        """Until the last delivery, answer and end of a fault."""
        return series.length(self.measures.seconds, self.faults)

    def stalls(self) -> list[tuple[str, float]]:
        """Each fault and the longest time without a delivery that has to do with it: one
        that began before it was over and ended after it began."""
        found = []
        for words, began, ended in self.faults:
            over = self.seconds if ended is None else ended
            gaps = [b - a for a, b in pairwise([0.0, *self.times]) if a <= over and b >= began]
            if ended is None and self.times and self.times[-1] <= over:
                gaps.append(over - self.times[-1])
            found.append((words, max(gaps, default=0.0)))
        return found

    def rates(self, width: float) -> list[tuple[float, float]]:
        """Begin of each stretch of ``width`` seconds, and deliveries a second in it."""
        counts = Counter(int(at / width) for at in self.times)
        last = max(counts, default=-1)
        return [(n * width, counts[n] / width) for n in range(last + 1)] + (
            [((last + 1) * width, 0.0)] if counts else []
        )


@own_style()
def throughput(*runs: object, ax: Axes | None = None) -> Axes:
    """Draw deliveries a second over time.

    Args:
        runs: scenes, runs or journals; several: one strip each on a common axis.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: nothing, or something that is no scene, run or journal.
    """
    stories = [read(run) for run in sources(runs)]
    paces = [
        _pace(label, run, story)
        for label, run, story in zip(labels(stories), runs, stories, strict=True)
    ]
    width = stretch(max(pace.seconds for pace in paces))
    colours = palette(pace.label for pace in paces)
    strips = [_strip(pace, width, colours[pace.label]) for pace in paces]
    board = Board(ax, series.card_height(strips))
    series.draw(board, strips, "deliveries a second")
    notes = [f"counted in stretches of {_width_words(width)}"]
    notes += ["pale red = fault"] if any(pace.faults for pace in paces) else []
    line = caption(stories, *notes, backends=False)
    finding = board.frame(findings(paces), line, tier(stories))
    return board.finish(finding, line, [_row(pace) for pace in paces])


def stretch(seconds: float) -> float:
    """The length of a stretch of a run of so many seconds."""
    return round_up(max(seconds / _STRETCHES, _SHORTEST))


def findings(paces: Sequence[Pace]) -> list[str]:
    """``RabbitMQ killed: no delivery for 9.1 s``, ``… 284 deliveries a second``."""
    busy = [pace for pace in paces if pace.times]
    if not busy:
        return ["Nothing was delivered"]
    stalls = [(words, gap, pace) for pace in busy for words, gap in pace.stalls()]
    if stalls:
        words, gap, pace = max(stalls, key=lambda stall: stall[1])
        where = f" on {pace.label}" if len(paces) > 1 else ""
        most = "up to " if len(paces) > 1 else ""
        return [
            sentence(f"{words}: no delivery for {most}{duration(gap)}{where}"),
            sentence(f"{words}: no delivery for {most}{duration(gap)}"),
        ]
    rates = sorted(busy, key=lambda pace: -pace.measures.rate)
    first, last = rates[0], rates[-1]
    most, least = shown_rate(first.measures.rate), shown_rate(last.measures.rate)
    if len(busy) == 1:
        words = f"{most} deliveries a second"
        return [f"{words} on {first.label}", words]
    return [
        f"{most} deliveries a second on {first.label}, {least} on {last.label}",
        f"From {least} to {most} deliveries a second",
    ]


def shown_rate(rate: float) -> str:
    """``284``, ``2.3``."""
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"


def _pace(label: str, run: object, story: Story) -> Pace:
    found = measure(run)
    times = tuple(sorted(at - found.began for at in found.shown.values()))
    return Pace(label, times, found, series.faults(story, found.began))


def _strip(pace: Pace, width: float, colour: str) -> series.Strip:
    steps = tuple(pace.rates(width))
    lines = (series.Line(colour, steps, filled=True),) if pace.times else ()
    rate = shown_rate(pace.measures.rate)
    note = series.Note(rate, "a second in all") if pace.times else series.Note("0")
    empty = "" if pace.times else "nothing was delivered"
    whole = ceil(pace.seconds / width - 1e-9) * width
    return series.Strip(pace.label, lines, (note,), pace.faults, whole, empty)


def _width_words(width: float) -> str:
    return f"{width * 1e3:g} ms" if width < 1 else f"{width:g} s"


def _row(pace: Pace) -> dict[str, Any]:
    stalls = pace.stalls()
    return {
        "backend": pace.label,
        "deliveries": len(pace.times),
        "seconds": pace.measures.seconds,
        "a second": pace.measures.rate,
        "fault": ", ".join(words for words, _ in stalls),
        "longest pause": max((gap for _, gap in stalls), default=None),
    }


__all__ = ["Pace", "findings", "shown_rate", "stretch", "throughput"]
