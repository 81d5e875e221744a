"""Private chats when real processes are killed and stopped, and links are cut."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from private_rig import PATIENCE_SECONDS, quick_settings, rig
from process_rig import ROOT, UNNOTICED, Lab, receiver, until_let_go

from chatlab.errors import NotAdmitted
from chatlab.services.addresses import RedisAddress, ServerAddress, to_dict
from chatlab.services.links import Link

#: How long a frozen client may go unnoticed: ping after 2 s, give up after 1 s, and slack.
NOTICE_SECONDS = 3.0 + 1.5


# -- clients


#: More than the window of a receiving stream: the server's writes to a frozen client wait.
MORE_THAN_A_WINDOW = ["x" * 60_000] * 30


@pytest.mark.parametrize("bodies", [["asleep?"], MORE_THAN_A_WINDOW], ids=["one", "full"])
async def test_a_frozen_client_is_noticed_by_the_keepalive_and_goes_on_when_it_thaws(
    bodies: list[str],
) -> None:
    async with rig() as r, receiver(r, "bob", 1) as bob:
        ana = await r.online("ana")
        bob.process.send_signal(signal.SIGSTOP)
        try:
            receipts = await ana.send("bob", *bodies)
            assert {receipt.outcome for receipt in receipts} == {"confirmed"}
            assert await until_let_go(r, "bob") < NOTICE_SECONDS
            assert (await ana.send("bob", "still?"))[0].listeners == 0
        finally:
            bob.process.send_signal(signal.SIGCONT)
        shown = bob.shown[1]
        await bob.until(lambda: len(shown) > len(bodies))
        assert [message.body for message in shown] == [*bodies, "still?"]


async def test_stopping_a_server_is_bounded_with_a_frozen_client() -> None:
    async with (
        rig(settings=quick_settings(**UNNOTICED)) as r,
        receiver(r, "bob", 1) as bob,
    ):
        ana = await r.online("ana")
        bob.process.send_signal(signal.SIGSTOP)
        await ana.send("bob", *MORE_THAN_A_WINDOW)
        assert r.server is not None
        began = time.monotonic()
        await r.server.stop(grace=0.5)
        assert time.monotonic() - began < 2
        bob.process.kill()


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
    lab.rig.options = {"tls": True}
    lab.rig.settings = quick_settings(lab_secret="sesame")
    async with lab.server():
        assert lab.rig.address.certificate.startswith("-----BEGIN CERTIFICATE-----")
        ana = await lab.rig.online("ana")
        async with receiver(lab.rig, "bob", 1) as bob:
            await ana.send("bob", "hola")
            assert await bob.wait_for(1) == ["hola"]
        with pytest.raises(NotAdmitted):
            await lab.rig.online("bob", 2, settings=quick_settings())
        await ana.client.close()


async def test_sigterm_ends_the_server_soon_even_with_a_frozen_client(lab: Lab) -> None:
    async with lab.server() as child:
        ana = await lab.rig.online("ana")
        async with receiver(lab.rig, "bob", 1) as bob:
            bob.process.send_signal(signal.SIGSTOP)
            await ana.send("bob", *MORE_THAN_A_WINDOW)
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
