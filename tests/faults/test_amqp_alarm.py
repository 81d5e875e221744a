"""What RabbitMQ refuses for a while (a memory alarm) and for good (reply codes).

The alarm is real: the test lowers the broker's own limit with the broker's own tool, on a
broker that nobody else uses.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psutil
import pytest
from kill_rig import Killable
from rabbit_rig import Rig, eventually, eventually_is

from chatlab.amqp import Binding, Connection, Exchange, Queue
from chatlab.amqp.errors import REFUSALS
from chatlab.amqp.publisher import Publisher
from chatlab.journal import Journal
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.find import find_rabbitmq
from chatlab.settings import Settings


@pytest.fixture
def namespace(killable: Killable) -> tuple[RabbitAddress, RedisAddress]:
    return killable.namespace


async def rabbitmqctl(port: int, settings: Settings, *words: str) -> None:
    """Run the broker's own tool with the environment of the node that listens on ``port``."""
    name = f"chatlab-{port}@localhost"
    environs = [
        process.info["environ"] or {}
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("RABBITMQ_NODENAME") == name
    ]
    tool = find_rabbitmq(settings).script.with_name("rabbitmqctl")
    process = await asyncio.create_subprocess_exec(
        *(tool, "-n", name, *words),
        env=environs[0],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_a_memory_alarm_makes_sends_uncertain_at_their_deadline_and_consumers_go_on(
    rig: Rig,
    namespace: tuple[RabbitAddress, RedisAddress],
    lab_settings: Settings,
    settings: Settings,
    journal: Journal,
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    for person in (ana, bob):
        await person.join("sd", "rabbitmq-durable")
    await ana.say("sd", "before")
    await bob.sees(1)
    late = await eva.group("sd")
    await late.subscribe()
    await ana.say("sd", *map(str, range(300)))  # wait for eva
    port = namespace[0].port
    loop = asyncio.get_running_loop()
    await rabbitmqctl(port, lab_settings, "set_vm_memory_high_watermark", "0.000001")
    try:
        # RabbitMQ says so to a connection that publishes: with the next message at the latest.
        started = loop.time()
        (receipt,) = await ana.say("sd", "blocked")
        assert (receipt.outcome, receipt.error) == ("uncertain", "SendUncertain")
        assert "takes no messages now" in receipt.reason
        assert "memory" in receipt.reason
        assert loop.time() - started < settings.send_seconds + 2
        assert journal.counts()["Uncertain"] == 1
        await late.connect()  # who only receives is not blocked, and acknowledges
        await eva.sees(300)
        await eventually(lambda: late.state()["unacked"] == 0)
        assert bob._groups["sd"].connected
    finally:
        await rabbitmqctl(port, lab_settings, "set_vm_memory_high_watermark", "0.4")
    again = ana.life.message("group:sd", "sd", "", receipt.id)

    async def answered() -> bool:
        (new,) = await (await ana.group("sd")).send([again])
        return new.outcome == "confirmed"

    await eventually_is(answered, 30)
    await eventually(lambda: bob.bodies[-1] == "blocked")
    assert bob.bodies.count("blocked") == 1


# ----------------------------------------------------------------------------- reply codes


async def refused(namespace: tuple[RabbitAddress, RedisAddress], code: int) -> None:
    """Do what RabbitMQ answers with ``code``."""
    address = namespace[0]
    if code == 530:
        address = replace(address, vhost="nowhere")
    connection = Connection(address, f"lab/refused/{code}")
    holder = Connection(namespace[0], "lab/holder/1")
    try:
        if code == 403:
            await connection.declare(Exchange("amq.mine"))
        elif code == 404:
            await connection.declare(Queue("q404"), Binding("q404", "no-such-exchange"))
        elif code == 405:
            await holder.declare(Queue("q405", exclusive=True))
            await connection.depths(["q405"])
            await connection.delete_queue("q405")
        elif code == 406:
            await connection.declare(Exchange("x406"))
            await connection.declare(Exchange("x406", kind="direct"))
        else:
            await connection.declare(Exchange("x530"))
    finally:
        await connection.close()
        await holder.close()


@pytest.mark.parametrize("code", [403, 404, 405, 406, 530])
async def test_what_rabbitmq_refuses_is_an_error_at_once_and_not_tried_again(
    namespace: tuple[RabbitAddress, RedisAddress], code: int
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(REFUSALS[code], match=str(code)):
        await refused(namespace, code)
    assert loop.time() - started < 4  # the deadline of an operation is 5 s


def test_a_thousand_confirms_may_be_outstanding() -> None:
    assert Publisher().window == 1000
