"""Fixtures: real services, started once for the whole run, in a folder of its own.

The folder lies in the temporary directory (its path must stay short for a unix socket) and
borrows the programs that set-up fetched. Notebooks and child processes find it through the
environment. At the end everything is stopped; what still ran then is a failure.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from private_rig import SECRET
from private_rig import Rig as PrivateRig
from private_rig import rig as private_rig
from rabbit_rig import LinkedRig, linked_rig

from chatlab import services
from chatlab.client import Life, new_secret
from chatlab.discovery.redis import Registry
from chatlab.journal import Journal
from chatlab.loop import BackgroundLoop
from chatlab.private.accounts import RegisteredAccounts
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.lease import Lease
from chatlab.services.management import Management
from chatlab.services.namespaces import TO_LIST
from chatlab.settings import Settings

_FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    found = Settings.load()
    folder = Path(tempfile.mkdtemp(prefix="chatlab-test-"))
    config.stash[_FOLDER] = folder
    if (found.folder / "programs").exists():
        (folder / "programs").symlink_to(found.folder / "programs")
    os.environ |= {
        "CHATLAB_FOLDER": str(folder),
        "CHATLAB_MY_FOLDER": str(folder / "my"),
        "CHATLAB_IDLE_SECONDS": "60",
        "CHATLAB_LEASE_SECONDS": "1.5",
        "CHATLAB_HEARTBEAT_SECONDS": "3",
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash[_FOLDER]
    with BackgroundLoop("end of tests") as loop:
        loop.call(services.stop(Settings.load(), force=True))
    left = processes_of(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        raise pytest.UsageError(f"still running after the tests: {left}")


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name ``folder``."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words) and process.pid != os.getpid():
            found.append(" ".join(words)[:200])
    return found


@pytest.fixture(scope="session")
def lab_settings() -> Settings:
    """What a lab in a test uses; also in the environment, for notebooks and processes."""
    return Settings.load()


@pytest.fixture(scope="session")
def lease(lab_settings: Settings) -> Iterator[Lease]:
    """A lease that keeps the brokers running for the whole session."""
    with BackgroundLoop("services") as loop:
        held = loop.call(services.join(lab_settings, lab=f"tests-{secrets.token_hex(3)}"))
        yield held
        loop.call(held.close())


@pytest.fixture(scope="session")
def endpoints(lease: Lease) -> tuple[RabbitAddress, RedisAddress]:
    """The brokers of the session, for tests that bring their own namespace."""
    return lease.rabbitmq, lease.redis


@pytest.fixture
def namespace(
    endpoints: tuple[RabbitAddress, RedisAddress],
) -> Iterator[tuple[RabbitAddress, RedisAddress]]:
    """A virtual host and a key prefix that only this test uses."""
    rabbitmq, redis = endpoints
    name = f"test-{secrets.token_hex(4)}"
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    with BackgroundLoop("namespace") as loop:
        management = Management(rabbitmq)
        loop.call(management.put("vhosts", name, body={}))
        loop.call(management.put("permissions", name, rabbitmq.user, body=everything))
        loop.call(management.put("permissions", name, rabbitmq.monitor, body=TO_LIST))
        yield replace(rabbitmq, vhost=name), replace(redis, prefix=f"chatlab:{name}:")
        loop.call(management.delete("vhosts", name))


@pytest.fixture
async def redis(namespace: tuple[RabbitAddress, RedisAddress]) -> AsyncIterator[Redis]:
    """A connection to the Redis of the session, in a namespace of its own."""
    made = Redis(namespace[1])
    yield made
    await made.close()


@pytest.fixture
async def registry(redis: Redis) -> Registry:
    """A name server in which ana, bob and eva have accounts."""
    made = Registry(redis, lease_seconds=1.5)
    for user in ("ana", "bob", "eva"):
        await made.create_account(user, SECRET)
    return made


@pytest.fixture(params=["mailbox-memory", "mailbox-redis"])
async def chats(
    request: pytest.FixtureRequest, redis: Redis, registry: Registry
) -> AsyncIterator[PrivateRig]:
    """A chat server over each store, with the lab's own accounts."""
    memory = request.param == "mailbox-memory"
    store = MemoryMailboxes() if memory else RedisMailboxes(redis)
    async with private_rig(store, accounts=RegisteredAccounts(registry, redis)) as made:
        yield made


@pytest.fixture
def settings(lab_settings: Settings) -> Settings:
    """Short times, so that time-outs are seen within a test."""
    return replace(lab_settings, send_seconds=3)


@pytest.fixture
def journal() -> Journal:
    return Journal(tier="real")


@pytest.fixture
def new_life(
    namespace: tuple[RabbitAddress, RedisAddress], journal: Journal, settings: Settings
) -> Callable[..., Life]:
    """Make a life for a user: ``new_life("ana")``; the same user again: a new incarnation."""
    secrets_of: dict[str, str] = {}
    incarnations: dict[str, int] = {}

    def make(user: str, **changes: object) -> Life:
        incarnations[user] = incarnations.get(user, 0) + 1
        values: dict[str, object] = {
            "lab": namespace[0].vhost,
            "user": user,
            "incarnation": incarnations[user],
            "secret": secrets_of.setdefault(user, new_secret()),
            "settings": settings,
            "record": journal.append,
            "rabbitmq": namespace[0],
            "redis": namespace[1],
            **changes,
        }
        return Life(**values)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def rig(
    namespace: tuple[RabbitAddress, RedisAddress],
    new_life: Callable[..., Life],
    settings: Settings,
) -> AsyncIterator[LinkedRig]:
    """People in groups and insult channels, in the test's namespace."""
    async with linked_rig(namespace, new_life, settings) as made:
        yield made


@pytest.fixture
def management(namespace: tuple[RabbitAddress, RedisAddress]) -> Management:
    """The management API of the RabbitMQ in the test's namespace."""
    return Management(namespace[0])
