"""The cost of discovery: messages a question against the number of users, both logarithmic.

A line per way, straight where the cost is a power of the number of users; its exponent is
fitted and stands in the label: 0 = the same for everybody, 1 = so many messages a user. A way
that sends nothing has no logarithm: it runs along the bottom.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib.axes import Axes

from chatlab.errors import InvalidInput
from chatlab.plots.board import Board
from chatlab.plots.fonts import fit
from chatlab.plots.style import HEIGHT, LEFT, RIGHT, RULE, SOFT, own_style, palette
from chatlab.plots.words import sentence

#: The plane, in pixels: edges of its lines, and where those are named.
_PLANE_LEFT, _PLANE_RIGHT, _NAMES = 84.0, 640.0, 668.0
_PLANE_TOP, _PLANE_BOTTOM = 84.0, 350.0
#: Names stand at least so far apart.
_APART = 24.0


class Cost(Protocol):
    """What one question cost among so many users."""

    @property
    def way(self) -> str: ...
    @property
    def users(self) -> int: ...
    @property
    def messages(self) -> float: ...


class Costs(Protocol):
    """What ``experiments.discovery_costs`` returns."""

    @property
    def points(self) -> Sequence[Cost]: ...
    @property
    def tier(self) -> str: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    def table(self) -> list[dict[str, Any]]: ...


@own_style()
def cost(costs: Costs, *, ax: Axes | None = None) -> Axes:
    """Draw messages a question against the number of users.

    Args:
        costs: what ``experiments.discovery_costs`` returned.
        ax: draw here instead of on a card of its own.

    Raises:
        InvalidInput: something else, or nothing was measured.
    """
    points = getattr(costs, "points", ())
    if not points:
        raise InvalidInput(
            f"Costs of experiments.discovery_costs can be drawn, not {type(costs).__name__}."
        )
    lines: dict[str, list[Cost]] = {}
    for point in sorted(points, key=lambda point: point.users):
        lines.setdefault(point.way, []).append(point)
    board = Board(ax, HEIGHT)
    _Drawer(board, lines).draw()
    versions = [f"{name} {version}" for name, version in costs.versions.items()]
    fits = "exponents by least squares on both logarithms"
    line = " · ".join([costs.tier or "tier not recorded", *versions, fits])
    finding = board.frame(findings(lines), line, costs.tier)
    return board.finish(finding, line, costs.table())


def exponent(points: Sequence[Cost]) -> float | None:
    """The power of the number of users that the messages grow with; ``None`` where there
    are no messages, or fewer than two numbers of users."""
    if any(point.messages <= 0 for point in points):
        return None
    xs = [math.log(point.users) for point in points]
    if len(set(xs)) < 2:
        return None
    ys = [math.log(point.messages) for point in points]
    return statistics.linear_regression(xs, ys).slope


def findings(lines: Mapping[str, Sequence[Cost]]) -> list[str]:
    """``Among 500 users a question costs 0 messages by broker-events, 507 by events``."""
    last = {way: points[-1] for way, points in lines.items()}
    users = max(point.users for point in last.values())
    least = min(last.values(), key=lambda point: point.messages)
    most = max(last.values(), key=lambda point: point.messages)
    if least.messages == most.messages:
        return [f"Among {users:,} users a question costs {most.messages:,.0f} messages"]
    first = f"{least.messages:,.0f} messages by {least.way}"
    return [
        f"Among {users:,} users a question costs {first}, {most.messages:,.0f} by {most.way}",
        f"Among {users:,} users: {first}, {most.messages:,.0f} by {most.way}",
        f"Among {users:,} users a question costs {least.messages:,.0f} to "
        f"{most.messages:,.0f} messages",
        sentence(f"{most.way} cost most: {most.messages:,.0f} messages a question"),
    ]


@dataclass
class _Drawer:
    """The plane, its lines and their names."""

    board: Board
    lines: Mapping[str, Sequence[Cost]]

    def draw(self) -> None:
        points = [point for way in self.lines.values() for point in way]
        users = [point.users for point in points]
        self.least, self.most = min(users), max(users)
        top = max((p.messages for p in points if p.messages > 0), default=1.0)
        self.decades = max(math.ceil(math.log10(top) - 1e-9), 1)
        self._axes(sorted(set(users)))
        self._ways()

    def _x(self, users: float) -> float:
        if self.least == self.most:
            return (_PLANE_LEFT + _PLANE_RIGHT) / 2
        share = math.log(users / self.least) / math.log(self.most / self.least)
        return _PLANE_LEFT + 20 + (_PLANE_RIGHT - _PLANE_LEFT - 40) * share

    def _y(self, messages: float) -> float:
        if messages <= 0:
            return _PLANE_BOTTOM
        floor = _PLANE_BOTTOM - 26  # 1 message; below it is none at all
        return floor - (floor - _PLANE_TOP) * math.log10(messages) / self.decades

    def _axes(self, users: Sequence[int]) -> None:
        board = self.board
        board.text(LEFT, _PLANE_TOP - 24, "messages a question", color=SOFT)
        for messages in [0, *(10**power for power in range(self.decades + 1))]:
            y = self._y(messages)
            board.line((_PLANE_LEFT, y), (_PLANE_RIGHT, y), color=RULE, width=0.8)
            board.text(_PLANE_LEFT - 10, y, f"{messages:,}", color=SOFT, ha="right")
        for number in users:
            x = self._x(number)
            ends = (x, _PLANE_BOTTOM), (x, _PLANE_BOTTOM + 4)
            board.line(*ends, color=RULE)
            board.text(x, _PLANE_BOTTOM + 18, f"{number:,}", color=SOFT, ha="center")
        middle = (_PLANE_LEFT + _PLANE_RIGHT) / 2
        board.text(middle, _PLANE_BOTTOM + 40, "users (n)", color=SOFT, ha="center")

    def _ways(self) -> None:
        colours = palette(self.lines)
        drawn: set[tuple[float, ...]] = set()
        for way, points in self.lines.items():
            places = [(self._x(p.users), self._y(p.messages)) for p in points]
            hidden = tuple(y for _, y in places) in drawn  # the same cost as another way
            drawn.add(tuple(y for _, y in places))
            self.board.line(*places, color=colours[way], width=2.5, dashed=hidden, z=4 + hidden)
            self.board.discs(places, 7 if hidden else 11, colours[way], z=5 + hidden)
        self._names(colours)

    def _names(self, colours: Mapping[str, str]) -> None:
        ends = sorted((self._y(p[-1].messages), way) for way, p in self.lines.items())
        places: list[float] = []
        for end, _ in ends:
            places.append(max(end, places[-1] + _APART) if places else end)
        # What was pushed below the plane pushes the others up.
        low = _PLANE_BOTTOM
        for at in range(len(places) - 1, -1, -1):
            places[at] = min(places[at], low)
            low = places[at] - _APART
        for (end, way), y in zip(ends, places, strict=True):
            x = self._x(self.lines[way][-1].users)
            bend = (x + 8, end), (_NAMES - 8, y)
            self.board.line(*bend, color=RULE, width=1.0)
            self.board.box(_NAMES - 4, y - 7, _NAMES + 10, y + 7, colours[way])
            grows = exponent(self.lines[way])
            last = self.lines[way][-1].messages
            words = f"{last:,.0f}"
            if grows is not None:
                words = f"n^{round(grows, 1) + 0.0:.1f}"  # no minus before a zero
            name = fit(f"{way}: {words}", RIGHT - _NAMES - 18, 12)
            self.board.text(_NAMES + 18, y, name, size=12)


__all__ = ["cost", "exponent", "findings"]
