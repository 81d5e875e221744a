"""The limits of private chats, each at its edge: what is refused, and how."""

from __future__ import annotations

import grpc
import pytest
from private_rig import Person, Rig, rig, status_of, stock_client

from chatlab.journal import Failed
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, BODY_BYTES, Message
from chatlab.private.mailbox import Limits
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis


@pytest.mark.parametrize("character", ["x", "🌍"])
async def test_a_body_of_64_kib_passes_and_a_byte_more_is_refused(
    chats: Rig, character: str
) -> None:
    full = character * (BODY_BYTES // len(character.encode()))
    ana, bob = await chats.online("ana"), await chats.online("bob")
    receipts = await ana.send("bob", full, full + "x", "next")
    assert [receipt.outcome for receipt in receipts] == ["confirmed", "failed", "confirmed"]
    assert receipts[1].error == "InvalidInput" and "65,536 bytes" in receipts[1].reason
    assert await bob.wait_for(2) == [full, "next"]


@pytest.mark.parametrize(
    "bodies, passes",
    [
        (["x"] * BATCH_MESSAGES, True),
        (["x"] * (BATCH_MESSAGES + 1), False),
        (["x" * BODY_BYTES] * (BATCH_BYTES // BODY_BYTES), True),
        (["x" * BODY_BYTES] * (BATCH_BYTES // BODY_BYTES) + ["x"], False),
        ([], False),
    ],
    ids=["100", "101", "512 KiB", "512 KiB and 1", "none"],
)
async def test_a_frame_over_its_limits_ends_the_stream_and_stores_nothing(
    chats: Rig, bodies: list[str], passes: bool
) -> None:
    async with stock_client(chats) as client:
        sending = client.send_bodies(await client.claim("ana"), "bob", bodies)
        if passes:
            assert await sending == len(bodies)
        else:
            assert await status_of(sending) is grpc.StatusCode.INVALID_ARGUMENT
    stored = sum(state.stored for state in await chats.store.state())
    assert stored == (len(bodies) if passes else 0)


@pytest.fixture(params=["mailbox-memory", "mailbox-redis"])
def make(request: pytest.FixtureRequest, redis: Redis) -> object:
    """Makes a store with limits."""
    if request.param == "mailbox-memory":
        return MemoryMailboxes
    return lambda limits: RedisMailboxes(redis, limits)


@pytest.mark.parametrize(
    "limits, named",
    [(Limits(messages=3), "3 messages wait"), (Limits(bytes=200_000), "0.190735 MiB wait")],
    ids=["messages", "bytes"],
)
async def test_a_full_mailbox_refuses_says_so_and_takes_it_when_there_is_room(
    make: type[MemoryMailboxes], limits: Limits, named: str
) -> None:
    async with rig(make(limits), limits=limits) as r:
        ana = await r.online("ana")
        receipts = await ana.send("bob", *("x" * 60_000 for _ in range(5)))
        assert [r.outcome for r in receipts] == ["confirmed"] * 3 + ["failed"] * 2
        for receipt in receipts[3:]:
            assert receipt.error == "MailboxFull" and named in receipt.reason
        assert [fact.id for fact in r.journal.facts(Failed)] == [r.id for r in receipts[3:]]
        bob = await r.online("bob")
        await bob.wait_for(3)
        await bob.client.close()  # all it was shown is acknowledged now
        (again,) = await ana.send("bob", "now?")
        assert again.outcome == "confirmed"


async def refused(r: Rig, ana: Person, named: str) -> None:
    (receipt,) = await ana.send("bob", "one more")
    assert (receipt.outcome, receipt.error) == ("failed", "MailboxFull")
    assert named in receipt.reason
    assert [fact.id for fact in r.journal.facts(Failed)] == [receipt.id]


@pytest.mark.parametrize(
    "count, size, named",
    [(100_000, 1, "100,000 messages wait"), (1024, BODY_BYTES, "64 MiB wait")],
    ids=["messages", "bytes"],
)
async def test_a_mailbox_holds_100_000_messages_and_64_mib(
    count: int, size: int, named: str
) -> None:
    store = MemoryMailboxes()
    async with rig(store) as r:
        ana, body = await r.online("ana"), "x" * size
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            batch = [Message(f"{n}", "eva", 1, "bob", body, n, 0.0, n) for n in numbers]
            assert set((await store.send("bob", batch)).verdicts) == {"stored"}
        await refused(r, ana, named)
        bob = await r.online("bob")
        await bob.wait_for(1000)
        while (await ana.send("bob", "and now?"))[0].outcome == "failed":
            await bob.wait_for(len(bob.shown) + 1)  # as soon as an acknowledgement makes room
