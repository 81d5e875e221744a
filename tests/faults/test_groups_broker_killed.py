"""What each RabbitMQ group keeps when the broker gets SIGKILL and is started again.

Three hundred messages are sent to a member that is away, the broker is killed, and the member
comes back in a new life. One kill serves all backends: they are groups side by side.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from kill_rig import BACK_SECONDS, Killable
from rabbit_rig import Person, Rig, eventually

from chatlab.amqp import mark
from chatlab.messages import Receipt
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings

DURABLE = "rabbitmq-durable"
SENT = [str(number) for number in range(300)]
#: Group -> its backend, what its absent member finds of 300, and what becomes of a message
#: that is sent after the restart, while the member is still away.
GROUPS = {
    "durable": (DURABLE, 300, "confirmed"),
    "transient-messages": (f"{DURABLE}:persistent=no", 0, "confirmed"),
    "transient-exchange": (f"{DURABLE}:exchange=transient", 300, "unroutable"),
    "told-nothing": (f"{DURABLE}:exchange=transient,confirms=no", 300, "sent"),
    "quorum": ("rabbitmq-quorum", 300, "confirmed"),
    "log": ("rabbitmq-log", 300, "confirmed"),
    "reported": ("as-reported:persistent=yes", 300, "sent"),
}
#: Those whose member finds nothing of what was sent after the restart.
UNBOUND = {"transient-exchange", "told-nothing", "reported"}


@pytest.fixture
def namespace(killable: Killable) -> tuple[RabbitAddress, RedisAddress]:
    return killable.namespace


async def until_answered(ana: Person, group: str, body: str) -> Receipt:
    """Send, and while nobody knows send the same message again: a quorum queue has no leader
    in its first moments."""
    (receipt,) = await ana.say(group, body)
    member = await ana.group(group)
    async with asyncio.timeout(BACK_SECONDS):
        while receipt.outcome == "uncertain":
            again = ana.life.message(f"group:{group}", group, body, receipt.id)
            (receipt,) = await member.send([again])
    return receipt


async def test_what_is_left_of_300_after_the_broker_was_killed(
    rig: Rig, killable: Killable, lab_settings: Settings
) -> None:
    ana = rig.person("ana")
    for group, (backend, _, after) in GROUPS.items():
        bob = rig.person(f"bob-{group}")
        await (await bob.group(group, backend)).subscribe()
        await bob.connections.close()  # away
        receipts = await ana.say(group, *SENT)
        outcome = "sent" if after == "sent" else "confirmed"
        assert {receipt.outcome for receipt in receipts} == {outcome}, group
    for group in ("told-nothing", "reported"):
        await hundreds_are_on_disk(ana, group)
    await eventually(lambda: registered(lab_settings.folder))
    await killable.kill()
    await eventually(lambda: not ana.connections.publishing.up)
    await killable.start()
    await eventually(lambda: ana.connections.publishing.up, BACK_SECONDS)

    for group, (_, kept, after) in GROUPS.items():
        receipt = await until_answered(ana, group, "after")
        assert receipt.outcome == after, group
        again = rig.person(f"bob-{group}")
        await again.join(group)
        await until_answered(ana, group, "last")
        await eventually(lambda again=again: "last" in again.bodies, BACK_SECONDS)  # type: ignore[misc]
        later = ["last"] if group in UNBOUND else ["after", "last"]
        marks = [""] if group in ("told-nothing", "reported") else []
        assert again.bodies == SENT[:kept] + marks + later, group


def registered(folder: Path) -> bool:
    """Whether the broker has written down that the quorum queue and the streams exist.
    RabbitMQ 3.10 does so half a second after the declaration (the first of all, for streams);
    killed before, it recovers neither queue nor messages."""
    return any(
        b"coordinator" in other.read_bytes()  # of the same node: others have streams, too
        for path in folder.glob("**/quorum/*/names.dets")
        if b"bob-quorum" in path.read_bytes()
        for other in path.parents[2].glob("coordination/*/names.dets")
    )


async def hundreds_are_on_disk(ana: Person, group: str) -> None:
    """Nobody confirmed them. A confirmed, persistent message to the same queue comes after
    them, and its confirm after they were written."""
    queue = f"chatlab/{group}/bob-{group}"
    publisher = ana.connections.publishing
    (outcome,) = await publisher.outcomes(publisher.submit([mark(queue)]), 5)
    assert outcome.kind == "acked"
