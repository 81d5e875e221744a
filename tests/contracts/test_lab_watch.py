"""Following live who comes and leaves, as a cell does, in each way there is."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from rabbit_rig import eventually

from chatlab.discovery import LIVE_WAYS, Change, Presences, Registry, watching
from chatlab.discovery.watching import Follower, RegistrySource
from chatlab.errors import InvalidInput, LabClosed, NotPossible, WaitTimeout
from chatlab.lab import Lab
from chatlab.lab import watching as lab_watching
from chatlab.lab.watching import Watch
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings

#: Longer than a lease.
SECONDS = 15.0


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("watch", settings=lab_settings) as running:
        running.users("ana", "bob")
        running.user("dan", process=True)
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    """A fresh start that RabbitMQ has told all of: its events are a moment late."""
    lab.scene(request.node.name)
    soon(lambda: lives(lab, "broker-events") == lives(lab, "registry"))


def lives(lab: Lab, via: str) -> dict[str, int | None]:
    return {entry.name: entry.incarnation for entry in lab.discover(via)}


@pytest.fixture(params=LIVE_WAYS)
def watch(lab: Lab, request: pytest.FixtureRequest, scene: None) -> Iterator[Watch]:
    with lab.watch(request.param) as begun:
        yield begun


def words(change: Change) -> tuple[str, ...]:
    return change.name, change.what, change.group


def soon(condition: Callable[[], bool]) -> None:
    """Wait until that is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- what is told


def test_who_goes_and_comes_is_told_as_it_happens(lab: Lab, watch: Watch) -> None:
    bob = lab.user("bob")
    assert watch.now.users == ["ana", "bob", "dan"]
    assert (watch.now.via, watch.changes) == (watch.via, [])
    began = time.time()
    bob.offline()
    left = watch.wait_for("bob", "left")
    assert left.presence is not None
    assert (left.presence.name, left.presence.source) == ("bob", watch.via)
    assert began <= left.at <= time.time()
    assert watch.now.users == ["ana", "dan"]
    bob.online()
    came = watch.wait_for("bob", "came")
    assert came.presence is not None
    assert came.presence.incarnation == bob.incarnation
    assert [words(change) for change in watch.changes] == [
        ("bob", "left", ""),
        ("bob", "came", ""),
    ]


def test_a_process_that_gets_sigkill_leaves_and_comes_as_another_life(
    lab: Lab, watch: Watch
) -> None:
    dan = lab.user("dan")
    life = dan.incarnation
    dan.crash()
    assert watch.wait_for("dan", "left", timeout=SECONDS).presence is not None
    dan.online()
    came = watch.wait_for("dan", "came", timeout=SECONDS)
    assert came.presence is not None
    assert came.presence.incarnation == life + 1


def test_groups_begin_have_members_and_lose_them(lab: Lab, watch: Watch) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("sd", backend="rabbitmq-durable")
    room = bob.join("sd")
    assert words(watch.wait_for("bob", "joined")) == ("bob", "joined", "sd")
    assert [words(change) for change in watch.changes] == [
        *(("sd", "began", "sd"), ("ana", "joined", "sd"), ("bob", "joined", "sd")),
    ]
    with bob.away():  # still a member
        watch.wait_for("bob", "left", timeout=SECONDS)
        assert watch.now[-1].away == ("bob",)
    watch.wait_for("bob", "came")
    room.unsubscribe()
    parted = watch.wait_for("bob", "parted")
    assert parted.presence is not None
    assert (parted.group, parted.presence.members) == ("sd", ("ana",))
    assert watch.now.groups == ["sd"]


def test_a_watch_goes_on_through_a_scene_in_which_all_leave_and_come(
    lab: Lab, watch: Watch
) -> None:
    lab.user("ana").join("sd", backend="rabbitmq-durable")
    watch.wait_for("sd", "began")
    lab.scene("the next one")
    assert watch.wait_for("sd", "ended").group == "sd"
    expected = lives(lab, "registry")
    soon(lambda: {entry.name: entry.incarnation for entry in watch.now} == expected)
    came = {c.name: c.presence for c in watch.changes if c.what == "came"}
    assert {name: entry.incarnation for name, entry in came.items() if entry} == expected
    lab.user("bob").offline()
    watch.wait_for("bob", "left", timeout=SECONDS)


def test_both_ways_say_the_same(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    with lab.watch("broker-events") as told, lab.watch("registry") as asked:
        steps: list[tuple[Callable[[], Any], tuple[str, Any]]] = [
            (lambda: ana.join("sd", backend="rabbitmq-durable"), ("ana", "joined")),
            (lambda: bob.subscribe("sd"), ("bob", "joined")),
            (bob.offline, ("bob", "left")),
            (bob.online, ("bob", "came")),
            (lambda: ana.group("sd").disconnect(), ("ana", "")),
            (lambda: bob.group("sd").unsubscribe(), ("bob", "parted")),
        ]
        for step, expected in steps:
            step()
            for each in (told, asked):
                if expected[1]:
                    each.wait_for(*expected, timeout=SECONDS)
        assert list(map(words, told.changes)) == list(map(words, asked.changes))
        assert len(told.changes) == 6


# -- reading


def test_reading_is_in_order_finite_and_never_twice(lab: Lab, watch: Watch) -> None:
    bob = lab.user("bob")
    bob.offline()
    bob.online()
    assert words(watch.next()) == ("bob", "left", "")
    assert words(watch.next()) == ("bob", "came", "")
    with pytest.raises(WaitTimeout, match=f"by {watch.via}"):
        watch.next(timeout=0)
    with pytest.raises(WaitTimeout, match="that bob left"):  # that was read
        watch.wait_for("bob", "left", timeout=0)
    bob.offline()
    bob.online()
    with pytest.raises(WaitTimeout, match="that eva came"):
        watch.wait_for("eva", "came", timeout=0)
    assert words(watch.wait_for("bob", "came")) == ("bob", "came", "")
    bob.offline()
    assert [words(change) for change in watch.follow(seconds=0.5)] == [("bob", "left", "")]
    bob.online()


def test_what_comes_while_a_cell_follows_is_shown_live(lab: Lab, watch: Watch) -> None:
    bob = lab.user("bob")
    away = threading.Timer(0.05, bob.offline)
    away.start()
    for change in watch.follow(seconds=SECONDS):
        assert words(change) == ("bob", "left", "")
        break
    away.join()
    bob.online()


def test_a_callback_is_told_each_change_in_order_and_its_mistakes_harm_nobody(
    lab: Lab,
) -> None:
    heard: list[Change] = []
    threads: set[str] = set()

    def hear(change: Change) -> None:
        heard.append(change)
        threads.add(threading.current_thread().name)
        raise ValueError("a mistake of the panel's")

    reported: list[Any] = []
    loop = lab._loop._loop
    lab._loop.soon(loop.set_exception_handler, lambda _, context: reported.append(context))
    try:
        with lab.watch(on_change=hear) as watch:
            with lab.user("bob").away():
                pass
            watch.wait_for("bob", "came")
            lab.settle()
            assert list(watch.changes) == heard
    finally:
        lab._loop.soon(loop.set_exception_handler, None)
    assert (len(heard), threads) == (2, {"chatlab"})
    assert [str(context["exception"]) for context in reported] == [
        "a mistake of the panel's"
    ] * 2


def test_what_cannot_be_watched_is_said(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="broker-events, registry"):
        lab.watch("management")
    with lab.watch() as watch, pytest.raises(InvalidInput, match="'gone' is none of came"):
        watch.wait_for("bob", "gone")  # type: ignore[arg-type]


def test_only_the_newest_changes_are_kept_and_reading_goes_on_with_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_watching, "KEPT_CHANGES", 3)
    bob = lab.user("bob")
    with lab.watch() as watch:
        for _ in range(3):
            bob.offline()
            bob.online()
        soon(lambda: "6 changes" in repr(watch))
        assert [change.what for change in watch.changes] == ["came", "left", "came"]
        assert [watch.next(timeout=0).what for _ in range(3)] == ["came", "left", "came"]
        with pytest.raises(WaitTimeout):
            watch.next(timeout=0)


# -- looks and ends


def test_a_watch_and_its_changes_look_tidy(lab: Lab, watch: Watch) -> None:
    with lab.user("bob").away():
        pass
    watch.wait_for("bob", "came")
    assert repr(watch) == f"<Watch of watch by {watch.via}: 2 changes>"
    html = watch._repr_html_()
    assert html.startswith("<table>")
    assert "bob" in html
    lines = repr(watch.changes).splitlines()
    assert [line.split()[1:3] for line in lines[2:]] == [["bob", "left"], ["bob", "came"]]


def test_a_closed_watch_can_be_read_to_its_end_and_then_says_so(lab: Lab, watch: Watch) -> None:
    bob = lab.user("bob")
    bob.offline()
    soon(lambda: watch.changes != [])
    watch.close()
    watch.close()
    bob.online()
    assert watch.next(timeout=0).what == "left"
    with pytest.raises(NotPossible, match="closed"):
        watch.next()
    assert "closed" in repr(watch)
    assert len(watch.changes) == 1


def test_a_watch_ends_with_its_lab_and_whoever_waits_is_told(lab_settings: Settings) -> None:
    lab = Lab.start(f"ends-{secrets.token_hex(2)}", settings=lab_settings)
    watches = [lab.watch(via) for via in LIVE_WAYS]
    raised: list[BaseException] = []

    def wait(watch: Watch) -> None:
        try:
            watch.next(timeout=SECONDS)
        except BaseException as error:
            raised.append(error)

    waiting = [threading.Thread(target=wait, args=(watch,)) for watch in watches]
    for thread in waiting:
        thread.start()
    lab.close()
    for thread in waiting:
        thread.join()
    assert [type(error) for error in raised] == [LabClosed] * 2
    for watch in watches:
        watch.close()
        with pytest.raises(LabClosed):
            watch.next()
        assert watch.now == []
    with pytest.raises(LabClosed):
        lab.watch()


def test_discover_by_broker_events_knows_what_is_there(lab: Lab) -> None:
    bob = lab.user("bob")
    found = lab.discover(via="broker-events")
    assert (found.users, found.via, found.messages) == (
        *(["ana", "bob", "dan"], "broker-events", 0),
    )
    with lab.watch() as watch, bob.away():
        watch.wait_for("bob", "left")
        assert lab.discover(via="broker-events").users == ["ana", "dan"]


# -- the name server's hints


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again just because time has passed."""
    monkeypatch.setattr(watching, "LOOK_SECONDS", 600.0)


class Told:
    """What a follower of the registry tells."""

    def __init__(self, registry: Registry) -> None:
        self.answers = 0
        self.found: list[tuple[str, ...]] = []
        self.follower = Follower(RegistrySource(registry), self._tell)

    def _tell(self, _: Presences, changes: list[Change]) -> None:
        self.answers += 1
        self.found += map(words, changes)


async def test_each_change_in_the_name_server_is_told_without_waiting_for_the_next_look(
    redis: Redis, patient: None
) -> None:
    registry = Registry(redis, lease_seconds=600)
    told = Told(registry)
    await told.follower.open()
    await eventually(lambda: told.answers == 2)  # the subscription stands: a look of its own
    life = await registry.claim("bob", "s", "")
    await eventually(lambda: told.found[-1:] == [("bob", "came", "")])
    await registry.open_group("sd", "memory")
    await eventually(lambda: told.found[-1:] == [("sd", "began", "sd")])
    await registry.enter_group("sd", "bob", life, True)
    await eventually(lambda: told.found[-1:] == [("bob", "joined", "sd")])
    await registry.leave_group("sd", "bob")
    await eventually(
        lambda: told.found[-2:] == [("bob", "parted", "sd"), ("sd", "ended", "sd")]
    )
    with mapped(redis.address):
        await redis.driver.unlink(redis.key("users"), redis.key("leases"))
    await registry.renew("bob", life)  # registers again
    await eventually(lambda: told.found[-1:] == [("bob", "came", "")])
    await registry.depart("bob", life)
    await eventually(lambda: told.found[-1:] == [("bob", "left", "")])
    answers = told.answers
    life = await registry.claim("bob", "s", "")
    await eventually(lambda: told.found[-1:] == [("bob", "came", "")])
    for _ in range(20):
        await registry.renew("bob", life)
        await registry.open_group("sd2", "memory")  # new only once
    await eventually(lambda: told.found[-1:] == [("sd2", "began", "sd2")])
    assert told.answers <= answers + 3  # who only goes on is no news
    await told.follower.close()


async def test_the_end_of_a_lease_is_told_though_nobody_hints_at_it(
    redis: Redis, patient: None
) -> None:
    registry = Registry(redis, lease_seconds=0.4)
    life = await registry.claim("bob", "s", "")
    told = Told(registry)
    await told.follower.open()
    await eventually(lambda: told.found == [("bob", "left", "")])
    await registry.renew("bob", life)  # late, not too late
    await eventually(lambda: told.found[1:] == [("bob", "came", "")])
    await told.follower.close()


async def test_it_does_not_ask_all_the_time(redis: Redis, patient: None) -> None:
    registry = Registry(redis, lease_seconds=0.5)
    life = await registry.claim("bob", "s", "")
    told = Told(registry)
    await told.follower.open()
    for _ in range(20):
        await registry.renew("bob", life)
        await asyncio.sleep(0.05)
    # In 1 s with a lease that can end each 0.5 s.
    assert told.answers < 20
    assert told.found == []
    await told.follower.close()


async def test_whoever_may_not_publish_in_redis_can_do_all_else(
    redis: Redis, namespace: tuple[RabbitAddress, RedisAddress]
) -> None:
    name = f"test-{secrets.token_hex(4)}"
    rules = ("reset", "on", ">x", "~*", "+@all", "resetchannels")
    with mapped(redis.address):
        await redis.driver.execute_command("ACL", "SETUSER", name, *rules)
    limited = Redis(replace(namespace[1], user=name, password="x"))
    try:
        registry = Registry(limited, lease_seconds=30)
        life = await registry.claim("bob", "s", "")
        await registry.open_group("sd", "memory")
        await registry.enter_group("sd", "bob", life, True)
        assert [entry.name for entry in await registry.discover()] == ["bob", "sd"]
        await registry.leave_group("sd", "bob")
        await registry.depart("bob", life)
        assert await registry.discover() == []
    finally:
        await limited.close()
        with mapped(redis.address):
            await redis.driver.execute_command("ACL", "DELUSER", name)
