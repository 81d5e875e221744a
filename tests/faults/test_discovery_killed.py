"""Following who is there when RabbitMQ, Redis or the whole kernel is killed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from kill_rig import BACK_SECONDS, Killable
from rabbit_rig import eventually, eventually_is

from chatlab.amqp import Binding, Connection, Exchange, Queue
from chatlab.backoff import patiently
from chatlab.client import Life
from chatlab.discovery import Change, Presences, Registry
from chatlab.discovery.announcement import Announcement
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.management import discover as discover_by_management
from chatlab.discovery.watching import BrokerSource, Follower, RegistrySource
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.services.namespaces import EVENTS, EVENTS_VHOST
from chatlab.services.redis_server import RedisServer

NewLife = Callable[..., Life]

#: A kernel that is asked and watches, says so, and goes on until it is killed.
KERNEL = """
import sys, time
from chatlab.lab import Lab
lab = Lab.start("killed-watcher")
lab.user("ana")
watch = lab.watch("broker-events")
assert lab.discover("broker-events").users == ["ana"]
print(lab.lease.rabbitmq.vhost, flush=True)
time.sleep(600)
"""


@pytest.fixture
def namespace(killable: Killable) -> tuple[RabbitAddress, RedisAddress]:
    return killable.namespace


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    yield made
    await made.follower.close()


class Told:
    """What a follower tells."""

    follower: Follower

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.now = Presences()

    async def follow(self, source: BrokerSource | RegistrySource) -> None:
        self.follower = Follower(source, self._tell)
        await self.follower.open()

    def _tell(self, now: Presences, changes: list[Change]) -> None:
        self.now = now
        self.found += [(change.name, change.what) for change in changes]


async def names_in_default_vhost(rabbitmq: RabbitAddress) -> list[str]:
    management = Management(rabbitmq)
    rows = [
        *(await management.get("exchanges", EVENTS_VHOST, columns="name")),
        *(await management.get("queues", EVENTS_VHOST, columns="name")),
    ]
    return [row["name"] for row in rows if row["name"].startswith(EVENTS)]


@pytest.mark.parametrize("fault", [pytest.param("restart", marks=pytest.mark.soak), "kill"])
async def test_after_a_restart_or_kill_of_rabbitmq_the_view_is_right_again(
    killable: Killable, new_life: NewLife, told: Told, fault: str
) -> None:
    rabbitmq, _ = killable.namespace
    view = BrokerView(rabbitmq, heartbeat=3)
    bob, eva = (new_life(name) for name in ("bob", "eva"))
    connections = {life.user: Connection(rabbitmq, life.connection_name) for life in (bob, eva)}
    for life in (bob, eva):
        await connections[life.user].declare(
            *Announcement(connections[life.user], life, "127.0.0.1:4711")._things()
        )
    durable = Queue("chatlab/sd/ana"), Binding("chatlab/sd/ana", "sd")
    await connections["bob"].declare(Exchange("sd"), *durable)
    await view.open()
    await told.follow(BrokerSource(view))
    assert (view.presences().users, view.presences().groups) == (["bob", "eva"], ["sd"])
    await (killable.kill() if fault == "kill" else killable.stop())
    await eventually(lambda: view.trouble is not None)
    (still, *_) = view.presences()  # as it was known, and told to be old
    assert still.name == "bob"
    await eventually(lambda: view.presences()[0].age > still.age > 0.1)
    await connections.pop("eva").close()
    await killable.start()

    async def right() -> bool:
        found = view.presences()
        listed = await discover_by_management(Management(rabbitmq), rabbitmq.vhost)
        return found.users == listed.users == ["bob"] and found.groups == listed.groups == [
            "sd"
        ]

    await eventually_is(right, BACK_SECONDS)
    assert (view.trouble, view.questions >= 2) == (None, True)
    assert ("eva", "left") in told.found
    await eventually(lambda: told.now.users == ["bob"])
    await connections["bob"].delete_queue("chatlab/sd/ana")
    await eventually(lambda: told.found[-1] == ("ana", "parted"))  # and it goes on
    await connections["bob"].close()
    await eventually(lambda: told.found[-1] == ("bob", "left"))
    await Management(rabbitmq).delete("exchanges", rabbitmq.vhost, "sd")
    await view.close()
    await eventually_is(lambda: gone(rabbitmq))


async def gone(rabbitmq: RabbitAddress) -> bool:
    return await names_in_default_vhost(rabbitmq) == []


async def test_after_a_kill_of_redis_the_registry_is_followed_again(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer(tmp_path / "own" / "redis", ledger=tmp_path / "ledger", limit=10)
    await server.start()
    redis = Redis(server.address)
    registry = Registry(redis, lease_seconds=30)
    life = await registry.claim("bob", "s", "")
    source = RegistrySource(registry)
    await told.follow(source)
    assert told.now.users == ["bob"]
    await server.kill()
    await eventually(lambda: not source.subscribed)
    await server.start()
    await eventually(lambda: source.subscribed)
    monkeypatch.setattr("chatlab.discovery.watching.LOOK_SECONDS", 600.0)
    await patiently(lambda: registry.claim("eva", "s", ""))
    await eventually(lambda: told.found[-1:] == [("eva", "came")])
    await registry.depart("bob", life)
    await eventually(lambda: told.found[-1:] == [("bob", "left")])
    assert told.found == [("eva", "came"), ("bob", "left")]  # an outage is no departure
    await redis.close()
    await server.stop(2)
    server.release()


async def test_a_killed_kernel_leaves_nothing_of_its_watching_behind(
    endpoints: tuple[RabbitAddress, RedisAddress],
) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KERNEL), env=environ, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(BACK_SECONDS):
            vhost = (await process.stdout.readline()).decode().strip()
        prefix = f"{EVENTS}/{vhost}/"

        async def mine() -> list[str]:
            found = await names_in_default_vhost(endpoints[0])
            return [name for name in found if name.startswith(prefix)]

        async def nothing() -> bool:
            return await mine() == []

        assert len(await mine()) == 4
    finally:
        process.kill()
        await process.wait()
    await eventually_is(nothing)
    management = Management(endpoints[0])

    async def no_account() -> bool:
        users = await management.get("users", columns="name")
        return not any(row["name"].startswith(vhost) for row in users)

    await eventually_is(no_account)
    assert await mine() == []
