"""Playing a scenario: each step done to real users and services of a lab, on every lane.

Steps happen one after the other in the calling thread; a send with ``wait=False`` goes on in
a thread of its own. What a backend answers to a send is in the journal, so an error there is
no error of the run; a step that cannot be done at all ends it
(:class:`~chatlab.experiments.faults.CannotPlay`).
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from chatlab.errors import ChatlabError, ServiceUnavailable
from chatlab.experiments.faults import CannotPlay, Faults
from chatlab.experiments.lanes import Lane
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.steps import Step
from chatlab.journal import now
from chatlab.lab import Lab
from chatlab.lab.settle import Settled

#: A run waits at most so long, in seconds, for what is still deliverable …
SETTLE_SECONDS = 30.0
#: … and until nothing has happened for as long as its backend may be silent; afterwards at
#: most so long for what nobody waits for.
AFTERWARDS_SECONDS = 6.0
#: So long it waits before it looks whether anything has.
LOOK_SECONDS = 1.0
#: A run is over when nothing has happened for so long.
CALM_SECONDS = 0.3
#: A user that comes online right after a broker has may find a queue that is not there yet.
RETRY_SECONDS = 20.0
#: Who is asked for over and over is asked for so often.
ASK_SECONDS = 0.2
#: A sender that goes on meanwhile is waited for so long.
SENDERS_SECONDS = 120.0

Report = Callable[[str], None]


class Script:
    """One playing of a scenario in the current scene of ``lab``.

    Args:
        lanes: the backends under test, in this scene.
        faults: what is done to services.
        report: called with a sentence before each step.
    """

    def __init__(
        self,
        lab: Lab,
        scenario: Scenario,
        lanes: Sequence[Lane],
        faults: Faults,
        report: Report,
    ) -> None:
        self._lab = lab
        self._scenario = scenario
        self._lanes = lanes
        self._faults = faults
        self._report = report
        self._random = random.Random(scenario.seed)  # noqa: S311
        self._senders: list[threading.Thread] = []
        self._trouble: list[BaseException] = []
        self._numbers = 0

    def play(self) -> None:
        """All steps, then until nothing deliverable is left.

        Raises:
            CannotPlay: a step cannot be done; says which and why.
        """
        pattern = self._lanes[0].pattern
        mine = [step for step in self._scenario.steps if step.done_on(pattern)]
        steps = [*mine, Step("sent"), Step("settle")]
        try:
            for number, step in enumerate(steps, 1):
                self._report(f"{number}/{len(steps)} {step}")
                self._do(step)
            self._until_quiet()
        finally:
            self._join_senders()
        if self._trouble:
            raise self._trouble[0]

    def _do(self, step: Step) -> None:
        try:
            act = getattr(self, f"_do_{step.do}", None)
            if act is not None:
                act(step)
            elif step.breaks == "service" or step.do in ("start", "resume", "calm"):
                self._to_services(step)
            else:
                for user in self._users(step):
                    getattr(user, step.do)()
        except CannotPlay:
            raise
        except ChatlabError as error:
            raise CannotPlay(f"{step}: {error.what}", todo=error.todo) from error

    def _users(self, step: Step) -> list[Any]:
        # Lanes that share a scene share its users.
        return [self._lanes[0].user(name) for name in step.who]

    # -- taking part

    def _do_join(self, step: Step) -> None:
        for user in self._users(step):
            for lane in self._lanes:
                lane.join(user, dict(step.options))

    def _in_group(self, step: Step) -> None:
        for user in self._users(step):
            for lane in self._lanes:
                lane.do(user, step.do)

    def _do_online(self, step: Step) -> None:
        until = time.monotonic() + RETRY_SECONDS
        for user in self._users(step):
            while True:
                try:
                    user.online()
                    break
                except ServiceUnavailable:
                    if time.monotonic() > until:
                        raise

    _do_subscribe = _do_connect = _do_disconnect = _do_unsubscribe = _in_group

    # -- sending

    def _do_send(self, step: Step) -> None:
        (user,) = self._users(step)
        first = self._numbers + 1
        self._numbers += step.count
        bodies = [step.text or str(n) for n in range(first, self._numbers + 1)]
        gaps = self._gaps(step)
        senders = [
            threading.Thread(
                target=self._send_on, args=(lane, user, bodies, gaps, step.to), daemon=True
            )
            for lane in self._lanes
        ]
        for sender in senders:
            sender.start()
        if step.wait:
            for sender in senders:
                sender.join(SENDERS_SECONDS)
        else:
            self._senders += senders

    def _gaps(self, step: Step) -> list[float]:
        """Seconds before each message: random, as of people who do not know each other
        (exponential, their mean as asked for); the same on every lane."""
        if not step.rate:
            return []
        return [self._random.expovariate(step.rate) for _ in range(step.count)]

    def _send_on(
        self, lane: Lane, user: Any, bodies: list[str], gaps: list[float], to: str
    ) -> None:
        try:
            if not gaps:
                lane.send(user, bodies, to)
                return
            due = time.monotonic()
            for body, gap in zip(bodies, gaps, strict=True):
                due += gap
                time.sleep(max(0.0, due - time.monotonic()))
                lane.send(user, [body], to)
        except ChatlabError as error:
            self._trouble.append(
                CannotPlay(f"{user.name} cannot send to {lane.backend}: {error.what}")
            )

    def _do_sent(self, _: Step) -> None:
        self._join_senders()

    def _join_senders(self) -> None:
        for sender in self._senders:
            sender.join(SENDERS_SECONDS)
        self._senders.clear()

    # -- time

    def _do_wait(self, step: Step) -> None:
        time.sleep(step.seconds)

    def _do_ask(self, step: Step) -> None:
        until = time.monotonic() + step.seconds
        while True:
            self._look()
            if time.monotonic() >= until:
                return
            time.sleep(ASK_SECONDS)

    def _look(self) -> None:
        """Ask once; no answer is none, and says nothing of anybody."""
        if not self._lanes[0].registers:
            return
        with contextlib.suppress(ServiceUnavailable):
            found = self._lab.discover()
            self._lab.record(("Listed", now(), "", 0, "", found.via, sorted(found.users)))

    def _do_settle(self, step: Step) -> None:
        until = time.monotonic() + (step.seconds or SETTLE_SECONDS)
        quiet_since = time.monotonic()
        while True:
            before = len(self._lab.journal)
            left = min(until, quiet_since + self._patience) - time.monotonic()
            settled = self._lab.settle(max(0.0, min(LOOK_SECONDS, left)))
            if settled or left <= LOOK_SECONDS:
                return
            back = self._coming_back(settled)
            if not back and not settled.late:
                return
            # The look itself is a fact; who reconnects does so silently.
            if back or len(self._lab.journal) > before + 1:
                quiet_since = time.monotonic()

    def _coming_back(self, settled: Settled) -> set[str]:
        """Who should be connected again any moment, without those whose client has ended."""
        gone = {user for lane in self._lanes for user in lane.will_not_return()}
        return {row["user"] for row in settled.reconnecting} - gone

    @property
    def _patience(self) -> float:
        return max(lane.quiet_seconds for lane in self._lanes)

    def _until_quiet(self) -> None:
        """Until nothing happens any more: also what nobody owes anybody may come, as the
        beginning of a log does to a late joiner."""
        until, before = time.monotonic() + AFTERWARDS_SECONDS, -1
        while len(self._lab.journal) != before and time.monotonic() < until:
            before = len(self._lab.journal)
            time.sleep(CALM_SECONDS)

    # -- faults

    def _services(self, service: str) -> list[str]:
        """The services that are meant, each once."""
        if service != "broker":
            return [service]
        found = list(dict.fromkeys(lane.broker for lane in self._lanes))
        if "" in found:
            names = ", ".join(lane.backend for lane in self._lanes if not lane.broker)
            raise CannotPlay(f"no broker: {names} relies on no service.")
        return found

    def _to_services(self, step: Step) -> None:
        for service in self._services(step.service):
            self._faults.do(step.do, service)

    def _on_links(self, step: Step, verb: str, *args: float) -> None:
        services = [step.service]
        if step.service == "broker":
            services = list(dict.fromkeys(lane.link for lane in self._lanes))
        for user in self._users(step):
            for service in services:
                if not service:
                    raise CannotPlay(f"no link: {user.name} is connected to no service.")
                self._lanes[0].on_link(verb, user, service, *args)

    def _do_cut(self, step: Step) -> None:
        self._on_links(step, "cut")

    def _do_slow(self, step: Step) -> None:
        self._on_links(step, "slow", step.seconds)

    def _do_freeze_link(self, step: Step) -> None:
        self._on_links(step, "freeze")

    def _do_heal(self, step: Step) -> None:
        for user in self._users(step):
            self._lanes[0].heal(user)
