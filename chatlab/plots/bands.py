"""Space-time for many users or messages: a band per user, sends up and sights down.

The axis is cut into stretches of equal width; in each, a bar upwards counts what the user
sent and a bar downwards what the user saw. All bars of a picture have one scale.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil

from chatlab.plots.board import Board
from chatlab.plots.fonts import text_width
from chatlab.plots.story import Moment, Story
from chatlab.plots.style import LOSS, RULE, SOFT, pale

#: Most bands of one strip; further users are drawn together.
MOST_BANDS = 9
#: Width of a stretch in pixels.
STRETCH = 9.0


@dataclass
class Band:
    """The counts of one user, or of the users that share a band."""

    name: str
    users: tuple[str, ...]
    sent: Counter[int] = field(default_factory=Counter)
    seen: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    waited: int = 0

    def words(self) -> str:
        """``12 sent · 40 seen``."""
        return f"{self.sent.total():,} sent · {self.seen.total():,} seen"

    def share(self, counts: Counter[int], stretch: int) -> float:
        """Per user: so that a band of many has the scale of the others."""
        return counts[stretch] / len(self.users)


def names(story: Story) -> list[str]:
    """The names beside the bands."""
    return [band.name for band in tally(story, lambda _: 0)]


def counts_width(story: Story) -> float:
    """Room that the counts need at the right, in pixels."""
    found = tally(story, lambda _: 0)
    return max((text_width(band.words(), 11) for band in found), default=0.0) + 14


def tally(story: Story, stretch: Callable[[Moment], int], most: int = MOST_BANDS) -> list[Band]:
    """A band per user, the busiest first to be shown where there are too many."""
    users = list(story.users)
    if len(users) > most:
        busy: Counter[str] = Counter()
        for send in story.sends:
            busy[send.sender] += 1
        for flight in story.flights:
            # An absence or a loss is what the reader looks for.
            busy[flight.receiver] += 50 if flight.fate == "lost" else 1
        for absence in story.absences:
            busy[absence.user] += 10
        chosen = {user for user, _ in busy.most_common(most - 1)}
        shown = [user for user in users if user in chosen]
        shown += [user for user in users if user not in chosen][: most - 1 - len(shown)]
        rest = tuple(user for user in users if user not in shown)
        found = [Band(user, (user,)) for user in shown]
        found.append(Band(f"{len(rest)} others", rest))
    else:
        found = [Band(user, (user,)) for user in users]
    by_user = {user: band for band in found for user in band.users}
    for send in story.sends:
        by_user[send.sender].sent[stretch(send.when)] += 1
    for flight in story.flights:
        band = by_user.get(flight.receiver)
        if band is None:
            continue
        for when in (flight.seen, *flight.again):
            if when:
                band.seen[stretch(when)] += 1
        band.waited += flight.fate in ("waited", "waiting")
        if flight.fate == "lost":
            band.lost[stretch(flight.send.when)] += 1
    return found


def draw(
    board: Board,
    story: Story,
    colours: dict[str, str],
    x: Callable[[Moment], float],
    places: tuple[float, float, float, float],
) -> None:
    """Draw the bands of ``story`` into left, right, top, bottom."""
    left, right, top, bottom = places
    wide, origin = _stretches(sorted({x(send.when) for send in story.sends}), left)
    found = tally(story, lambda moment: int((x(moment) - origin) // wide))
    both = ((band, counts) for band in found for counts in (band.sent, band.seen))
    highest = max((band.share(counts, s) for band, counts in both for s in counts), default=1)
    each = min((bottom - top) / len(found), 76.0)
    top += (bottom - top - each * len(found)) / 2
    away: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for absence in story.absences:
        end = x(absence.ended) if absence.ended else right
        away[absence.user].append((x(absence.began), end))
    widest = max(min(text_width(band.name, 13, bold=True), 120.0) for band in found)
    for number, band in enumerate(found):
        middle = top + (number + 0.5) * each
        half = each * 0.42
        alone = len(band.users) == 1
        colour = colours[band.users[0]] if alone else "#6e7781"
        board.box(left, middle - half, right, middle + half, pale(colour, 0.88))
        for begin, end in away[band.users[0]] if alone else ():
            board.box(
                begin,
                middle - half,
                max(end, begin + 3),
                middle + half,
                "#f0f0f0",
                hatched=True,
                z=1.5,
            )
        for counts, up in ((band.sent, -1), (band.seen, 1)):
            shade = colour if up < 0 else pale(colour, 0.35)
            boxes = []
            for stretch in counts:
                x0 = max(origin + stretch * wide, left)
                tall = max(half * band.share(counts, stretch) / highest, 1.5)
                x1 = min(origin + (stretch + 1) * wide, right)
                boxes.append((x0 + 0.8, middle, x1 - 0.8, middle + up * tall))
            board.boxes(boxes, shade)
        board.line((left, middle), (right, middle), color=RULE, width=1, z=4)
        board.crosses(
            [(origin + (s + 0.5) * wide, middle + half * 0.55) for s in band.lost],
            size=min(9.0, half),
            width=2.4,
        )
        board.chip_name(*(band.name, colour, left - 9, middle, left - 33 - widest), width=120)
        _counts(board, band, right + 12, middle, each)


def _stretches(sends: list[float], left: float) -> tuple[float, float]:
    """Width of a stretch, and where the first begins. Where sends are nearly as far apart
    as a stretch is wide, one of another width would hold two of them here and none there."""
    gaps = sorted(b - a for a, b in pairwise(sends))
    usual = gaps[len(gaps) // 2] if gaps else STRETCH
    if not STRETCH * 0.3 < usual < STRETCH * 1.6:
        return STRETCH, left
    wide = usual * max(1, round(STRETCH / usual))
    # A quarter before the first send: what was sent half a gap later is seen in it, too.
    first = sends[0] - wide / 4
    return wide, first - wide * ceil(max(first - left, 0.0) / wide)


def _counts(board: Board, band: Band, x: float, y: float, each: float) -> None:
    """The numbers at the right: sent and seen, below them what waited or was lost."""
    extra, colour = "", SOFT
    if band.lost:
        extra, colour = f"× {band.lost.total():,} lost", LOSS
    elif band.waited:
        extra = f"{band.waited:,} of them late"
    if extra and each >= 34:
        board.text(x, y - 9, band.words())
        board.text(x, y + 9, extra, color=colour, bold=colour == LOSS)
    elif extra and colour == LOSS:
        board.text(
            x,
            y,
            f"{extra} of {band.seen.total() + band.lost.total():,}",
            color=colour,
            bold=True,
        )
    else:
        board.text(x, y, band.words())
