"""Discovery as reported: hashes without leases and owners, and the ghosts that they keep."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest

from chatlab.discovery import WAYS, Registry, as_reported
from chatlab.discovery.as_reported import GROUPS, USERS
from chatlab.discovery.presence import Presences
from chatlab.errors import SendUncertain, ServiceUnavailable
from chatlab.lab import Lab
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RedisAddress
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("ghosts", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(request: pytest.FixtureRequest) -> None:
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").scene(request.node.name)


def found(lab: Lab) -> Presences:
    return lab.discover(via="as-reported")


def test_who_is_online_is_listed_at_the_address_of_the_name_server(lab: Lab) -> None:
    listed = found(lab)
    assert "as-reported" in WAYS
    assert (listed.users, listed.groups) == (["ana", "bob", "eva"], [])
    assert [entry.address for entry in listed] == [entry.address for entry in lab.discover()]
    assert (listed.via, listed.messages) == ("as-reported", 4)
    assert {entry.source for entry in listed} == {"as-reported"}


def test_how_old_an_entry_is_and_who_is_in_a_group_nobody_knows(lab: Lab) -> None:
    for user in lab.users("ana", "bob"):
        user.join("sd")
    (sd,) = (entry for entry in found(lab) if entry.kind == "group")
    assert (sd.name, sd.address, sd.members, sd.away) == ("sd", "sd", (), ())
    assert sd.age == math.inf
    assert {row["age"] for row in found(lab).table()} == {"unknown"}
    assert "inf" not in repr(found(lab))


def test_an_orderly_exit_removes_the_entry_and_a_crash_leaves_a_ghost(lab: Lab) -> None:
    bob, eva = lab.users("bob", "eva")
    with bob.away():
        assert found(lab).users == ["ana", "eva"]
    eva.crash()
    while "eva" in lab.discover().users:
        pass
    assert lab.discover().users == ["ana", "bob"]
    assert found(lab).users == ["ana", "bob", "eva"], "the ghost stays"
    eva.online()


def test_a_killed_process_leaves_a_ghost_too(lab: Lab) -> None:
    dan = lab.user("dan", process=True)
    dan.crash()
    assert "dan" in found(lab).users


def test_the_first_member_who_leaves_removes_the_group_for_all(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room = ana.join("sd")
    for leave in ("disconnect", "unsubscribe"):
        his = bob.join("sd")
        assert found(lab).groups == ["sd"]
        getattr(his, leave)()
        assert found(lab).groups == [], "although ana is in it"
        assert lab.discover().groups == ["sd"]
    his = bob.join("sd")
    bob.offline()
    assert found(lab).groups == []
    assert room.send("are you there?").outcome == "confirmed"
    bob.online()
    assert found(lab).groups == ["sd"], "who connects again lists it again"
    assert his.connected


def test_who_has_only_subscribed_neither_lists_a_group_nor_removes_it(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    waiting = bob.subscribe("sd")
    assert found(lab).groups == []
    ana.join("sd")
    waiting.unsubscribe()
    assert found(lab).groups == ["sd"]


def test_a_new_scene_removes_ghosts(lab: Lab) -> None:
    bob = lab.user("bob")
    bob.join("sd")
    bob.crash()
    assert found(lab).groups == ["sd"], "its only member is gone"
    lab.scene("anew")
    assert found(lab).groups == []


async def test_the_last_writer_wins_and_anyone_removes_anothers_entry(redis: Redis) -> None:
    await as_reported.enter(redis, USERS, "ana", "old")
    await as_reported.enter(redis, USERS, "ana", "new")
    assert [entry.address for entry in await as_reported.discover(redis)] == ["new"]
    await as_reported.leave(redis, USERS, "ana")
    assert await as_reported.discover(redis) == []


async def test_users_and_groups_of_one_name_live_side_by_side(redis: Redis) -> None:
    await as_reported.enter(redis, USERS, "sd", "127.0.0.1:7")
    await as_reported.enter(redis, GROUPS, "sd", "sd")
    listed = await as_reported.discover(redis)
    assert [(entry.kind, entry.address) for entry in listed] == [
        ("private", "127.0.0.1:7"),
        ("group", "sd"),
    ]
    await as_reported.leave(redis, GROUPS, "sd")
    assert (await as_reported.discover(redis)).users == ["sd"]


async def test_its_entries_do_not_touch_those_of_the_name_server(redis: Redis) -> None:
    registry = Registry(redis, 1.5)
    await registry.claim("ana", "s", "here")
    await as_reported.leave(redis, USERS, "ana")
    assert (await registry.discover()).users == ["ana"]
    with mapped(redis.address):
        assert not await redis.driver.exists(redis.key(USERS))


async def test_a_redis_that_is_away_keeps_nobody_from_going_on_but_cannot_be_asked() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    redis = Redis(RedisAddress(host="127.0.0.1", port=port, prefix="x:"), deadline=10)
    began = asyncio.get_running_loop().time()
    await as_reported.enter(redis, USERS, "ana", "here")
    assert asyncio.get_running_loop().time() - began < redis.deadline
    await redis.close()
    server.close()
    gone = Redis(RedisAddress(host="127.0.0.1", port=port, prefix="x:"))
    await as_reported.leave(gone, USERS, "ana")
    with pytest.raises((ServiceUnavailable, SendUncertain)):
        await as_reported.discover(gone)
    await gone.close()
