"""A chat system on four computers: one with ``chatlab server``, three that were invited.

The computers are network namespaces. The server's has brokers of its own on its loopback, as
a laptop has; from the others nothing is known of it but the invitation.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from hosts_rig import (
    BOOT_SECONDS,
    PATIENCE_SECONDS,
    ROOT,
    Computer,
    Speaker,
    User,
    computers,
    require_namespaces,
    start,
    terminal,
    user,
)

from chatlab.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOPBACK = ("127.0.0.1", "::1")
PRIVATE, GROUP, INSULTS = "private:ana:bob", "group:sd", "insults"


@dataclass
class Town:
    server: Computer
    ana: User
    bob: User
    eva: User
    invitation: Path
    #: What listened while a server ran on loopback.
    quiet: dict[str, list[tuple[str, int]]]
    environ: dict[str, str]
    serving: list[Speaker]

    async def serve(self, *more: str) -> Speaker:
        """``chatlab server``, open to others, until it serves."""
        words = ("--host", self.server.address, "--invite", str(self.invitation), *more)
        made = await server(self.server, *words, environ=self.environ)
        self.serving.append(made)
        return made


async def server(computer: Computer, *words: str, environ: dict[str, str]) -> Speaker:
    made = Speaker(await start(computer, "-m", "chatlab", "server", *words, environ=environ))
    await made.until(lambda: "Ctrl-C stops it." in made.lines, BOOT_SECONDS)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    require_namespaces()
    with (
        tempfile.TemporaryDirectory(prefix="chatlab-hosts-") as text,
        computers("server", "ana", "bob", "eva") as (at, *clients),
    ):
        folder = Path(text)
        environ = settled(folder)
        try:
            quiet = await server(at, environ=environ)
            listened = at.listening()
            assert await quiet.end() == 0
            async with AsyncExitStack() as stack:
                made = Town(
                    *(at, *[None] * 3, folder / "invitation.toml"),  # type: ignore[arg-type]
                    quiet=listened,
                    environ=environ,
                    serving=[],
                )
                stack.push_async_callback(ended, made.serving)
                await made.serve()
                for computer in clients:
                    setattr(made, computer.name, await arrive(stack, made, computer))
                yield made
        finally:
            down = ("-m", "chatlab", "down", "--force")
            await Speaker(await start(at, *down, environ=environ)).process.wait()


def settled(folder: Path) -> dict[str, str]:
    """An environment with nothing of this computer's settings but its programs."""
    clean = {name: text for name, text in os.environ.items() if "CHATLAB_" not in name}
    (folder / "programs").symlink_to(Settings.load().folder / "programs")
    return clean | {
        "PYTHONPATH": str(ROOT),
        "CHATLAB_FOLDER": str(folder),
        "CHATLAB_LEASE_SECONDS": "1.5",
        # By these a lost connection is noticed: after 35 s and a minute by default.
        "CHATLAB_KEEPALIVE_SECONDS": "3",
        "CHATLAB_HEARTBEAT_SECONDS": "3",
    }


async def arrive(stack: AsyncExitStack, town: Town, computer: Computer) -> User:
    """A user on its computer."""
    environ = own_environ(town, computer)
    return await stack.enter_async_context(
        user(computer.name, computer, town.invitation, environ)
    )


def own_environ(town: Town, computer: Computer) -> dict[str, str]:
    """Each computer has a folder of its own, and all but Eva's take direct calls."""
    environ = town.environ | {"CHATLAB_FOLDER": str(town.invitation.parent / computer.name)}
    if computer.name != "eva":
        environ["CHATLAB_CLIENT_HOST"] = computer.address
    return environ


async def ended(serving: list[Speaker]) -> None:
    for made in serving:
        await made.end()


async def test_users_on_three_computers_chat_in_all_patterns(town: Town) -> None:
    ana, bob, eva = town.ana, town.bob, town.eva
    for one in (ana, bob):
        await one.do("mailbox", backend="mailbox-redis")
    assert await send(ana, PRIVATE, "bob", "mailbox-redis", "hola", "¿qué tal?") == "confirmed"
    assert await bob.wait_for(PRIVATE, 2) == ["hola", "¿qué tal?"]
    for one in (ana, bob, eva):
        await one.do("group", name="sd", backend="rabbitmq-durable")
        await one.do("subscribe", name="sd")
        await one.do("connect", name="sd")
    assert await send(eva, GROUP, "sd", "rabbitmq-durable", "a todos") == "confirmed"
    for one in (ana, bob, eva):
        assert await one.wait_for(GROUP, 1) == ["a todos"]
    await ana.do("insults", role="producer")
    for one in (bob, eva):
        await one.do("insults", role="consumer")
    sent = [f"gusano {n}" for n in range(6)]
    assert await send(ana, INSULTS, "", "", *sent) == "confirmed"
    await shown_by_both(bob, eva, sent)
    for way in ("registry", "management", "events", "broker-events"):
        for name in ("ana", "bob", "eva"):
            await eva.sees(name, True, way)


async def send(one: User, chat: str, to: str, backend: str, *bodies: str) -> str:
    """The outcome, the same for all of them."""
    receipts = await one.do("send", chat=chat, to=to, backend=backend, bodies=bodies)
    (outcome,) = {outcome for outcome, _ in receipts}
    return str(outcome)


async def shown_by_both(bob: User, eva: User, sent: list[str]) -> None:
    """Each insult by one of them, and each of them some."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(bob.bodies(INSULTS)) + len(eva.bodies(INSULTS)) < len(sent):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert sorted(bob.bodies(INSULTS) + eva.bodies(INSULTS)) == sent
    assert bob.bodies(INSULTS) and eva.bodies(INSULTS)


async def test_direct_calls_between_computers_speak_tls_and_one_on_loopback_is_told_away(
    town: Town,
) -> None:
    ana, bob = town.ana, town.bob
    before = len(bob.bodies(PRIVATE))
    assert await send(ana, PRIVATE, "bob", "direct", "sin servidor") == "confirmed"
    assert (await bob.wait_for(PRIVATE, before + 1))[before:] == ["sin servidor"]
    ((outcome, why),) = await bob.do(
        "send", chat="private:bob:eva", to="eva", backend="direct", bodies=["¿hola?"]
    )
    assert outcome == "failed"
    assert "eva is on another computer" in why and "client_host" in why
    # Eva's loopback is hers, and nothing was called on Bob's.
    hers = town.eva.computer.listening()["tcp"]
    assert hers and [one for one in hers if one[0] not in LOOPBACK] == []
    ((host, _),) = bob.computer.listening()["tcp"]
    assert host == bob.computer.address


async def test_a_computer_that_is_cut_off_is_away_and_gets_all_when_it_is_back(
    town: Town,
) -> None:
    ana, bob, eva = town.ana, town.bob, town.eva
    before = len(bob.bodies(PRIVATE)), len(bob.bodies(GROUP))
    bob.computer.cut_off()
    try:
        private = [f"p{n}" for n in range(20)]
        group = [f"g{n}" for n in range(20)]
        assert await send(ana, PRIVATE, "bob", "mailbox-redis", *private) == "confirmed"
        assert await send(eva, GROUP, "sd", "rabbitmq-durable", *group) == "confirmed"
        await ana.sees("bob", False)
        # RabbitMQ misses its heartbeats later: then his connection is gone there, too.
        await eva.sees("bob", False, "management")
        assert (len(bob.bodies(PRIVATE)), len(bob.bodies(GROUP))) == before
    finally:
        bob.computer.connect_again()
    await bob.wait_for(PRIVATE, before[0] + 20)
    await bob.wait_for(GROUP, before[1] + 20)
    await ana.sees("bob", True)
    await eva.sees("bob", True, "management")
    # What he says now comes after all of it, and nothing came twice.
    assert await send(ana, PRIVATE, "bob", "mailbox-redis", "fin") == "confirmed"
    assert await send(eva, GROUP, "sd", "rabbitmq-durable", "fin") == "confirmed"
    assert (await bob.wait_for(PRIVATE, before[0] + 21))[before[0] :] == [*private, "fin"]
    assert (await bob.wait_for(GROUP, before[1] + 21))[before[1] :] == [*group, "fin"]


async def test_on_the_servers_own_computer_no_invitation_is_needed(town: Town) -> None:
    chat = "private:bob:fran"
    before = len(town.bob.bodies(chat))
    async with terminal("fran", town.server, None, town.environ) as fran:
        await fran.wait("choose>", "connected")
        for command, body in (("1 bob", "por el servidor"), ("1 bob direct", "sin él")):
            fran.enter(command)
            await fran.wait("fran>")
            fran.enter(body)
            await fran.wait(f"{body}  ✓✓ bob has it")
            fran.enter("/leave")
            await fran.wait("choose>")
    bodies = await town.bob.wait_for(chat, before + 2)
    assert bodies[before:] == ["por el servidor", "sin él"]


async def test_a_terminal_client_needs_the_invitation_and_nothing_else(town: Town) -> None:
    def at(computer: Computer) -> tuple[Computer, Path, dict[str, str]]:
        return computer, town.invitation, own_environ(town, computer)

    async with (
        terminal("carla", *at(town.eva.computer)) as carla,
        terminal("dora", *at(town.ana.computer)) as dora,
    ):
        for one in (carla, dora):
            await one.wait("choose>", "connected")
        carla.enter("1 dora")
        await carla.wait("private chat", "carla>")
        carla.enter("hola dora")
        await carla.wait("hola dora  ✓✓ dora has it")
        dora.enter("1 carla")
        await dora.wait("carla  hola dora", "dora>")
        # Dora takes direct calls. Carla does not, and what is said on her line arrives.
        carla.enter("/leave")
        await carla.wait("choose>")
        carla.enter("1 dora direct")
        await carla.wait("private chat · direct", "carla>")
        carla.enter("sin servidor")
        await carla.wait("sin servidor  ✓✓ dora has it")


async def test_only_the_server_and_the_doors_are_open_and_they_let_no_stranger_in(
    town: Town,
) -> None:
    there = town.server.listening()
    outside = {(host, port) for host, port in there["tcp"] if host not in LOOPBACK}
    assert {host for host, _ in outside} == {town.server.address}
    assert len(outside) == 4, "the chat server, and a door each to three services"
    assert [one for one in there["udp"] if one[0] not in LOOPBACK] == []
    ports = sorted({str(port) for _, port in there["tcp"]})
    found = await probe(town, ports)
    assert set(found["open"]) == {port for _, port in outside}
    assert found["plain"] == {str(port): [] for _, port in outside}
    for what, met in found["met"].items():
        assert EXPECTED[what] in met, (what, met)
    assert found["met"].keys() == EXPECTED.keys()


#: What each attempt of ``hosts_probe`` meets.
EXPECTED = {
    "amqp guest/guest": "AccessRefused",
    "amqp guest/guest in /": "AccessRefused",
    "amqp chatlab/chatlab": "AccessRefused",
    "api guest/guest": "refuses our credentials",
    "redis without a password": "refuses our credentials",
    "redis guest/guest": "refuses our credentials",
    "grpc without the secret": "NotAdmitted",
    "grpc with another secret": "NotAdmitted",
    "direct without the secret": "asks for the lab's secret",
    "direct with another secret": "is not that of this",
    "direct without a ticket": "ticket",
    "amqp another authority": "Lost",
    "guest: a queue in /": "AccessRefused",
    "guest: a queue of other labs' events": "AccessRefused",
    "guest: a new user": "refuses our credentials",
    "guest: the users": "refuses our credentials",
    "guest: a new vhost": "refuses our credentials",
    "guest: definitions": "refuses our credentials",
    "guest: CONFIG": "refuses our credentials",
    "guest: KEYS": "refuses our credentials",
    "guest: SCAN": "refuses our credentials",
    "guest: FLUSHALL": "refuses our credentials",
    "guest: ACL": "refuses our credentials",
    "guest: another lab's key": "refuses our credentials",
    "guest: another lab's key in a script": "refuse",
    "guest: another lab's channel": "refuses our credentials",
    "guest: its own lab's key": "ok",
}


async def probe(town: Town, ports: list[str]) -> dict[str, dict[str, str]]:
    """What ``hosts_probe`` finds from Eva's computer."""
    words = ("-m", "tests.hosts_probe", town.server.address, str(town.invitation), *ports)
    made = await start(town.eva.computer, *words, environ=town.environ)
    async with asyncio.timeout(PATIENCE_SECONDS):
        said, _ = await made.communicate()
    try:
        return dict(json.loads(said))
    except ValueError:
        raise AssertionError(said.decode()) from None


async def test_a_server_on_loopback_opens_nothing_to_others(town: Town) -> None:
    assert len(town.quiet["tcp"]) >= 4, "three brokers' ports and the chat server's"
    for kind in ("tcp", "udp"):
        assert [one for one in town.quiet[kind] if one[0] not in LOOPBACK] == []


async def test_a_server_that_was_killed_and_starts_again_keeps_its_invitation(
    town: Town,
) -> None:
    ana, bob, before = town.ana, town.bob, town.invitation.read_text()
    seen = len(bob.bodies(PRIVATE))
    await town.serving[-1].end(kill=True)
    sending = ana.ask(
        "send", chat=PRIVATE, to="bob", backend="mailbox-redis", bodies=["mientras tanto"]
    )
    await town.serve()
    assert town.invitation.read_text() == before
    assert stat.S_IMODE(town.invitation.stat().st_mode) == 0o600
    async with asyncio.timeout(PATIENCE_SECONDS):
        ((outcome, _),) = await sending
    if outcome != "confirmed":  # its deadline was over first: nobody knows, or it has failed
        assert await send(ana, PRIVATE, "bob", "mailbox-redis", "mientras tanto") == "confirmed"
    shown = await bob.wait_for(PRIVATE, seen + 1)
    assert set(shown[seen:]) == {"mientras tanto"}


async def test_more_servers_have_doors_of_their_own_next_to_a_port_that_was_asked_for(
    town: Town,
) -> None:
    text = town.invitation.read_text()
    await town.serve()
    others = doors(town)
    await town.serve("--port", "7000")
    assert doors(town) == [7001, 7002, 7003]
    listening = {port for host, port in town.server.listening()["tcp"] if host not in LOOPBACK}
    assert {7000, *doors(town), *others} <= listening
    town.invitation.write_text(text)
    assert doors(town) != others, "those of the first one, which are kept"
    assert set(doors(town)) <= listening
    while len(town.serving) > 2:
        assert await town.serving.pop().end() == 0
    found = await probe(town, list(map(str, [*doors(town), *others, 7000])))
    assert found["open"] == doors(town)
    assert found["met"]["guest: its own lab's key"] == "ok"


def doors(town: Town) -> list[int]:
    """The ports in the invitation: RabbitMQ, its management API, Redis."""
    said = tomllib.loads(town.invitation.read_text())
    urls = said["rabbitmq_url"], said["management_url"], said["redis_url"]
    return [urlsplit(url).port or 0 for url in urls]
