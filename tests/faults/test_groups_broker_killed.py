"""What each RabbitMQ group keeps when the broker is restarted in order, and when it gets
SIGKILL and is started again.

Three hundred messages are sent to a member that is away, the broker ends, and the member comes
back in a new life. One end serves all backends: they are groups side by side. The counts are
those of RabbitMQ 3.10; the declared guarantees must agree with them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kill_rig import BACK_SECONDS, Killable
from rabbit_rig import Person, Rig, eventually, eventually_is

from chatlab.amqp import mark
from chatlab.groups.guarantees import guarantees
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
#: Those whose sender is told nothing.
UNTOLD = ("told-nothing", "reported")
#: Backends whose members are there when the broker ends.
THERE = [
    *("rabbitmq-transient", DURABLE, f"{DURABLE}:persistent=no", f"{DURABLE}:confirms=no"),
    *(f"{DURABLE}:exchange=transient", "rabbitmq-quorum", "rabbitmq-log"),
    *("as-reported", "as-reported:persistent=yes"),
]


@pytest.fixture
def namespace(killable: Killable) -> tuple[RabbitAddress, RedisAddress]:
    return killable.namespace


async def until(wanted: str, ana: Person, group: str, body: str) -> None:
    """Send the same message until this is what becomes of it: in its first moments a quorum
    queue has no leader, and a stream is not up."""
    member, message = await ana.group(group), ana.life.message(f"group:{group}", group, body)

    async def outcome() -> bool:
        (receipt,) = await member.send([message])
        return receipt.outcome == wanted

    await eventually_is(outcome, BACK_SECONDS)


@pytest.mark.parametrize("fault", ["broker_restart", "broker_killed"])
async def test_what_is_left_of_300_and_who_comes_back(
    rig: Rig, killable: Killable, lab_settings: Settings, fault: str
) -> None:
    ana = rig.person("ana")
    there = {backend: rig.person(f"eva-{number}") for number, backend in enumerate(THERE)}
    for backend, eva in there.items():
        await eva.join(f"{eva.life.user}-{fault}", backend)
    for name, (backend, _, after) in GROUPS.items():
        group, bob = f"{name}-{fault}", rig.person(f"bob-{name}")
        await (await bob.group(group, backend)).subscribe()
        await bob.connections.close()  # away
        receipts = await ana.say(group, *SENT)
        outcome = "sent" if after == "sent" else "confirmed"
        assert {receipt.outcome for receipt in receipts} == {outcome}, group
    for name in UNTOLD:
        await hundreds_are_on_disk(ana, f"chatlab/{name}-{fault}/bob-{name}")
    await eventually(lambda: registered(lab_settings.folder, f"quorum-{fault}"))
    await (killable.kill() if fault == "broker_killed" else killable.stop())
    await eventually(lambda: not ana.connections.publishing.up)
    await killable.start()
    await eventually(lambda: ana.connections.publishing.up, BACK_SECONDS)

    for name, (backend, kept, after) in GROUPS.items():
        group = f"{name}-{fault}"
        await until(after, ana, group, "after")
        again = rig.person(f"bob-{name}")
        await again.join(group)
        await until("sent" if after == "sent" else "confirmed", ana, group, "last")
        await eventually(lambda again=again: "last" in again.bodies, BACK_SECONDS)  # type: ignore[misc]
        later = ["last"] if name in UNBOUND else ["after", "last"]
        marks = [""] if name in UNTOLD else []
        promised = getattr(guarantees(backend), fault)
        assert again.bodies == SENT[:kept] + marks + later, group
        assert promised in ("not promised", "kept" if kept == 300 else "lost"), group
        # What is kept is kept for good: also what is sent while the member is still away.
        assert (promised == "kept") <= (name not in UNBOUND), group
    for eva in there.values():
        await comes_back(ana, eva, f"{eva.life.user}-{fault}")


async def comes_back(ana: Person, eva: Person, group: str) -> None:
    """By itself, and is shown what is sent from then on."""
    room = await eva.group(group)
    await eventually(lambda: room.connected or eva.ends, BACK_SECONDS)
    assert eva.ends == [], room.backend
    confirms = guarantees(room.backend).confirms
    await until("confirmed" if confirms else "sent", ana, group, "hola")
    await eventually(lambda: eva.bodies == ["hola"], BACK_SECONDS)


def registered(folder: Path, quorum: str) -> bool:
    """Whether the broker (known by this quorum queue) has written down that it has streams.
    RabbitMQ 3.10 does so a second after the declaration of its first; killed before, it
    forgets that one and its messages."""
    return any(
        b"coordinator" in other.read_bytes()  # of the same node: others have streams, too
        for path in folder.glob("**/quorum/*/names.dets")
        if f"{quorum}/bob-quorum".encode() in path.read_bytes()
        for other in path.parents[2].glob("coordination/*/names.dets")
    )


async def hundreds_are_on_disk(ana: Person, queue: str) -> None:
    """Nobody confirmed them. When all are in the queue, a confirmed, persistent message to it
    comes after them, and its confirm after they were written."""
    publisher = ana.connections.publishing

    async def all_there() -> bool:
        (depth,) = await publisher.depths([queue])
        return depth is not None and depth.messages == len(SENT)

    await eventually_is(all_there)
    (outcome,) = await publisher.outcomes(publisher.submit([mark(queue)]), 5)
    assert outcome.kind == "acked"
