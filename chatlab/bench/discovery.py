"""Who is there, asked by a lab as a notebook has it, against the goals.

The goals are times, so the figures are, too, and each is against its goal. The clients that
are found are light ones: a connection of their own and the real announcement, all on the loop
of the asker, so that their work is in the figure as well.

========================  ====================================================  ==============
figure                    what is timed                                         goal
========================  ====================================================  ==============
registry, management      ``lab.discover(…)`` with 500 users who are there      50 ms
events, the first round   ``lab.discover("events")`` in a lab where nobody has  0.5 s a
                          asked yet: the asker connects                         hundred
events, a later round     the same again                                        0.5 s a
                                                                                hundred
leases                    the processor time of this process while 1,000        2 % of a core
                          leases are renewed together (``bench.leases``)
========================  ====================================================  ==============
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chatlab.amqp import Connection
from chatlab.bench.leases import leases
from chatlab.bench.report import Figure
from chatlab.client import Life, new_secret
from chatlab.discovery import Presences, Registry
from chatlab.discovery.announcement import Announcement
from chatlab.discovery.questions import MOST_SECONDS
from chatlab.lab import Lab

#: Users who are there when the shared repository and the broker are asked.
ENTRIES = 500
#: Clients that a question by events reaches.
CLIENTS = (100, 500)
#: Leases are renewed for so long, in seconds.
LEASES_SECONDS = 15.0
#: So many connect at a time.
AT_ONCE = 50
#: The goals, in seconds: of an answer with all entries, of a round a client.
ANSWER_SECONDS = 0.05
ROUND_SECONDS = 0.5 / 100
#: No presence ends while it is measured.
LEASE_SECONDS = 600.0


def discovery(rounds: int) -> Iterator[Figure]:
    """All figures of this module."""
    yield leases(seconds=LEASES_SECONDS).figure()  # first: nobody else is at work
    with Lab.start("bench-discovery", fresh=True) as lab:
        yield _registry(lab, rounds)
        with _crowd(lab, ENTRIES):
            yield _management(lab, rounds)
        for clients in CLIENTS:
            with _crowd(lab, clients):
                yield from _events(lab, clients, rounds)


def _registry(lab: Lab, rounds: int) -> Figure:
    lab.scene("registry")
    lab._call(_register(lab))
    name = f"registry, {ENTRIES} entries"
    return _figure(name, _timed(lambda: lab.discover("registry"), rounds), ANSWER_SECONDS)


async def _register(lab: Lab) -> None:
    registry, secret = Registry(lab._redis, LEASE_SECONDS), new_secret()
    for user in _users(ENTRIES):
        await registry.claim(user, secret, f"127.0.0.1:{len(user)}")


def _management(lab: Lab, rounds: int) -> Figure:
    name = f"management, {ENTRIES} entries"
    return _figure(name, _timed(lambda: lab.discover("management"), rounds), ANSWER_SECONDS)


def _events(lab: Lab, clients: int, rounds: int) -> Iterator[Figure]:
    def ask() -> Presences:
        found = lab.discover("events", timeout=MOST_SECONDS)
        assert (len(found.users), found.silent) == (clients, ())
        return found

    goal = ROUND_SECONDS * clients
    yield _figure(f"events, {clients} clients, first round", _timed(ask, 1), goal)
    yield _figure(f"events, {clients} clients, later rounds", _timed(ask, rounds), goal)


def _timed(ask: Callable[[], Presences], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - began)
    return seconds


def _figure(name: str, seconds: list[float], goal: float) -> Figure:
    shown = f"{goal:g} s" if goal >= 0.1 else f"{1000 * goal:g} ms"
    return Figure(name, seconds, [goal], shown, at_most=1.0)


# ----------------------------------------------------------------- clients that are found


@contextmanager
def _crowd(lab: Lab, number: int) -> Iterator[None]:
    """So many clients in a scene of their own, and nobody else."""
    lab.scene(f"{number} clients")
    links: list[Connection] = []
    said: list[Announcement] = []

    async def come() -> None:
        users = _users(number)
        for first in range(0, number, AT_ONCE):
            lives = [_life(lab, user) for user in users[first : first + AT_ONCE]]
            new = [Connection(life.rabbitmq, life.connection_name) for life in lives]
            links.extend(new)
            said.extend(
                Announcement(link, life, f"127.0.0.1:{len(life.user)}")
                for link, life in zip(new, lives, strict=True)
            )
            await asyncio.gather(*(one.start() for one in said[first:]))

    async def go() -> None:
        await asyncio.gather(*(one.close() for one in said))
        await asyncio.gather(*(link.close() for link in links))

    try:
        lab._call(come())
        yield
    finally:
        lab._call(go())


def _users(number: int) -> list[str]:
    return [f"u{index}" for index in range(number)]


def _life(lab: Lab, user: str) -> Life:
    return Life(
        lab=lab.lease.lab,
        user=user,
        incarnation=1,
        secret="",
        settings=lab.settings,
        record=lab.record,
        rabbitmq=lab.lease.rabbitmq,
        redis=lab.lease.redis,
    )
