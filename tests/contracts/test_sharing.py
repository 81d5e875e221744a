"""A lab that several computers share: by name at the same brokers, or by its URL.

A computer is a folder with a supervisor of its own; or, where only the namespace matters, one
:class:`Spaces`, which is what a supervisor has of it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatlab import services
from chatlab.errors import InvalidInput, NotPossible, ServiceUnavailable
from chatlab.lab import Lab
from chatlab.loop import BackgroundLoop
from chatlab.private.keys import file_of, keys_of
from chatlab.resp import Redis, mapped
from chatlab.services import holders, urls
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.services.namespaces import EVERYTHING, wipe
from chatlab.services.pairs import Pair
from chatlab.services.spaces import Join, Space, Spaces
from chatlab.settings import Settings, child_environ

ROOT = Path(__file__).parents[2]
Brokers = tuple[RabbitAddress, RedisAddress]


# -- the namespace: who creates it, who removes it


@pytest.fixture
def computer(tmp_path: Path) -> Callable[[], Spaces]:
    """A supervisor's spaces; its own brokers are never started."""

    async def never(*_: Any) -> Any:
        raise AssertionError("these labs bring their brokers")

    def pair(name: str) -> Pair:
        return Pair(name, tmp_path, ledger=tmp_path / "l", limit=1, find=never, mapper=never)

    return lambda: Spaces(pair)


class Place:
    """What is at the brokers of the labs called ``class``."""

    def __init__(self, rabbitmq: RabbitAddress, redis: RedisAddress) -> None:
        self.rabbitmq = replace(rabbitmq, vhost="/", monitor="", monitor_password="")
        self.redis = replace(redis, prefix="")
        self.management = Management(rabbitmq, 20)
        self.store = Redis(replace(redis, prefix="chatlab:class:"))

    def join(self, *, existing: bool = False, kept: bool = False) -> Join:
        return Join("class", False, True, existing, kept, self.rabbitmq, self.redis)

    async def put(self, name: str) -> None:
        with mapped(self.redis):
            await self.store.driver.set(self.store.key(name), "x")

    async def keys(self) -> set[str]:
        with mapped(self.redis):
            found = await self.store.driver.keys(self.store.prefix + "*")
        return {key.removeprefix(self.store.prefix) for key in found}

    async def vhost(self) -> bool:
        return await self.management.get("vhosts", "chatlab-class") is not None

    async def monitors(self) -> set[str]:
        users = [user["name"] for user in await self.management.get("users")]
        return {name for name in users if name.startswith("chatlab-class-monitor-")}

    async def nothing(self) -> bool:
        return (await self.keys(), await self.vhost(), await self.monitors()) == (
            *(set(), False, set()),
        )

    async def clear(self) -> None:
        await self.management.delete("vhosts", "chatlab-class")
        for name in await self.monitors():
            await self.management.delete("users", name)
        for key in await self.keys():
            with mapped(self.redis):
                await self.store.driver.delete(self.store.key(key))
        await self.store.close()


@pytest.fixture
async def place(endpoints: Brokers) -> AsyncIterator[Place]:
    made = Place(*endpoints)
    assert await made.nothing()
    yield made
    await made.clear()


async def opened(spaces: Spaces, join: Join) -> Space:
    space = await spaces.take(join)
    try:
        await spaces.open(space)
    except BaseException:
        await spaces.release(space)
        raise
    return space


async def test_the_last_computer_that_leaves_removes_it_and_the_others_nothing(
    computer: Callable[[], Spaces], place: Place
) -> None:
    first, second = computer(), computer()
    one = await opened(first, place.join())
    await place.put("key")
    two = await opened(second, place.join())
    assert one.names is not None
    assert two.names is not None
    assert (one.names.rabbitmq.vhost, one.names.redis) == (
        *(two.names.rabbitmq.vhost, two.names.redis),
    )
    assert await place.keys() == {"key", holders.HOLDERS}
    await first.release(one)
    assert await place.keys() == {"key", holders.HOLDERS}
    assert await place.vhost()
    assert await place.monitors() == {two.names.rabbitmq.monitor}
    await second.release(two)
    assert await place.nothing()


async def test_who_finds_no_living_holder_begins_with_an_empty_namespace(
    computer: Callable[[], Spaces], place: Place
) -> None:
    """What a computer that lost its power has left behind."""
    await place.management.put("vhosts", "chatlab-class", body={})
    user = place.rabbitmq.user
    await place.management.put("permissions", "chatlab-class", user, body=EVERYTHING)
    await place.management.put("queues", "chatlab-class", "old", body={"durable": True})
    ghost = {"password": "x", "tags": "monitoring"}
    await place.management.put("users", "chatlab-class-monitor-01234567", body=ghost)
    await place.put("old")
    spaces = computer()
    space = await opened(spaces, place.join())
    assert space.names is not None
    assert await place.keys() == {holders.HOLDERS}
    assert await place.management.get("queues", "chatlab-class") == []
    assert await place.monitors() == {space.names.rabbitmq.monitor}
    await spaces.release(space)
    assert await place.nothing()


async def test_what_is_kept_outlives_its_last_holder_whoever_comes_and_goes_later(
    computer: Callable[[], Spaces], place: Place
) -> None:
    spaces = computer()
    space = await opened(spaces, place.join(kept=True))
    await place.put("key")
    await spaces.release(space)
    assert await place.monitors() == set()
    for join in (place.join(), place.join(kept=True), place.join(existing=True)):
        assert await place.keys() == {"key", holders.HOLDERS}
        assert await place.vhost()
        await spaces.release(await opened(spaces, join))


async def test_a_killed_computer_is_counted_no_more_when_its_entry_has_ended(
    computer: Callable[[], Spaces], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "LEASE_SECONDS", 0.6)
    killed, alive = computer(), computer()
    dead = await opened(killed, place.join())
    living = await opened(alive, place.join())
    assert dead.holder is not None
    await dead.holder.abandon()

    async def entries() -> int:
        with mapped(place.redis):
            return int(await place.store.driver.zcard(place.store.key(holders.HOLDERS)))

    async with asyncio.timeout(10):
        while await entries() > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await place.put("key")
    await asyncio.sleep(1.0)  # longer than a lease: who lives renews its own
    joined = computer()
    third = await opened(joined, place.join(existing=True))
    assert "key" in await place.keys()
    await joined.release(third)
    await alive.release(living)
    assert await place.nothing()


async def test_by_url_nothing_is_created_where_no_lab_is_open(
    computer: Callable[[], Spaces], place: Place
) -> None:
    await place.put("somebody's")
    with pytest.raises(NotPossible, match="No lab of this URL is open"):
        await opened(computer(), place.join(existing=True))
    assert await place.keys() == {"somebody's"}
    assert not await place.vhost()
    assert await place.monitors() == set()


async def test_many_that_come_and_go_at_once_have_one_namespace_and_leave_nothing(
    computer: Callable[[], Spaces], place: Place
) -> None:
    """No one's beginning or end touches what another one has."""
    all_of_them = [computer() for _ in range(4)]

    async def come_and_go(spaces: Spaces, times: int) -> None:
        for _ in range(times):
            space = await opened(spaces, place.join())
            name = str(id(space))
            await place.put(name)
            assert name in await place.keys()
            assert await place.vhost()
            await spaces.release(space)

    await asyncio.gather(*(come_and_go(spaces, 3) for spaces in all_of_them))
    assert await place.nothing()


async def test_a_scene_keeps_the_holders_and_what_the_others_may_see(
    computer: Callable[[], Spaces], place: Place
) -> None:
    first, second = computer(), computer()
    one, two = await opened(first, place.join()), await opened(second, place.join())
    assert one.names is not None
    assert two.names is not None
    await place.put("key")
    await wipe(one.names, {holders.HOLDERS})
    assert await place.keys() == {holders.HOLDERS}
    watcher = Management(two.names.rabbitmq.watched(), 20)
    assert await watcher.get("bindings", "chatlab-class") == []
    await first.release(one)
    assert await place.vhost()
    await second.release(two)
    assert await place.nothing()


async def test_a_namespace_that_cannot_be_had_leaves_no_entry(
    computer: Callable[[], Spaces], place: Place
) -> None:
    wrong = replace(place.join(), administrator=("nobody", "wrong"))
    with pytest.raises(ServiceUnavailable):
        await opened(computer(), wrong)
    assert await place.keys() == set()


# -- labs


class Other:
    """A kernel on another computer (``sharing_child``)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, *command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "ok" in answer, answer
        return answer["ok"]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def another(settings: Settings, folder: Path) -> Iterator[Other]:
    there = replace(settings, folder=folder)
    environ = child_environ(there.as_environ() | {"PYTHONPATH": str(ROOT)})
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sharing_child"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Other(process)
        finally:
            process.kill()
            with BackgroundLoop("another") as loop:
                loop.call(services.stop(there, force=True))


def until(condition: Callable[[], bool]) -> None:
    """The brokers' own view is a moment late."""
    import time

    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_by_its_url_a_lab_is_joined_from_another_computer(
    lab_settings: Settings, tmp_path: Path
) -> None:
    lab = Lab.start("class", shared=True, settings=lab_settings)
    with lab, another(lab_settings, tmp_path / "c") as other:
        ana = lab.user("ana")
        shown = other.do("join", lab.url)
        assert shown.startswith("<Lab class")
        other.do("user", "gus")
        for via in ("registry", "management", "as-reported"):
            until(lambda via=via: lab.discover(via=via).users == ["ana", "gus"])  # type: ignore[misc]
            assert other.do("users", via) == ["ana", "gus"]
        room = ana.join("sd")
        assert other.do("send", "gus", "sd", "from far away") == 1
        assert room.next(timeout=20).body == "from far away"
        room.send("welcome")
        assert other.do("first", "gus", "sd", "2") == ["from far away", "welcome"]
        assert other.do("mailbox", "gus", "ana", "hola") == "confirmed"
        assert ana.private_chat("gus").next(timeout=20).body == "hola"
        lab.close()
        until(lambda: other.do("users", "registry") == ["gus"])
        assert other.do("users", "management") == ["gus"]
        assert other.do("send", "gus", "sd", "alone") == 0
        other.do("close")


def test_computers_that_start_one_name_at_the_same_brokers_share_it_until_both_have_gone(
    endpoints: Brokers, lab_settings: Settings, tmp_path: Path
) -> None:
    rabbitmq, redis = endpoints
    administrator = rabbitmq.user, rabbitmq.password
    there = replace(rabbitmq, vhost="/")
    _, brokers = urls.of_lab_url(
        urls.lab_url("class", there, redis, administrator), lab_settings
    )
    lab = Lab.start("class", shared=True, settings=brokers)
    with lab, another(brokers, tmp_path / "c") as other:
        ana = lab.user("ana")
        other.do("start", "class")
        other.do("user", "gus")
        assert lab.discover().users == ["ana", "gus"]
        lab.scene("for both")
        until(lambda: lab.discover(via="management").users == ["ana", "gus"])
        other.do("scene", "again")
        until(lambda: other.do("users", "management") == ["ana", "gus"])
        other.kill()
        until(lambda: lab.discover().users == ["ana"])
        room = ana.join("sd")
        room.send("still here")
        assert room.next().body == "still here"
    with BackgroundLoop("after") as loop:
        assert loop.call(Management(rabbitmq).get("vhosts", "chatlab-class")) is None


def test_a_lab_knows_the_secret_that_a_server_of_this_computer_made_for_it(
    lab_settings: Settings,
) -> None:
    made = keys_of(replace(lab_settings, lab="class")).lab_secret
    try:
        with Lab.start("class", shared=True, settings=lab_settings) as lab:
            assert lab.settings.lab_secret == made
            ana, bob = lab.users("ana", "bob")
            receipt = ana.private_chat("bob").send("hola")
            bob.private_chat("ana").wait_for(receipt)
        with Lab.start("class", settings=lab_settings) as another:  # of one's own
            assert another.settings.lab_secret == ""
    finally:
        file_of(replace(lab_settings, lab="class")).unlink()


def test_a_lab_of_the_same_name_that_is_another_one_is_not_taken_for_it(
    lab_settings: Settings,
) -> None:
    with Lab.start("class", shared=True, settings=lab_settings) as lab:
        assert Lab.join(lab.url, settings=lab_settings) is lab
        elsewhere = lab.url.replace(f"%3A{lab.lease.redis.port}", "%3A1")
        assert elsewhere != lab.url
        with pytest.raises(InvalidInput, match="Another lab named class"):
            Lab.join(elsewhere, settings=lab_settings)
        assert not lab.closed
    own = Lab.start("own", settings=lab_settings)
    with own, pytest.raises(NotPossible, match="shared=True"):
        _ = own.url


def test_the_url_is_shown_nowhere_else(lab_settings: Settings) -> None:
    with Lab.start("class", shared=True, settings=lab_settings) as lab:
        lab.user("ana")
        for secret in (lab.lease.rabbitmq.password, lab.lease.redis.password):
            assert secret in lab.url
            for thing in (lab, lab.settings, lab.lease, lab.current, lab.state()):
                assert secret not in repr(thing)
                assert secret not in getattr(thing, "_repr_html_", str)()
