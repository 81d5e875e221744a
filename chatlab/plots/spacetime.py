"""The space-time picture: time rightwards, a lane per user, every message a line.

Numbered disc = send, dot = delivery, thick pale bar = waiting in the store named at the left,
hatched box = absent, × = lost, hollow dot and dashed line = redelivered, pale red column =
fault. Beyond 5 users or 40 messages the lanes become bands with counts
(:mod:`chatlab.plots.bands`).
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from chatlab.plots import bands
from chatlab.plots.board import Board
from chatlab.plots.events import read, sources
from chatlab.plots.findings import spacetime_finding, strip_finding
from chatlab.plots.fonts import fit, text_width
from chatlab.plots.lanes import lanes, span
from chatlab.plots.scale import AxisKind, OrderScale, TimeScale, events
from chatlab.plots.story import Story
from chatlab.plots.strip import (
    FAULT_ROW,
    LANES_RIGHT,
    STORE_WIDTH,
    Strip,
    is_banded,
    name_width,
    refused,
)
from chatlab.plots.style import (
    GREY,
    HEIGHT,
    LEFT,
    RIGHT,
    RULE,
    SOFT,
    own_style,
    palette,
)
from chatlab.plots.words import caption, duration, tier

#: Where lanes begin at the least, in pixels.
LANES_LEFT = 121.0


@own_style()
def spacetime(
    *scenes: object, axis: AxisKind = "order", ax: Axes | None = None, chat: str | None = None
) -> Axes:
    """Draw scenes, runs or journals; several: one strip each on a common axis.

    Args:
        axis: ``"order"``: events in order; ``"time"``: seconds, gaps over 1 s cut.
        ax: draw here instead of on a card of its own.
        chat: only this conversation, for instance ``"sd"`` or ``"ana + bob"``.

    Raises:
        InvalidInput: no scene, not a scene, or no such conversation.
    """
    stories = [read(scene, chat) for scene in sources(scenes)]
    floor_room = 68.0 if axis == "order" else 88.0
    needs = [_need(story) for story in stories]
    alone = len(stories) == 1
    board = Board(ax, HEIGHT if alone else max(HEIGHT, sum(needs) + 46 + floor_room))
    colours = palette(user for story in stories for user in story.roster)
    left, right = _left_edge(stories), _right_edge(stories)
    scale: OrderScale | TimeScale
    strips = [events(story, story.flights) for story in stories]
    inner = (left + 50, right - 40)
    scale = (OrderScale if axis == "order" else TimeScale).of(strips, *inner)
    top, floor = (52.0 if alone else 46.0), board.height - floor_room
    spare = (floor - top) / sum(needs)
    for number, story in enumerate(stories):
        y0 = top + sum(needs[:number]) * spare
        y1 = y0 + needs[number] * spare
        heading = 0.0
        if not alone:
            name = f"{story.name}: " if story.name else ""
            words = fit(name + strip_finding(story), RIGHT - left, 12)
            board.text(left, y0 + 14, words, size=12, color="black")
            heading = left + text_width(words, 12) + 12
        Strip(
            *(board, story, scale, number, colours, left, right, y0, y1, alone), heading
        ).draw()
    _axis(board, stories, scale, left, right, floor)
    legend = _legend(stories)
    finding = board.frame(spacetime_finding(stories), caption(stories, *legend), tier(stories))
    rows = [row for story in stories for row in story.table()]
    return board.finish(finding, caption(stories, *legend), rows)


def _need(story: Story) -> float:
    """The least height of a strip among others, in pixels."""
    faults = FAULT_ROW * min(len(story.faults), Strip.FAULT_ROWS)
    if is_banded(story):
        return 40 + faults + 24.0 * min(len(story.users), bands.MOST_BANDS)
    return 68 + faults + 34.0 * span(lanes(story))


def _left_edge(stories: Sequence[Story]) -> float:
    """Where the lanes begin: right of the widest name."""
    widest = 0.0
    for story in stories:
        if is_banded(story):
            names = bands.names(story)
            widest = max(widest, *(name_width(name) for name in names), 0.0)
        else:
            for lane in lanes(story):
                if lane.kind == "user":
                    widest = max(widest, name_width(lane.name))
                else:
                    widest = max(widest, min(text_width(lane.name, 11), STORE_WIDTH))
    return max(LANES_LEFT, LEFT + widest + 9)


def _right_edge(stories: Sequence[Story]) -> float:
    """Where the lanes end: left of the counts, where a strip has them."""
    counts = [bands.counts_width(story) for story in stories if is_banded(story)]
    return min(LANES_RIGHT, RIGHT - max(counts, default=0.0))


def _legend(stories: Sequence[Story]) -> list[str]:
    words = []
    if any(is_banded(story) for story in stories):
        words.append("up = sent, down = seen")
    lined = [story for story in stories if not is_banded(story)]
    if any(story.repeated for story in lined):
        words.append("hollow, dashed = redelivered")
    if any(refused(story) for story in lined):
        words.append("grey × = reached nobody, the sender was told")
    return words


def _axis(
    board: Board,
    stories: Sequence[Story],
    scale: OrderScale | TimeScale,
    left: float,
    right: float,
    y: float,
) -> None:
    board.line((left - 4, y), (right, y), color=RULE, width=1.2)
    middle = (left + right) / 2
    if isinstance(scale, OrderScale):
        times = dict.fromkeys(duration(story.seconds) for story in stories[:3])
        passed = " and ".join(times)
        words = f"events in order  (real time passed: {passed})"
        board.text(middle, y + 16, words, color=SOFT, ha="center")
        return
    for x, label in scale.ticks():
        board.line((x, y), (x, y + 5), color=GREY, width=1.2)
        board.text(x, y + 17, label, color=SOFT, ha="center")
    clear = 0.0
    for begin, end, seconds in scale.cuts():
        x = (begin + end) / 2
        board.box(x - 5, y - 3, x + 5, y + 3, "white", z=3)
        for shift in (-5, 3):
            board.line(
                (x + shift - 2, y + 6), (x + shift + 4, y - 6), color=GREY, width=1.4, z=4
            )
        words = duration(seconds)
        half = text_width(words, 11) / 2
        if x - half > clear:
            board.text(x, y - 15, words, color=SOFT, ha="center", halo=True, z=8)
            clear = x + half + 6
    board.text(middle, y + 36, "seconds (idle gaps cut)", color=SOFT, ha="center")


__all__ = ["is_banded", "spacetime"]
