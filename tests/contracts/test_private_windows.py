"""A second window of the same account: it takes over at once, and nothing is split."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

from private_processes import child, until_all_is_acknowledged
from private_rig import PATIENCE_SECONDS, SECRET, Person, Rig, rig

from chatlab.discovery.redis import Registry
from chatlab.errors import Taken
from chatlab.messages import Receipt
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis

WINDOWS = 10
#: A takeover is a matter of a few round trips.
SOON_SECONDS = 1.0


async def test_each_new_window_takes_over_at_once_and_nothing_is_split(chats: Rig) -> None:
    await windows_take_over(chats, [chats.address])


async def test_a_window_takes_over_from_one_at_another_server_and_nothing_is_split(
    redis: Redis, registry: Registry
) -> None:
    other = Redis(redis.address)
    async with (
        rig(RedisMailboxes(redis), accounts=RegisteredAccounts(registry, redis)) as here,
        rig(RedisMailboxes(other), accounts=RegisteredAccounts(registry, other)) as there,
    ):
        await windows_take_over(here, [here.address, there.address])
    await other.close()


async def windows_take_over(r: Rig, addresses: Sequence[str]) -> None:
    """Bob opens one window after the other while he and ana write to each other."""
    ana = await r.online("ana")
    enough = asyncio.Event()
    sending = asyncio.create_task(chatter(ana, enough))
    windows: list[Person] = []
    writing: list[asyncio.Task[list[Receipt]]] = []
    for number in range(1, WINDOWS + 1):
        r.address = addresses[number % len(addresses)]
        began = time.monotonic()
        windows.append(await r.online("bob", number))
        if number > 1:
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert isinstance(await windows[-2].ended, Taken)
            assert time.monotonic() - began < SOON_SECONDS
        # The next window opens in the midst of this: 3,000 up, and whatever comes down.
        bodies = (f"{number}.{n}" for n in range(3000))
        writing.append(asyncio.create_task(windows[-1].send("ana", *bodies)))
        await windows[-1].wait_for(150)
    enough.set()
    sent = await sending
    receipts = [await task for task in writing]
    for user in ("ana", "bob"):
        await until_all_is_acknowledged(r, user)
    nothing_is_split(windows, sent)
    assert {receipt.outcome for receipt in receipts[-1]} == {"confirmed"}
    assert any(receipt.outcome != "confirmed" for receipt in receipts[0]), "it was disturbed"
    for number, some in enumerate(receipts, 1):
        came = [m.id for m in ana.shown if m.incarnation == number]
        assert came == [receipt.id for receipt in some if receipt.id in set(came)]
        assert {receipt.id for receipt in some if receipt.outcome == "confirmed"} <= set(came)
        assert not {receipt.id for receipt in some if receipt.outcome == "failed"} & set(came)


async def chatter(ana: Person, enough: asyncio.Event) -> list[str]:
    """Send to bob in small groups; all that was sent."""
    sent: list[str] = []
    while not enough.is_set():
        group = [str(n) for n in range(len(sent), len(sent) + 20)]
        assert {r.outcome for r in await ana.send("bob", *group)} == {"confirmed"}
        sent += group
    return sent


def nothing_is_split(windows: Sequence[Person], sent: list[str]) -> None:
    """Each window showed a run of what was sent, none began after a gap, none went on."""
    shown = 0
    for window in windows:
        first = int(window.bodies[0])
        assert first <= shown, "a gap"
        assert window.bodies == sent[first : first + len(window.bodies)]
        again = {m.body for m in window.shown if int(m.body) < shown}
        assert again <= {m.body for m in window.redelivered}, "again, but not marked"
        shown = max(shown, first + len(window.bodies))
    assert shown == len(sent)
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
