"""Client and server in one process, mailboxes in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from private_rig import PATIENCE_SECONDS, Person, Rig, quick_settings, rig

from chatlab.errors import (
    ChatlabError,
    NameInUse,
    ServiceUnavailable,
    Taken,
    UnknownAccount,
)
from chatlab.journal import Acked, Connected, Delivered, Discarded, Disconnected
from chatlab.messages import BATCH_BYTES, Message
from chatlab.private.accounts import MemoryAccounts
from chatlab.private.mailbox import Batch, Hold, Stored, joined
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.server import ChatServer
from chatlab.private.service import _begin, _Window


async def test_a_message_to_somebody_online_arrives_and_waits_nowhere() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        (receipt,) = await ana.send("bob", "hola")
        assert await bob.wait_for(1) == ["hola"]
        assert (receipt.outcome, receipt.waiting, receipt.listeners) == ("confirmed", 0, 1)
        assert bob.shown[0].sender == "ana"
        assert bob.shown[0].id == receipt.id == "ana:1:1"


async def test_messages_for_somebody_away_wait_and_come_in_order() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await bob.client.close()
        receipts = [*await ana.send("bob", "1"), *await ana.send("bob", "2", "3")]
        assert [receipt.waiting for receipt in receipts] == [1, 2, 3]
        assert [receipt.listeners for receipt in receipts] == [0, 0, 0]
        assert bob.shown == []
        again = await r.online("bob", 2)
        assert await again.wait_for(3) == ["1", "2", "3"]
        assert again.redelivered == []


async def test_a_quick_second_message_finds_no_backlog_of_the_first() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        receipts = [(await ana.send("bob", str(n)))[0] for n in range(30)]
        assert {receipt.waiting for receipt in receipts} == {0}
        await bob.wait_for(30)


async def test_a_thousand_messages_keep_their_order_and_their_facts() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bodies = [str(n) for n in range(1000)]
        receipts = await ana.send("bob", *bodies)
        assert await bob.wait_for(1000) == bodies
        assert [receipt.id for receipt in receipts] == [f"ana:1:{n}" for n in range(1, 1001)]
        await bob.client.close()
        counts = r.journal.counts()
        assert {counts[kind] for kind in ("Sent", "Confirmed", "Delivered", "Acked")} == {1000}


async def test_delivered_is_recorded_before_the_message_is_acked() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "hola")
        await bob.wait_for(1)
        assert list(r.journal.facts(Acked)) == []
        assert len(list(r.journal.facts(Delivered))) == 1


async def test_one_can_write_to_oneself() -> None:
    async with rig() as r:
        ana = await r.online("ana")
        await ana.send("ana", "note")
        assert await ana.wait_for(1) == ["note"]


# -- who is who


async def test_a_wrong_secret_is_refused() -> None:
    async with rig() as r:
        with pytest.raises(NameInUse, match="ana"):
            await r.online("ana", secret="guess")


async def test_a_name_without_an_account_is_refused() -> None:
    async with rig() as r:
        with pytest.raises(UnknownAccount, match="dan"):
            await r.online("dan")


async def test_a_newer_client_takes_over_and_the_older_shows_nothing_more() -> None:
    async with rig() as r:
        ana, old = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "first")
        await old.wait_for(1)
        new = await r.online("bob", 2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert isinstance(await old.ended, Taken)
        await ana.send("bob", "second", "third")
        assert (await new.wait_for(2))[-2:] == ["second", "third"]
        assert old.bodies == ["first"]
        (refused,) = await old.send("ana", "I am still here")
        assert refused.outcome == "failed" and "took over" in refused.reason
        assert not old.client.connected


async def test_an_older_incarnation_cannot_come_back() -> None:
    async with rig() as r:
        await r.online("bob", 2)
        with pytest.raises(Taken):
            await r.online("bob", 1)


# -- refusals of single messages


async def test_an_unknown_receiver_fails_that_message_alone() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        batch = [ana.message(to, "x") for to in ("bob", "dan", "bob")]
        receipts = await ana.client.send(batch)
        assert [receipt.outcome for receipt in receipts] == ["confirmed", "failed", "confirmed"]
        assert "account dan" in receipts[1].reason
        assert receipts[1].error == "UnknownAccount"
        await bob.wait_for(2)


async def test_the_same_id_again_is_stored_once() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        message = ana.message("bob", "once")
        receipts = [(await ana.client.send([message]))[0] for _ in range(2)]
        await ana.send("bob", "last")
        assert [receipt.outcome for receipt in receipts] == ["confirmed"] * 2
        assert await bob.wait_for(2) == ["once", "last"]


async def test_nobody_can_block_anothers_message_by_using_its_id_first() -> None:
    async with rig() as r:
        ana, bob, eva = [await r.online(user) for user in ("ana", "bob", "eva")]
        await eva.client.send([eva.message("bob", "fake")._replace(id="ana:1:1")])
        await ana.send("bob", "real")
        assert await bob.wait_for(2) == ["fake", "real"]


# -- connections come and go


async def test_a_restarted_server_gets_what_was_sent_meanwhile_in_order() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "before")
        await r.stop()
        sending = [asyncio.create_task(ana.send("bob", str(n))) for n in range(5)]
        await r.start()
        receipts = [receipt for task in sending for receipt in await task]
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        assert await bob.wait_for(6) == ["before", "0", "1", "2", "3", "4"]
        reasons = [fact.reason for fact in r.journal.facts(Disconnected)]
        assert len(reasons) == 2 and all(reasons)
        assert len(list(r.journal.facts(Connected))) == 4


class StuckStore(MemoryMailboxes):
    """Stores, but does not answer while ``stuck``."""

    stuck = False

    async def send(self, to: str, batch: Sequence[Message]) -> Stored:
        stored = await super().send(to, batch)
        if self.stuck:
            await asyncio.Event().wait()
        return stored


async def test_a_send_without_an_answer_is_uncertain_and_may_be_repeated() -> None:
    store = StuckStore()
    async with rig(store, settings=quick_settings(send_seconds=0.5)) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        store.stuck = True
        (receipt,) = await ana.send("bob", "perhaps")
        assert receipt.outcome == "uncertain" and "0.5 s" in receipt.reason
        store.stuck = False
        await r.stop()  # the stuck stream ends; the client comes back
        await r.start()
        again = ana.life.message("private:ana:bob", "bob", "perhaps", receipt.id)
        (second,) = await ana.client.send([again])
        assert (second.id, second.outcome) == (receipt.id, "confirmed")
        await ana.send("bob", "last")
        assert await bob.wait_for(2) == ["perhaps", "last"]


async def test_a_lost_answer_is_asked_for_again_and_stored_once() -> None:
    store = StuckStore()
    async with rig(store) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        store.stuck = True
        sending = asyncio.create_task(ana.send("bob", *map(str, range(250))))
        await bob.wait_for(100)  # stored, not confirmed
        store.stuck = False
        await r.stop()
        await r.start()
        assert {receipt.outcome for receipt in await sending} == {"confirmed"}
        assert await bob.wait_for(250) == [str(n) for n in range(250)]


async def test_without_a_server_a_send_has_failed_because_it_never_left() -> None:
    async with rig(settings=quick_settings(send_seconds=0.5)) as r:
        ana = await r.online("ana")
        await r.stop()
        await until_offline(ana)
        (receipt,) = await ana.send("bob", "x")
        assert receipt.outcome == "failed"
        assert r.journal.counts()["Failed"] == 1


async def test_without_a_server_open_says_so_within_its_deadline() -> None:
    async with rig(settings=quick_settings(send_seconds=0.5)) as r:
        await r.stop()
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable):
            await r.online("ana")
        assert time.monotonic() - began < 3


async def test_unacknowledged_messages_come_again_marked_to_the_next_life() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.life.gate.clear()  # handed over, not processed
        await ana.send("bob", "1", "2")
        await until(r, "bob", handed=2)
        bob.client.abandon()
        again = await r.online("bob", 2)
        assert await again.wait_for(2) == ["1", "2"]
        assert [message.body for message in again.redelivered] == ["1", "2"]


async def test_a_frozen_client_acknowledges_nothing_until_it_thaws() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.freeze_after = 1
        await ana.send("bob", "1")
        await bob.wait_for(1)
        for body in "234":  # long enough for an acknowledgement to come
            await ana.send("bob", body)
        await until(r, "bob", handed=4)
        await until(r, "bob", acked=0)
        bob.life.gate.set()
        await until(r, "bob", acked=4)


async def test_within_one_life_a_second_copy_is_dropped_and_recorded() -> None:
    store = NoAckStore()
    async with rig(store) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "1", "2")
        await bob.wait_for(2)
        await r.stop()
        store.acks = True
        await r.start()
        await ana.send("bob", "3")
        assert await bob.wait_for(3) == ["1", "2", "3"]
        assert [fact.id for fact in r.journal.facts(Discarded)] == ["ana:1:1", "ana:1:2"]


class NoAckStore(MemoryMailboxes):
    """Loses acknowledgements until ``acks``."""

    acks = False

    async def ack(self, *args: object) -> None:
        if self.acks:
            await super().ack(*args)  # type: ignore[arg-type]


async def until_offline(person: Person) -> None:
    """Until the client knows that its server is gone."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while person.client.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until(r: Rig, user: str, **wanted: object) -> None:
    """Until the mailbox of ``user`` has these values."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for state in await r.store.state():
                if state.user == user and wanted.items() <= state._asdict().items():
                    return
            await asyncio.sleep(0.005)


async def test_a_frozen_client_shows_nothing_until_it_thaws() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.life.gate.clear()
        await ana.send("bob", "1")
        for _ in range(20):  # by then the message has reached bob's client long since
            await ana.send("eva", "tick")
        assert bob.shown == []
        bob.life.gate.set()
        assert await bob.wait_for(1) == ["1"]


async def test_a_slow_reader_is_handed_no_more_than_the_window() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.life.gate.clear()
        receipts = await ana.send("bob", *("x" * 4096 for _ in range(2000)))
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        (state,) = [state for state in await r.store.state() if state.user == "bob"]
        assert state.stored == 2000
        assert 0 < state.handed <= 2**20 / 4096
        bob.life.gate.set()
        assert len(await bob.wait_for(2000)) == 2000


async def test_closing_takes_what_is_on_its_way_so_that_nothing_comes_twice() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.life.gate.clear()
        await ana.send("bob", *map(str, range(500)))
        closing = asyncio.create_task(bob.client.close())
        await asyncio.sleep(0)
        bob.life.gate.set()
        await closing
        (state,) = [state for state in await r.store.state() if state.user == "bob"]
        assert not state.held and state.acked == len(bob.shown)
        again = await r.online("bob", 2)
        await again.wait_for(500 - len(bob.shown))
        assert [*bob.bodies, *again.bodies] == [str(n) for n in range(500)]
        assert again.redelivered == []


class SlowToStoreAcks(MemoryMailboxes):
    """Stores an acknowledgement when it may; keeps the order of what was stored and let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.done: list[str] = []

    async def ack(self, hold: Hold, *args: Any) -> None:
        self.asked.set()
        await self.may.wait()
        self.done.append("ack")
        await super().ack(hold, *args)

    async def detach(self, hold: Hold) -> None:
        self.done.append("detach")
        await super().detach(hold)


async def test_a_mailbox_is_let_go_after_its_last_acknowledgement_was_stored() -> None:
    store = SlowToStoreAcks()
    async with rig(store) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "1")
        await bob.wait_for(1)
        closing = asyncio.create_task(bob.client.close())
        await store.asked.wait()
        await ana.send("bob", "2")  # news wake the stream, which finds that it may end
        for _ in range(100):  # turns of the loop, more than it needs
            await asyncio.sleep(0)
        store.may.set()
        await closing
        assert store.done == ["ack", "detach"]
        (state,) = [state for state in await store.state() if state.user == "bob"]
        assert (state.acked, state.unacknowledged, state.held) == (1, 1, False)


async def test_a_crash_leaves_no_goodbye_in_the_journal() -> None:
    async with rig() as r:
        bob = await r.online("bob")
        bob.client.abandon()
        await until(r, "bob", held=False)
        assert list(r.journal.facts(Disconnected)) == []
        (refused,) = await bob.send("ana", "x")
        assert refused.outcome == "failed"


async def test_close_is_idempotent_and_says_goodbye_once() -> None:
    async with rig() as r:
        bob = await r.online("bob")
        await bob.client.close()
        await bob.client.close()
        assert [fact.reason for fact in r.journal.facts(Disconnected)] == [""]


async def test_closed_and_opened_again_the_same_client_works() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await bob.client.close()
        await bob.client.open()
        await ana.send("bob", "x")
        assert await bob.wait_for(1) == ["x"]


async def test_an_interrupted_send_is_not_sent_later() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await r.stop()
        await until_offline(ana)
        sending = asyncio.create_task(ana.send("bob", "no"))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await r.start()
        await ana.send("bob", "yes")
        assert await bob.wait_for(1) == ["yes"]
        assert r.journal.counts()["Failed"] == 1


async def test_a_broken_receiver_is_never_silent() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")

        def broken(*_: object) -> None:
            raise KeyError("shelf")

        bob.client._screen._on_message = broken
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        await ana.send("bob", "x")
        async with asyncio.timeout(PATIENCE_SECONDS):
            error = await bob.ended
        assert isinstance(error, ChatlabError) and "shelf" in error.what
        await until(r, "bob", held=False, acked=0)
        assert complaints


async def test_a_wiped_store_is_empty_and_its_clients_come_back() -> None:
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("eva", "old")
        assert r.server is not None
        await r.server.wipe()
        await until(r, "bob", held=True)
        await ana.send("bob", "new")
        assert await bob.wait_for(1) == ["new"]
        assert {state.user for state in await r.store.state()} == {"ana", "bob"}


async def until_unconnected(server: ChatServer) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while server.streams():  # noqa: ASYNC110 (there is nothing else to wait for)
            await asyncio.sleep(0.005)


# -- the server itself


async def test_a_port_in_use_is_refused() -> None:
    async with rig() as r:
        port = r.address.port
        second = ChatServer(MemoryMailboxes(), MemoryAccounts(), r.settings, port=port)
        with pytest.raises(ServiceUnavailable, match=str(port)):
            await second.start()


async def test_stopping_ends_the_streams_and_does_not_wait_for_clients() -> None:
    async with rig() as r:
        await r.online("bob")
        assert r.server is not None
        began = time.monotonic()
        await r.server.stop(grace=30)
        assert time.monotonic() - began < 2


class HangingServer:
    """gRPC's own server, when it waits for a frozen client."""

    async def stop(self, grace: float) -> None:
        await asyncio.Event().wait()


async def test_stopping_is_bounded_even_when_grpc_hangs() -> None:
    async with rig() as r:
        assert r.server is not None
        real, r.server._server = r.server._server, HangingServer()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await r.server.stop(grace=0.1)
        r.server._server = real


async def test_a_stream_that_is_ended_while_it_opens_has_opened_before_its_status_is_sent() -> (
    None
):
    """Otherwise gRPC refuses the status, and stopping waits for that stream."""
    may, did = asyncio.Event(), list[str]()

    class Context:
        async def send_initial_metadata(self, _: object) -> None:
            await may.wait()
            did.append("opened")

    opening = asyncio.create_task(_begin(Context()))
    await asyncio.sleep(0)
    opening.cancel()
    asyncio.get_running_loop().call_later(0.01, may.set)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert did == ["opened"]


async def test_streams_are_listed_while_they_are_open() -> None:
    async with rig() as r:
        assert r.server is not None
        bob = await r.online("bob")
        assert set(r.server.streams()) == {"bob"}
        await bob.client.close()
        await until_unconnected(r.server)


def batch(position: str, size: int = 10) -> Batch:
    message = Message(position, "ana", 1, "bob", "x", 1, 0.0, 1)
    return Batch([position], [message], [size])


def settled() -> _Window:
    """A window that has looked at all there was."""
    window = _Window()
    window.position, window.more = "0", False
    return window


def test_a_window_takes_an_offer_that_follows_what_it_has() -> None:
    window = settled()
    window.offer("0", batch("1"))
    window.offer("1", batch("2"))
    assert joined(window.offered).positions == ["1", "2"]
    assert window.changed.is_set() and not window.more


@pytest.mark.parametrize("why", ["a gap", "a look on its way", "news unseen", "no room"])
def test_a_window_looks_instead_of_taking_an_offer_out_of_place(why: str) -> None:
    window = settled()
    window.looking = why == "a look on its way"
    window.more = why == "news unseen"
    size = BATCH_BYTES + 1 if why == "no room" else 10
    window.offer("7" if why == "a gap" else "0", batch("8", size))
    assert window.offered == [] and window.more and window.changed.is_set()
