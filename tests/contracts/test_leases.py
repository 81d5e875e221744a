"""One keeper for the leases of many users, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from chatlab.bench.leases import MOST_PERCENT, WAYS, Leases, leases
from chatlab.discovery import Registry
from chatlab.discovery import redis as name_server
from chatlab.discovery.leases import LeaseKeeper
from chatlab.errors import ChatlabError, InvalidInput, NotPossible, Taken
from chatlab.lab import Lab
from chatlab.resp import Redis, Script
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.links import Link
from chatlab.settings import Settings

LEASE = 0.6


class Counted(Redis):
    """A connection that counts the scripts it has run."""

    scripts = 0

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        self.scripts += 1
        return await super().run(script, keys, args)


@pytest.fixture
async def redis(namespace: tuple[RabbitAddress, RedisAddress]) -> AsyncIterator[Counted]:
    made = Counted(namespace[1], deadline=0.3)
    yield made
    await made.close()


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis, LEASE)


@pytest.fixture
async def other(namespace: tuple[RabbitAddress, RedisAddress]) -> AsyncIterator[Registry]:
    redis = Redis(namespace[1])
    yield Registry(redis, LEASE)
    await redis.close()


@pytest.fixture
async def keeper(registry: Registry) -> AsyncIterator[LeaseKeeper]:
    made = LeaseKeeper(registry)
    yield made
    await made.close()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def come(keeper: LeaseKeeper, *names: str) -> list[tuple[str, ChatlabError]]:
    """Claim and keep; what is lost later, and to whom."""
    lost: list[tuple[str, ChatlabError]] = []
    for name in names:
        life = await keeper.registry.claim(name, f"secret of {name}", "here")
        keeper.keep(name, life, lambda error, name=name: lost.append((name, error)))  # type: ignore[misc]
    return lost


async def test_all_leases_are_renewed_together_at_a_third_of_their_time(
    keeper: LeaseKeeper, redis: Counted, other: Registry
) -> None:
    names = sorted(f"u{number}" for number in range(50))
    await come(keeper, *names)
    redis.scripts, began = 0, asyncio.get_running_loop().time()
    while (spent := asyncio.get_running_loop().time() - began) < 3 * LEASE:
        assert (await other.discover()).users == names
        await asyncio.sleep(0.02)
    assert 3 <= redis.scripts <= 3 * spent / LEASE + 1


async def test_more_than_one_script_takes_are_renewed_in_several(
    keeper: LeaseKeeper, redis: Counted, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_server, "BATCH_LIVES", 4)
    names = sorted(f"u{number}" for number in range(10))
    lives = [(name, await keeper.registry.claim(name, "s", name)) for name in names]
    await other.claim("u6", "s", "elsewhere")
    redis.scripts = 0
    lost = await keeper.registry.renew_many(lives)
    assert redis.scripts == 3
    assert [life for life in lost if isinstance(lost[life], Taken)] == [("u6", 1)]


async def test_who_is_taken_over_is_told_alone_and_kept_no_longer(
    keeper: LeaseKeeper, other: Registry
) -> None:
    lost = await come(keeper, "ana", "bob", "eva")
    await other.claim("bob", "secret of bob", "elsewhere")

    async def told() -> bool:
        return bool(lost)

    await until(told)
    assert [(name, type(error)) for name, error in lost] == [("bob", Taken)]
    assert len(keeper) == 2


async def test_of_two_lives_of_one_name_only_the_older_one_is_over(
    keeper: LeaseKeeper, other: Registry
) -> None:
    older, newer = await come(keeper, "ana"), await come(keeper, "ana")

    async def told() -> bool:
        return bool(older)

    await until(told)
    assert (len(older), newer, len(keeper)) == (1, [], 1)
    assert (await other.discover()).users == ["ana"]


async def test_who_is_released_is_gone_after_its_lease_and_the_others_stay(
    keeper: LeaseKeeper, other: Registry
) -> None:
    await come(keeper, "ana", "bob")
    keeper.release("ana", 1)
    keeper.release("ana", 1)

    async def ana_is_gone() -> bool:
        there = (await other.discover()).users
        assert "bob" in there
        return there == ["bob"]

    await until(ana_is_gone)


async def test_after_all_were_released_the_next_one_is_renewed_again(
    keeper: LeaseKeeper, other: Registry
) -> None:
    await come(keeper, "ana")
    keeper.release("ana", 1)
    await asyncio.sleep(LEASE)  # its timer has found nobody
    await come(keeper, "bob")
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < began + 2 * LEASE:
        assert (await other.discover()).users == ["bob"]
        await asyncio.sleep(0.02)


async def test_a_life_that_was_not_claimed_is_refused_at_once(keeper: LeaseKeeper) -> None:
    with pytest.raises(InvalidInput, match="dan"):
        keeper.keep("dan", 1, lambda _: None)
    await keeper.registry.sibling().claim("dan", "s", "here")
    keeper.keep("dan", 1, lambda _: None)


async def test_a_redis_that_was_away_gets_all_of_them_back(
    redis: Redis, other: Registry
) -> None:
    link = Link((redis.address.host, redis.address.port), user="lab", service="redis")
    own = Redis(redis.address.through("127.0.0.1", await link.open()), deadline=0.2)
    keeper = LeaseKeeper(Registry(own, LEASE))
    lost = await come(keeper, "ana", "bob")

    async def gone() -> bool:
        return (await other.discover()).users == []

    async def back() -> bool:
        return (await other.discover()).users == ["ana", "bob"]

    for fault in (link.cut, link.freeze):
        fault()
        await until(gone)
        link.heal()
        await until(back)
    assert not lost
    await keeper.close()
    await own.close()
    await link.close()


# -- in a lab


def test_without_links_a_labs_users_have_one_keeper_until_they_leave(
    lab_settings: Settings,
) -> None:
    with Lab.start("kept", links=False, settings=lab_settings) as lab:
        ana, bob = lab.users("ana", "bob")
        keeper = lab.keeper
        assert keeper is not None
        assert len(keeper) == 2
        lab.scene("anew")
        assert len(keeper) == 2
        with bob.away():
            assert lab.discover().users == ["ana"]
            assert len(keeper) == 1
        assert lab.discover().users == ["ana", "bob"]
        with pytest.raises(NotPossible):
            ana.crash()
    assert len(keeper) == 0


def test_with_links_each_user_renews_through_its_own(lab_settings: Settings) -> None:
    with Lab.start("own", settings=lab_settings) as lab:
        _, bob = lab.users("ana", "bob")
        assert lab.keeper is None
        lab.cut(bob, "redis")
        while "bob" in lab.discover().users:
            pass
        assert lab.discover().users == ["ana"]
        lab.heal(bob)


# -- what it costs


@pytest.mark.parametrize("way", WAYS)
def test_the_cost_of_leases_is_measured(way: str) -> None:
    measured = leases(way, users=20, seconds=1.2)
    assert 0 < measured.percent < 100
    assert 0 < measured.redis_percent < 100
    assert measured.row()["renewed"] == way


def test_the_goal_is_2_percent_of_a_core_for_a_thousand_leases() -> None:
    assert MOST_PERCENT == 2
    assert Leases("together", 1000, 1.9, 9.0).figure().met
    assert not Leases("together", 1000, 2.1, 0.0).figure().met
    assert not Leases("together", 500, 1.1, 0.0).figure().met
