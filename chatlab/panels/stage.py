"""Stage: a lab in front of a class, on one page of 900 x 530 pixels.

From top to bottom: the toolbar (services, buttons that break them), up to three chat windows,
the topology of their group as the broker reports it, and the last events as a space-time
strip. It is a Box of panels and closes as a whole. In a new scene it goes on: what was joined
is shown again as soon as somebody joins, a cell or the stage's own button.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from chatlab.backends import parse_backend
from chatlab.errors import ChatlabError, InvalidInput
from chatlab.lab import GroupChat
from chatlab.messages import check_name
from chatlab.messages import group as chat_of
from chatlab.panels.column import ChatColumn
from chatlab.panels.lookout import Lookout
from chatlab.panels.panel import Panel
from chatlab.panels.recent import Recent
from chatlab.panels.situation import Situation
from chatlab.panels.toolbar import Toolbar
from chatlab.panels.topology import TopologyPanel
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import Lab, User

WIDTH, HEIGHT = 900, 530
#: Room for so many chat windows …
MOST_COLUMNS = 3
#: … and who is made where a lab has no users yet.
USERS = ("ana", "bob", "eva")
#: The group of those who are in none yet.
GROUP = "sd"

_COLUMNS_PIXELS = HEIGHT - 42 - 94 - 160 - 3 * 6

#: The stage of each lab.
_shown: dict[str, Stage] = {}
_lock = threading.Lock()


def stage(
    lab: Lab,
    group: str | None = None,
    users: Sequence[User | str] = (),
    *,
    backend: str | None = None,
) -> Stage:
    """The stage of a lab; one that it has already is replaced.

    Args:
        group: default: the newest that one of the users is in, else ``sd``. When none of
            them is in it, they join.
        users: at most three; default: the lab's first three, who are made (ana, bob, eva)
            where there are none. It is the second one whose link can be cut.
        backend: of a group that begins here; default: rabbitmq-durable.

    Raises:
        InvalidInput: more users, or a name or backend that cannot be.
        BackendMismatch, ServiceUnavailable: they cannot join.
    """
    if backend is not None:
        parse_backend(backend)
    people = _people(lab, users)
    name = check_name(group, "group name") if group else _newest_group(lab, people) or GROUP
    if not any(_is_in(user, name) for user in people):
        for user in people:
            user.join(name, backend)
    with _lock:
        older = _shown.pop(lab.name, None)
    if older is not None:
        older.close()
    made = Stage(lab, name, people, backend)
    with _lock:
        _shown[lab.name] = made
    return made


def _people(lab: Lab, users: Sequence[User | str]) -> list[User]:
    names = [each if isinstance(each, str) else each.name for each in users]
    names = names or list(lab.journal.header["users"])[:MOST_COLUMNS] or list(USERS)
    if len(names) > MOST_COLUMNS or len(set(names)) < len(names):
        raise InvalidInput(f"A stage has room for {MOST_COLUMNS} different users.")
    return lab.users(*names)


def _newest_group(lab: Lab, people: Sequence[User]) -> str:
    """What one of them subscribed to last, and is in still; empty: none."""
    names = {user.name: user for user in people}
    for row in reversed(lab.journal.rows[:]):
        if row[0] == "Subscribed" and row[2] in names and row[4].startswith("group:"):
            group: str = row[4].partition(":")[2]
            if _is_in(names[row[2]], group):
                return group
    return ""


def _is_in(user: User, group: str) -> bool:
    return chat_of(group) in user.conversations


class StageColumn(ChatColumn):
    """A chat window on a stage; the user may have another one elsewhere on the page."""

    def __init__(self, user: User, group: str) -> None:
        super().__init__(user, _handle(user, group))
        self._wanted = chat_of(group)


def _handle(user: User, group: str) -> GroupChat | None:
    """The user's handle on the group; None: there is none now, the user may be away."""
    try:
        return user.group(group) if _is_in(user, group) else None
    except ChatlabError:
        return None


class Stage(ipywidgets.VBox):
    """Made by :func:`stage`."""

    def __init__(
        self, lab: Lab, group: str, users: Sequence[User], backend: str | None
    ) -> None:
        self.lab, self.group, self.users = lab, group, list(users)
        self.situation = Situation(group)
        self._lookout = Lookout(lab, self.situation)
        self.toolbar = Toolbar(self._lookout, self.users[min(1, len(self.users) - 1)])
        self.columns = [StageColumn(user, group) for user in self.users]
        self.topology = TopologyPanel(self._lookout, self.users, backend)
        self.recent = Recent(lab, group, self.users)
        row = ipywidgets.HBox(self.columns)
        row.layout = ipywidgets.Layout(height=f"{_COLUMNS_PIXELS}px", flex="none")
        row.add_class("chatlab-stage-columns")
        self._row = row
        super().__init__([self.toolbar, row, self.topology, self.recent])
        self.layout = ipywidgets.Layout(
            width="100%", max_width=f"{WIDTH}px", height=f"{HEIGHT}px"
        )
        self.add_class("chatlab-stage")
        self._lookout.begin()

    @property
    def panels(self) -> Iterator[Panel]:
        """Its parts, from top to bottom."""
        yield from (self.toolbar, *self.columns, self.topology, self.recent)

    # -- what is shown, as values

    def table(self) -> Table:
        """The topology, asked for now: store, ready, unacknowledged, consumer."""
        return self.topology.table()

    def facts(self) -> dict[str, Any]:
        """What else it shows, as plain values: lab, group, backend, services with state, the
        buttons that can be pressed, whose link is cut, the finding of the strip."""
        for panel in self.panels:
            panel.refresh()
        bar = self.toolbar.view
        return {
            "lab": self.lab.name,
            "group": self.group,
            "backend": self.situation.backend,
            "services": {name: seen.state for name, seen in self._lookout.services.items()},
            "buttons": [each["label"] for each in bar["buttons"] if each["on"]],
            "cut": [user.name for user in self.users if self.situation.cut(user.name)],
            "silent": self.topology.view["silent"],
            "finding": self.recent.view["finding"],
            "note": next((p.view["note"] for p in self.panels if p.view["note"]), ""),
        }

    # -- what can be done

    def click(self, label: str) -> None:
        """Press the button of this label; waits until it is done.

        Raises:
            InvalidInput: there is no such button now, or it cannot be pressed.
            ChatlabError: as its verb does.
        """
        self.topology.refresh()
        of_topology = [each["label"] for each in self.topology.view["buttons"]]
        (self.topology if label in of_topology else self.toolbar).click(label)

    def close(self) -> None:
        """Take it off the page with all its parts. Idempotent; the lab goes on."""
        with _lock:
            if _shown.get(self.lab.name) is self:
                del _shown[self.lab.name]
        self._lookout.close()
        for panel in self.panels:
            panel.close()
        self._row.close()
        super().close()

    def __repr__(self) -> str:
        names = ", ".join(user.name for user in self.users)
        return f"<stage of the lab {self.lab.name}: {names} in {self.group}>"
