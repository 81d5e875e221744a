"""The accuracy of discovery: users are killed, frozen, cut off and leave, all ways are asked.

Each way has a thread that asks, waits a little and asks again, all the time; the answers of
one way never wait for those of another. Meanwhile the changes are made one after the other
to a user each:

=======  ================================================================================
user     what happens to it
=======  ================================================================================
``dan``  its process is killed (SIGKILL)
``eli``  its process is frozen (SIGSTOP), later it goes on
``fay``  it leaves with a goodbye
``gil``  its network to both brokers is cut, later it is whole again
=======  ================================================================================

After each there is quiet for longer than the slowest way that promises anything needs. The
record, an :class:`~chatlab.discovery.accuracy.Accuracy`, says who was right and when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from chatlab.checkers import Listing, Stay, Verdict, presence
from chatlab.discovery import WAYS, Presences
from chatlab.discovery.accuracy import Accuracy, Sample, Turn
from chatlab.errors import ChatlabError, InvalidInput, NotPossible

if TYPE_CHECKING:
    from chatlab.lab import Lab

#: Those to whom something is done, each a process of its own.
KILLED, FROZEN, LEFT, CUT = CHANGING = ("dan", "eli", "fay", "gil")
#: The first of those who stay; further ones are numbered.
STAYING = ("ana", "bob", "eva", "ida", "leo", "mia")
#: From one question of a way to its next, unless the answer takes longer.
ASK_SECONDS = 0.1
#: How long a question that waits for everybody's own answer may wait for the silent.
TIMEOUT = 0.5
#: Quiet beyond what the slowest way needs, and before the first change.
MARGIN_SECONDS = 1.0
#: Who is back is listed by then: the longest pause between attempts, and twice a look.
BACK_SECONDS = 2.0
#: So many users come online at a time.
AT_ONCE = 8


def discovery(
    lab: Lab,
    users: int = 10,
    ways: Sequence[str] = WAYS,
    seconds: float | None = None,
    timeout: float = TIMEOUT,
) -> Accuracy:
    """Ask every way who is there while users crash, freeze, leave and are cut off.

    Begins with a scene, so that everybody is online; who is in the lab besides takes part
    and stays. Shorter settings make a shorter run: ``Lab.start(settings=Settings(
    lease_seconds=1.5, heartbeat_seconds=3))``.

    Args:
        users: how many there are, four of them to be changed.
        ways: which ways are asked; default: all there are.
        seconds: of quiet after each of the six changes; default: the lab's lease or two
            time-outs, whichever is longer, and a second.
        timeout: how long ``events`` waits for those who are silent.

    Raises:
        InvalidInput: fewer than four users, no way, or one that does not exist.
        NotPossible: a lab without links, in which nobody can be cut off.
    """
    _check(lab, users, ways)
    slowest = max(lab.settings.lease_seconds, 2 * timeout)
    quiet = slowest + MARGIN_SECONDS if seconds is None else seconds
    scene = lab.scene("discovery")
    come_online(lab, names(users))
    asking = Asking(lab, ways, timeout)
    everybody = list(dict.fromkeys([*CHANGING, *scene.journal.header["users"]]))
    asking.until_listed(everybody, deadline=lab.settings.send_seconds)
    with asking:
        changes = list(_changes(lab, asking, quiet))
        ended = asking.now()
    return Accuracy(
        users=tuple(everybody),
        changes=tuple(changes),
        samples=tuple(asking.samples()),
        seconds=ended,
        tier=scene.journal.header["tier"],
        versions=dict(scene.journal.header["versions"]),
        settings={
            "lease_seconds": lab.settings.lease_seconds,
            "heartbeat_seconds": lab.settings.heartbeat_seconds,
            "timeout": timeout,
        },
    )


def discovery_verdict(accuracy: Accuracy) -> Verdict:
    """The judges' word on a run, a check a way: who is gone is listed no longer than a
    lease, and who is back is listed after a reconnect.

    ``management`` and ``broker-events`` break it for a user that is frozen longer than that:
    RabbitMQ takes its connection for alive until heartbeats are missed.
    """
    stays = [
        Stay(user, since, until)
        for user, spans in accuracy.truth.items()
        for since, until in spans
    ]
    listings = [
        Listing(sample.answered_at, sample.way, sample.names)
        for sample in accuracy.samples
        if not sample.error
    ]
    checks = presence(
        stays,
        listings,
        ghost_seconds=accuracy.settings["lease_seconds"] + MARGIN_SECONDS / 2,
        missed_seconds=BACK_SECONDS,
    )
    return Verdict(checks, accuracy.tier)


def _check(lab: Lab, users: int, ways: Sequence[str]) -> None:
    if users < len(CHANGING):
        raise InvalidInput(f"{users} users are too few: {len(CHANGING)} are to be changed.")
    if not ways or set(ways) - set(WAYS):
        raise InvalidInput(
            f"There are no ways {', '.join(ways) or '(none given)'} to ask.",
            todo=f"There are: {', '.join(WAYS)}.",
        )
    if not lab.links:
        raise NotPossible(
            "This lab runs without links, so nobody in it can be cut off.",
            todo="Start it with links=True (the default).",
        )


def names(users: int) -> list[str]:
    """So many names, those to be changed first."""
    some = [*CHANGING, *STAYING][:users]
    return [*some, *(f"user-{number}" for number in range(len(some) + 1, users + 1))]


def come_online(lab: Lab, users: Sequence[str]) -> None:
    """All of them, several at a time; :data:`CHANGING` as processes of their own."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda name: lab.user(name, process=name in CHANGING), users):
            pass


def _changes(lab: Lab, asking: Asking, quiet: float) -> Iterator[Turn]:
    """Make the changes, each followed by quiet."""
    killed, frozen, left, cut = (lab.user(name) for name in CHANGING)

    def cut_off() -> None:
        for service in ("rabbitmq", "redis"):
            lab.cut(cut, service)

    asking.listen(MARGIN_SECONDS)
    steps: list[tuple[str, str, Callable[[], Any], bool]] = [
        (KILLED, "killed", killed.crash, False),
        (FROZEN, "frozen", frozen.freeze, False),
        (FROZEN, "thawed", frozen.thaw, True),
        (LEFT, "left", left.offline, False),
        (CUT, "cut", cut_off, False),
        (CUT, "healed", lambda: lab.heal(cut), True),
    ]
    for user, fault, act, there in steps:
        before = asking.now()
        act()
        yield Turn(user, fault, before, asking.now(), there)
        asking.listen(quiet)


class Asking:
    """Asks every way, each in a thread of its own, while it is open (``with``)."""

    def __init__(self, lab: Lab, ways: Sequence[str], timeout: float) -> None:
        self._lab = lab
        self._options: dict[str, dict[str, Any]] = {way: {} for way in ways}
        if "events" in self._options:
            self._options["events"] = {"timeout": timeout}
        self._over = threading.Event()
        self._samples: dict[str, list[Sample]] = {way: [] for way in ways}
        self._pool = ThreadPoolExecutor(len(ways), thread_name_prefix="asking")
        self._began = time.monotonic()

    def __enter__(self) -> Asking:
        self._began = time.monotonic()
        self._threads = [self._pool.submit(self._over_and_over, way) for way in self._options]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()  # each thread ends with the question that it is asking
        for thread in self._threads:
            thread.result()

    def now(self) -> float:
        """Seconds since the asking began."""
        return time.monotonic() - self._began

    def listen(self, seconds: float) -> None:
        """Let the ways be asked for so long; ends at once when one of them failed."""
        deadline = self.now() + seconds
        while (left := deadline - self.now()) > 0 and not self._over.wait(min(left, 0.1)):
            pass
        if self._over.is_set():
            raise RuntimeError("Asking has ended before the run.")

    def until_listed(self, users: Sequence[str], deadline: float) -> None:
        """Open what each way needs, and wait until it lists all of ``users``, or until
        ``deadline``: a way that never does will be shown to."""
        for way in self._options:
            ends = time.monotonic() + deadline
            while not set(users) <= self.ask(way).names and time.monotonic() < ends:
                self._over.wait(ASK_SECONDS)

    def samples(self) -> Iterator[Sample]:
        """Those answered so far, way by way, each way's in order."""
        for samples in self._samples.values():
            yield from samples

    def ask(self, way: str) -> Sample:
        """One question; that it cannot be answered is an answer, too."""
        asked = self.now()
        try:
            found = discover(self._lab, way, **self._options[way])
        except ChatlabError as error:
            return Sample(way, asked, self.now(), error=error.what)
        return Sample(way, asked, self.now(), frozenset(found.users), found.messages)

    def _over_and_over(self, way: str) -> None:
        try:
            while not self._over.is_set():
                sample = self.ask(way)
                self._samples[way].append(sample)
                self._over.wait(max(sample.asked_at + ASK_SECONDS - self.now(), 0.0))
        except BaseException:
            self._over.set()
            raise


def discover(lab: Lab, way: str, **options: Any) -> Presences:
    """``lab.discover`` with the options of that way."""
    ask: Callable[..., Presences] = lab.discover
    return ask(via=way, **options)
