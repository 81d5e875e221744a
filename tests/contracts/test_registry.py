"""The name server on a real Redis."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import product

import pytest

from chatlab.discovery import Registry
from chatlab.errors import (
    BackendMismatch,
    ChatlabError,
    InvalidInput,
    NameInUse,
    ServiceUnavailable,
    Taken,
)
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.services.links import Link

LEASE = 0.4


@pytest.fixture
async def redis(namespace: tuple[RabbitAddress, RedisAddress]) -> AsyncIterator[Redis]:
    client = Redis(namespace[1], deadline=2)
    yield client
    with mapped(client.address):
        keys = [key async for key in client.driver.scan_iter(match=client.prefix + "*")]
        if keys:
            await client.driver.unlink(*keys)
    await client.close()


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis, LEASE)


@pytest.fixture
def other(redis: Redis) -> Registry:
    """A second client of the same name server, which remembers nothing of the first."""
    return Registry(redis, LEASE)


async def redis_clock(redis: Redis) -> float:
    with mapped(redis.address):
        seconds, microseconds = await redis.driver.time()
    return float(seconds) + float(microseconds) / 1e6


async def names(registry: Registry) -> list[str]:
    return [entry.name for entry in await registry.discover()]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


# Accounts


async def test_an_account_is_created_once_and_keeps_its_secret(registry: Registry) -> None:
    await registry.create_account("ana", "s1")
    await registry.create_account("ana", "s1")
    with pytest.raises(NameInUse, match="ana"):
        await registry.create_account("ana", "s2")
    assert await registry.account_secret_ok("ana", "s1") is True
    assert await registry.account_secret_ok("ana", "s2") is False
    assert await registry.account_secret_ok("bob", "s1") is None
    assert (await registry.account_exists("ana"), await registry.account_exists("bob")) == (
        True,
        False,
    )


async def test_the_secret_itself_is_not_stored(registry: Registry, redis: Redis) -> None:
    await registry.claim("ana", "a-rather-secret-word", "here")
    with mapped(redis.address):
        everything = [
            await redis.driver.hgetall(key)
            async for key in redis.driver.scan_iter(match=redis.prefix + "*", _type="hash")
        ]
    assert "here" in str(everything)
    assert "a-rather-secret-word" not in str(everything)


# Presences


async def test_a_claim_creates_the_account_and_shows_the_user(registry: Registry) -> None:
    assert await registry.claim("ana", "s1", "127.0.0.1:7") == 1
    (entry,) = await registry.discover()
    assert (entry.name, entry.kind, entry.address) == ("ana", "private", "127.0.0.1:7")
    assert (entry.source, entry.incarnation) == ("registry", 1)


async def test_what_is_known_of_a_user_is_as_old_as_its_last_renewal(
    registry: Registry,
) -> None:
    life = await registry.claim("ana", "s1", "here")
    (new,) = await registry.discover()
    await asyncio.sleep(0.3)
    (older,) = await registry.discover()
    await registry.renew("ana", life)
    (renewed,) = await registry.discover()
    assert new.age < older.age
    assert 0.3 <= older.age < registry.lease_seconds
    assert renewed.age < older.age
    assert await registry.account_secret_ok("ana", "s1") is True


async def test_with_the_secret_a_name_is_taken_over_at_once(
    registry: Registry, other: Registry
) -> None:
    first = await registry.claim("ana", "s1", "old")
    second = await other.claim("ana", "s1", "new")
    assert (first, second) == (1, 2)
    assert [entry.address for entry in await registry.discover()] == ["new"]
    with pytest.raises(Taken, match="incarnation 2"):
        await registry.renew("ana", first)
    with pytest.raises(Taken):
        await registry.claim("ana", "s1", "old", first)
    assert [entry.address for entry in await registry.discover()] == ["new"]


async def test_without_the_secret_a_name_is_refused_even_when_its_lease_is_over(
    registry: Registry,
) -> None:
    life = await registry.claim("ana", "s1", "here")
    with pytest.raises(NameInUse):
        await registry.claim("ana", "s2", "there")
    await registry.depart("ana", life)
    with pytest.raises(NameInUse):
        await registry.claim("ana", "s2", "there")
    assert await names(registry) == []


async def test_the_same_life_may_claim_again_and_keeps_since(registry: Registry) -> None:
    life = await registry.claim("ana", "s1", "here")
    (before,) = await registry.discover()
    assert await registry.claim("ana", "s1", "moved", life) == life
    (after,) = await registry.discover()
    assert (after.address, after.since) == ("moved", before.since)
    assert await registry.claim("ana", "s1", "here", 7) == 7
    assert await registry.claim("ana", "s1", "here") == 8


async def test_claims_at_once_get_a_number_each(registry: Registry) -> None:
    lives = await asyncio.gather(*(registry.claim("ana", "s1", str(i)) for i in range(100)))
    assert sorted(lives) == list(range(1, 101))
    (entry,) = await registry.discover()
    assert entry.address == str(lives.index(100))


async def test_an_expired_presence_disappears_at_its_lease_and_not_before(
    registry: Registry, redis: Redis
) -> None:
    before = await redis_clock(redis)
    await registry.claim("ana", "s1", "here")
    after = await redis_clock(redis)
    while True:
        asked = await redis_clock(redis)
        present = await names(registry) == ["ana"]
        answered = await redis_clock(redis)
        if present:
            assert asked < after + LEASE + 0.001, "listed although its lease was over"
        else:
            break
        await asyncio.sleep(0.005)
    assert answered >= before + LEASE - 0.001, "gone although its lease lived"


async def test_a_client_whose_clock_is_wrong_is_there_as_long_as_any_other(
    redis: Redis, registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every expiry is judged by Redis' own clock."""
    true_time, true_ns = time.time, time.time_ns
    for wrong, renews in product((-86_400, 86_400), (False, True)):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda wrong=wrong: true_time() + wrong)
            patch.setattr(time, "time_ns", lambda wrong=wrong: true_ns() + wrong * 10**9)
            before = await redis_clock(redis)
            life = await registry.claim("ana", "s1", "here")
            if renews:
                await registry.renew("ana", life)
            await registry.register_server("mailbox-redis", at(1), "t1")
            await registry.open_group("sd")
            await registry.enter_group("sd", "ana", life, connected=True)
        ana, sd = await other.discover()
        assert (ana.name, sd.members) == ("ana", ("ana",))
        for entry in (ana, sd):
            assert before - 0.001 <= (entry.since or 0) <= await redis_clock(redis)
        assert await other.find_server("mailbox-redis") == at(1)
        await until(lambda: is_gone(other))
        assert await redis_clock(redis) >= before + LEASE - 0.001
        assert (await other.group_members("sd")) == {"ana": False}
        assert await other.account_exists("ana"), "an account stays when its presence ends"
        await other.leave_group("sd", "ana")


async def is_gone(registry: Registry) -> bool:
    """Whether neither ana nor the chat server is there any more."""
    there = await registry.find_user("ana"), await registry.find_server("mailbox-redis")
    return there == (None, None)


async def test_a_renewal_extends_the_lease_from_now(registry: Registry, redis: Redis) -> None:
    life = await registry.claim("ana", "s1", "here")
    begun = await redis_clock(redis)
    while await redis_clock(redis) < begun + 1.5 * LEASE:
        await registry.renew("ana", life)
    assert await names(registry) == ["ana"]


async def test_a_late_removal_by_an_old_life_leaves_its_successor(
    registry: Registry, other: Registry
) -> None:
    first = await registry.claim("ana", "s1", "old")
    second = await other.claim("ana", "s1", "new")
    await registry.depart("ana", first)
    assert [entry.address for entry in await other.discover()] == ["new"]
    await other.depart("ana", second)
    assert await names(other) == []


async def test_a_renewal_overtaken_by_its_own_departure_changes_nothing(
    registry: Registry,
) -> None:
    life = await registry.claim("ana", "s1", "here")
    await registry.depart("ana", life)
    await registry.renew("ana", life)
    assert await names(registry) == []
    await registry.claim("ana", "s1", "again", life)
    assert await names(registry) == ["ana"]


async def test_a_forgotten_presence_is_registered_again(
    registry: Registry, redis: Redis
) -> None:
    life = await registry.claim("ana", "s1", "here")
    with mapped(redis.address):
        await redis.driver.delete(*(redis.key(k) for k in ("accounts", "users", "leases")))
    assert await names(registry) == []
    await registry.renew("ana", life)
    assert [entry.address for entry in await registry.discover()] == ["here"]
    assert await registry.account_secret_ok("ana", "s1") is True
    assert await registry.claim("ana", "s1", "next") == life + 1


async def test_after_a_new_scene_an_old_life_does_not_come_back(
    registry: Registry, other: Registry, redis: Redis
) -> None:
    """Only ``accounts`` outlives a scene; the number of the newest life is in it."""
    await registry.claim("ana", "s1", "older")
    ghost = await registry.claim("ana", "s1", "ghost")
    with mapped(redis.address):
        await redis.driver.delete(redis.key("users"), redis.key("leases"))
    assert await other.claim("ana", "s1", "new") == ghost + 1
    with pytest.raises(Taken):
        await registry.renew("ana", ghost)


async def test_many_are_renewed_in_one_round_trip(registry: Registry, other: Registry) -> None:
    lives = [(name, await registry.claim(name, "s", name)) for name in ("ana", "bob", "eva")]
    await other.claim("bob", "s", "elsewhere")
    lost = await registry.renew_many(lives)
    assert list(lost) == [("bob", 1)]
    assert isinstance(lost["bob", 1], Taken)
    assert await registry.renew_many([]) == {}
    with pytest.raises(InvalidInput, match="dan"):
        await registry.renew_many([("dan", 1)])


async def test_a_presence_is_kept_alive_and_ends_with_a_takeover(
    registry: Registry, other: Registry, redis: Redis
) -> None:
    lost: list[ChatlabError] = []
    life = await registry.claim("ana", "s1", "here")
    alive = asyncio.create_task(registry.keep_alive("ana", life, lost.append))
    begun = await redis_clock(redis)
    while await redis_clock(redis) < begun + 2 * LEASE:
        assert await names(registry) == ["ana"]
        await asyncio.sleep(0.02)
    await other.claim("ana", "s1", "there")
    await asyncio.wait_for(alive, LEASE)
    assert [type(error) for error in lost] == [Taken]


async def test_a_presence_comes_back_after_redis_was_away(
    redis: Redis, other: Registry
) -> None:
    link = Link((redis.address.host, redis.address.port), user="ana", service="redis")
    port = await link.open()
    own = Redis(redis.address.through("127.0.0.1", port), deadline=0.2)
    registry = Registry(own, LEASE)
    life = await registry.claim("ana", "s1", "here")
    lost: list[ChatlabError] = []
    alive = asyncio.create_task(registry.keep_alive("ana", life, lost.append))

    async def gone() -> bool:
        return await names(other) == []

    async def back() -> bool:
        return await names(other) == ["ana"]

    for fault in (link.cut, link.freeze):
        fault()
        await until(gone)
        link.heal()
        await until(back)
    alive.cancel()
    await asyncio.gather(alive, return_exceptions=True)
    assert not lost
    await own.close()
    await link.close()


# Finding one user, and when it was last there


async def test_a_user_is_found_where_it_claimed_its_presence_while_its_lease_lives(
    registry: Registry,
) -> None:
    await registry.create_account("ana", "s1")
    assert await registry.find_user("ana") is None, "an account is no presence"
    assert await registry.find_user("nobody") is None
    life = await registry.claim("ana", "s1", "127.0.0.1:7")
    assert await registry.find_user("ana") == "127.0.0.1:7"
    await registry.claim("ana", "s1", "127.0.0.1:8 and a half")
    assert await registry.find_user("ana") == "127.0.0.1:8 and a half"
    await registry.depart("ana", life)
    assert await registry.find_user("ana") is not None, "an older life's departure"

    async def gone() -> bool:
        return await registry.find_user("ana") is None

    await until(gone)


async def test_who_has_departed_is_not_found_and_was_last_seen_then(
    registry: Registry, redis: Redis
) -> None:
    assert await registry.last_seen("ana") == (False, 0.0)
    life = await registry.claim("ana", "s1", "here")
    before = await redis_clock(redis)
    there, at = await registry.last_seen("ana")
    assert there and before - 0.001 <= at <= await redis_clock(redis)
    before = await redis_clock(redis)
    await registry.depart("ana", life)
    after = await redis_clock(redis)
    assert await registry.find_user("ana") is None
    there, at = await registry.last_seen("ana")
    assert not there and before - 0.001 <= at <= after
    assert await registry.last_seen("ana") == (False, at), "it does not go on"
    await registry.claim("ana", "s1", "back", life)
    assert (await registry.last_seen("ana"))[0]


async def test_who_crashed_was_last_seen_when_its_lease_ended(
    registry: Registry, redis: Redis
) -> None:
    before = await redis_clock(redis)
    await registry.claim("ana", "s1", "here")
    after = await redis_clock(redis)

    async def gone() -> bool:
        return not (await registry.last_seen("ana"))[0]

    await until(gone)
    _, at = await registry.last_seen("ana")
    assert before + LEASE - 0.001 <= at <= after + LEASE + 0.001


# Tickets


async def test_a_ticket_says_who_calls_and_proves_who_was_called(
    registry: Registry, other: Registry
) -> None:
    ana = await registry.claim("ana", "s1", "here")
    bob = await other.claim("bob", "s2", "there")
    ticket, proof = await registry.issue_ticket("ana", ana, "bob")
    assert ticket != proof
    assert await other.redeem_ticket(ticket, "ana", "bob", bob) == (ana, proof)


async def test_a_ticket_is_good_once(registry: Registry, other: Registry) -> None:
    ana = await registry.claim("ana", "s1", "here")
    bob = await other.claim("bob", "s2", "there")
    ticket, _ = await registry.issue_ticket("ana", ana, "bob")
    answers = await asyncio.gather(
        *(other.redeem_ticket(ticket, "ana", "bob", bob) for _ in range(20))
    )
    assert len([answer for answer in answers if answer]) == 1


async def test_a_ticket_is_good_for_its_caller_and_its_peer_only(
    registry: Registry, other: Registry
) -> None:
    ana = await registry.claim("ana", "s1", "here")
    bob = await other.claim("bob", "s2", "there")
    eva = await other.claim("eva", "s3", "there")
    for caller, peer, life in (("eva", "bob", bob), ("ana", "eva", eva), ("", "bob", bob)):
        ticket, _ = await registry.issue_ticket("ana", ana, "bob")
        assert await other.redeem_ticket(ticket, caller, peer, life) is None
        assert await other.redeem_ticket(ticket, "ana", "bob", bob) is None, "it is used up"
    for guess in ("", "guess", "*"):
        assert await other.redeem_ticket(guess, "ana", "bob", bob) is None


async def test_a_ticket_of_an_older_life_is_no_good(
    registry: Registry, other: Registry
) -> None:
    ana = await registry.claim("ana", "s1", "here")
    bob = await other.claim("bob", "s2", "there")
    ticket, _ = await registry.issue_ticket("ana", ana, "bob")
    await registry.claim("ana", "s1", "elsewhere")
    assert await other.redeem_ticket(ticket, "ana", "bob", bob) is None


async def test_an_older_life_neither_issues_nor_redeems_and_is_told_that_it_is_over(
    registry: Registry, other: Registry
) -> None:
    ana = await registry.claim("ana", "s1", "here")
    bob = await other.claim("bob", "s2", "there")
    ticket, _ = await registry.issue_ticket("ana", ana, "bob")
    newer = await other.claim("bob", "s2", "elsewhere")
    with pytest.raises(Taken, match="bob"):
        await other.issue_ticket("bob", bob, "ana")
    with pytest.raises(Taken, match="bob"):
        await other.redeem_ticket(ticket, "ana", "bob", bob)
    assert await other.redeem_ticket(ticket, "ana", "bob", newer), "it was not used up"


async def test_who_has_not_claimed_a_name_neither_issues_nor_redeems_for_it(
    registry: Registry, other: Registry
) -> None:
    ana = await registry.claim("ana", "s1", "here")
    bob = await registry.claim("bob", "s2", "here")
    ticket, _ = await registry.issue_ticket("ana", ana, "bob")
    with pytest.raises(InvalidInput, match="ana"):
        await other.issue_ticket("ana", ana, "bob")
    with pytest.raises(InvalidInput, match="bob"):
        await other.redeem_ticket(ticket, "ana", "bob", bob)


async def test_a_ticket_ends_by_itself(
    registry: Registry, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlab.discovery.redis.TICKET_MS", 50)
    ana = await registry.claim("ana", "s1", "here")
    bob = await registry.claim("bob", "s2", "here")
    ticket, _ = await registry.issue_ticket("ana", ana, "bob")

    async def gone() -> bool:
        with mapped(redis.address):
            return not await redis.driver.exists(redis.key(f"ticket:{ticket}"))

    await until(gone)
    assert await registry.redeem_ticket(ticket, "ana", "bob", bob) is None


# Groups


async def test_the_first_subscription_fixes_the_backend(registry: Registry) -> None:
    assert await registry.find_group("sd") is None
    assert await registry.open_group("sd", "rabbitmq-transient") == "rabbitmq-transient"
    assert await registry.open_group("sd", None) == "rabbitmq-transient"
    assert await registry.open_group("sd", "rabbitmq-transient") == "rabbitmq-transient"
    with pytest.raises(BackendMismatch, match=r"rabbitmq-transient, not rabbitmq-durable:x=1"):
        await registry.open_group("sd", "rabbitmq-durable:x=1")
    assert await registry.find_group("sd") == "rabbitmq-transient"
    assert await registry.open_group("news", None) == "rabbitmq-durable"


async def test_of_two_first_subscriptions_one_wins(registry: Registry) -> None:
    backends = [f"rabbitmq-durable:n={i}" for i in range(20)]
    results = await asyncio.gather(
        *(registry.open_group("sd", backend) for backend in backends), return_exceptions=True
    )
    winners = [result for result in results if isinstance(result, str)]
    assert winners == [await registry.find_group("sd")]
    assert sum(isinstance(result, BackendMismatch) for result in results) == 19


async def test_users_and_groups_of_one_name_do_not_touch_each_other(
    registry: Registry,
) -> None:
    life = await registry.claim("sd", "s1", "here")
    await registry.open_group("sd", "rabbitmq-durable")
    await registry.enter_group("sd", "ana", 1, connected=True)
    found = await registry.discover()
    assert [(entry.name, entry.kind) for entry in found] == [
        ("sd", "private"),
        ("sd", "group"),
    ]
    await registry.depart("sd", life)
    assert await registry.group_members("sd") == {"ana": True}


async def test_two_members_leave_in_any_order_and_the_last_one_ends_the_group(
    registry: Registry,
) -> None:
    for first, second in (("ana", "bob"), ("bob", "ana")):
        await registry.open_group("sd", "rabbitmq-durable")
        await registry.enter_group("sd", "ana", 1, connected=True)
        await registry.enter_group("sd", "bob", 1, connected=False)
        assert await registry.group_members("sd") == {"ana": True, "bob": False}
        await registry.leave_group("sd", first)
        assert list(await registry.group_members("sd")) == [second]
        await registry.leave_group("sd", first)
        assert await registry.find_group("sd") == "rabbitmq-durable"
        await registry.leave_group("sd", second)
        assert await registry.find_group("sd") is None
        assert await registry.discover() == []


async def test_members_that_come_and_go_at_once_are_counted_right(registry: Registry) -> None:
    await registry.open_group("sd", None)

    async def come_and_go(member: str, stay: bool) -> None:
        await registry.enter_group("sd", member, 1, connected=True)
        if not stay:
            await registry.leave_group("sd", member)

    await asyncio.gather(*(come_and_go(f"u{i}", i % 2 == 0) for i in range(40)))
    assert set(await registry.group_members("sd")) == {f"u{i}" for i in range(0, 40, 2)}
    assert await registry.find_group("sd") == "rabbitmq-durable"


async def test_a_group_that_ended_meanwhile_begins_again_when_somebody_enters(
    registry: Registry, other: Registry
) -> None:
    await registry.open_group("sd", "rabbitmq-transient")
    await other.open_group("sd")
    await other.enter_group("sd", "bob", 1, connected=True)
    await other.leave_group("sd", "bob")
    await registry.enter_group("sd", "ana", 1, connected=True)
    assert await other.find_group("sd") == "rabbitmq-transient"
    await registry.leave_group("sd", "ana")
    await other.open_group("sd", "rabbitmq-durable")
    with pytest.raises(BackendMismatch):
        await registry.enter_group("sd", "ana", 1, connected=True)
    with pytest.raises(InvalidInput, match="news"):
        await registry.enter_group("news", "ana", 1, connected=True)


async def test_an_older_life_does_not_change_its_successors_membership(
    registry: Registry,
) -> None:
    await registry.open_group("sd")
    await registry.enter_group("sd", "ana", 2, connected=True)
    with pytest.raises(Taken):
        await registry.enter_group("sd", "ana", 1, connected=False)
    await registry.leave_group("sd", "ana", 1)
    assert await registry.group_members("sd") == {"ana": True}
    await registry.leave_group("sd", "ana", 2)
    assert await registry.group_members("sd") == {}


async def test_a_crashed_member_counts_as_away_when_its_lease_is_over(
    registry: Registry,
) -> None:
    bob = await registry.claim("bob", "s", "here")
    ana = await registry.claim("ana", "s", "here")
    await registry.open_group("sd")
    await registry.enter_group("sd", "ana", ana, connected=True)
    await registry.enter_group("sd", "bob", bob, connected=True)
    assert await registry.group_members("sd") == {"ana": True, "bob": True}

    async def bob_is_away() -> bool:
        await registry.renew("ana", ana)
        return await registry.group_members("sd") == {"ana": True, "bob": False}

    await until(bob_is_away)
    (group,) = [entry for entry in await registry.discover() if entry.kind == "group"]
    assert (group.members, group.away) == (("ana",), ("bob",))
    assert (group.address, group.backend) == ("sd", "rabbitmq-durable")
    await registry.claim("bob", "s", "back")
    assert await registry.group_members("sd") == {"ana": True, "bob": False}, "another life"


# Servers


def at(port: int, certificate: str = "") -> ServerAddress:
    return ServerAddress(host="127.0.0.1", port=port, certificate=certificate)


async def test_a_server_is_found_until_its_lease_is_over(registry: Registry) -> None:
    assert await registry.find_server("mailbox-redis") is None
    await registry.register_server("mailbox-redis", at(9, "PEM\nof two lines"), "t1")
    assert await registry.find_server("mailbox-redis") == at(9, "PEM\nof two lines")
    assert await registry.find_server("mailbox-memory") is None

    async def gone() -> bool:
        return await registry.find_server("mailbox-redis") is None

    await until(gone)
    await registry.renew_server("mailbox-redis", "t1")
    assert await registry.servers_of("mailbox-redis") == {"t1": at(9, "PEM\nof two lines")}


async def test_servers_of_one_kind_share_the_load_and_leave_each_other_alone(
    registry: Registry, other: Registry
) -> None:
    await registry.register_server("mailbox-redis", at(1), "t1")
    await other.register_server("mailbox-redis", at(2), "t2")
    await other.register_server("mailbox", at(3), "t3")
    await registry.renew_server("mailbox-redis", "t1")
    assert await registry.servers_of("mailbox-redis") == {"t1": at(1), "t2": at(2)}
    found = [await registry.find_server("mailbox-redis") for _ in range(64)]
    assert set(found) == {at(1), at(2)}
    await registry.forget_server("mailbox-redis", "t1")
    assert await registry.servers_of("mailbox-redis") == {"t2": at(2)}
    with pytest.raises(InvalidInput):
        await registry.renew_server("mailbox-redis", "t1")


async def test_a_server_on_another_computers_loopback_is_not_found(
    registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = ServerAddress(host="192.0.2.1", port=3)
    with monkeypatch.context() as patch:
        patch.setattr("chatlab.discovery.redis.machine_id", lambda: "another")
        for number, host in enumerate(("127.0.0.1", "localhost", "::1", "127.1.2.3")):
            address = ServerAddress(host=host, port=4)
            await other.register_server("mailbox-redis", address, f"loopback-{number}")
        assert len(await other.servers_of("mailbox-redis")) == 4
        assert await registry.find_server("mailbox-redis") is not None
    assert await registry.servers_of("mailbox-redis") == {}
    assert await registry.find_server("mailbox-redis") is None
    await other.register_server("mailbox-redis", public, "public")
    assert await registry.servers_of("mailbox-redis") == {"public": public}
    await registry.register_server("mailbox-redis", at(1), "t1")
    assert set(await registry.servers_of("mailbox-redis")) == {"public", "t1"}


async def test_one_that_did_not_answer_is_the_answer_only_when_there_is_no_other(
    registry: Registry,
) -> None:
    await registry.register_server("mailbox-redis", at(1), "t1")
    await registry.register_server("mailbox-redis", at(2), "t2")
    for _ in range(32):
        assert await registry.find_server("mailbox-redis", ["127.0.0.1:1"]) == at(2)
    both = ["127.0.0.1:1", "127.0.0.1:2"]
    assert await registry.find_server("mailbox-redis", both) in (at(1), at(2))
    await registry.forget_server("mailbox-redis", "t2")
    assert await registry.find_server("mailbox-redis", both) == at(1)


async def test_a_dead_server_leaves_no_entry_behind(registry: Registry, redis: Redis) -> None:
    await registry.register_server("mailbox-redis", at(1), "dead")
    await registry.register_server("mailbox-redis", at(2), "alive")

    async def only_the_living_is_kept() -> bool:
        await registry.renew_server("mailbox-redis", "alive")
        with mapped(redis.address):
            kept = await redis.driver.hkeys(redis.key("servers"))
        return bool(kept == ["mailbox-redis alive"])

    await until(only_the_living_is_kept)


async def test_a_sole_server_takes_the_place_of_the_older_one_which_learns_it(
    registry: Registry, other: Registry
) -> None:
    await registry.register_server("mailbox-memory", at(1), "t1", sole=True)
    await registry.renew_server("mailbox-memory", "t1")
    await other.register_server("mailbox-memory", at(2), "t2", sole=True)
    with pytest.raises(Taken):
        await registry.renew_server("mailbox-memory", "t1")
    await registry.forget_server("mailbox-memory", "t1")
    assert await registry.servers_of("mailbox-memory") == {"t2": at(2)}
    await other.forget_server("mailbox-memory", "t2")
    assert await registry.find_server("mailbox-memory") is None


# Faults


async def test_a_redis_that_is_down_is_said_so_and_nothing_has_happened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    redis = Redis(RedisAddress(host="127.0.0.1", port=port, prefix="x:"))
    with pytest.raises(ServiceUnavailable, match="Nothing was changed"):
        await Registry(redis, LEASE).claim("ana", "s", "here")
    with pytest.raises(ServiceUnavailable):
        await Registry(redis, LEASE).account_exists("ana")
    await redis.close()


async def test_two_labs_on_one_redis_do_not_see_each_other(redis: Redis) -> None:
    neighbour = Redis(replace(redis.address, prefix=redis.prefix + "next:"))
    await Registry(redis, LEASE).claim("ana", "s", "here")
    assert await names(Registry(neighbour, LEASE)) == []
    await neighbour.close()
