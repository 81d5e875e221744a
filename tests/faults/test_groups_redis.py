"""Groups on Redis when Redis is killed, a connection breaks, or a member is too slow.

Each test that breaks a server has one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from rabbit_rig import Person, Rig, eventually, eventually_is

from chatlab import journal as j
from chatlab import resp
from chatlab.errors import ChatClosed
from chatlab.groups.guarantees import guarantees
from chatlab.journal import Journal
from chatlab.resp import Redis
from chatlab.services import redis_server
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.links import Link
from chatlab.services.redis_server import RedisServer
from chatlab.settings import Settings

Namespace = tuple[RabbitAddress, RedisAddress]
STREAM, PUBSUB = "redis-stream", "redis-pubsub"
LONG = Settings(lease_seconds=30, heartbeat_seconds=3, send_seconds=20)


@pytest.fixture(params=[True, False], ids=["aof", "no-aof"])
def aof(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        without = redis_server.CONFIG.replace("appendonly yes", "appendonly no")
        monkeypatch.setattr(redis_server, "CONFIG", without)
    return bool(request.param)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that the test may kill; the name server is another one."""
    server = RedisServer(tmp_path / "own" / "redis", ledger=tmp_path / "ledger", limit=10)
    await server.start()
    yield server
    await server.stop(2)
    server.release()


def person(rig: Rig, server: RedisServer, name: str) -> Person:
    address = replace(server.address, prefix="chatlab:own:")
    return rig.person(name, redis=address, settings=LONG)


@pytest.mark.parametrize("fault", ["broker_restart", "broker_killed"])
async def test_what_waits_for_an_absent_member_outlives_redis_if_redis_writes_it(
    rig: Rig, aof: bool, server: RedisServer, fault: str
) -> None:
    ana, bob = (person(rig, server, name) for name in ("ana", "bob"))
    room = await bob.group("sd", STREAM)
    await room.subscribe()
    bodies = [str(number) for number in range(300)]
    receipts = await ana.say("sd", *bodies)
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    await (server.kill() if fault == "broker_killed" else server.stop(10))
    await server.start()
    assert getattr(guarantees(STREAM, aof=aof), fault) == ("kept" if aof else "lost")
    if aof:
        await room.connect()
        await ana.say("sd", "new")
        assert await bob.sees(301) == [*bodies, "new"]
        assert bob.redelivered == []
        return
    with pytest.raises(ChatClosed, match="gone"):  # it is told
        await room.connect()
    await room.connect()
    await ana.say("sd", "new")
    assert await bob.sees(1) == ["new"]


@pytest.mark.parametrize("backend", [STREAM, PUBSUB])
async def test_members_and_senders_recover_by_themselves_and_a_loss_is_told(
    rig: Rig, aof: bool, server: RedisServer, backend: str, journal: Journal
) -> None:
    ana, bob = (person(rig, server, name) for name in ("ana", "bob"))
    room = await bob.join("sd", backend)
    await ana.say("sd", "before")
    await bob.sees(1)
    await server.kill()
    await eventually(lambda: not room.connected)
    sending = asyncio.create_task(ana.say("sd", "during"))
    await server.start()
    await eventually(lambda: room.connected)
    await sending

    async def arrives() -> bool:
        (receipt,) = await ana.say("sd", "after")
        return receipt.outcome == "confirmed"

    await eventually_is(arrives)
    await eventually(lambda: "after" in bob.bodies)
    reasons = [fact.reason for fact in journal.facts(j.Disconnected)]
    forgotten = [reason for reason in reasons if "unknown number" in reason]
    assert len(forgotten) == (0 if aof else 1)
    if aof and backend == STREAM:
        assert bob.bodies[:3] == ["before", "during", "after"]


@pytest.mark.parametrize("backend", [STREAM, PUBSUB])
async def test_a_link_cut_again_and_again_in_mid_stream_loses_nothing_unnoticed(
    rig: Rig, namespace: Namespace, backend: str, journal: Journal
) -> None:
    redis = namespace[1]
    link = Link((redis.host, redis.port), user="bob", service="redis")
    bob = rig.person("bob", redis=redis.through("127.0.0.1", await link.open()))
    ana, eva = rig.people("ana", "eva")
    room = await bob.join("sd", backend)
    await eva.join("sd")
    total = 0

    async def say_more() -> None:
        nonlocal total
        receipts = await ana.say("sd", *(str(n) for n in range(total, total + 50)))
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        total += 50

    for _ in range(5):
        await say_more()
        link.cut()
        await say_more()
        await eventually(lambda: not room.connected)
        await say_more()
        link.heal()
        await say_more()
        await eventually(lambda: room.connected)
    await ana.say("sd", "last")
    await eva.sees(total + 1)
    await eventually(lambda: "last" in bob.bodies)
    numbers = [int(body) for body in bob.bodies if body != "last"]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + room.state()["missed"] == total
    if backend == STREAM:
        assert room.state()["missed"] == 0
    else:
        assert room.state()["missed"] >= 5 * 50
        reasons = [fact.reason for fact in journal.facts(j.Disconnected)]
        assert sum("issed" in reason for reason in reasons) >= 5
    await room.close()
    await link.close()


@pytest.mark.parametrize("backend", [STREAM, PUBSUB])
async def test_a_link_that_goes_silent_is_noticed_and_made_again(
    rig: Rig, namespace: Namespace, backend: str, settings: Settings
) -> None:
    redis = namespace[1]
    link = Link((redis.host, redis.port), user="bob", service="redis")
    address = redis.through("127.0.0.1", await link.open())
    quick = replace(settings, heartbeat_seconds=1)
    bob = rig.person("bob", redis=address, settings=quick)
    ana, eva = rig.people("ana", "eva")
    room = await bob.join("sd", backend)
    await eva.join("sd")
    link.freeze()
    await ana.say("sd", "during")
    await eventually(lambda: not room.connected)
    link.reset()
    link.thaw()
    await eventually(lambda: room.connected)
    await ana.say("sd", "after")
    if backend == STREAM:
        assert await bob.sees(2) == ["during", "after"]
    else:
        assert await bob.sees(1) == ["after"]
        assert room.state()["missed"] == 1
    await room.close()
    await link.close()


@pytest.mark.parametrize("backend", [STREAM, PUBSUB])
async def test_a_goodbye_through_a_dead_link_ends_soon(
    rig: Rig, namespace: Namespace, backend: str
) -> None:
    redis = namespace[1]
    link = Link((redis.host, redis.port), user="bob", service="redis")
    address = redis.through("127.0.0.1", await link.open())
    bob = rig.person("bob", redis=address, settings=LONG)
    room = await bob.join("sd", backend)
    link.freeze()
    async with asyncio.timeout(5):  # a command is given up after 20 s only
        await room.close()
    assert not room.connected
    ana, eva = rig.people("ana", "eva")
    await eva.join("sd")
    await link.close()

    async def one_listens() -> bool:
        (receipt,) = await ana.say("sd", "who is there?")
        return receipt.listeners == 1

    await eventually_is(one_listens)


async def test_a_subscriber_that_redis_drops_for_being_slow_is_told_what_it_missed(
    rig: Rig, server: RedisServer, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(resp, "AHEAD_MESSAGES", 10)
    ana, bob = (person(rig, server, name) for name in ("ana", "bob"))
    room = await bob.join("sd", PUBSUB)
    operator = Redis(server.address)
    await operator.driver.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 0")
    bob.life.gate.clear()  # hangs: its socket fills, then Redis' buffer
    sent = 0
    while (await operator.driver.info("stats"))[
        "client_output_buffer_limit_disconnections"
    ] == 0:
        assert sent < 10_000
        await ana.say("sd", *["x" * 8_000] * 100)  # Valkey counts large ones as references
        sent += 100
    bob.life.gate.set()
    await eventually(lambda: room.state()["missed"], 20)
    await ana.say("sd", "last")
    await eventually(lambda: bob.bodies[-1:] == ["last"], 20)
    missed = room.state()["missed"]
    assert len(bob.bodies) - 1 + missed == sent
    reasons = [fact.reason for fact in journal.facts(j.Disconnected)]
    assert any(f"{missed:,} messages" in reason for reason in reasons)
    await operator.close()


async def test_what_others_publish_is_shown_as_an_outsider_s(
    rig: Rig, namespace: Namespace
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", PUBSUB)
    redis = rig.registry.redis
    channel = redis.key("group-talk", "sd")
    forged = 'e 7 ["x:1:1","ana",1,"sd",7,1,1.0,1]'
    for text in ("¡hola!", "1 2 3", forged, 'e 7 {"a": 1}'):
        await redis.driver.publish(channel, text)
    await ana.say("sd", "ours")
    assert await bob.sees(5) == ["¡hola!", "1 2 3", forged, 'e 7 {"a": 1}', "ours"]
    assert [message.sender for message in bob.shown] == [*["outsider"] * 4, "ana"]
    assert room.state()["missed"] == 0


@pytest.mark.parametrize("backend", [STREAM, PUBSUB])
async def test_a_crashed_member_leaves_no_task_and_no_connection(
    rig: Rig, server: RedisServer, backend: str, journal: Journal
) -> None:
    before = asyncio.all_tasks()
    bob = person(rig, server, "bob")
    await bob.join("sd", backend)
    facts = len(journal)
    bob.crash()
    await eventually(lambda: asyncio.all_tasks() <= before)
    assert len(journal) == facts
    operator = Redis(server.address)

    async def gone() -> bool:
        clients = await operator.driver.client_list()
        return not any("/bob/" in client["name"] for client in clients)

    await eventually_is(gone)
    await operator.close()
