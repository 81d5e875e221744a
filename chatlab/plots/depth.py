"""The depth picture: how many messages wait for whom, over time, a strip per run.

A line per receiver, each of whom has a store of its own (insults: one line, one queue). A
message waits from its confirm until it is first shown, or to the end when it still waits
there; what was lost does not. Without confirms nobody can say when a message began to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from chatlab.messages import INSULTS
from chatlab.plots import series
from chatlab.plots.board import Board
from chatlab.plots.events import read, sources
from chatlab.plots.measures import Change, deepest, heights, labels, measure, waits
from chatlab.plots.style import own_style, palette
from chatlab.plots.words import caption, counted, named, sentence, tier

#: Most lines in one strip: those of the longest queues.
MOST_LINES = 6
#: The colour of the one queue that belongs to nobody.
_QUEUE = "#6e7781"


@dataclass(frozen=True)
class Depths:
    """The queues of one run."""

    label: str
    #: Receiver (or ``insults``) -> changes, the longest queue first.
    queues: dict[str, list[Change]]
    #: How many messages were sent, and how many of them confirmed.
    sent: int
    confirmed: int
    began: float
    #: Until the last delivery, answer and end of a fault.
    seconds: float
    faults: tuple[tuple[str, float, float | None], ...]

    def left(self, queue: str) -> int:
        """How many still wait at the end."""
        return sum(change for _, change in self.queues[queue])


@own_style()
def depth(*runs: object, ax: Axes | None = None) -> Axes:
    """Draw how many messages waited for each receiver, over time.

    Args:
        runs: scenes, runs or journals; several: one strip each on a common axis.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: nothing, or something that is no scene, run or journal.
    """
    stories = [read(run) for run in sources(runs)]
    found = []
    for label, run, story in zip(labels(stories), runs, stories, strict=True):
        moments = measure(run)
        queues = waits(moments, story)
        longest = dict(sorted(queues.items(), key=lambda item: -deepest(item[1])))
        faults = series.faults(story, moments.began)
        seconds = series.length(moments.seconds, faults)
        counts = len(moments.sent), len(moments.confirmed)
        found.append(Depths(label, longest, *counts, moments.began, seconds, faults))
    colours = palette(user for story in stories for user in story.roster)
    strips = [_strip(depths, colours) for depths in found]
    board = Board(ax, series.card_height(strips))
    series.draw(board, strips, "most at a time")
    notes = ["waits = confirmed and not yet shown"]
    notes += ["pale red = fault"] if any(depths.faults for depths in found) else []
    line = caption(stories, *notes, backends=False)
    finding = board.frame(findings(found), line, tier(stories))
    return board.finish(finding, line, [row for depths in found for row in _rows(depths)])


def findings(found: Sequence[Depths]) -> list[str]:
    """``At most 6 messages waited for bob``; of several, the longest and the shortest."""
    if not any(depths.sent for depths in found):
        return ["No messages were sent"]
    if not any(depths.confirmed for depths in found):
        return ["Nothing was confirmed: nobody knows what waited", "Nothing was confirmed"]
    tops = [max(map(deepest, depths.queues.values()), default=0) for depths in found]
    worst = max(range(len(found)), key=tops.__getitem__)
    if not tops[worst]:
        return ["Nothing waited: each message was shown as soon as it was confirmed"]
    depths, most = found[worst], tops[worst]
    queue = next(iter(depths.queues))
    where = "in the insult queue" if queue == INSULTS else f"for {named([queue])}"
    left = depths.left(queue)
    still = "" if not left else " and still do" if left == most else f", {left:,} still do"
    words = f"at most {counted(most, 'message')} waited {where}{still}"
    case = f" on {depths.label}" if len(found) > 1 else ""
    return [sentence(words + case), sentence(words)]


def _strip(depths: Depths, colours: dict[str, str]) -> series.Strip:
    lines, notes = [], []
    for queue, changes in list(depths.queues.items())[:MOST_LINES]:
        colour = colours.get(queue, _QUEUE)
        steps = tuple((at - depths.began, float(height)) for at, height in heights(changes))
        lines.append(series.Line(colour, steps, filled=len(depths.queues) == 1))
        notes.append(series.Note(f"{deepest(changes):,}", queue, colour))
    hidden = len(depths.queues) - len(notes)
    heading = depths.label + (
        f" · {hidden} more receivers with shorter queues" if hidden else ""
    )
    return series.Strip(
        heading, tuple(lines), tuple(notes), depths.faults, depths.seconds, _empty(depths)
    )


def _empty(depths: Depths) -> str:
    if depths.queues:
        return ""
    if not depths.sent:
        return "no messages were sent"
    return "nothing waited" if depths.confirmed else "not known: nothing was confirmed"


def _rows(depths: Depths) -> list[dict[str, Any]]:
    return [
        {
            "backend": depths.label,
            "queue": queue,
            "most": deepest(changes),
            "waited": sum(change > 0 for _, change in changes),
            "still waiting": depths.left(queue),
        }
        for queue, changes in depths.queues.items()
    ]


__all__ = ["Depths", "depth", "findings"]
