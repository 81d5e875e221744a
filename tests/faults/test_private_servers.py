"""The chat server and its Redis are killed and stopped while people chat (``mailbox-redis``).

What was confirmed is delivered; what nobody knows is called uncertain, and sent again under
its id it is stored once; nothing that was called failed is ever seen.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from private_rig import PATIENCE_SECONDS, SECRET, Person, quick_settings, rig
from process_rig import SERVER, UNNOTICED, Lab, process, receiver, until_all_is_acknowledged

from chatlab.discovery.redis import Registry
from chatlab.journal import Disconnected
from chatlab.messages import BODY_BYTES, private
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.services.links import Link
from chatlab.services.redis_server import RedisServer

#: Long enough to outlast a restart.
PATIENT = quick_settings(send_seconds=PATIENCE_SECONDS)


class Servers:
    """One chat server after the other; the next is always ready to begin."""

    def __init__(self, lab: Lab, stack: AsyncExitStack) -> None:
        self._lab = lab
        self.stack = stack
        self._ahead = self._start()

    def _start(self) -> asyncio.Task[Process]:
        made = process(*SERVER, settings=self._lab.rig.settings)
        return asyncio.create_task(self.stack.enter_async_context(made))

    async def next(self) -> Process:
        server, self._ahead = await self._ahead, self._start()
        await self._lab.begin(server)
        return server

    async def end(self) -> None:
        await self._ahead


@pytest.fixture
async def servers(lab: Lab) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        made = Servers(lab, stack)
        yield made
        for person in lab.rig.people:
            await person.client.close()
        await made.end()


async def test_what_was_confirmed_is_delivered_though_the_server_is_killed_ten_times(
    lab: Lab, servers: Servers
) -> None:
    server = await servers.next()
    ana = await lab.rig.online("ana", settings=PATIENT)
    bob = await lab.rig.online("bob", settings=PATIENT)
    for number in range(10):
        bodies = [f"{number}.{n}" for n in range(50)]
        receipts = [*await ana.send("bob", *bodies), *await ana.send("eva", *bodies)]
        server.kill()
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        await server.wait()
        server = await servers.next()
    everything = [f"{number}.{n}" for number in range(10) for n in range(50)]
    eva = await lab.rig.online("eva", settings=PATIENT)  # away all the time
    for person in (bob, eva):
        assert await person.wait_for(500) == everything
        assert await until_all_is_acknowledged(lab.rig, person.life.user) == 500
    assert eva.redelivered == []


async def test_an_unknown_outcome_is_uncertain_and_the_message_sent_again_is_stored_once(
    lab: Lab, servers: Servers
) -> None:
    server = await servers.next()
    link = Link((lab.rig.address.host, lab.rig.address.port), user="ana", service="server")
    port = await link.open()
    servers.stack.push_async_callback(link.close)
    ana = lab.rig.person("ana", settings=replace(PATIENT, send_seconds=1))
    through = lab.rig.address.through
    ana.client._locate = lambda _: asyncio.sleep(0, through("127.0.0.1", port))
    await ana.client.open()
    bob = await lab.rig.online("bob", settings=PATIENT)
    confirmed: set[str] = set()
    for number in range(3):
        already = len(bob.shown)
        link.slow(0.2)  # what is stored is seen long before it is confirmed
        sending = asyncio.create_task(ana.send("bob", *(f"{number}.{n}" for n in range(1000))))
        await bob.wait_for(already + 1)
        link.cut()
        server.send_signal(signal.SIGSTOP)
        receipts = await sending
        server.kill()
        await server.wait()
        ids = {
            outcome: {receipt.id for receipt in receipts if receipt.outcome == outcome}
            for outcome in ("uncertain", "failed")
        }
        assert len(ids["uncertain"]) + len(ids["failed"]) == 1000, "no receipt came through"
        server = await servers.next()
        link.retarget((lab.rig.address.host, lab.rig.address.port))
        link.heal()
        await until_all_is_acknowledged(lab.rig, "bob")
        stored = {message.id for message in bob.shown}
        assert stored & ids["uncertain"], "the test is void: nothing was stored"
        assert not stored & ids["failed"]
        await repeat(ana, "bob", sorted(ids["uncertain"]))
        confirmed |= ids["uncertain"]
        assert await until_all_is_acknowledged(lab.rig, "bob") == len(confirmed)
        assert {message.id for message in bob.shown} == confirmed
        assert len(bob.shown) == len(confirmed)


async def repeat(ana: Person, to: str, ids: list[str]) -> None:
    """Send messages of unknown outcome again, the very same, until none is left."""
    chat = private(ana.life.user, to)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not ana.client.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while ids:
            again = [ana.life.message(chat, to, "", id) for id in ids]
            assert all(message.body for message in again), "the client has kept them"
            receipts = await ana.client.send(again)
            assert [receipt.id for receipt in receipts] == ids
            ids = [receipt.id for receipt in receipts if receipt.outcome == "uncertain"]
            assert not [receipt for receipt in receipts if receipt.outcome == "failed"]


# -- Redis


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis of this test, which it may kill."""
    server = RedisServer(tmp_path / "redis", ledger=tmp_path / "ledger", limit=PATIENCE_SECONDS)
    await server.start()
    yield server
    await server.stop(5)
    server.release()


async def test_chats_go_on_when_redis_was_killed_and_nothing_is_lost(
    own_redis: RedisServer,
) -> None:
    redis = Redis(own_redis.address)
    registry = Registry(redis, lease_seconds=1.5)
    for user in ("ana", "bob"):
        await registry.create_account(user, SECRET)
    accounts = RegisteredAccounts(registry, redis)
    async with rig(RedisMailboxes(redis), accounts=accounts, settings=PATIENT) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bodies = [str(n) for n in range(3000)]
        both = [
            asyncio.create_task(a.send(b, *bodies)) for a, b in ((ana, "bob"), (bob, "ana"))
        ]
        for seen in (300, 900, 1500):
            await bob.wait_for(seen)
            await own_redis.kill()
            await own_redis.start()
        assert not all(task.done() for task in both), "the test is void: all was sent before"
        for task in both:
            assert {receipt.outcome for receipt in await task} == {"confirmed"}
        for person in (ana, bob):
            assert await person.wait_for(3000) == bodies
            assert await until_all_is_acknowledged(r, person.life.user) == 3000
        assert list(r.journal.facts(Disconnected)), "the clients noticed"
    await redis.close()


# -- a reader that does not read

#: What is sent to a reader that does not read, MB.
SENT_MB = 48 * 2**20 / 1e6
#: What a server that does not keep the mailboxes itself may grow by meanwhile, MB.
GROWTH_MB = 16


async def growth(lab: Lab) -> float:
    """How much a server grows while somebody sends to a reader that is frozen, MB."""
    lab.rig.settings = replace(PATIENT, **UNNOTICED)
    async with lab.server() as server:
        ana = await lab.rig.online("ana")
        async with receiver(lab.rig, "bob", 1) as bob:
            bob.process.send_signal(signal.SIGSTOP)
            before = rss(server)
            for _ in range(12):
                receipts = await ana.send("bob", *["x" * BODY_BYTES] * 64)
                assert {receipt.outcome for receipt in receipts} == {"confirmed"}
            grown = rss(server) - before
            assert {receipt.listeners for receipt in receipts} == {1}, "it is still connected"
        ana.client.abandon()
    return grown


def rss(server: Process) -> float:
    """Resident memory of a process, MB."""
    return float(psutil.Process(server.pid).memory_info().rss) / 1e6


async def test_a_frozen_reader_does_not_make_the_server_grow(lab: Lab) -> None:
    assert await growth(lab) < GROWTH_MB


async def test_a_server_that_keeps_what_is_not_read_would_be_seen_to_grow(lab: Lab) -> None:
    lab.backend = "mailbox-memory"  # up to its mailboxes' limits that is its purpose
    assert await growth(lab) > 0.9 * SENT_MB
