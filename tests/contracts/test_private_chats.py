"""Private chats end to end over each store, with the lab's own accounts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from private_rig import PATIENCE_SECONDS, Rig, rig

from chatlab.discovery.redis import Registry
from chatlab.errors import Taken
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.private.server import ChatServer, announced
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress


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


async def test_unknown_receivers_are_named(chats: Rig) -> None:
    ana = await chats.online("ana")
    (receipt,) = await ana.send("dan", "x")
    assert (receipt.outcome, receipt.error) == ("failed", "UnknownAccount")


async def test_a_session_is_good_at_each_server_over_one_redis(
    redis: Redis, registry: Registry, namespace: tuple[RabbitAddress, RedisAddress]
) -> None:
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


async def test_what_a_busy_receiver_was_never_handed_waits_and_is_new_to_the_next(
    chats: Rig,
) -> None:
    ana, bob = await chats.online("ana"), await chats.online("bob")
    bob.life.gate.clear()
    bodies = [f"{n} ".ljust(4096, "x") for n in range(2000)]
    waiting = (await ana.send("bob", *bodies))[-1].waiting
    bob.client.abandon()
    again = await chats.online("bob", 2)
    assert await again.wait_for(2000) == bodies
    assert waiting is not None and waiting >= 1000
    assert len(again.redelivered) < 1000, "what was on its way, and no more"


async def test_what_was_acknowledged_before_a_takeover_is_not_shown_again(chats: Rig) -> None:
    await acknowledged_and_taken_over(chats)


class Late(MemoryMailboxes):
    """Is told of an acknowledgement when it is too late."""

    async def ack(self, *_: object) -> None:
        pass


async def test_a_store_that_is_told_later_would_be_seen_to_show_it_again() -> None:
    async with rig(Late()) as r:
        with pytest.raises(AssertionError, match="shown again"):
            await acknowledged_and_taken_over(r)


async def acknowledged_and_taken_over(r: Rig) -> None:
    ana, bob = await r.online("ana"), await r.online("bob")
    await ana.send("bob", *map(str, range(20)))
    await bob.wait_for(20)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while r.journal.counts().get("Acked", 0) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await bob.send("ana", "done")  # behind the acknowledgements, on the same connection
    again = await r.online("bob", 2)
    await ana.send("bob", "last")
    assert (await again.wait_for(1))[0] == "last", "shown again though acknowledged"
