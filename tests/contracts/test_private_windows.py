"""A second window of the same account: it takes over at once, and nothing is split."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from private_rig import PATIENCE_SECONDS, SECRET, Person, Rig, Taking, rig
from process_rig import child, until_all_is_acknowledged

from chatlab.discovery.redis import Registry
from chatlab.errors import Taken
from chatlab.messages import Receipt
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.services.addresses import ServerAddress

WINDOWS = 10
#: A takeover is a matter of a few round trips.
SOON_SECONDS = 1.0


async def test_each_new_window_takes_over_at_once_and_nothing_is_split(chats: Rig) -> None:
    await windows_take_over(chats, [chats.address])


async def test_a_window_takes_over_from_one_at_another_server_and_nothing_is_split(
    redis: Redis, registry: Registry
) -> None:
    async with AsyncExitStack() as closing:
        other = Redis(redis.address)
        closing.push_async_callback(other.close)
        here, there = [
            await closing.enter_async_context(
                rig(RedisMailboxes(one), accounts=RegisteredAccounts(registry, one))
            )
            for one in (redis, other)
        ]
        await windows_take_over(here, [here.address, there.address])
        for person in here.people:  # while both servers can say goodbye
            await person.client.close()


async def test_messages_taken_by_an_ended_window_would_be_missed() -> None:
    with pytest.raises(AssertionError, match="a gap"):
        for _ in range(10):  # by chance a window may have shown all that it took
            async with rig(Taking()) as r:
                await windows_take_over(r, [r.address])


async def windows_take_over(r: Rig, addresses: Sequence[ServerAddress]) -> None:
    """Bob opens one window after the other while he and ana write to each other; every
    second one is left in the midst of a frame."""
    ana = await r.online("ana")
    enough = asyncio.Event()
    sending = asyncio.create_task(chatter(ana, "bob", enough))
    windows: list[Person] = []
    writing: list[asyncio.Task[list[Receipt]]] = []
    for number in range(1, WINDOWS + 1):
        r.address = addresses[number % len(addresses)]
        began = time.monotonic()
        windows.append(r.person("bob", number))
        if number % 2 and number < WINDOWS:
            windows[-1].freeze_after = 150
        await windows[-1].client.open()
        if number > 1:
            windows[-2].life.gate.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert isinstance(await windows[-2].ended, Taken)
            assert time.monotonic() - began < SOON_SECONDS
        writing.append(asyncio.create_task(chatter(windows[-1], "ana", enough)))
        await windows[-1].wait_for(150)  # the next one opens in the midst of all this
    enough.set()
    sent = await sending
    assert {receipt.outcome for receipt in sent} == {"confirmed"}, "ana is not disturbed"
    receipts = [await task for task in writing]
    assert {receipt.outcome for receipt in receipts[-1]} == {"confirmed"}
    for user in ("ana", "bob"):
        await until_all_is_acknowledged(r, user)
    nothing_is_split(windows, [receipt.id for receipt in sent])
    for number, some in enumerate(receipts, 1):
        came = [message.id for message in ana.shown if message.incarnation == number]
        assert came == [receipt.id for receipt in some if receipt.id in set(came)]
        assert {receipt.id for receipt in some if receipt.outcome == "confirmed"} <= set(came)
        assert not {receipt.id for receipt in some if receipt.outcome == "failed"} & set(came)


async def chatter(person: Person, to: str, enough: asyncio.Event) -> list[Receipt]:
    """Send in small groups until it is enough, or until one is not confirmed."""
    receipts: list[Receipt] = []
    while not receipts or (receipts[-1].outcome == "confirmed" and not enough.is_set()):
        receipts += await person.send(to, *["x"] * 50)
    return receipts


def nothing_is_split(windows: Sequence[Person], sent: Sequence[str]) -> None:
    """Each window showed a run of what was sent, none began after a gap, none went on."""
    seen = 0
    for window in windows:
        shown = [message.id for message in window.shown]
        first = sent.index(shown[0])
        assert first <= seen, "a gap"
        assert shown == sent[first : first + len(shown)]
        again = set(shown) & set(sent[:seen])
        assert again <= {message.id for message in window.redelivered}, "not marked"
        seen = max(seen, first + len(shown))
    assert seen == len(sent)
    for window in windows[:-1]:
        assert window.shown_at_end == len(window.shown), "something was shown after its end"


async def test_a_killed_client_is_back_without_waiting_for_its_lease(
    chats: Rig, redis: Redis
) -> None:
    names = Registry(redis, lease_seconds=60)
    ana = await chats.online("ana")
    async with child() as first, child() as second:
        life = await names.claim("bob", SECRET, "")
        await first.open(chats.address, life)
        await ana.send("bob", "before")
        await first.until(lambda: bool(first.shown[life]))
        first.process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        again = await names.claim("bob", SECRET, "")
        await second.open(chats.address, again)
        await ana.send("bob", "after")
        await second.until(lambda: "after" in [m.body for m in second.shown[again]])
        assert time.monotonic() - began < SOON_SECONDS
        assert again == life + 1
