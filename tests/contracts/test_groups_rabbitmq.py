"""What only the groups on RabbitMQ have: queues, exchanges, the broker's own tools; what every
backend promises is in ``test_groups_contract.py``."""

from __future__ import annotations

import asyncio
from base64 import b64decode

import pytest
from rabbit_rig import Rig, connections_of, eventually, eventually_is

from chatlab import journal as j
from chatlab.amqp.codec import LABEL, OUTSIDER
from chatlab.errors import ChatClosed
from chatlab.groups import rabbitmq_kinds, rabbitmq_sender
from chatlab.groups.as_reported import SOMEBODY
from chatlab.groups.guarantees import guarantees
from chatlab.groups.rabbitmq_kinds import log_queue, queue_name
from chatlab.journal import Journal
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

TRANSIENT, DURABLE = "rabbitmq-transient", "rabbitmq-durable"
QUORUM, LOG = "rabbitmq-quorum", "rabbitmq-log"
REPORTED, LASTING = "as-reported", "as-reported:persistent=yes"
#: Every group on RabbitMQ, with each option that changes what is declared or published.
ALL = [
    *(TRANSIENT, DURABLE, QUORUM, LOG, REPORTED, LASTING, f"{DURABLE}:persistent=no"),
    *(f"{DURABLE}:confirms=no", f"{DURABLE}:exchange=transient"),
]
CHAT = "group:sd"
#: The management API may list a new connection only after 5 s.
PATIENT = Settings(lease_seconds=1.5, heartbeat_seconds=3, send_seconds=12)

Namespace = tuple[RabbitAddress, RedisAddress]


@pytest.fixture(params=[TRANSIENT, DURABLE, QUORUM, LOG])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def queue_of(management: Management, vhost: str, user: str) -> object:
    return await management.get("queues", vhost, queue_name("sd", user))


# -------------------------------------------------------------------------- both backends


async def test_subscribing_and_connecting_twice_changes_nothing(
    rig: Rig, backend: str, management: Management, namespace: Namespace, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.group("sd", backend)
    for _ in range(2):
        await room.subscribe()
    await asyncio.gather(*(room.connect() for _ in range(3)))
    vhost = namespace[0].vhost
    bindings = await management.get("exchanges", vhost, "sd", "bindings", "source")
    assert [binding["destination"] for binding in bindings] == [
        "chatlab/sd" if backend == LOG else "chatlab/sd/bob"
    ]
    (receipt,) = await ana.say("sd", "once")
    assert receipt.listeners == 1
    await ana.say("sd", "last")
    assert await bob.sees(2) == ["once", "last"]
    assert journal.counts()["Subscribed"] == journal.counts()["Connected"] == 1


async def test_subscribed_but_not_connected_means_the_queue_fills(
    rig: Rig, backend: str
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.group("sd", backend)
    await room.subscribe()
    assert room.subscribed
    assert not room.connected
    (receipt,) = await ana.say("sd", "waits")
    assert (receipt.outcome, receipt.listeners) == ("confirmed", 0)
    # An exclusive queue does not say how much waits in it.
    assert receipt.waiting == (1 if backend in (DURABLE, QUORUM) else None)
    await room.connect()
    assert await bob.sees(1) == ["waits"]


@pytest.mark.parametrize("backend", [b for b in ALL if b != LASTING], indirect=True)
async def test_unsubscribing_deletes_queue_and_binding(
    rig: Rig, backend: str, management: Management, namespace: Namespace
) -> None:
    vhost = namespace[0].vhost
    bob = rig.person("bob")
    room = await bob.join("sd", backend)
    assert await queue_of(management, vhost, "bob") is not None
    await room.unsubscribe()
    assert not room.subscribed
    assert not room.connected
    assert await queue_of(management, vhost, "bob") is None
    assert await management.get("queues", vhost, log_queue("sd").name) is None
    assert await management.get("exchanges", vhost, "sd", "bindings", "source") == []
    assert await rig.registry.find_group("sd") is None
    await room.unsubscribe()  # again: nothing
    await room.connect()  # a new beginning
    assert room.connected


@pytest.mark.parametrize("backend", ALL, indirect=True)
async def test_what_others_publish_shows_up_and_ours_can_be_read_by_the_broker_s_tools(
    rig: Rig, backend: str, management: Management, namespace: Namespace
) -> None:
    vhost = namespace[0].vhost
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", backend)
    await management.post(
        *("exchanges", vhost, "sd", "publish"),
        body={
            "properties": {},
            "routing_key": "",
            "payload": "¡hola!",
            "payload_encoding": "string",
        },
    )
    await bob.sees(1)
    named = guarantees(backend).names_sender
    sender = OUTSIDER if named else SOMEBODY
    assert (bob.shown[0].sender, bob.shown[0].seq, bob.bodies) == (sender, 0, ["¡hola!"])
    await management.put("queues", vhost, "look", body={"durable": True})
    await management.post("bindings", vhost, "e", "sd", "q", "look")
    await ana.say("sd", "plain text")
    await bob.sees(2)  # then it is in the other queue, too

    async def look() -> object:
        return await management.post(
            *("queues", vhost, "look", "get"),
            body={"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"},
        )

    (seen,) = await eventually_is(look)
    payload = seen["payload"]
    assert (payload if seen["payload_encoding"] == "string" else b64decode(payload)) == (
        "plain text"
    )
    properties = seen["properties"]
    transient = backend in (TRANSIENT, REPORTED, f"{DURABLE}:persistent=no")
    assert properties["delivery_mode"] == (1 if transient else 2)
    if not named:  # the report's protocol is the text
        assert set(properties["headers"]) == {LABEL}
        return
    message = bob.shown[1]
    assert properties["headers"] == {
        "sender": "ana",
        "incarnation": 1,
        "seq": 1,
        "clock": message.clock,
        "sent_at": repr(message.sent_at),
    }
    assert (properties["message_id"], properties["content_type"]) == ("ana:1:1", "text/plain")
    assert properties["timestamp"] == int(message.sent_at)


async def test_a_queue_deleted_under_its_member_is_said_and_may_be_joined_again(
    rig: Rig, management: Management, namespace: Namespace, journal: Journal
) -> None:
    """Of a durable queue: nobody else can delete an exclusive one."""
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", DURABLE)
    await management.delete("queues", namespace[0].vhost, queue_name("sd", "bob"))
    await eventually(lambda: bob.ends)
    assert isinstance(bob.ends[0], ChatClosed)
    assert not room.connected
    assert not room.subscribed
    (gone,) = journal.facts(j.Disconnected)
    assert "deleted" in gone.reason
    (receipt,) = await ana.say("sd", "lost")
    assert receipt.outcome == "unroutable"
    await room.connect()
    await ana.say("sd", "hola")
    assert await bob.sees(1) == ["hola"]


async def test_an_exchange_deleted_under_its_senders_is_said_at_once(
    rig: Rig, backend: str, management: Management, namespace: Namespace
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", backend)
    await ana.say("sd", "one")
    await management.delete("exchanges", namespace[0].vhost, "sd")
    (receipt,) = await ana.say("sd", "two")
    assert (receipt.outcome, receipt.error) == ("failed", "ChatClosed")
    assert "no exchange 'sd'" in receipt.reason
    # The next one makes the exchange anew; bob's binding went with the old one.
    (receipt,) = await ana.say("sd", "three")
    assert receipt.outcome in ("unroutable", "confirmed")
    assert await bob.sees(1) == ["one"]


async def test_who_listens_is_asked_in_small_groups_only(
    rig: Rig, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = rig.people("ana", "bob", "eva")
    for person in people:
        await person.join("sd", backend)
    monkeypatch.setattr(rabbitmq_sender, "LOOK_MEMBERS", 1)
    (receipt,) = await people[0].say("sd", "hola")
    assert (receipt.outcome, receipt.listeners, receipt.waiting) == ("confirmed", None, None)


async def test_a_name_server_that_is_away_does_not_fail_a_send(
    rig: Rig, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", backend)
    await ana.group("sd")

    async def away(_: str) -> dict[str, bool]:
        raise ChatClosed("away")

    monkeypatch.setattr(rig.registry, "group_members", away)
    (receipt,) = await ana.say("sd", "hola")
    assert (receipt.outcome, receipt.listeners, receipt.waiting) == ("confirmed", None, None)
    assert await bob.sees(1) == ["hola"]


# ------------------------------------------------------------------------- takeover, limits


@pytest.mark.parametrize("backend", [DURABLE], indirect=True)
async def test_a_full_queue_makes_the_message_uncertain_and_others_still_get_it(
    rig: Rig, backend: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setitem(rabbitmq_kinds._BOUNDED, "x-max-length", 2)
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await (await bob.group("sd", backend)).subscribe()
    await eva.join("sd")
    outcomes = [(await ana.say("sd", body))[0].outcome for body in "abc"]
    assert outcomes == ["confirmed", "confirmed", "uncertain"]
    assert await eva.sees(3) == ["a", "b", "c"]
    (fact,) = journal.facts(j.Uncertain)
    assert "refused" in fact.reason
    # The same id again when bob has read: eva drops the second copy.
    await bob.join("sd")
    await bob.sees(2)
    again = ana.life.message(CHAT, "sd", "ignored", fact.id)
    (receipt,) = await (await ana.group("sd")).send([again])
    assert receipt.outcome == "confirmed"
    assert await bob.sees(3) == ["a", "b", "c"]
    await eventually(lambda: "Discarded" in journal.counts())
    assert eva.bodies == ["a", "b", "c"]


async def test_connections_are_named_and_a_mere_sender_has_one(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd")
    await ana.say("sd", "x")
    vhost = namespace[0].vhost

    async def names() -> bool:
        rows = await management.get("vhosts", vhost, "connections")
        return sorted(row["client_properties"].get("connection_name", "") for row in rows) == [
            f"{vhost}/ana/1",
            f"{vhost}/bob/1",
        ]

    await eventually_is(names)
    await bob.say("sd", "y")

    async def two() -> bool:
        return len(await connections_of(management, vhost, "bob")) == 2

    await eventually_is(two)
