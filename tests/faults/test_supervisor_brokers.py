"""The supervisor with a real RabbitMQ: started, shared, killed, left over, ended.

A start takes RabbitMQ about ten seconds, so the tests share one folder and, where they can,
what the one before them has started; each also works alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from chatlab import services
from chatlab.errors import ServiceUnavailable
from chatlab.services import Lease, Progress, broker, wire
from chatlab.services.find import RabbitProgram, find_rabbitmq
from chatlab.services.management import Management
from chatlab.services.ports import Port, reserve
from chatlab.services.rabbitmq_node import PortMapper, RabbitNode
from chatlab.settings import Settings

QUEUE = {"durable": True}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("c")
    programs = Settings.load().folder / "programs"
    if programs.exists():
        (folder / "programs").symlink_to(programs)
    settings = Settings(folder=folder, idle_seconds=60)
    yield settings
    asyncio.run(services.stop(settings, force=True))
    asyncio.run(until_nothing_runs(settings))


def processes_of(folder: Path) -> list[str]:
    """What works in this folder, whoever its parent is."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd().startswith(str(folder)) and process.status() != "zombie":
                found.append(process.name())
    return found


async def until_nothing_runs(settings: Settings, seconds: float = 1) -> None:
    async with asyncio.timeout(seconds):
        while processes_of(wire.run_folder(settings)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def management(lease: Lease) -> Management:
    return Management(lease.rabbitmq, timeout=20)


async def vhosts(lease: Lease) -> set[str]:
    return {vhost["name"] for vhost in await management(lease).get("vhosts")}


async def put_message(api: Management, vhost: str, text: str) -> None:
    await api.put("queues", vhost, "q", body=QUEUE)
    message = {"routing_key": "q", "payload": text, "payload_encoding": "string"}
    message |= {"properties": {"delivery_mode": 2}}  # type: ignore[dict-item]
    answer = await api.post("exchanges", vhost, "amq.default", "publish", body=message)
    assert answer == {"routed": True}


async def messages(api: Management, vhost: str) -> list[str]:
    """What lies in the queue. RabbitMQ has been seen, on a loaded machine, to list a queue
    right after its boot and to say for a moment longer that it is not there."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await _messages(api, vhost)
            except ServiceUnavailable as error:
                if "no queue" not in error.what:
                    raise
                await asyncio.sleep(0.1)


async def _messages(api: Management, vhost: str) -> list[str]:
    wanted = {"count": 10, "ackmode": "ack_requeue_false", "encoding": "auto"}
    answer: list[dict[str, Any]] = await api.post("queues", vhost, "q", "get", body=wanted)
    return [message["payload"] for message in answer]


async def test_a_cold_start_shows_progress_and_serves_all_who_joined_meanwhile(
    settings: Settings,
) -> None:
    seen: list[Progress] = []
    one, two = await asyncio.gather(
        services.join(settings, lab="one", progress=seen.append),
        services.join(settings, lab="two"),
    )
    waits = [entry for entry in seen if entry.service == "rabbitmq"]
    assert len(waits) > 5
    assert [entry.seconds for entry in waits] == sorted(entry.seconds for entry in waits)
    assert {entry.text for entry in waits} == {"RabbitMQ starts"}

    assert one.rabbitmq.port == two.rabbitmq.port
    assert one.rabbitmq.version
    assert await vhosts(one) == {"/", "chatlab-one", "chatlab-two"}
    assert await management(one).get("exchanges", "/", "amq.rabbitmq.event") is not None

    pair = (await one.status())["pairs"]["shared"]
    loopback = {
        connection.laddr.ip
        for pid in (pair["rabbitmq"]["pid"], pair["redis"]["pid"])
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert loopback == {"127.0.0.1"}
    await one.close()
    assert await vhosts(two) == {"/", "chatlab-two"}
    await two.close()


async def test_wipe_gives_a_new_virtual_host_with_the_same_rights(settings: Settings) -> None:
    lease = await services.join(settings, lab="wiped")
    api, vhost = management(lease), lease.rabbitmq.vhost
    await put_message(api, vhost, "x")
    await lease.wipe()
    assert await api.get("queues", vhost) == []
    await put_message(api, vhost, "y")
    await lease.close()


async def test_a_client_that_just_vanishes_loses_its_virtual_host(settings: Settings) -> None:
    lease = await services.join(settings, lab="stays")
    vanished = await services.join(settings, lab="vanishes")
    assert "chatlab-vanishes" in await vhosts(lease)
    vanished._channel._writer.transport.abort()  # what the system does for a killed process
    async with asyncio.timeout(10):
        while "chatlab-vanishes" in await vhosts(lease):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await lease.close()


async def test_a_killed_supervisor_leaves_brokers_that_stop_ends(settings: Settings) -> None:
    lease = await services.join(settings, lab="one")
    os.kill((await lease.status())["pid"], signal.SIGKILL)
    async with asyncio.timeout(5):
        while not lease.lost:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await lease.close()
    left = processes_of(wire.run_folder(settings))
    assert {"epmd", "beam.smp"} <= set(left)
    assert await services.stop(settings) is True
    await until_nothing_runs(settings)


async def test_a_breakable_rabbitmq_keeps_its_data_and_all_ends_when_nobody_comes(
    settings: Settings,
) -> None:
    short = Settings(folder=settings.folder, idle_seconds=1)
    lease = await services.join(short, lab="mine", breakable=True)
    events: list[tuple[str, str]] = []
    lease.on_event = lambda *event: events.append(event)
    api, vhost = management(lease), lease.rabbitmq.vhost
    await put_message(api, vhost, "kept")
    # RabbitMQ 3.10 answers a declaration now and then before Mnesia's log has it, and forgets
    # it when killed then; the next one writes it.
    await api.put("queues", vhost, "later", body=QUEUE)
    await lease.kill("rabbitmq")
    assert not await lease.running("rabbitmq")
    await lease.start("rabbitmq")
    assert await lease.running("rabbitmq")
    assert await messages(api, vhost) == ["kept"]
    assert events == [("rabbitmq", "down"), ("rabbitmq", "up")]
    await lease.close()
    await until_nothing_runs(short, seconds=20)


async def test_a_distribution_port_that_is_taken_at_the_last_moment_is_replaced(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapper: PortMapper | None = None
    drawn: list[int] = []

    async def find(node: RabbitNode) -> RabbitProgram:
        return await asyncio.to_thread(find_rabbitmq, settings)

    async def mapper_port(program: RabbitProgram) -> int:
        nonlocal mapper
        mapper = mapper or await PortMapper.start(program, tmp_path, tmp_path / "ledger")
        return mapper.port.number

    with socket.socket() as thief:

        def unlucky() -> Port:
            port = reserve()
            drawn.append(port.number)
            if len(drawn) == RabbitNode.port_count:  # the last one is the distribution port
                thief.bind(("127.0.0.1", port.number))
                thief.listen()
            return port

        monkeypatch.setattr(broker, "reserve", unlucky)
        node = RabbitNode(
            tmp_path / "test" / "rabbitmq",
            ledger=tmp_path / "ledger",
            limit=60,
            find=find,
            mapper=mapper_port,
        )
        try:
            await node.start()
            assert len(drawn) == 2 * RabbitNode.port_count
            assert node.address.port == drawn[3]
            assert await Management(node.address).get("overview")
        finally:
            await node.kill()
            node.release()
            if mapper is not None:
                await mapper.child.kill()
                mapper.port.release()
