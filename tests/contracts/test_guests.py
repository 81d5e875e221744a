"""The accounts of guests from other computers: all that a client does, and nothing else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from private_rig import SECRET

from chatlab import hosting
from chatlab import messages as m
from chatlab.amqp import ghosts
from chatlab.discovery.redis import Registry
from chatlab.errors import NotPossible, ServiceUnavailable
from chatlab.journal import Delivered, Journal
from chatlab.lab.client import Client, Ticket
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.redis import RedisMailboxes
from chatlab.private.server import ChatServer, announced
from chatlab.resp import Redis, mapped
from chatlab.services import doors, guests, namespaces
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.services.management import Management
from chatlab.services.namespaces import Namespace, guest_of
from chatlab.services.place import Place
from chatlab.settings import Settings

Brokers = tuple[RabbitAddress, RedisAddress]
PASSWORD = secrets.token_hex(16)
PATIENCE_SECONDS = 20.0


class Guest:
    """A client with a guest's credentials."""

    def __init__(self, name: str, brokers: Brokers, settings: Settings) -> None:
        rabbitmq, redis = brokers
        ticket = Ticket(
            lab="guests",
            user=name,
            secret=SECRET,
            settings=settings,
            rabbitmq=rabbitmq,
            redis=redis,
        )
        self.journal = Journal(tier="real")
        self.client = Client(ticket, self.journal.append, self, lambda chat, error: None)

    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        return address

    async def expose(self, port: int) -> str:
        return f"127.0.0.1:{port}"

    @property
    def shown(self) -> list[str]:
        return [fact.message.body for fact in self.journal.facts(Delivered)]


@pytest.fixture
async def invited(namespace: Brokers) -> AsyncIterator[Brokers]:
    """The test's namespace, as guests reach it."""
    rabbitmq, redis = namespace
    administrator = rabbitmq.user, rabbitmq.password
    yield await guests.grant(rabbitmq, redis, administrator, PASSWORD)
    await Management(rabbitmq).delete("users", guest_of(rabbitmq))
    own = Redis(redis)
    await acl(own, "DELUSER", guest_of(rabbitmq))
    await own.close()


async def acl(redis: Redis, *words: str) -> Any:
    with mapped(redis.address):
        execute: Any = redis.driver.execute_command
        return await execute(f"ACL {words[0]}", *words[1:])


@asynccontextmanager
async def pair(brokers: Brokers, settings: Settings) -> AsyncIterator[list[Guest]]:
    made = [Guest(name, brokers, settings) for name in ("ana", "bob")]
    for guest in made:
        await guest.client.begin()
    try:
        yield made
    finally:
        for guest in made:
            await guest.client.end()


async def until(so: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not so():  # noqa: ASYNC110 (nothing else to wait for)
            await asyncio.sleep(0.01)


async def test_guests_do_all_that_clients_do(
    namespace: Brokers, invited: Brokers, registry: Registry, redis: Redis, settings: Settings
) -> None:
    accounts = RegisteredAccounts(registry, redis)
    server = ChatServer(RedisMailboxes(redis), accounts, settings)
    address = await server.start()
    async with (
        announced(registry, "mailbox-redis", address, settings.lease_seconds),
        pair(invited, settings) as (ana, bob),
    ):
        await in_private(ana, bob)
        for backend in GROUPS:
            await in_a_group(ana, bob, backend)
        for backend in INSULTS:
            await in_insults(ana, bob, backend)
            with mapped(redis.address):
                await redis.driver.delete(redis.key("agreed"))  # as a new scene does
        for way in ("registry", "management", "events", "broker-events", "as-reported"):
            entries = (await ana.client.discover(way))["entries"]
            assert {"ana", "bob"} <= {entry["name"] for entry in entries}, way
        # His next life can close the connections that RabbitMQ has not missed, once they are
        # listed.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await evicted(invited[0]):  # noqa: ASYNC110 (it is statistics)
                await asyncio.sleep(0.05)
    await server.stop()


async def evicted(rabbitmq: RabbitAddress) -> int:
    return await ghosts.evict(rabbitmq, "guests/bob/99", "consuming", 1)


GROUPS = (
    *("rabbitmq-transient", "rabbitmq-durable", "rabbitmq-quorum", "rabbitmq-log"),
    *("redis-pubsub", "redis-stream"),
)
INSULTS = ("rabbitmq", "rabbitmq-not-me", "redis-list", "redis-stream")


async def in_private(ana: Guest, bob: Guest) -> None:
    for guest in (ana, bob):
        await guest.client.mailbox("mailbox-redis")
    for backend in ("mailbox-redis", "direct"):
        body = f"by {backend}"
        await sent(ana, m.private("ana", "bob"), "bob", backend, body)
        await until(lambda body=body: body in bob.shown)  # type: ignore[misc]
    assert await ana.client.history("mailbox-redis", "bob", 10)
    assert await ana.client.presence("mailbox-redis", ["bob"])


async def in_a_group(ana: Guest, bob: Guest, backend: str) -> None:
    name = f"of-{backend}"
    for guest in (ana, bob):
        await guest.client.group(name, backend)
        await guest.client.subscribe(name)
        await guest.client.connect(name)
    await sent(ana, m.group(name), name, backend, f"in {name}")
    await until(lambda: f"in {name}" in ana.shown and f"in {name}" in bob.shown)
    await bob.client.disconnect(name)
    await bob.client.connect(name)
    await bob.client.unsubscribe(name)


async def in_insults(ana: Guest, bob: Guest, backend: str) -> None:
    for guest in (ana, bob):
        await guest.client.insults("both", backend)
    bodies = [f"{backend} {number}" for number in range(4)]
    await sent(ana, m.INSULTS, "", backend, *bodies)
    await until(lambda: set(bodies) <= {*ana.shown, *bob.shown})
    if backend != "redis-list":  # it has none
        assert await ana.client.dead_letters() == []
    for guest in (ana, bob):
        await guest.client.state()
        await guest.client.leave_insults()


async def sent(guest: Guest, chat: str, to: str, backend: str, *bodies: str) -> None:
    receipts = await guest.client.send(chat, to, backend, bodies)
    assert [receipt.outcome for receipt in receipts] == ["confirmed"] * len(bodies), receipts


async def test_a_new_scene_keeps_the_guests_and_a_redis_that_forgot_them_learns_them_again(
    namespace: Brokers, invited: Brokers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rabbitmq, store = invited
    await namespaces.wipe(Namespace(*namespace, administrator=namespace[0]))
    names = await Management(rabbitmq).get("exchanges", rabbitmq.vhost)
    assert names, "the virtual host is a new one"
    monkeypatch.setattr(guests, "KEEP_SECONDS", 0.05)
    grant, granted = guests._grant_redis, asyncio.Event()

    async def counted(*given: Any) -> None:
        await grant(*given)
        granted.set()

    async def made_again() -> None:
        granted.clear()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await granted.wait()

    monkeypatch.setattr(guests, "_grant_redis", counted)
    keeping = asyncio.create_task(guests.keep_granted(namespace[1], store))
    await acl(redis, "DELUSER", store.user)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await answers(store):  # noqa: ASYNC110 (nothing else to wait for)
            await asyncio.sleep(0.02)
    # One that is subscribed notices nothing when it is made again.
    guest = Redis(store)
    async with guest.subscription(guest.key("changes")) as heard:
        await made_again()  # it may have begun before
        await made_again()
        with mapped(store):
            await guest.driver.publish(guest.key("changes"), "still here")
            message = await heard.get_message(timeout=PATIENCE_SECONDS)
        assert message is not None and message["data"] == "still here"
    await guest.close()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def answers(address: RedisAddress) -> bool:
    redis = Redis(address)
    try:
        with mapped(address):
            return bool(await redis.driver.ping())
    except ServiceUnavailable:
        return False
    finally:
        await redis.close()


async def test_a_broker_that_knows_guest_guest_is_not_opened(
    namespace: Brokers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rabbitmq, redis = namespace
    monkeypatch.setattr(hosting, "is_loopback", lambda host: False)
    lease: Any = object()
    place = Place(lab="guests", rabbitmq=rabbitmq, redis=redis, lease=lease)
    await doors.check_locked(rabbitmq, redis)
    management = Management(rabbitmq)
    await management.put("users", "guest", body={"password": "guest", "tags": ""})
    try:
        for vhost in (rabbitmq.vhost, "/"):  # it may enter neither
            with pytest.raises(NotPossible, match="guest/guest"):
                await doors.check_locked(replace(rabbitmq, vhost=vhost), redis)
        with pytest.raises(NotPossible, match="guest/guest"):
            async with hosting.hosted(settings, place, "127.0.0.1"):
                raise AssertionError("it was opened")
    finally:
        await management.delete("users", "guest")


async def test_without_a_management_api_there_are_no_accounts_for_guests(
    namespace: Brokers,
) -> None:
    rabbitmq, redis = namespace
    with pytest.raises(NotPossible, match="management API"):
        await guests.grant(replace(rabbitmq, management_url=""), redis, ("u", "p"), PASSWORD)
