"""Topology of a stage: the exchange of the group, a line for each queue, who takes from it.

All of it is what the service that keeps the group says, never what clients believe, and its
age is shown. In a queue's squares the head is at the left: outlined ones were handed out and
are not acknowledged, filled ones are ready.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chatlab.backends import GROUPS
from chatlab.errors import ChatlabError
from chatlab.panels.lookout import Lookout
from chatlab.panels.panel import Panel, look_of
from chatlab.panels.stores import Store, Topology
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import User

#: More messages than that are a number only.
MOST_SQUARES = 10
#: So many stores have a line of their own.
MOST_LINES = 12


class TopologyPanel(Panel):
    """Part of a :class:`chatlab.panels.stage.Stage`.

    Args:
        lookout: sees the stores.
        users: whose stores come first, and who joins the group by a click.
        backend: of the group that such a click begins.
    """

    _esm = look_of("topology.js")
    _css = look_of("topology.css")
    VERBS = frozenset({"join"})

    def __init__(self, lookout: Lookout, users: Sequence[User], backend: str | None) -> None:
        self._lookout, self._users, self._backend = lookout, list(users), backend
        super().__init__(lookout.lab, lookout.situation.group)
        self.begin()

    def look(self) -> dict[str, Any]:
        seen, group = self._lookout, self._lookout.situation.group
        found = seen.topology
        stores = self._ordered(found)
        return {
            "group": group,
            "keeper": found.keeper if found else "",
            "kind": found.kind if found else "",
            "detail": found.detail if found else "",
            "lines": [_line(store) for store in stores[:MOST_LINES]],
            "words": self._words(found, stores),
            "looks": seen.looks,
            "silent": self._silence(),
            "buttons": self._buttons(),
        }

    def _ordered(self, found: Topology | None) -> list[Store]:
        """Those of the stage's users first, then the others by name."""
        names = [user.name for user in self._users]
        places = {name: place for place, name in enumerate(names)}
        stores = found.stores if found else ()
        return sorted(stores, key=lambda s: (places.get(s.user, len(names)), s.name))

    def _words(self, found: Topology | None, stores: list[Store]) -> str:
        if self._lookout.failed:
            return f"The stage cannot look any more ({self._lookout.failed})."
        if found is None:
            if not self._lookout.looks:
                return "asking …"
            return f"Nobody has joined the group {self._lookout.situation.group} in this scene."
        rest = stores[MOST_LINES:]
        if rest:
            ready = sum(store.ready or 0 for store in rest)
            return f"and {len(rest)} more: {ready:,} {rest[0].word}"
        return found.words

    def _silence(self) -> str:
        since, keeper = self._lookout.silent_since, self._lookout.topology
        if not since:
            return ""
        name = keeper.keeper if keeper else "The service"
        clock = time.strftime("%H:%M", time.localtime(since))
        return f"{name} has not answered since {clock}"

    def _buttons(self) -> list[dict[str, Any]]:
        if self._lookout.situation.backend or not self._lookout.looks:
            return []
        group = self._lookout.situation.group
        told = f"the users of this stage join {group} ({self._backend or next(iter(GROUPS))})"
        return [{"label": f"all join {group}", "do": "join", "on": True, "title": told}]

    def do_join(self) -> None:
        """The stage's users join the group."""
        for user in self._users:
            user.join(self._lookout.situation.group, self._backend)

    def table(self) -> Table:
        """A row a store: name, ready, unacknowledged, consumer; asked for now. When who keeps
        them does not answer: what was seen last, and the caption says so."""
        caption = f"{self._lookout.situation.group}, as it is now"
        try:
            found = self._lookout.now()
        except ChatlabError as error:
            found = self._lookout.topology
            caption = f"{error.what} Seen {self._lookout.age:.0f} s ago."
        rows = (
            {
                "store": store.name,
                "ready": store.ready,
                "unacknowledged": store.unacked,
                "consumer": "nobody" if store.consumer == "" else store.consumer,
            }
            for store in self._ordered(found)
        )
        return Table(rows, caption)


def _line(store: Store) -> dict[str, Any]:
    """A store as a line: squares, numbers, who takes from it."""
    ready, unacked = store.ready, store.unacked
    known = [n for n in (ready, unacked) if n is not None]
    drawn = bool(known) and sum(known) <= MOST_SQUARES and store.word != "entries"
    return {
        "key": store.name,
        "name": store.name,
        "filled": (ready or 0) if drawn else 0,
        "outlined": (unacked or 0) if drawn else 0,
        "squares": drawn,
        "ready": "" if ready is None else f"{ready:,} {store.word}",
        "some": bool(ready),
        "unacked": "" if unacked is None else f"{unacked:,} unacked",
        "consumer": store.consumer,
    }
