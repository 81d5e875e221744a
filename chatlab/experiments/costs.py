"""What a question costs, and what must be running for an answer. All of it is measured.

Three labs, one after the other: one in which users crash and freeze (how long each way is
wrong), one with more and more users and no links (messages and time of a question), and one
with services of its own, each killed once. While it is down a user leaves, since who only
remembers what was true before would answer as well; then every way is asked.
"""

from __future__ import annotations

import re
import resource
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from chatlab.discovery import WAYS
from chatlab.discovery.accuracy import Accuracy, Sample, shown_seconds
from chatlab.errors import InvalidInput, ServiceUnavailable
from chatlab.experiments.discovery import ASK_SECONDS, TIMEOUT, Asking, come_online, discovery
from chatlab.settings import Settings
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import Lab

#: The services that are killed, one at a time: attribute of a lab -> what a reader calls it.
SERVICES = {"redis": "Redis", "rabbitmq": "RabbitMQ"}
#: Who is there while they are, and who leaves then.
WITNESSES, LEAVING = ("ana", "bob"), "eva"
#: A way that is not right by then needs what was killed.
RIGHT_SECONDS = 2.0
#: Of each way at each number of users.
QUESTIONS = 5
#: Until every way lists everybody, after many came and after a service came back.
LISTED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one question cost among so many users: medians."""

    way: str
    users: int
    messages: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Down:
    """What a way said while a service was killed."""

    way: str
    service: str
    #: Who was listed and not there.
    ghosts: tuple[str, ...] = ()
    #: Who was there and not listed.
    missed: tuple[str, ...] = ()
    error: str = ""

    @property
    def harmless(self) -> bool:
        """Whether the answer was right all the same."""
        return not (self.error or self.ghosts or self.missed)

    def __str__(self) -> str:
        if self.error:
            return self.error
        wrong = [f"lists {name}, who has left" for name in self.ghosts]
        wrong += [f"misses {name}" for name in self.missed]
        return ", ".join(wrong) or "right"


class Costs(Table):
    """A row per way: how fresh, how dear, what it needs. Made by :func:`discovery_costs`."""

    def __init__(
        self,
        points: Iterable[Cost],
        downs: Iterable[Down],
        accuracy: Accuracy,
    ) -> None:
        #: What was measured, one value each.
        self.points, self.downs = tuple(points), tuple(downs)
        self.accuracy = accuracy
        self.tier: str = accuracy.tier
        self.versions: Mapping[str, str] = accuracy.versions
        ways = dict.fromkeys(point.way for point in self.points)
        super().__init__(map(self._row, ways), "ways of discovery compared")

    def _row(self, way: str) -> dict[str, Any]:
        right = self.accuracy.right_after.get(way, {})
        points = [point for point in self.points if point.way == way]
        downs = [down for down in self.downs if down.way == way]
        needs = [SERVICES[down.service] for down in downs if not down.harmless]
        return {
            "way": way,
            "right after SIGKILL, s": shown_seconds(right.get("killed")),
            "after a freeze, s": shown_seconds(right.get("frozen")),
            **{f"messages at {point.users}": point.messages for point in points},
            **{f"ms at {point.users}": 1000 * point.seconds for point in points},
            "must be running": " and ".join(needs) or "neither",
            **{f"{SERVICES[down.service]} down": str(down) for down in downs},
        }


def discovery_costs(
    users: Sequence[int] = (10, 100, 500),
    ways: Sequence[str] = WAYS,
    *,
    accuracy: Accuracy | None = None,
    settings: Settings | None = None,
) -> Costs:
    """Compare the ways of discovery: freshness, cost of a question, what must be running.

    Takes some minutes: 500 users come online, and brokers are killed and started.

    Args:
        users: how many are there when a question's cost is measured.
        ways: which ways are asked; default: all there are.
        accuracy: a run that says how fresh each way is; default: a new one.
        settings: default: TOML file and environment.

    Raises:
        InvalidInput: no number of users, or one below 1.
        ServiceUnavailable: a broker cannot be had.
    """
    if not users or min(users) < 1:
        raise InvalidInput("A cost is measured among at least one user.")
    if accuracy is None:
        accuracy = _accuracy(ways, settings)
    return Costs(among(users, ways, settings), while_killed(ways, settings), accuracy)


def _start(name: str, settings: Settings | None, **options: Any) -> Lab:
    from chatlab.lab import Lab  # a picture of a saved run needs no lab

    return Lab.start(name, fresh=True, settings=settings, **options)


def _accuracy(ways: Sequence[str], settings: Settings | None) -> Accuracy:
    with _start("discovery-accuracy", settings) as lab:
        return discovery(lab, ways=ways)


def among(
    users: Sequence[int], ways: Sequence[str], settings: Settings | None = None
) -> list[Cost]:
    """Messages and seconds of a question among more and more users."""
    _allow_files()
    found: list[Cost] = []
    with _start("discovery-costs", settings, links=False) as lab:
        here: list[str] = []
        # Nobody is silent: a question ends with the last answer, however long that takes.
        asking = Asking(lab, ways, timeout=lab.settings.send_seconds)
        for number in sorted(set(users)):
            more = [f"user-{n}" for n in range(len(here) + 1, number + 1)]
            come_online(lab, more)
            here += more
            asking.until_listed(here, LISTED_SECONDS)
            for way in ways:
                found.append(_cost(number, [asking.ask(way) for _ in range(QUESTIONS)]))
    return found


def _cost(users: int, samples: Sequence[Sample]) -> Cost:
    for sample in samples:
        if sample.error:
            raise ServiceUnavailable(f"{sample.way} did not answer: {sample.error}")
    return Cost(
        samples[0].way,
        users,
        statistics.median(sample.messages for sample in samples),
        statistics.median(sample.answered_at - sample.asked_at for sample in samples),
    )


def while_killed(ways: Sequence[str], settings: Settings | None = None) -> list[Down]:
    """What each way says when a user has left while Redis, then RabbitMQ, is killed."""
    found: list[Down] = []
    with _start("discovery-down", settings, breakable=True) as lab:
        come_online(lab, [*WITNESSES, LEAVING])
        leaving = lab.user(LEAVING)
        asking = Asking(lab, ways, TIMEOUT)
        for service in SERVICES:
            leaving.online()
            asking.until_listed([*WITNESSES, LEAVING], LISTED_SECONDS)
            with getattr(lab, service).killed(), ThreadPoolExecutor(len(ways)) as pool:
                leaving.offline()
                found += pool.map(partial(_down, asking, service=service), ways)
    return found


def _down(asking: Asking, way: str, *, service: str) -> Down:
    """The first right answer, or the last one when there is none in time."""
    deadline = asking.now() + RIGHT_SECONDS
    while True:
        sample = asking.ask(way)
        ghosts = tuple(sorted(sample.names - set(WITNESSES)))
        missed = () if sample.error else tuple(sorted(set(WITNESSES) - sample.names))
        down = Down(way, service, ghosts, missed, _short(sample.error))
        if down.harmless or asking.now() > deadline:
            return down
        time.sleep(ASK_SECONDS)


def _short(error: str) -> str:
    """What happened, without the driver's own words and the address."""
    return re.sub(r" at [\w.:\[\]]+", "", error.partition(": ")[0].rstrip("."))


def _allow_files() -> None:
    """As many open files as the system lets us: each user has a handful."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
