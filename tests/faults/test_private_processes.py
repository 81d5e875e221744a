"""Private chats when real processes are killed and stopped, and links are cut."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from private_rig import PATIENCE_SECONDS, SECRET, Rig, quick_settings, rig
from process_rig import ROOT, line, process, receiver, rest

from chatlab.discovery.redis import Registry
from chatlab.errors import NotAdmitted, ServiceUnavailable
from chatlab.private.mailbox import MailboxState
from chatlab.private.redis import RedisMailboxes
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress, to_dict
from chatlab.services.links import Link
from chatlab.settings import child_environ

#: How long a frozen client may go unnoticed: ping after 2 s, give up after 1 s, and slack.
NOTICE_SECONDS = 3.0 + 1.5


async def mailbox(r: Rig, user: str) -> MailboxState:
    return next(state for state in await r.store.state() if state.user == user)


async def until_let_go(r: Rig, user: str) -> float:
    """Seconds until nobody holds the mailbox of ``user``."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await mailbox(r, user)).held:  # noqa: ASYNC110 (nothing else to wait for)
            await asyncio.sleep(0.01)
    return time.monotonic() - began


# -- clients


async def test_a_killed_client_is_noticed_at_once_and_loses_nothing() -> None:
    async with rig() as r:
        ana = await r.online("ana")
        bodies = [str(n) for n in range(600)]
        shown: list[list[str]] = []
        for incarnation in (1, 2, 3):
            async with receiver(r, "bob", incarnation) as child:
                first = 200 * (incarnation - 1)
                sending = asyncio.create_task(ana.send("bob", *bodies[first : first + 200]))
                lines = [await line(child) for _ in range(20)]
                child.send_signal(signal.SIGKILL)
                assert await until_let_go(r, "bob") < 1
                shown.append([*lines, *await rest(child)])
                await sending
        last = await r.online("bob", 4)
        while last.bodies[-1:] != bodies[-1:] and (await mailbox(r, "bob")).unacknowledged:
            await last.wait_for(len(last.shown) + 1)
        lives = [*([text.split()[0] for text in lines] for lines in shown), last.bodies]
        assert {body for life in lives for body in life} == set(bodies)
        for life in lives:
            numbers = [int(body) for body in life]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_frozen_client_is_noticed_by_the_keepalive_and_goes_on_when_it_thaws() -> None:
    async with rig() as r, receiver(r, "bob", 1) as child:
        ana = await r.online("ana")
        child.send_signal(signal.SIGSTOP)
        try:
            (receipt,) = await ana.send("bob", "asleep?")
            assert receipt.outcome == "confirmed"
            assert await until_let_go(r, "bob") < NOTICE_SECONDS
            assert (await ana.send("bob", "still?"))[0].listeners == 0
        finally:
            child.send_signal(signal.SIGCONT)
        assert await line(child) == "asleep?"
        assert (await line(child)).startswith("still?")


async def test_stopping_a_server_is_bounded_with_a_frozen_client() -> None:
    async with (
        rig(settings=quick_settings(keepalive_seconds=60)) as r,
        receiver(r, "bob", 1) as child,
    ):
        ana = await r.online("ana")
        child.send_signal(signal.SIGSTOP)
        # More than the transport takes: the server's writes to this client are stuck.
        await ana.send("bob", *("x" * 60_000 for _ in range(30)))
        assert r.server is not None
        began = time.monotonic()
        await r.server.stop(grace=0.5)
        assert time.monotonic() - began < 2
        child.kill()


async def test_a_cut_link_loses_nothing_and_shows_nothing_twice() -> None:
    async with rig() as r:
        server = r.address
        links = []

        async def linked(user: str) -> Link:
            link = Link((server.host, server.port), user=user, service="server")
            r.address = server.through("127.0.0.1", await link.open())
            links.append(link)
            return link

        # Each client asks for the address when it opens and after each cut: give it its own.
        people = []
        for user in ("ana", "bob"):
            link = await linked(user)
            person = r.person(user)
            address = r.address

            async def locate(
                _: Collection[str], address: ServerAddress = address
            ) -> ServerAddress:
                return address

            person.client._locate = locate
            await person.client.open()
            people.append((person, link))
        (ana, ana_link), (bob, bob_link) = people
        sending = asyncio.create_task(ana.send("bob", *map(str, range(3000))))
        for cut, link in ((300, bob_link), (900, ana_link), (1500, bob_link)):
            await bob.wait_for(cut)
            link.cut()
            await asyncio.sleep(0)
            link.heal()
        assert {receipt.outcome for receipt in await sending} == {"confirmed"}
        assert await bob.wait_for(3000) == [str(n) for n in range(3000)]
        for link in links:
            await link.close()


# -- the server


class Lab:
    """The server as a process over a real Redis, and what its clients need to find it."""

    def __init__(self, r: Rig, registry: Registry, config: Path) -> None:
        self.rig = r
        self.registry = registry
        self.config = config
        r.locate = self.locate  # type: ignore[method-assign]

    async def locate(self, avoid: Collection[str] = ()) -> ServerAddress:
        address = await self.registry.find_server("mailbox-redis", avoid)
        if address is None:
            raise ServiceUnavailable("No chat server is registered.")
        return address

    @asynccontextmanager
    async def server(self, **environ: str) -> AsyncIterator[Process]:
        before = set(await self.registry.servers_of("mailbox-redis"))
        module = "chatlab.private.server"
        async with process("-m", module, str(self.config), **environ) as child:
            async with asyncio.timeout(PATIENCE_SECONDS):
                alive = self.registry.servers_of
                while set(await alive("mailbox-redis")) <= before:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield child


@pytest.fixture
async def lab(
    namespace: tuple[RabbitAddress, RedisAddress], tmp_path: Path
) -> AsyncIterator[Lab]:
    redis = Redis(namespace[1])
    registry = Registry(redis, lease_seconds=1.5)
    for user in ("ana", "bob"):
        await registry.create_account(user, SECRET)
    config = tmp_path / "server.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"backend": "mailbox-redis", "redis": to_dict(namespace[1])}))
    async with rig(RedisMailboxes(redis)) as r:
        await r.stop()  # the server of this rig is the process
        yield Lab(r, registry, config)
    await redis.close()


async def test_what_a_killed_server_confirmed_is_delivered_after_its_restart(lab: Lab) -> None:
    async with lab.server() as child:
        ana = await lab.rig.online("ana")
        receipts = await ana.send("bob", *map(str, range(500)))
        child.kill()
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    async with lab.server():
        bob = await lab.rig.online("bob")
        assert await bob.wait_for(500) == [str(n) for n in range(500)]


async def test_a_server_killed_in_mid_stream_loses_and_doubles_nothing(lab: Lab) -> None:
    settings = replace(lab.rig.settings, send_seconds=PATIENCE_SECONDS)
    async with lab.server() as child:
        ana = await lab.rig.online("ana", settings=settings)
        bob = await lab.rig.online("bob", settings=settings)
        sending = asyncio.create_task(ana.send("bob", *map(str, range(3000))))
        await bob.wait_for(500)
        child.kill()
    assert not sending.done()
    async with lab.server():
        assert {receipt.outcome for receipt in await sending} == {"confirmed"}
        assert await bob.wait_for(3000) == [str(n) for n in range(3000)]
        await ana.client.close()
        await bob.client.close()


async def test_the_users_of_a_killed_server_go_on_at_another_and_lose_nothing(
    lab: Lab,
) -> None:
    async with lab.server() as first, lab.server() as second:
        (one, other) = (await lab.registry.servers_of("mailbox-redis")).values()
        at: dict[str, list[str]] = {"ana": [], "bob": []}
        people = []
        for user, home in (("ana", one), ("bob", other)):
            person = lab.rig.person(user)

            async def locate(
                avoid: Collection[str], user: str = user, home: ServerAddress = home
            ) -> ServerAddress:
                # At first each at its own, as if by chance.
                found = home if not at[user] else await lab.locate(avoid)
                at[user].append(str(found))
                return found

            person.client._locate = locate
            await person.client.open()
            people.append(person)
        ana, bob = people
        sending = asyncio.create_task(ana.send("bob", *map(str, range(3000))))
        returning = asyncio.create_task(bob.send("ana", *map(str, range(1000))))
        await bob.wait_for(500)
        killed = first if await listens(first, one.port) else second
        killed.kill()
        began = time.monotonic()
        assert {receipt.outcome for receipt in await sending} == {"confirmed"}
        assert {receipt.outcome for receipt in await returning} == {"confirmed"}
        assert await bob.wait_for(3000) == [str(n) for n in range(3000)]
        assert await ana.wait_for(1000) == [str(n) for n in range(1000)]
        assert at == {"ana": [str(one), str(other)], "bob": [str(other)]}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(await lab.registry.servers_of("mailbox-redis")) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert time.monotonic() - began < PATIENCE_SECONDS
        assert await lab.locate() == other
        for person in people:
            await person.client.close()


async def listens(child: Process, port: int) -> bool:
    connections = psutil.Process(child.pid).net_connections("tcp")
    return any(c.laddr.port == port for c in connections if c.status == psutil.CONN_LISTEN)


async def test_a_server_process_with_tls_and_a_secret_serves_who_shows_it(lab: Lab) -> None:
    config = json.loads(lab.config.read_text())
    lab.config.write_text(json.dumps({**config, "tls": True}))
    settings = replace(lab.rig.settings, lab_secret="sesame")
    async with lab.server(CHATLAB_LAB_SECRET="sesame"):
        lab.rig.address = await lab.locate()
        assert lab.rig.address.certificate.startswith("-----BEGIN CERTIFICATE-----")
        ana = await lab.rig.online("ana", settings=settings)
        async with receiver(lab.rig, "bob", 1, CHATLAB_LAB_SECRET="sesame") as bob:
            await ana.send("bob", "hola")
            assert await line(bob) == "hola"
        with pytest.raises(NotAdmitted):
            await lab.rig.online("bob", 2)
        await ana.client.close()


async def test_off_loopback_users_chat_with_tls_and_the_labs_secret() -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a network namespace of one's own needs Linux, root and unshare")
    child = await asyncio.create_subprocess_exec(
        *("unshare", "--net", sys.executable, "-m", "tests.lan_child"),
        cwd=ROOT,
        env=child_environ(),
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(6 * PATIENCE_SECONDS):
        said, errors = await child.communicate()
    assert said == b"ok\n", errors.decode()


async def test_sigterm_ends_the_server_soon_even_with_a_frozen_client(lab: Lab) -> None:
    async with lab.server() as child:
        lab.rig.address = await lab.locate()
        ana = await lab.rig.online("ana")
        async with receiver(lab.rig, "bob", 1) as bob:
            bob.send_signal(signal.SIGSTOP)
            await ana.send("bob", *("x" * 60_000 for _ in range(30)))
            await terminated(lab, child)
        ana.client.abandon()


async def terminated(lab: Lab, child: Process) -> None:
    """SIGTERM: the process ends well within its bound, and nobody finds it any more."""
    began = time.monotonic()
    child.terminate()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await child.wait() == 0
    assert time.monotonic() - began < 4
    assert await lab.registry.find_server("mailbox-redis") is None


async def test_a_server_without_its_redis_says_so_and_exits(
    tmp_path: Path,
) -> None:
    config = tmp_path / "server.json"
    address = RedisAddress(host="127.0.0.1", port=1)
    config.write_text(json.dumps({"backend": "mailbox-redis", "redis": to_dict(address)}))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatlab.private.server", str(config)),
        cwd=ROOT,
        stderr=PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, said = await child.communicate()
    assert child.returncode == 1
    assert b"127.0.0.1:1" in said and b"Traceback" not in said
