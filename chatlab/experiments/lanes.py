"""Lanes: one backend under test, as the script sees it.

A script says *ana sends 4*; the lane knows what that is in a group, in private chats or in
the insult channel. Several groups fit into one scene, each a lane of its own with a journal
of its own, so that one stop of a broker serves all of them. Of private chats and the insult
channel there is one a scene.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from chatlab import messages as m
from chatlab.backends import GROUPS, INSULTS, PRIVATE, Known, parse_backend, with_options
from chatlab.checkers import Check
from chatlab.errors import InvalidInput
from chatlab.experiments.expected import broker_of, link_of
from chatlab.experiments.outside import find_client, is_outside
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.steps import Pattern
from chatlab.journal import Journal
from chatlab.lab import InsultChannel, Lab, PrivateChat, User
from chatlab.messages import Receipt

KNOWN: dict[Pattern, Known] = {"group": GROUPS, "private": PRIVATE, "insults": INSULTS}
#: Longer than the pauses between attempts of anybody who has to come back.
QUIET_SECONDS = 3.0
#: What the figures and the verdict of a run depend on, besides its scenario.
_SETTINGS = ("lease_seconds", "heartbeat_seconds", "send_seconds")


def pattern_of(scenario: Scenario, backend: str) -> tuple[Pattern, str]:
    """The pattern that is meant, and the backend without it.

    Args:
        backend: ``rabbitmq-durable``; where several patterns have one of that name the
            scenario's first is meant, or say ``private/as-reported``.

    Raises:
        InvalidInput: no pattern of this scenario has such a backend.
    """
    if is_outside(backend):
        return _of_outside(scenario, backend), backend
    said, slash, rest = backend.partition("/")
    text = rest if slash else backend
    name = text.partition(":")[0]
    wanted = [p for p in scenario.patterns if not slash or p == said]
    for pattern in wanted:
        if name in KNOWN[pattern]:
            parse_backend(text, KNOWN[pattern])
            return pattern, text
    there = [f"{pattern}/{name}" for pattern in scenario.patterns for name in KNOWN[pattern]]
    raise InvalidInput(
        f"The scenario {scenario.name} cannot be run on {backend!r}.",
        todo=f"It can on: {', '.join(there)}.",
    )


def _of_outside(scenario: Scenario, backend: str) -> Pattern:
    client = find_client(backend)
    if client.pattern not in scenario.patterns:
        raise InvalidInput(
            f"The scenario {scenario.name} cannot be run on {client.name}, which is a client "
            f"of the pattern {client.pattern}.",
            todo=f"It is for: {', '.join(scenario.patterns)}.",
        )
    return client.pattern


class Lane(ABC):
    """One backend in one scene.

    Args:
        lab: where it runs; its users are there.
        scenario: what is run.
        backend: with its options.
        number: which of the lanes of the scene it is, from 0.
    """

    pattern: Pattern
    #: Whether several of them fit into one scene.
    shares_scene: ClassVar[bool] = False
    #: Whether its users enter themselves into the registry, where others find them.
    registers: ClassVar[bool] = True

    def __init__(self, lab: Lab, scenario: Scenario, backend: str, number: int = 0) -> None:
        self.lab = lab
        self.scenario = scenario
        self.backend = backend
        self.number = number
        #: What could not be removed when it was closed.
        self.leftovers: list[str] = []

    @property
    def broker(self) -> str:
        """The service that this one relies on: ``rabbitmq``, ``redis``, ``server``; empty when
        there is none."""
        return broker_of(self.pattern, self.backend)

    @property
    def link(self) -> str:
        """The link on which its messages travel; empty when there is none."""
        return link_of(self.pattern, self.broker)

    @property
    def quiet_seconds(self) -> float:
        """After so long without a sign of it nothing comes any more."""
        return QUIET_SECONDS

    @property
    def real(self) -> bool:
        """Whether other processes can take part: not in what is in this one's memory."""
        return self.backend.partition(":")[0] != "memory"

    @property
    def notes(self) -> tuple[Check, ...]:
        """What it saw that no journal tells; each a figure, none of them counts."""
        return ()

    def will_not_return(self) -> set[str]:
        """The users whose client ended by itself, so that nobody need wait for it."""
        return set()

    # -- its users

    def enter(self) -> None:
        """All users of the scenario are there, online."""
        for name in self.scenario.users:
            self.lab.user(name, process=name in self.scenario.processes and self.real)

    def user(self, name: str) -> Any:
        """The user of this name, with the verbs of :class:`chatlab.lab.User`."""
        return self.lab.user(name)

    def on_link(self, verb: str, user: Any, service: str, *args: float) -> None:
        """``cut``, ``slow`` or ``freeze`` the link of a user to a service."""
        getattr(self.lab, verb)(user, service, *args)

    def heal(self, user: Any) -> None:
        """All links of a user are whole again."""
        self.lab.heal(user)

    def close(self) -> None:
        """The run is over."""
        return

    @abstractmethod
    def join(self, user: Any, options: dict[str, Any]) -> None:
        """The user takes part."""

    @abstractmethod
    def send(self, user: Any, bodies: Sequence[str], to: str) -> list[Receipt]:
        """The user sends; one receipt a message and receiver."""

    def journal(self) -> Journal:
        """What happened on this lane, and to its users as a whole."""
        journal = self.lab.journal
        rows = [row for row in journal.rows[:] if self._mine(row[4])]
        header = {**journal.header, "scene": self.scenario.name}
        header |= {"pattern": self.pattern, "backend": self.backend, "broker": self.broker}
        header["settings"] = {
            **{name: getattr(self.lab.settings, name) for name in _SETTINGS},
            "seed": self.scenario.seed,
        }
        return Journal(rows, **header)

    def do(self, user: Any, verb: str) -> None:
        """Of groups: ``subscribe``, ``connect``, ``disconnect`` or ``unsubscribe``."""
        raise InvalidInput(f"{self.backend} is no group, it cannot {verb}.")

    def _mine(self, chat: str) -> bool:
        return True


class GroupLane(Lane):
    """A group of its own."""

    pattern = "group"
    shares_scene = True

    @property
    def group(self) -> str:
        """Its name."""
        return self.name_of(self.scenario, self.number)

    @staticmethod
    def name_of(scenario: Scenario, number: int) -> str:
        """The group of the lane of that number; the first one has the scenario's name."""
        return scenario.name + (f".{number}" if number else "")

    def join(self, user: User, options: dict[str, Any]) -> None:
        # Where a backend keeps what was before, a member may ask for it.
        first = {"from": options.pop("first_message", None) and "first"}
        offered = "from" in GROUPS[self.backend.partition(":")[0]]
        _only_role(options)
        user.join(self.group, with_options(self.backend, first if offered else {}))

    def do(self, user: User, verb: str) -> None:
        if verb == "subscribe":
            user.subscribe(self.group, self.backend)
        else:
            getattr(user.group(self.group), verb)()

    def send(self, user: User, bodies: Sequence[str], to: str) -> list[Receipt]:
        return user.group(self.group).send_many(bodies)

    def _mine(self, chat: str) -> bool:
        return chat in ("", m.group(self.group))


class PrivateLane(Lane):
    """Private chats, each of two of those who take part."""

    pattern = "private"

    def __init__(self, lab: Lab, scenario: Scenario, backend: str, number: int = 0) -> None:
        super().__init__(lab, scenario, backend, number)
        #: (user, peer) -> the user's handle.
        self._chats: dict[tuple[str, str], PrivateChat] = {}
        self._here: list[User] = []

    def join(self, user: User, options: dict[str, Any]) -> None:
        _only_role(options)
        for other in self._here:
            for one, peer in ((user, other), (other, user)):
                self._chats[one.name, peer.name] = one.private_chat(peer, self.backend)
        self._here.append(user)

    def send(self, user: User, bodies: Sequence[str], to: str) -> list[Receipt]:
        peers = [to] if to else [peer for one, peer in self._chats if one == user.name]
        receipts: list[Receipt] = []
        for peer in peers:
            receipts += self._chats[user.name, peer].send_many(bodies)
        return receipts


class InsultLane(Lane):
    """The insult channel."""

    pattern = "insults"

    @property
    def quiet_seconds(self) -> float:
        # What a dead member held in the stream is given to another after about 4 s.
        return 2 * QUIET_SECONDS if self.backend.startswith("redis-stream") else QUIET_SECONDS

    def __init__(self, lab: Lab, scenario: Scenario, backend: str, number: int = 0) -> None:
        super().__init__(lab, scenario, backend, number)
        self._handles: dict[str, InsultChannel] = {}

    def join(self, user: User, options: dict[str, Any]) -> None:
        given = {"role": "both", **options}
        offered = KNOWN["insults"][self.backend.partition(":")[0]]
        # What a backend cannot do, it is not asked for: a grid compares them as they are.
        for option in ("prefetch", "ack"):
            if option not in offered:
                given.pop(option, None)
        role = given.pop("role")
        self._handles[user.name] = user.insults(role, backend=with_options(self.backend, given))

    def send(self, user: User, bodies: Sequence[str], to: str) -> list[Receipt]:
        if user.name not in self._handles:
            self.join(user, {"role": "producer"})
        return self._handles[user.name].send_many(bodies)


def _only_role(options: dict[str, Any]) -> None:
    """In groups and private chats everybody sends and receives."""
    if others := sorted(options.keys() - {"role"}):
        raise InvalidInput(f"Only the insult channel has the options {', '.join(others)}.")


LANES: dict[Pattern, type[Lane]] = {
    "group": GroupLane,
    "private": PrivateLane,
    "insults": InsultLane,
}
