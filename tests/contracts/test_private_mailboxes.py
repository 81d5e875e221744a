"""What every store of mailboxes does, on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
from private_rig import PATIENCE_SECONDS

from chatlab.errors import SendUncertain, ServiceUnavailable, Taken
from chatlab.messages import Message
from chatlab.private.mailbox import Batch, Hold, Limits, Mailboxes, MailboxState
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress

Make = Callable[[Limits], Mailboxes]


@pytest.fixture(params=["mailbox-memory", "mailbox-redis"])
async def make(
    request: pytest.FixtureRequest, namespace: tuple[RabbitAddress, RedisAddress]
) -> AsyncIterator[Make]:
    """Makes a store; those over Redis share their mailboxes."""
    redis = Redis(namespace[1])

    def store(limits: Limits | None = None) -> Mailboxes:
        if request.param == "mailbox-memory":
            return MemoryMailboxes(limits)
        return RedisMailboxes(redis, limits)

    yield store
    await redis.close()


@pytest.fixture
async def store(make: Callable[[], Mailboxes]) -> AsyncIterator[Mailboxes]:
    made = make()
    await made.open()
    yield made
    await made.close()


def some(*numbers: int, sender: str = "ana", body: str = "") -> list[Message]:
    return [
        Message(f"{sender}:1:{n}", sender, 1, "bob", body or f"nº {n}", n, 1700000000.5, n)
        for n in numbers
    ]


class Entry(NamedTuple):
    """A row of what was fetched."""

    position: str
    message: Message
    size: int
    redelivered: bool


async def fetch(store: Mailboxes, hold: Hold, after: str, *limits: int) -> list[Entry]:
    batch = await store.fetch(hold, after, *limits)
    again = [number < batch.again for number in range(len(batch.messages))]
    rows = zip(batch.positions, batch.messages, batch.sizes, again, strict=True)
    return [Entry(*row) for row in rows]


async def ack(store: Mailboxes, hold: Hold, *entries: Entry) -> None:
    newest = {entry.message.sender: entry.message.id for entry in entries}
    size = sum(entry.size for entry in entries)
    await store.ack(hold, entries[-1].position, len(entries), size, newest)


async def attach(store: Mailboxes, incarnation: int = 1) -> tuple[Hold, asyncio.Event]:
    wake = asyncio.Event()
    return await store.attach("bob", incarnation, wake.set), wake


async def bob(store: Mailboxes) -> MailboxState:
    return next(state for state in await store.state() if state.user == "bob")


async def test_a_message_comes_out_as_it_went_in(store: Mailboxes) -> None:
    batch = some(1, body='"\n\\ 🌍 %') + some(2)
    await store.send("bob", batch)
    hold, _ = await attach(store)
    entries = await fetch(store, hold, hold.start)
    assert [entry.message for entry in entries] == batch
    assert not any(entry.redelivered for entry in entries)


async def test_waiting_counts_what_nobody_takes(store: Mailboxes) -> None:
    assert (await store.send("bob", some(1, 2)))[1:] == (2, 0)
    assert (await store.send("bob", some(3)))[1:] == (3, 0)
    hold, _ = await attach(store)
    assert (await store.send("bob", some(4)))[1:] == (3, 1)
    await fetch(store, hold, hold.start)
    assert (await store.send("bob", some(5)))[1:] == (0, 1)
    await store.detach(hold)
    assert (await store.send("bob", some(6)))[1:] == (6, 0)


async def test_a_second_copy_is_refused_also_within_one_batch(store: Mailboxes) -> None:
    await store.send("bob", some(1))
    stored = await store.send("bob", some(1, 2, 2))
    assert stored.verdicts == ["duplicate", "stored", "duplicate"]
    other = await store.send("bob", some(1, sender="eva"))
    assert other.verdicts == ["stored"]


async def test_fetching_changes_nothing_until_the_ack(store: Mailboxes) -> None:
    await store.send("bob", some(1, 2, 3))
    for incarnation in (1, 2):
        hold, _ = await attach(store, incarnation)
        entries = await fetch(store, hold, hold.start)
        assert [entry.message.seq for entry in entries] == [1, 2, 3]
        assert [entry.redelivered for entry in entries] == [incarnation == 2] * 3


async def test_an_ack_moves_the_cursor_for_good(store: Mailboxes) -> None:
    await store.send("bob", some(1, 2, 3))
    hold, _ = await attach(store)
    entries = await fetch(store, hold, hold.start)
    await ack(store, hold, *entries[:2])
    await store.send("bob", some(4))
    hold, _ = await attach(store, 2)
    rest = await fetch(store, hold, hold.start)
    assert [(e.message.seq, e.redelivered) for e in rest] == [(3, True), (4, False)]
    state = await bob(store)
    assert (state.stored, state.acked, state.unacknowledged) == (4, 2, 2)
    assert state.bytes == rest[0].size + rest[1].size


async def test_fetch_keeps_to_its_count_and_size(store: Mailboxes) -> None:
    await store.send("bob", some(*range(1, 11), body="x" * 1000))
    hold, _ = await attach(store)
    assert len(await fetch(store, hold, hold.start, 3)) == 3
    assert len(await fetch(store, hold, hold.start, 10, 2500)) == 2
    assert len(await fetch(store, hold, hold.start, 10, 1)) == 1
    assert await fetch(store, hold, hold.start, 0) == []


async def test_a_newer_hold_makes_the_older_one_stale_and_wakes_it(store: Mailboxes) -> None:
    await store.send("bob", some(1))
    old, woken = await attach(store)
    new, _ = await attach(store)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await woken.wait()
    with pytest.raises(Taken):
        await fetch(store, old, old.start)
    with pytest.raises(Taken):
        await store.ack(old, "1", 1, 1, {})
    await store.detach(old)
    assert (await bob(store)).held
    assert len(await fetch(store, new, new.start)) == 1


async def test_a_claim_by_a_newer_incarnation_ends_the_hold_at_once(store: Mailboxes) -> None:
    hold, woken = await attach(store)
    await store.claim("bob", 1)
    await fetch(store, hold, hold.start)
    await store.claim("bob", 2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await woken.wait()
    with pytest.raises(Taken):
        await fetch(store, hold, hold.start)
    assert await store.newest("bob") == 2
    for refused in (store.claim("bob", 1), store.attach("bob", 1, woken.set)):
        with pytest.raises(Taken):
            await refused


async def test_a_send_wakes_the_receiver(store: Mailboxes) -> None:
    hold, wake = await attach(store)
    assert await fetch(store, hold, hold.start) == []
    await store.send("bob", some(1))
    assert wake.is_set()


async def test_limits_refuse_what_is_over_them_and_acks_make_room(make: Make) -> None:
    store = make(Limits(messages=3, bytes=100_000))
    stored = await store.send("bob", some(1, 2, 3, 4))
    assert stored.verdicts == ["stored"] * 3 + ["full of messages"]
    hold, _ = await attach(store)
    entries = await fetch(store, hold, hold.start)
    await ack(store, hold, *entries)
    big = await store.send("bob", some(5, 6, body="x" * 60_000))
    assert big.verdicts == ["stored", "full of bytes"]
    assert (await bob(store)).bytes < 100_000


@pytest.mark.parametrize(
    "limits",
    [Limits(history_messages=50), Limits(history_bytes=5_000)],
    ids=["messages", "bytes"],
)
async def test_history_is_bounded_and_ids_go_with_the_log(make: Make, limits: Limits) -> None:
    store = make(limits)
    hold, _ = await attach(store)
    position = hold.start
    for first in range(0, 2000, 100):
        await store.send("bob", some(*range(first, first + 100), body="x" * 50))
        entries = await fetch(store, hold, position)
        position = entries[-1].position
        await ack(store, hold, *entries)
    # The newest are still known, the oldest forgotten: stored again.
    assert (await store.send("bob", some(1999))).verdicts == ["duplicate"]
    assert (await store.send("bob", some(0))).verdicts == ["stored"]
    assert [e.message.seq for e in await fetch(store, hold, position)] == [0]
    assert await kept(store) <= 101


async def kept(store: Mailboxes) -> int:
    """How many ids bob's mailbox remembers; as many as its log has entries."""
    if isinstance(store, MemoryMailboxes):
        box = store._boxes["bob"]
        assert len(box.ids) == len(box.log)
        return len(box.ids)
    assert isinstance(store, RedisMailboxes)
    driver = store._redis.driver
    count = int(await driver.hlen(store._key("bob", "ids")))
    assert count == await driver.xlen(store._key("bob", "log"))
    return count


async def test_a_wipe_forgets_all_and_ends_holds(store: Mailboxes) -> None:
    await store.send("bob", some(1))
    hold, wake = await attach(store)
    wake.clear()
    await store.wipe()
    assert wake.is_set()
    with pytest.raises(ServiceUnavailable):
        await fetch(store, hold, hold.start)
    assert await store.state() == []
    fresh, _ = await attach(store)
    assert await fetch(store, fresh, fresh.start) == []


async def test_state_shows_each_mailbox(store: Mailboxes) -> None:
    await store.send("bob", some(1, 2))
    await attach(store, 3)
    await store.claim("Ñandú.-_", 1)
    states = {state.user: state for state in await store.state()}
    assert list(states) == sorted(states) and set(states) == {"bob", "Ñandú.-_"}
    assert states["bob"][1:6] == (3, 2, 0, 0, 2)
    assert [states[user].held for user in ("bob", "Ñandú.-_")] == [True, False]


# -- several servers over one Redis


@pytest.fixture
async def pair(
    namespace: tuple[RabbitAddress, RedisAddress],
) -> AsyncIterator[tuple[RedisMailboxes, RedisMailboxes]]:
    redis = [Redis(namespace[1]), Redis(namespace[1])]
    stores = RedisMailboxes(redis[0]), RedisMailboxes(redis[1])
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()
    for connection in redis:
        await connection.close()


async def test_a_send_at_one_server_wakes_the_receiver_at_another(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, there = pair
    here._tasks[0].cancel()  # no sweep: the hint alone
    hold, wake = await attach(here)
    assert (await there.send("bob", some(1)))[1:] == (0, 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wake.wait()
    assert len(await fetch(here, hold, hold.start)) == 1


async def test_a_lost_hint_is_found_by_the_sweep(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, there = pair
    there._channels = "nobody-listens:"
    hold, wake = await attach(here)
    await fetch(here, hold, hold.start)
    wake.clear()
    await there.send("bob", some(1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wake.wait()


async def test_a_takeover_at_another_server_ends_the_hold(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, there = pair
    old, wake = await attach(here)
    new, _ = await attach(there, 2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wake.wait()
    with pytest.raises(Taken):
        await fetch(here, old, old.start)
    await there.send("bob", some(1))
    assert len(await fetch(there, new, new.start)) == 1


async def test_a_hold_of_a_dead_server_is_no_receiver(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, there = pair
    await attach(here)
    await here.close()  # its streams' holds are still written in Redis
    assert (await there.send("bob", some(1)))[1:] == (1, 0)


async def offered_to(
    store: Mailboxes, taken: bool = True
) -> tuple[Hold, asyncio.Event, list[tuple[str, list[str]]]]:
    """A hold that is offered entries: the position before and the bodies of each offer."""
    wake = asyncio.Event()
    offers: list[tuple[str, list[str]]] = []

    def offer(before: str, new: Batch) -> bool:
        offers.append((before, [message.body for message in new.messages]))
        return taken

    hold = await store.attach("bob", 1, wake.set, offer)
    return hold, wake, offers


async def test_a_receiver_that_has_all_is_handed_what_its_own_server_stores(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, there = pair
    hold, _, offers = await offered_to(here)
    assert (await here.send("bob", some(1, 2)))[1:] == (0, 1)
    assert offers == [(hold.start, ["nº 1", "nº 2"])]
    (first, second) = await fetch(here, hold, hold.start)  # it declined: the same, in order
    assert not first.redelivered and not second.redelivered
    assert (await bob(here)).handed == 2, "looked at twice, handed out once"
    await here.send("bob", some(3))
    assert offers[1] == (second.position, ["nº 3"])
    await there.send("bob", some(4))
    assert len(offers) == 2, "another server only wakes"
    again, _ = await attach(here)
    seen = [(e.message.body, e.redelivered) for e in await fetch(here, again, again.start)]
    assert seen == [("nº 1", True), ("nº 2", True), ("nº 3", True), ("nº 4", False)]


async def test_what_a_receiver_had_no_room_for_is_not_counted_as_handed_out(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, _ = pair
    hold, _, offers = await offered_to(here, taken=False)
    await here.send("bob", some(1))
    assert (await bob(here)).handed == 0
    stored = await here.send("bob", some(2))
    assert (stored.waiting, len(offers)) == (1, 1), "it has a backlog now"
    assert [e.message.seq for e in await fetch(here, hold, hold.start, 1)] == [1]
    assert (await bob(here)).handed == 1
    again, _ = await attach(here)
    seen = [(e.message.seq, e.redelivered) for e in await fetch(here, again, again.start)]
    assert seen == [(1, True), (2, False)]


async def test_a_receiver_with_a_backlog_is_woken_and_offered_nothing(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, _ = pair
    await here.send("bob", some(1))
    _, wake, offers = await offered_to(here)
    await here.send("bob", some(2))
    assert wake.is_set() and offers == []


async def test_a_second_copy_is_not_offered_again(
    pair: tuple[RedisMailboxes, RedisMailboxes],
) -> None:
    here, _ = pair
    _, _, offers = await offered_to(here)
    await here.send("bob", some(1))
    stored = await here.send("bob", some(1, 2))
    assert stored.verdicts == ["duplicate", "stored"]
    assert [bodies for _, bodies in offers] == [["nº 1"], ["nº 2"]]


async def test_a_send_without_an_answer_wakes_the_receiver_that_may_be_missing_it(
    pair: tuple[RedisMailboxes, RedisMailboxes], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = pair
    hold, wake, offers = await offered_to(here)
    run = here._run

    async def lost(*args: object) -> object:
        await run(*args)  # type: ignore[arg-type]
        raise SendUncertain("the answer was lost")

    monkeypatch.setattr(here, "_run", lost)
    with pytest.raises(SendUncertain):
        await here.send("bob", some(1))
    monkeypatch.undo()
    assert wake.is_set() and offers == []
    assert len(await fetch(here, hold, hold.start)) == 1
