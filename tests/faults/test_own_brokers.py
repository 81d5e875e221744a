"""Brokers that are given by their URLs: by an account that may do little, in a virtual host
where others are, broken by commands. The brokers are the session's, used as if foreign."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from kill_rig import Killable

from chatlab import experiments
from chatlab.errors import InvalidInput
from chatlab.experiments import Matrix, Run, runner
from chatlab.experiments.faults import run_command
from chatlab.experiments.outside_seat import url_of
from chatlab.loop import BackgroundLoop
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

GROUP = Path(__file__).parents[1] / "outside_clients" / "group.py"
#: Names with our prefix, the default exchange, and nothing else.
PREFIXED = r"^(chatlab-run-.*|amq\.default)$"


@dataclass
class Foreign:
    """A virtual host that is somebody else's, and how we are let in."""

    settings: Settings
    vhost: str
    management: Management
    redis: RedisAddress

    def names(self) -> set[str]:
        """All queues and exchanges there that RabbitMQ itself has not made."""

        async def look() -> set[str]:
            found: list[dict[str, Any]] = []
            for kind in ("queues", "exchanges"):
                found += await self.management.get(kind, self.vhost, columns="name") or []
            return {row["name"] for row in found}

        with BackgroundLoop("look") as loop:
            names = loop.call(look())
        return {name for name in names if name and not name.startswith("amq.")}

    def keys(self) -> list[str]:
        async def look() -> list[str]:
            redis = Redis(self.redis)
            try:
                with mapped(self.redis):
                    return list(await redis.driver.keys("chatlab:run-*"))
            finally:
                await redis.close()

        with BackgroundLoop("look") as loop:
            return loop.call(look())

    def run(self, scenario: str, backend: str = "", **options: Any) -> Run:
        given = {"settings": self.settings, "messages": 24, "folder": None} | options
        return experiments.run(scenario, backend, report=lambda _: None, **given)

    def matrix(self, scenarios: list[str], backends: list[str], **options: Any) -> Matrix:
        given = {"settings": self.settings, "messages": 24} | options
        return experiments.matrix(scenarios, backends, report=lambda _: None, **given)


def foreign_on(
    rabbitmq: RabbitAddress, redis: RedisAddress, settings: Settings
) -> Iterator[Foreign]:
    name, word = f"company-{secrets.token_hex(3)}", secrets.token_hex(8)
    management = Management(rabbitmq)
    with BackgroundLoop("foreign") as loop:
        rights = dict.fromkeys(("configure", "write", "read"), PREFIXED)
        loop.call(management.put("vhosts", name, body={}))
        loop.call(management.put("users", name, body={"password": word, "tags": ""}))
        loop.call(management.put("permissions", name, name, body=rights))
    mine = replace(rabbitmq, user=name, password=word, vhost=name)
    given = replace(settings, rabbitmq_url=url_of(mine), redis_url=url_of(redis))
    yield Foreign(given, name, management, redis)
    with BackgroundLoop("foreign") as loop:
        loop.call(management.delete("vhosts", name))
        loop.call(management.delete("users", name))


@pytest.fixture
def foreign(
    endpoints: tuple[RabbitAddress, RedisAddress], lab_settings: Settings
) -> Iterator[Foreign]:
    yield from foreign_on(*endpoints, lab_settings)


@pytest.fixture
def killable(lab_settings: Settings) -> Iterator[Killable]:
    made = Killable(lab_settings)
    yield made
    made.close()


@pytest.fixture
def breakable(killable: Killable, lab_settings: Settings) -> Iterator[Foreign]:
    """On brokers that the test may kill."""
    yield from foreign_on(*killable.namespace, lab_settings)


def test_on_an_account_that_may_declare_nothing_a_run_says_so(foreign: Foreign) -> None:
    with BackgroundLoop("rights") as loop:
        nothing = dict.fromkeys(("configure", "write", "read"), "^$")
        user = foreign.vhost
        loop.call(foreign.management.put("permissions", foreign.vhost, user, body=nothing))
    run = foreign.run("absent-member", "group/rabbitmq-durable")
    assert run.outcome == "cannot tell"
    assert "take part" in run.verdict.checks[0].why and "refused" in run.verdict.checks[0].why
    assert foreign.keys() == []


ROWS = [
    *("group/rabbitmq-durable", "group/rabbitmq-quorum", "group/rabbitmq-log"),
    *("group/redis-stream", "insults/rabbitmq", "insults/rabbitmq-not-me"),
    "private/mailbox-redis",
]


def test_every_backend_keeps_its_promise_there_with_names_of_its_own_and_leaves_nothing(
    foreign: Foreign,
) -> None:
    grid = foreign.matrix(["absent-member"], ROWS)
    assert {row: grid.cell(row, "absent-member") for row in grid.backends} == dict.fromkeys(
        grid.backends, "✓"
    )
    assert foreign.names() == set()
    assert foreign.keys() == []


@pytest.mark.parametrize("backend", ["group/rabbitmq-log", "insults/rabbitmq-not-me"])
def test_a_dry_run_lists_what_a_run_declares(
    foreign: Foreign, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: set[str] = set()

    def look_and_remove(address: RabbitAddress, things: Any) -> list[str]:
        there.update(name.replace(address.prefix, "chatlab-<run>.") for name in foreign.names())
        return remove(address, things)

    remove = runner.remove
    monkeypatch.setattr(runner, "remove", look_and_remove)
    assert foreign.run("absent-member", backend).outcome == "kept"
    table = experiments.declares(["absent-member"], [backend], settings=foreign.settings)
    stays = {
        row["name"]
        for row in table.table()
        if row["kind"] in ("queue", "exchange") and row["afterwards"] == "removed"
    }
    assert there == {name for name in stays if "settling" not in name}


def test_a_dry_run_connects_to_nothing() -> None:
    nowhere = Settings(rabbitmq_url="amqps://127.0.0.1:9", redis_url="rediss://127.0.0.1:9")
    table = experiments.declares(["burst"], ["group/rabbitmq-durable"], settings=nowhere)
    assert any("chatlab-<run>.burst" in row["name"] for row in table.table())


def test_two_runs_in_one_virtual_host_do_not_meet(foreign: Foreign) -> None:
    outcomes: list[str] = []

    def play() -> None:
        outcomes.append(foreign.run("absent-member", "insults/rabbitmq").outcome)

    players = [threading.Thread(target=play) for _ in range(2)]
    for player in players:
        player.start()
    for player in players:
        player.join()
    assert outcomes == ["kept", "kept"]


# -- faults


def test_what_is_not_ours_is_not_broken_and_the_grid_says_so(foreign: Foreign) -> None:
    grid = foreign.matrix(["broker-kill", "link-cut"], ["group/rabbitmq-durable"])
    assert grid.cell("rabbitmq-durable", "broker-kill") == "? not ours to break"
    assert grid.cell("rabbitmq-durable", "link-cut") == "✓"
    assert foreign.names() == set()


def test_a_service_of_ones_own_is_broken_and_mended_by_commands(
    breakable: Foreign, killable: Killable, tmp_path: Path
) -> None:
    """SIGKILL by a command; the start is asked of the test, which runs the broker."""
    asked, done = tmp_path / "asked", tmp_path / "done"
    pid = process_of(killable, "rabbitmq")
    over = threading.Event()

    def start_when_asked() -> None:
        while not asked.exists():
            if over.wait(0.05):
                return
        asyncio.run(killable.start("rabbitmq"))
        done.touch()

    starter = threading.Thread(target=start_when_asked)
    starter.start()
    try:
        run = breakable.run(
            "broker-kill",
            "group/rabbitmq-durable",
            fault=f"kill -9 -{pid}",
            heal=f"touch {asked}; until test -e {done}; do sleep 0.1; done",
        )
    finally:
        over.set()
        starter.join()
    assert run.outcome == "kept", repr(run.verdict)
    counts = run.journal.counts()
    assert (counts["FaultBegan"], counts["FaultEnded"]) == (1, 1)
    assert process_of(killable, "rabbitmq") != pid
    assert breakable.names() == set()


def test_a_service_may_be_stopped_and_continued_instead(
    breakable: Foreign, killable: Killable
) -> None:
    pid = process_of(killable, "redis")
    run = breakable.run(
        "broker-kill",
        "group/redis-stream",
        fault=f"kill -STOP {pid}",
        heal=f"kill -CONT {pid}",
    )
    assert run.outcome == "kept", repr(run.verdict)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo no such container; exit 3", "ended with 3, and said: no such container"),
        ("true", "rabbitmq still answers after 'true'"),
    ],
)
def test_a_command_that_breaks_nothing_proves_nothing(
    foreign: Foreign, command: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlab.experiments.faults.GONE_SECONDS", 0.5)
    run = foreign.run("broker-kill", "group/rabbitmq-durable", fault=command)
    assert run.outcome == "cannot tell"
    assert words in run.verdict.checks[0].why


def test_what_a_command_leaves_running_does_not_hold_the_run_up(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sleeper = f"{shlex.quote(sys.executable)} -c 'import time; time.sleep(60)'"
    run_command(f"{sleeper} & echo $! > {pid}")
    process = psutil.Process(int(pid.read_text()))
    assert process.is_running()
    process.kill()


def process_of(killable: Killable, service: str) -> int:
    pairs = killable._loop.call(killable.lease.status())["pairs"]
    return int(
        next(
            pair[service]["pid"]
            for name, pair in pairs.items()
            if name.startswith("breakable")
            and str(getattr(killable.lease, service).port) in map(str, pair[service]["ports"])
        )
    )


# -- TLS


@dataclass
class Secured:
    """TLS in front of a service, as somebody else's broker has it."""

    target: tuple[str, int]
    port: int = 0

    async def open(self, certificate: trustme.LeafCert) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _join(self, one: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        other, there = await asyncio.open_connection(*self.target)
        await asyncio.gather(self._pass(one, there), self._pass(other, back))

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                to.write(data)
                await to.drain()
        to.close()

    async def close(self) -> None:
        self._server.close()


def test_brokers_behind_tls_are_reached_and_their_links_can_be_cut(
    foreign: Foreign,
    endpoints: tuple[RabbitAddress, RedisAddress],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The certificate is for ``localhost``; a link is at 127.0.0.1 and must not matter."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost")
    rabbitmq, redis = (Secured((each.host, each.port)) for each in endpoints)
    with BackgroundLoop("tls") as loop:
        loop.call(rabbitmq.open(certificate))
        loop.call(redis.open(certificate))
        given = foreign.settings
        secured = replace(
            given,
            rabbitmq_url=given.rabbitmq_url.replace("amqp:", "amqps:").replace(
                f"127.0.0.1:{endpoints[0].port}", f"localhost:{rabbitmq.port}"
            ),
            redis_url=given.redis_url.replace("redis:", "rediss:").replace(
                f"127.0.0.1:{endpoints[1].port}", f"localhost:{redis.port}"
            ),
        )
        run = foreign.run("link-cut", "group/rabbitmq-durable", settings=secured)
        assert run.outcome == "kept", repr(run.verdict)
        run = foreign.run("absent-member", "group/redis-stream", settings=secured)
        assert run.outcome == "kept", repr(run.verdict)
        loop.call(rabbitmq.close())
        loop.call(redis.close())


# -- clients that are not ours, there


def test_a_client_that_would_leave_things_there_is_refused(foreign: Foreign) -> None:
    with pytest.raises(InvalidInput, match="prefix"):
        foreign.run("absent-member", client=f"{GROUP}:Group")


TIDY = """
    def remove(self):
        self.open()
        self.channel.exchange_delete(self.exchange)
        for name in ("ana", "bob", "eva"):
            self.channel.queue_delete(f"{self.exchange}.{name}")
"""


def test_a_client_with_a_prefix_and_remove_plays_there_and_leaves_nothing(
    foreign: Foreign, tmp_path: Path
) -> None:
    text = GROUP.read_text().replace("EXCHANGE", "self.exchange")
    text = text.replace('self.exchange = "group"', "").replace(
        "(self, url, name):",
        '(self, url, name, prefix):\n        self.exchange = f"{prefix}group"',
    )
    (tmp_path / "tidy.py").write_text(text + TIDY)
    run = foreign.run("absent-member", client=f"{tmp_path}/tidy.py:Group")
    assert run.outcome == "kept", repr(run.verdict)
    assert foreign.names() == set()
