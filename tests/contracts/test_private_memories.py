"""What a store of mailboxes can tell of a conversation, on each of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest
from private_rig import PATIENCE_SECONDS

from chatlab.messages import Message
from chatlab.private import redis as redis_store
from chatlab.private.mailbox import Hold, Mailboxes
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis

CLOCK = itertools.count(1)


@pytest.fixture(params=["mailbox-memory", "mailbox-redis"])
async def store(request: pytest.FixtureRequest, redis: Redis) -> AsyncIterator[Mailboxes]:
    memory = request.param == "mailbox-memory"
    made: Mailboxes = MemoryMailboxes() if memory else RedisMailboxes(redis)
    await made.open()
    yield made
    await made.close()


async def send(store: Mailboxes, sender: str, to: str, *numbers: int, body: str = "") -> None:
    for n in numbers:
        text = body or f"{sender} {n}"
        # Each has seen all that was sent before: that is what its Lamport clock says.
        message = Message(f"{sender}:1:{n}", sender, 1, to, text, n, 1.5, next(CLOCK))
        assert (await store.send(to, [message])).verdicts == ["stored"]


async def read(store: Mailboxes, user: str, count: int = 100, incarnation: int = 1) -> Hold:
    """Receive and acknowledge; the hold stays."""
    hold = await store.attach(user, incarnation, lambda: None)
    batch = await store.fetch(hold, hold.start, count)
    if batch.messages:
        newest = {message.sender: message.id for message in batch.messages}
        size = sum(batch.sizes)
        await store.ack(hold, batch.positions[-1], len(batch.positions), size, newest)
    return hold


def bodies(messages: list[Message]) -> list[str]:
    return [message.body for message in messages]


async def test_history_has_both_directions_in_the_order_of_the_store(store: Mailboxes) -> None:
    await send(store, "ana", "bob", 1)
    await send(store, "bob", "ana", 1)
    await send(store, "ana", "bob", 2, 3)
    await send(store, "bob", "ana", 2)
    for user in ("ana", "bob"):
        await read(store, user)
    expected = ["ana 1", "bob 1", "ana 2", "ana 3", "bob 2"]
    assert bodies(await store.history("ana", "bob", 100)) == expected
    assert bodies(await store.history("bob", "ana", 100)) == expected
    assert bodies(await store.history("bob", "ana", 2)) == expected[-2:]


async def test_history_shows_a_receiver_only_what_it_has_acknowledged(
    store: Mailboxes,
) -> None:
    await send(store, "ana", "bob", 1, 2, 3)
    assert await store.history("bob", "ana", 100) == []
    await read(store, "bob", 2)
    assert bodies(await store.history("bob", "ana", 100)) == ["ana 1", "ana 2"]
    assert bodies(await store.history("ana", "bob", 100)) == ["ana 1", "ana 2", "ana 3"]


async def test_history_is_of_these_two_only(store: Mailboxes) -> None:
    await send(store, "ana", "bob", 1)
    await send(store, "anabel", "bob", 2)  # a name that begins alike
    await send(store, "eva", "bob", 3)
    await send(store, "bob", "eva", 1)
    await read(store, "bob")
    assert bodies(await store.history("bob", "ana", 100)) == ["ana 1"]
    assert bodies(await store.history("eva", "ana", 100)) == []


async def test_history_of_strangers_is_empty_and_leaves_no_mailbox(store: Mailboxes) -> None:
    assert await store.history("dan", "eva", 10) == []
    assert await store.reached("dan", ["eva"]) == {}
    assert await store.state() == []


async def test_history_reaches_through_the_messages_of_others(
    store: Mailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "LOOK_STEP", 5)
    monkeypatch.setattr(redis_store, "LOOK_MOST", 100)
    await send(store, "ana", "bob", 1, 2)
    await send(store, "eva", "bob", *range(3, 25))
    await send(store, "ana", "bob", 25)
    assert bodies(await store.history("ana", "bob", 3)) == ["ana 1", "ana 2", "ana 25"]


async def test_history_is_bounded_in_bytes_and_has_the_newest(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "TOLD_BYTES", 2_500)
    store = RedisMailboxes(redis)
    await send(store, "ana", "bob", *range(1, 11), body="x" * 1000)
    assert [m.seq for m in await store.history("ana", "bob", 100)] == [9, 10]


async def test_a_sender_is_told_what_was_acknowledged(store: Mailboxes) -> None:
    told: list[tuple[str, str]] = []
    await store.attach("ana", 1, lambda: None, None, lambda *news: told.append(news))
    await send(store, "ana", "bob", 1, 2, 3)
    await send(store, "eva", "bob", 4)
    await read(store, "bob", 2)
    assert told == [("bob", "ana:1:2")]
    await read(store, "bob", incarnation=2)
    assert told == [("bob", "ana:1:2"), ("bob", "ana:1:3")]
    assert await store.reached("ana", ["bob", "eva", "nobody"]) == {"bob": "ana:1:3"}
    assert await store.reached("eva", ["bob"]) == {"bob": "eva:1:4"}


async def test_a_sender_at_another_server_is_told(redis: Redis) -> None:
    here, there = RedisMailboxes(redis), RedisMailboxes(redis)
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    for store in (here, there):
        await store.open()
    await there.attach("ana", 1, lambda: None, None, lambda *news: told.put_nowait(news))
    message = Message("an id, of words", "ana", 1, "bob", "x", 1, 1700000000.5, 1)
    await here.send("bob", [message])
    async with asyncio.timeout(PATIENCE_SECONDS):
        # The subscription of the other server may not be there yet: a hint is only a hint.
        while told.empty():
            await read(here, "bob")
            await here._tell("ana", "bob", message.id)
            await asyncio.sleep(0.01)
        assert await told.get() == ("bob", "an id, of words")
    for store in (here, there):
        await store.close()


async def test_who_receives_is_online_and_who_left_was_seen_then(store: Mailboxes) -> None:
    never, here = await store.seen(["eva", "bob"])
    assert (never.online, never.at, here.online) == (False, 0, False)
    began = time.time()
    hold = await read(store, "bob")
    (bob,) = await store.seen(["bob"])
    assert bob.online and abs(bob.at - began) < PATIENCE_SECONDS
    await store.detach(hold)
    (bob,) = await store.seen(["bob"])
    assert not bob.online and abs(bob.at - began) < PATIENCE_SECONDS


async def test_who_was_at_a_dead_server_is_not_online(redis: Redis) -> None:
    here, there = RedisMailboxes(redis), RedisMailboxes(redis)
    await here.open()
    await here.attach("bob", 1, lambda: None)
    assert (await there.seen(["bob"]))[0].online
    await here.close()  # its holds are still written in Redis
    there._alive.clear()  # what it knew of other servers is a second old by then
    (bob,) = await there.seen(["bob"])
    assert not bob.online and bob.at > 0
