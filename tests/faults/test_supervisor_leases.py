"""The supervisor with real processes: leases, namespaces, children, pairs, its own end.

These labs bring a RabbitMQ of their own (an address that is never used), so only Redis is
started and a start takes tenths of a second. What concerns RabbitMQ is in
``test_supervisor_brokers.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from chatlab import services
from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    LabClosed,
    NameInUse,
    NotPossible,
    ServiceUnavailable,
    WaitTimeout,
)
from chatlab.resp import Redis
from chatlab.services import Lease, wire
from chatlab.services.holders import HOLDERS
from chatlab.settings import Settings

#: Another kernel: joins, says what it got, and holds the lease until it is killed.
KERNEL = """
import asyncio, json, os, sys
from chatlab import services
from chatlab.settings import Settings

async def main():
    lease = await services.join(Settings.load(), lab=sys.argv[1])
    child = await lease.spawn("sleeper", ["sleep", "600"], {})
    status = await lease.status()
    print(json.dumps({"supervisor": status["pid"], "child": child}), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of a supervisor that only this test uses; nothing of it is left behind."""
    settings = Settings(
        folder=tmp_path / "c", idle_seconds=30, rabbitmq_url="amqp://nobody@127.0.0.1:9"
    )
    yield settings
    await services.stop(settings, force=True)
    await until(lambda: processes_of(settings) == [], 1)


def processes_of(settings: Settings) -> list[psutil.Process]:
    """What lives in the folder of the supervisor, whoever its parent is.

    A server may rewrite its command line and environment; where it works, it cannot.
    """
    folder = str(wire.run_folder(settings))
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd().startswith(folder) and not gone(process.pid):
                found.append(process)
    return found


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if answer is True or (not isinstance(answer, bool) and await answer):
                return
            await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@asynccontextmanager
async def kernel(settings: Settings, lab: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {**os.environ, **settings.as_environ(), "PYTHONPATH": str(Path.cwd())}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KERNEL, lab, env=environ, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def keys(lease: Lease) -> set[str]:
    redis = Redis(lease.redis)
    found = await redis.driver.keys(f"{redis.prefix}*")
    await redis.close()
    return {key.removeprefix(redis.prefix) for key in found}


async def put(lease: Lease, *names: str) -> None:
    redis = Redis(lease.redis)
    for name in names:
        await redis.driver.set(redis.key(name), "x")
    await redis.close()


async def test_two_kernels_that_start_at_once_share_one_supervisor(settings: Settings) -> None:
    async with kernel(settings, "one") as one, kernel(settings, "two") as two:
        answers = await asyncio.gather(said(one), said(two))
        assert answers[0]["supervisor"] == answers[1]["supervisor"]
        status = await services.status(settings)
        assert status is not None
        assert sorted(lease["lab"] for lease in status["leases"]) == ["one", "two"]
        # The supervisor, one Redis, two sleepers.
        assert len(processes_of(settings)) == 4


async def test_a_killed_kernel_leaves_nothing_behind(settings: Settings) -> None:
    async with kernel(settings, "doomed") as process:
        child = (await said(process))["child"]
        mine = await services.join(settings, lab="mine")
        redis = Redis(mine.redis)
        await redis.driver.set("chatlab:doomed:key", "x")
        await put(mine, "key")

        process.kill()
        await process.wait()
        await until(lambda: gone(child))

        async def removed() -> bool:
            return not await redis.driver.exists("chatlab:doomed:key")

        await until(removed)
        assert await keys(mine) == {"key"}
        await redis.close()
        await mine.close()


async def test_without_leases_it_stops_and_visitors_do_not_keep_it(settings: Settings) -> None:
    short = Settings(folder=settings.folder, idle_seconds=1, rabbitmq_url=settings.rabbitmq_url)
    lease = await services.join(short, lab="one")
    assert len(processes_of(short)) >= 2
    await lease.close()
    ended = time.monotonic()

    async def silent() -> bool:
        return await services.status(short) is None

    await until(silent)
    assert time.monotonic() - ended > 0.8
    await until(lambda: processes_of(short) == [])


async def test_a_supervisor_that_is_ending_is_joined_anew(settings: Settings) -> None:
    lease = await services.join(settings, lab="one")
    first = (await lease.status())["pid"]
    os.kill(first, signal.SIGTERM)
    second = await services.join(settings, lab="two")
    assert (await second.status())["pid"] != first
    await second.close()
    await lease.close()


async def test_leftovers_of_a_killed_supervisor_are_ended_at_the_next_start(
    settings: Settings,
) -> None:
    lease = await services.join(settings, lab="one")
    events: list[tuple[str, str]] = []
    lease.on_event = lambda *event: events.append(event)
    child = await lease.spawn("sleeper", ["sleep", "600"], {})
    status = await lease.status()
    server = status["pairs"]["shared"]["redis"]["pid"]

    os.kill(status["pid"], signal.SIGKILL)
    await until(lambda: lease.lost)
    await until(lambda: events == [("supervisor", "down")])
    with pytest.raises(ServiceUnavailable, match="supervisor"):
        await lease.running("redis")
    assert not gone(server)
    assert not gone(child)
    await lease.close()

    again = await services.join(settings, lab="one")
    assert gone(server)
    assert gone(child)
    assert await again.running("redis")
    await again.close()


async def test_stop_ends_leftovers_too_and_says_whether_anything_ran(
    settings: Settings,
) -> None:
    assert await services.stop(settings) is False
    lease = await services.join(settings, lab="one")
    status = await lease.status()
    os.kill(status["pid"], signal.SIGKILL)
    await until(lambda: lease.lost)
    await lease.close()
    assert await services.stop(settings) is True
    assert gone(status["pairs"]["shared"]["redis"]["pid"])


async def test_stop_names_open_labs_unless_forced(settings: Settings) -> None:
    lease = await services.join(settings, lab="one")
    with pytest.raises(NotPossible, match="one"):
        await services.stop(settings)
    assert await lease.running("redis")
    assert await services.stop(settings, force=True) is True
    await until(lambda: processes_of(settings) == [], 1)
    await lease.close()


async def test_a_namespace_lives_as_long_as_its_last_holder(settings: Settings) -> None:
    one = await services.join(settings, lab="class", shared=True)
    two = await services.join(settings, lab="class", shared=True)
    with pytest.raises(NameInUse):
        await services.join(settings, lab="class")
    assert one.redis == two.redis
    await put(one, "key")
    await one.close()
    assert await keys(two) == {"key", HOLDERS}
    await two.close()
    three = await services.join(settings, lab="class")
    assert await keys(three) == set()
    await three.close()


async def test_wipe_empties_the_namespace_but_for_what_is_kept(settings: Settings) -> None:
    mine = await services.join(settings, lab="mine")
    other = await services.join(settings, lab="mine-too")
    await put(mine, "accounts", "queue", *(f"k{n}" for n in range(2500)))
    await put(other, "queue")
    await mine.wipe({"accounts"})
    assert await keys(mine) == {"accounts"}
    assert await keys(other) == {"queue"}
    await mine.close()
    await other.close()


async def test_after_close_a_lease_says_so(settings: Settings) -> None:
    lease = await services.join(settings, lab="one")
    await lease.close()
    await lease.close()
    with pytest.raises(LabClosed):
        await lease.status()


async def test_bad_names_and_urls_are_refused_before_anything_starts(
    settings: Settings,
) -> None:
    with pytest.raises(InvalidInput):
        await services.join(settings, lab="a/b")
    with pytest.raises(InvalidInput):
        await services.join(Settings(folder=settings.folder, redis_url="http://x"), lab="a")
    assert await services.status(settings) is None


async def test_processes_of_a_lease_start_pause_go_on_and_end(settings: Settings) -> None:
    lease = await services.join(settings, lab="one")
    pid = await lease.spawn("worker", ["sleep", "600"], {"MARK": "seen"})
    process = psutil.Process(pid)
    assert process.environ()["MARK"] == "seen"
    with pytest.raises(InvalidInput, match="worker"):
        await lease.spawn("worker", ["sleep", "600"], {})

    await lease.signal("worker", "pause")
    await until(lambda: process.status() == psutil.STATUS_STOPPED)
    await lease.signal("worker", "resume")
    await until(lambda: process.status() == psutil.STATUS_SLEEPING)
    with pytest.raises(WaitTimeout):
        await lease.ended("worker", 0.05)
    await lease.signal("worker", "kill")
    assert await lease.ended("worker", 5) == -signal.SIGKILL
    with pytest.raises(NotPossible):
        await lease.signal("worker", "kill")

    await lease.spawn("worker", [sys.executable, "-c", "raise SystemExit(3)"], {})
    assert await lease.ended("worker", 5) == 3
    with pytest.raises(InvalidInput):
        await lease.spawn("other", ["/does/not/exist"], {})
    with pytest.raises(InvalidInput):
        await lease.ended("nobody", 1)
    await lease.close()


async def test_closing_a_lease_ends_its_processes_with_all_they_started(
    settings: Settings,
) -> None:
    lease = await services.join(settings, lab="one")
    file = settings.folder / "grandchild"
    script = f"sleep 600 & echo $! > {file}; wait"
    pid = await lease.spawn("shell", ["sh", "-c", script], {})
    await until(lambda: file.exists() and file.read_text().strip() != "")
    await lease.close()
    await until(lambda: gone(pid) and gone(int(file.read_text())))


async def test_a_shared_service_may_not_be_broken_nor_one_that_was_brought(
    settings: Settings,
) -> None:
    plain = await services.join(settings, lab="plain")
    for act in (plain.kill, plain.stop, plain.pause):
        with pytest.raises(NotPossible, match="shares") as caught:
            await act("redis")
        assert "breakable=True" in caught.value.todo
    breakable = await services.join(settings, lab="mine", breakable=True)
    with pytest.raises(NotPossible, match="not run by chatlab"):
        await breakable.kill("rabbitmq")
    assert await plain.running("redis")
    await plain.close()
    await breakable.close()


async def test_a_breakable_redis_comes_back_with_its_data_at_the_same_port(
    settings: Settings,
) -> None:
    lease = await services.join(settings, lab="mine", breakable=True)
    events: list[tuple[str, str]] = []
    lease.on_event = lambda *event: events.append(event)
    redis = Redis(lease.redis, deadline=0.3)
    await redis.driver.set(redis.key("key"), "x")
    # A kill loses nothing of what the server has answered; only a power failure does.
    await lease.kill("redis")
    assert not await lease.running("redis")
    await lease.start("redis")
    assert await keys(lease) == {"key"}

    await lease.pause("redis")
    assert not await lease.running("redis")
    with pytest.raises(ChatlabError):
        from chatlab.resp import mapped

        with mapped(lease.redis):
            await redis.driver.get(redis.key("key"))
    await lease.resume("redis")
    assert await keys(lease) == {"key"}
    await lease.stop("redis")
    await lease.start("redis")
    assert await keys(lease) == {"key"}
    states = [state for service, state in events if service == "redis"]
    assert states == ["down", "up", "paused", "up", "down", "up"]
    await redis.close()
    await lease.close()


async def test_each_breakable_lab_has_a_pair_to_itself_and_pairs_are_reused(
    settings: Settings,
) -> None:
    async def join(lab: str) -> Lease:
        return await services.join(settings, lab=lab, breakable=True)

    labs = [await join(f"lab{number}") for number in range(3)]
    ports = [lease.redis.port for lease in labs]
    assert len(set(ports)) == 3
    with pytest.raises(NotPossible, match="lab0, lab1, lab2"):
        await join("lab3")

    await put(labs[1], "key")
    await labs[1].close()
    healthy = await join("lab1")
    assert healthy.redis.port == ports[1]
    assert await keys(healthy) == set()

    await put(labs[0], "key")
    await labs[0].kill("redis")
    await labs[0].close()
    fresh = await join("lab0")
    assert await fresh.running("redis")
    assert await keys(fresh) == set()
    for lease in (healthy, fresh, labs[2]):
        await lease.close()


async def test_a_port_that_is_taken_at_the_last_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from chatlab.services import broker
    from chatlab.services.ports import Port, reserve
    from chatlab.services.redis_server import RedisServer

    with socket.socket() as thief:
        drawn: list[int] = []

        def unlucky() -> Port:
            port = reserve()
            if not drawn:
                thief.bind(("127.0.0.1", port.number))
                thief.listen()
            drawn.append(port.number)
            return port

        monkeypatch.setattr(broker, "reserve", unlucky)
        server = RedisServer(tmp_path / "r" / "redis", ledger=tmp_path / "ledger", limit=10)
        await server.start()
    assert len(drawn) == 2
    assert server.address.port == drawn[1]
    await server.stop(5)
    server.release()


async def test_a_broker_that_cannot_start_says_what_its_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatlab.services import redis_server

    monkeypatch.setattr(redis_server, "CONFIG", redis_server.CONFIG + "no-such-setting 1\n")
    server = redis_server.RedisServer(tmp_path / "r", ledger=tmp_path / "ledger", limit=10)
    with pytest.raises(ServiceUnavailable, match="no-such-setting"):
        await server.start()
    assert server.state == "cold"
    assert server.ports == []


async def test_a_broker_that_never_answers_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatlab.services.redis_server import RedisServer

    async def never(self: RedisServer) -> bool:
        return False

    monkeypatch.setattr(RedisServer, "answers", never)
    server = RedisServer(tmp_path / "r", ledger=tmp_path / "ledger", limit=0.3)
    with pytest.raises(ServiceUnavailable, match=r"did not answer within 0\.3 s"):
        await server.start()
    assert server.child is not None
    assert server.child.ended
