"""A chat server that was told to stop: what it still does, what no more, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from private_rig import PATIENCE_SECONDS, Rig, quick_settings, rig, status_of, stock_client

from chatlab.errors import ChatlabError, SendUncertain, ServiceUnavailable, Taken
from chatlab.private.channel import open_channel
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.server import Ending, announced
from chatlab.private.service import PrivateChat
from chatlab.services.addresses import ServerAddress

#: Longer than any test; a drain that is done ends earlier.
LONG_SECONDS = 3600.0


class Slow(MemoryMailboxes):
    """Waits before it does the calls of one name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        call = getattr(self, name)

        async def slow(*args: Any) -> Any:
            self.begun.set()
            await self.may_go_on.wait()
            return await call(*args)

        setattr(self, name, slow)


def service(r: Rig) -> PrivateChat:
    assert r.server is not None
    return r.server._service


def windows(r: Rig) -> list[Any]:
    """Those of the receiving streams."""
    return [stream.window for stream in service(r)._all() if stream.window is not None]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 (nothing else to wait for)
            await asyncio.sleep(0.001)


async def draining(r: Rig, seconds: float = LONG_SECONDS) -> asyncio.Task[None]:
    """A drain that has begun."""
    assert r.server is not None
    task = asyncio.create_task(r.server.drain(seconds))
    await until(lambda: service(r).stopping)
    return task


async def test_what_was_read_is_stored_and_its_receipt_arrives() -> None:
    store = Slow("send")
    async with rig(store) as r:
        ana = await r.online("ana")
        sending = asyncio.create_task(ana.send("bob", "hola"))
        await store.begun.wait()
        drain = await draining(r)
        await until(lambda: service(r).closing)
        assert not drain.done()
        store.may_go_on.set()
        await drain
        (receipt,) = await sending
        assert receipt.outcome == "confirmed"
        assert service(r).counts["stored"] == 1
        await until(lambda: service(r).streams == {})


async def test_an_acknowledgement_that_was_read_is_stored() -> None:
    store = Slow("ack")
    async with rig(store) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "hola")
        await bob.wait_for(1)
        await store.begun.wait()
        drain = await draining(r)
        await until(lambda: service(r).closing)
        assert not drain.done()
        store.may_go_on.set()
        await drain
        (state,) = [one for one in await store.state() if one.user == "bob"]
        assert (state.acked, state.unacknowledged) == (1, 0)


async def test_what_is_just_being_looked_up_is_handed_out_and_acknowledged() -> None:
    store = Slow("fetch")
    store.may_go_on.set()
    async with rig(store) as r:
        ana = await r.online("ana")
        await ana.send("bob", "hola")
        await until(lambda: all(window.settled for window in windows(r)))
        store.begun.clear()
        store.may_go_on.clear()
        bob = await r.online("bob")
        await store.begun.wait()
        drain = await draining(r)
        for _ in range(100):
            await asyncio.sleep(0)
        store.may_go_on.set()
        await drain
        assert bob.bodies == ["hola"]
        (state,) = [one for one in await store.state() if one.user == "bob"]
        assert (state.acked, state.unacknowledged) == (1, 0)


async def test_while_the_acknowledgements_come_in_messages_are_taken_and_not_handed_out() -> (
    None
):
    async with rig() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.life.gate.clear()  # it acknowledges nothing
        await ana.send("bob", "before")
        await until(lambda: [window.handed for window in windows(r)] == [0, 1])
        drain = await draining(r)
        (receipt,) = await ana.send("bob", "meanwhile")
        assert receipt.outcome == "confirmed"
        assert not service(r).closing
        bob.life.gate.set()
        await drain
        assert bob.bodies == ["before"]
        (state,) = [one for one in await r.store.state() if one.user == "bob"]
        assert (state.acked, state.unacknowledged) == (1, 1)


async def test_nobody_is_let_in_any_more_and_health_says_so() -> None:
    store = Slow("send")
    async with rig(store) as r, stock_client(r) as stock:
        session = await stock.claim("eva")
        ana = await r.online("ana")
        sending = asyncio.create_task(ana.send("bob", "hola"))
        await store.begun.wait()
        drain = await draining(r)
        await until(lambda: service(r).closing)
        assert await status_of(stock.claim("bob")) is grpc.StatusCode.UNAVAILABLE
        for call in stock.streams(session).values():
            assert await status_of(call.read()) is grpc.StatusCode.UNAVAILABLE
        async with open_channel(r.address, r.settings) as channel:
            question = health_pb2.HealthCheckRequest(service="")
            answer = await health_pb2_grpc.HealthStub(channel).Check(question)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        store.may_go_on.set()
        await drain
        await sending


@pytest.mark.parametrize("name", ["send", "ack"])
async def test_at_the_end_of_its_time_a_drain_waits_for_nothing(name: str) -> None:
    store = Slow(name)
    async with rig(store, settings=quick_settings(send_seconds=1.0)) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        sending = asyncio.create_task(ana.send("bob", "hola"))
        await store.begun.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await (await draining(r, 0.1))
        bob.client.abandon()
        await sending
        store.may_go_on.set()


# -- in the name server


class Names:
    """A name server that answers renewals as a test says, then well."""

    def __init__(self, *answers: ChatlabError) -> None:
        self.answers = list(answers)
        self.said: list[str] = []

    async def register_server(
        self, kind: str, address: ServerAddress, token: str, *, sole: bool
    ) -> None:
        self.said.append("register")

    async def renew_server(self, kind: str, token: str) -> None:
        self.said.append("renew")
        if self.answers:
            raise self.answers.pop(0)

    async def forget_server(self, kind: str, token: str) -> None:
        self.said.append("forget")


HERE = ServerAddress(host="127.0.0.1", port=1)


async def test_a_name_server_that_is_away_is_tried_again_and_said_once_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = Names(ServiceUnavailable("away"), SendUncertain("away"), ServiceUnavailable("away"))
    lost: list[ChatlabError] = []
    async with announced(names, "mailbox-redis", HERE, 0.003, on_lost=lost.append):
        await until(lambda: names.said.count("renew") > 4)
    assert (names.said[0], names.said[-1]) == ("register", "forget")
    assert lost == []
    assert [record.message for record in caplog.records] == ["not renewed", "renewed again"]


async def test_who_lost_its_place_to_a_newer_one_is_told_once_and_renews_no_more() -> None:
    names = Names(ServiceUnavailable("away"), Taken("another"), Taken("another"))
    lost: list[ChatlabError] = []
    async with announced(names, "mailbox-memory", HERE, 0.003, on_lost=lost.append):
        await until(lambda: bool(lost))
        await asyncio.sleep(0.02)
    assert [type(error) for error in lost] == [Taken]
    assert names.said == ["register", "renew", "renew", "forget"]


class Hanging(Names):
    async def forget_server(self, kind: str, token: str) -> None:
        await asyncio.Event().wait()


async def test_a_name_server_that_hangs_delays_the_end_by_a_second_only() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with announced(Hanging(), "mailbox-redis", HERE, 60):
            pass


# -- being told


async def test_to_be_asked_again_is_to_hurry_and_an_error_does_not_follow_a_wish() -> None:
    ending = Ending()
    ending.ask()
    ending.fail(Taken("later"))
    assert (ending.asked.is_set(), ending.hurried.is_set(), ending.error) == (True, False, None)
    ending.ask()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ending.unless_hurried(asyncio.sleep(LONG_SECONDS))


async def test_an_error_asks_once_and_a_signal_then_hurries() -> None:
    ending = Ending()
    first = Taken("first")
    ending.fail(first)
    ending.fail(Taken("second"))
    assert ending.error is first and not ending.hurried.is_set()
    ending.ask()
    assert ending.hurried.is_set()


async def test_what_is_done_unless_hurried_may_fail() -> None:
    async def fails() -> None:
        raise ServiceUnavailable("away")

    with pytest.raises(ServiceUnavailable):
        await Ending().unless_hurried(fails())
