"""Private chats end to end over each store, with the lab's own accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from private_rig import PATIENCE_SECONDS, SECRET, Rig, rig

from chatlab.discovery.redis import Registry
from chatlab.errors import NameInUse, Taken
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.private.server import ChatServer, announced
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress


@pytest.fixture
async def redis(namespace: tuple[RabbitAddress, RedisAddress]) -> AsyncIterator[Redis]:
    made = Redis(namespace[1])
    yield made
    await made.close()


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis, lease_seconds=1.5)


@pytest.fixture(params=["mailbox-memory", "mailbox-redis"])
async def chats(
    request: pytest.FixtureRequest, redis: Redis, registry: Registry
) -> AsyncIterator[Rig]:
    for user in ("ana", "bob"):
        await registry.create_account(user, SECRET)
    memory = request.param == "mailbox-memory"
    store = MemoryMailboxes() if memory else RedisMailboxes(redis)
    async with rig(store, accounts=RegisteredAccounts(registry, redis)) as made:
        yield made


async def test_online_away_and_back(chats: Rig) -> None:
    ana, bob = await chats.online("ana"), await chats.online("bob")
    (here,) = await ana.send("bob", "1")
    await bob.wait_for(1)
    await bob.client.close()
    away = await ana.send("bob", "2", "3")
    assert (here.waiting, here.listeners) == (0, 1)
    assert [(receipt.waiting, receipt.listeners) for receipt in away] == [(1, 0), (2, 0)]
    back = await chats.online("bob", 2)
    assert await back.wait_for(2) == ["2", "3"]
    assert back.redelivered == []


async def test_two_thousand_both_ways_at_once_keep_their_order(chats: Rig) -> None:
    ana, bob = await chats.online("ana"), await chats.online("bob")
    bodies = [str(n) for n in range(2000)]
    sent = await asyncio.gather(ana.send("bob", *bodies), bob.send("ana", *bodies))
    assert {receipt.outcome for receipts in sent for receipt in receipts} == {"confirmed"}
    assert await bob.wait_for(2000) == bodies
    assert await ana.wait_for(2000) == bodies


async def test_twenty_crashes_of_the_receiver_lose_nothing(chats: Rig) -> None:
    ana = await chats.online("ana")
    bodies = [str(n) for n in range(1000)]
    lives = []
    for incarnation in range(1, 21):
        bob = chats.person("bob", incarnation)
        bob.freeze_after = 3 * incarnation
        await bob.client.open()
        first = 50 * (incarnation - 1)
        receipts = await ana.send("bob", *bodies[first : first + 50])
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        await bob.wait_for(bob.freeze_after)
        bob.client.abandon()
        lives.append(bob)
    last = await chats.online("bob", 21)
    lives.append(last)
    while last.bodies[-1:] != bodies[-1:]:
        await last.wait_for(len(last.shown) + 1)
    seen: set[str] = set()
    for life in lives:
        first = int(life.bodies[0])
        assert life.bodies == bodies[first : first + len(life.bodies)]
        again = seen.intersection(life.bodies)
        assert again <= {message.body for message in life.redelivered}
        seen.update(life.bodies)
    assert len(seen) == 1000


async def test_the_accounts_secret_decides(chats: Rig) -> None:
    with pytest.raises(NameInUse):
        await chats.online("bob", secret="guess")
    bob = await chats.online("bob")
    with pytest.raises(NameInUse):
        await chats.online("bob", 2, secret="guess")
    assert not bob.ended.done()
    await chats.online("bob", 2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert isinstance(await bob.ended, Taken)


async def test_unknown_receivers_are_named(chats: Rig) -> None:
    ana = await chats.online("ana")
    (receipt,) = await ana.send("dan", "x")
    assert (receipt.outcome, receipt.error) == ("failed", "UnknownAccount")


async def test_a_session_is_good_at_each_server_over_one_redis(
    redis: Redis, registry: Registry, namespace: tuple[RabbitAddress, RedisAddress]
) -> None:
    for user in ("ana", "bob"):
        await registry.create_account(user, SECRET)
    other_redis = Redis(namespace[1])
    accounts = RegisteredAccounts(registry, other_redis)
    async with (
        AsyncExitStack() as closing,
        rig(RedisMailboxes(redis), accounts=RegisteredAccounts(registry, redis)) as here,
    ):
        closing.push_async_callback(other_redis.close)
        assert await accounts.key() == await here.accounts.key()
        ana = await here.online("ana")
        there = ChatServer(RedisMailboxes(other_redis), accounts, here.settings)
        closing.push_async_callback(there.stop)
        here.address, first = await there.start(), here.address
        bob = await here.online("bob")
        (receipt,) = await ana.send("bob", "from the other server")
        assert (receipt.waiting, receipt.listeners) == (0, 1)
        assert await bob.wait_for(1) == ["from the other server"]
        await bob.client.close()  # all it was shown is acknowledged now
        await bob.client.open()
        here.address = first
        newer = await here.online("bob", 2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert isinstance(await bob.ended, Taken)
        await ana.send("bob", "now here")
        assert await newer.wait_for(1) == ["now here"]


async def test_a_server_is_found_while_it_is_announced(redis: Redis) -> None:
    registry = Registry(redis, lease_seconds=0.3)
    address = ServerAddress(host="127.0.0.1", port=4711)
    async with announced(registry, "mailbox-memory", address, 0.3):
        await asyncio.sleep(0.6)  # two leases: it was renewed
        assert await registry.find_server("mailbox-memory") == address
    assert await registry.find_server("mailbox-memory") is None
