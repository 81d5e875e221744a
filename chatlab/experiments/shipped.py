"""The scenarios that come with chatlab, each a question that a run answers.

:func:`shipped` gives one by its name, with as many messages as wanted; :func:`scenarios`
lists them. All begin with users online and nothing sent; what a scenario broke, it mends, so
that what waits can arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chatlab.errors import InvalidInput
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.steps import ALL, Pattern
from chatlab.tables import Table

#: Messages of a scenario unless its reader says otherwise.
MESSAGES = 40
#: A member that works holds an insult so long, in seconds.
WORK_SECONDS = 0.02
#: Links stay cut, and servers paused, for so long.
FAULT_SECONDS = 1.0
#: Who has vanished stays away for longer than a lease and what the judges grant on top, …
GHOST_SECONDS = 5.5
#: … and who is back has so long to be listed.
BACK_SECONDS = 2.5
#: While something is killed, so many messages a second are under way.
RATE = 200.0


def absent_member(n: int) -> Scenario:
    """A member is away while half of the messages are sent: does it see them later?"""
    return (
        Scenario("absent-member", ("ana", "bob", "eva"))
        .join("ana", "bob", "eva")
        .send("ana", n - n // 2)
        .settle()
        .offline("bob")
        .send("ana", n // 2)
        .online("bob")
    )


def late_joiner(n: int) -> Scenario:
    """A member comes when all has been sent and asks for the first: what is it shown?"""
    return (
        Scenario("late-joiner", ("ana", "bob", "eva"), patterns=("group",))
        .join("ana", "bob")
        .send("ana", n)
        .settle()
        .join("eva", first_message=True)
    )


def burst(n: int) -> Scenario:
    """Everybody sends at once, as fast as it goes: is all of it there, in order?"""
    return (
        Scenario("burst", ("ana", "bob", "eva"))
        .join("ana", "bob", "eva")
        .send("ana", n - 2 * (n // 3), wait=False)
        .send("bob", n // 3, wait=False)
        .send("eva", n // 3, wait=False)
        .sent()
    )


def slow_consumer(n: int) -> Scenario:
    """One member works ten times as long as the others: who gets how many?"""
    return (
        Scenario("slow-consumer", ("ana", "bob", "eva", "dan"), patterns=("insults",))
        .join("ana", role="producer")
        .join("bob", work=10 * WORK_SECONDS, prefetch=1, role="consumer")
        .join("eva", "dan", work=WORK_SECONDS, prefetch=1, role="consumer")
        .send("ana", n)
    )


def crash_with_work(n: int) -> Scenario:
    """A member is killed with work in its hands: does another one get it?"""
    return (
        Scenario(
            "crash-with-work",
            ("ana", "bob", "eva"),
            patterns=("insults",),
            processes=("bob",),
        )
        .join("ana", role="producer")
        # So slow that work piles up in its hands, however slowly it is sent.
        .join("bob", work=10 * WORK_SECONDS, prefetch=10, role="consumer")
        .join("eva", work=WORK_SECONDS, prefetch=10, role="consumer")
        .send("ana", n)
        .wait(3 * WORK_SECONDS)
        .crash("bob")
    )


def reader_kill(n: int) -> Scenario:
    """A member is killed while messages come in: does it see the rest when it is back?"""
    return (
        Scenario("reader-kill", ("ana", "bob", "eva"), processes=("bob",))
        .join("ana", "bob", "eva")
        .send("ana", n, rate=RATE, wait=False)
        .wait(n / RATE / 2)
        .crash("bob")
        .sent()
        .online("bob")
    )


def broker_restart(n: int) -> Scenario:
    """The broker is stopped in order and started while messages wait: are they still there?"""
    return _back(_waiting("broker-restart", n).restart("broker"))


def broker_kill(n: int) -> Scenario:
    """The broker is killed while messages wait: are they still there?"""
    return _back(_waiting("broker-kill", n).kill("broker").start("broker"))


def redis_kill(n: int) -> Scenario:
    """Redis, with the name server, is killed while messages wait: are they still there?"""
    return _back(_waiting("redis-kill", n).kill("redis").start("redis"))


def server_kill(n: int) -> Scenario:
    """The chat server is killed while messages wait: are they still there?"""
    return _back(_waiting("server-kill", n, ("private",)).kill("server").start("server"))


def link_cut(n: int) -> Scenario:
    """A member's link is cut while messages come in: does it see the rest when it is whole?"""
    return (
        Scenario("link-cut", ("ana", "bob", "eva"))
        .join("ana", "bob", "eva")
        .send("ana", n, rate=RATE, wait=False)
        .wait(n / RATE / 2)
        .cut("bob")
        .sent()
        .wait(FAULT_SECONDS)
        .heal("bob")
    )


def two_windows(n: int) -> Scenario:
    """A user opens a second window: are messages split between the two?"""
    return (
        Scenario("two-windows", ("ana", "bob"))
        .join("ana", "bob")
        .send("ana", n - n // 2)
        .settle()
        .second_window("bob")
        .send("ana", n // 2)
    )


def backlog_first(n: int) -> Scenario:
    """Insults wait before anybody listens: who gets them?"""
    return (
        Scenario("backlog-first", ("ana", "bob", "eva", "dan"), patterns=("insults",))
        .join("ana", role="producer")
        .send("ana", n)
        .join("bob", work=WORK_SECONDS, role="consumer")
        .join("eva", work=WORK_SECONDS, role="consumer")
        .join("dan", work=WORK_SECONDS, role="consumer")
    )


def no_subscriber(n: int) -> Scenario:
    """Nobody but the sender is there: is it told?"""
    return Scenario("no-subscriber", ("ana",), patterns=("group",)).join("ana").send("ana", n)


def poison(n: int) -> Scenario:
    """One insult cannot be worked on: does it stop the others?"""
    return (
        Scenario("poison", ("ana", "bob", "eva"), patterns=("insults",))
        .join("ana", role="producer")
        .join("bob", "eva", fails_on="poison", role="consumer")
        .send("ana", n - n // 2)
        .send("ana", 1, text="poison")
        .send("ana", n // 2)
    )


def ghosts(n: int) -> Scenario:
    """Members vanish in three ways: what becomes of what is sent to them, and who is listed?"""
    return (
        Scenario(
            "ghosts",
            ("ana", "bob", "eva", "dan", "leo"),
            patterns=("group", "insults"),
            processes=("bob",),
        )
        .join("ana", "bob", "eva", "dan", "leo")
        .send("ana", n - n // 2)
        .settle()
        .ask()
        .crash("bob")
        .freeze("eva")
        .cut("dan")
        .send("ana", n // 2)
        .ask(GHOST_SECONDS)
        .thaw("eva")
        .heal("dan")
        .online("bob")
        .ask(BACK_SECONDS)
    )


def _waiting(name: str, n: int, patterns: tuple[Pattern, ...] = ALL) -> Scenario:
    """Half of the messages are sent while bob is away, and wait for him. Insults wait only
    when nobody is there to draw them, so there eva is away, too; in a group she sees them at
    once."""
    scenario = (
        Scenario(name, ("ana", "bob", "eva"), patterns=patterns)
        .join("ana", role="producer")
        .join("eva", "bob", role="consumer")
        .send("ana", n - n // 2)
        .settle()
        .offline("bob")
    )
    # What those who are there have not seen yet must not go down with the broker.
    return _if_insults(scenario, "offline").send("ana", n // 2).settle()


def _back(scenario: Scenario) -> Scenario:
    """Who was away in :func:`_waiting` comes back."""
    return _if_insults(scenario.online("bob"), "online")


def _if_insults(scenario: Scenario, do: str) -> Scenario:
    """With that done by eva where insults are played."""
    if "insults" not in scenario.patterns:
        return scenario
    return scenario.then(do, "eva", only=("insults",))


_SHIPPED: tuple[Callable[[int], Scenario], ...] = (
    *(absent_member, late_joiner, burst, slow_consumer, crash_with_work, reader_kill),
    *(broker_restart, broker_kill, redis_kill, server_kill, link_cut, two_windows),
    *(backlog_first, no_subscriber, poison, ghosts),
)


def names() -> list[str]:
    """What :func:`shipped` knows."""
    return [make.__name__.replace("_", "-") for make in _SHIPPED]


def shipped(name: str, messages: int = MESSAGES, seed: int = 0) -> Scenario:
    """The scenario of this name.

    Args:
        messages: how many are sent in all, at least 4.
        seed: of everything random.

    Raises:
        InvalidInput: there is none of that name, or too few messages.
    """
    if messages < 4:
        raise InvalidInput("A scenario sends at least 4 messages.")
    for make in _SHIPPED:
        if make.__name__.replace("_", "-") == name:
            about = (make.__doc__ or "").partition("\n")[0]
            return replace(make(messages), about=about, seed=seed)
    raise InvalidInput(
        f"There is no scenario {name!r}.", todo=f"There are: {', '.join(names())}."
    )


def scenarios() -> Table:
    """What there is: name, question, patterns, what it breaks."""
    return Table(
        (
            {
                "scenario": scenario.name,
                "question": scenario.about,
                "patterns": scenario.patterns,
                "breaks": sorted(scenario.breaks),
            }
            for scenario in map(shipped, names())
        ),
        "the scenarios",
    )
