"""What a group promises, on every RabbitMQ backend, with the real broker and name server."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable

import pytest
from rabbit_rig import Rig, connections_of, eventually, eventually_is

from chatlab import journal as j
from chatlab.client import Life
from chatlab.discovery import Registry
from chatlab.errors import BackendMismatch, ChatClosed, InvalidInput, Taken
from chatlab.groups import rabbitmq_kinds, rabbitmq_sender
from chatlab.groups.rabbitmq_kinds import log_queue, queue_name
from chatlab.journal import Journal
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

TRANSIENT, DURABLE = "rabbitmq-transient", "rabbitmq-durable"
QUORUM, LOG = "rabbitmq-quorum", "rabbitmq-log"
CHAT = "group:sd"
#: The management API may list a new connection only after 5 s.
PATIENT = Settings(lease_seconds=1.5, heartbeat_seconds=3, send_seconds=12)

Namespace = tuple[RabbitAddress, RedisAddress]


@pytest.fixture
async def rig(
    namespace: Namespace, new_life: Callable[..., Life], settings: Settings
) -> AsyncIterator[Rig]:
    redis = Redis(namespace[1])
    rig = Rig(new_life, Registry(redis, settings.lease_seconds))
    yield rig
    await rig.close()
    await redis.close()


@pytest.fixture
def management(namespace: Namespace) -> Management:
    return Management(namespace[0])


@pytest.fixture(params=[TRANSIENT, DURABLE, QUORUM, LOG])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def queue_of(management: Management, vhost: str, user: str) -> object:
    return await management.get("queues", vhost, queue_name("sd", user))


# -------------------------------------------------------------------------- both backends


async def test_every_member_gets_every_message_in_its_sender_s_order(
    rig: Rig, backend: str, journal: Journal
) -> None:
    people = rig.people("ana", "bob", "eva")
    for person in people:
        await person.join("sd", backend)

    async def talk(sender: int) -> None:
        for part in range(3):
            bodies = [f"{sender}:{part * 20 + number}" for number in range(20)]
            receipts = await people[sender].say("sd", *bodies)
            assert {(r.outcome, r.listeners, r.waiting) for r in receipts} == {
                ("confirmed", 2, 0)
            }

    await asyncio.gather(*map(talk, range(3)))
    for person in people:
        await person.sees(180)
        for sender, name in enumerate(("ana", "bob", "eva")):
            of_one = [message for message in person.shown if message.sender == name]
            assert [message.body for message in of_one] == [f"{sender}:{n}" for n in range(60)]
            assert [message.seq for message in of_one] == list(range(1, 61))
        assert len(person.shown) == 180
    assert "Discarded" not in journal.counts()


async def test_facts_come_in_the_order_of_what_happened(
    rig: Rig, backend: str, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", backend)
    (receipt,) = await ana.say("sd", "hola")
    await eventually(lambda: "Acked" in journal.counts())
    room = await bob.group("sd")
    await room.disconnect()
    await room.unsubscribe()
    facts = [fact for fact in journal if fact.chat == CHAT]
    bob_s = [type(fact).__name__ for fact in facts if fact.user == "bob"]
    assert bob_s == ["Subscribed", "Connected", "Delivered", "Acked", "Disconnected", "Left"]
    kinds = [type(fact).__name__ for fact in facts]
    assert kinds.index("Sent") < kinds.index("Confirmed")
    assert kinds.index("Sent") < kinds.index("Delivered")
    (connected,) = journal.facts(j.Connected)
    assert (connected.backend, connected.role) == (backend, "member")
    (delivered,) = journal.facts(j.Delivered)
    (sent,) = journal.facts(j.Sent)
    assert delivered.message == sent.message
    assert (receipt.outcome, receipt.listeners, receipt.waiting) == ("confirmed", 1, 0)


async def test_nothing_from_before_the_subscription_is_shown(rig: Rig, backend: str) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    await bob.join("sd", backend)
    await ana.say("sd", "before")
    await eva.join("sd")
    await ana.say("sd", "after")
    assert await bob.sees(2) == ["before", "after"]
    assert await eva.sees(1) == ["after"]


async def test_a_sender_that_is_a_member_gets_its_own_messages(rig: Rig, backend: str) -> None:
    ana, bob = rig.people("ana", "bob")
    await ana.join("sd", backend)
    await bob.join("sd")
    await ana.say("sd", "mine")
    assert await ana.sees(1) == await bob.sees(1) == ["mine"]


async def test_an_absent_member_misses_what_is_sent_or_finds_it_waiting(
    rig: Rig, backend: str
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    for person in (ana, bob, eva):
        await person.join("sd", backend)
    room = await bob.group("sd")
    await ana.say("sd", "0")
    await bob.sees(1)
    await room.disconnect()
    waiting = []
    for body in "123":
        (receipt,) = await ana.say("sd", body)
        assert (receipt.outcome, receipt.listeners) == ("confirmed", 1)
        waiting.append(receipt.waiting)
    await room.connect()
    await ana.say("sd", "4")
    if backend != TRANSIENT:
        # How much of a log an absent member has not read, nobody asks.
        assert waiting == ([None] * 3 if backend == LOG else [1, 2, 3])
        assert await bob.sees(5) == list("01234")
        assert bob.redelivered == []
    else:
        assert waiting == [0, 0, 0]
        assert await bob.sees(2) == ["0", "4"]
    assert await eva.sees(5) == list("01234")


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


async def test_a_message_that_reaches_nobody_else_is_unroutable(
    rig: Rig, backend: str, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    await ana.group("sd", backend)
    (receipt,) = await ana.say("sd", "to a group that nobody ever joined")
    assert (receipt.outcome, receipt.reason) == ("unroutable", "nobody else listens to sd")
    room = await ana.join("sd", backend)
    (receipt,) = await ana.say("sd", "to myself")
    outcome = "confirmed" if backend == LOG else "unroutable"  # a log keeps it
    assert (receipt.outcome, receipt.listeners, receipt.waiting) == (outcome, 0, 0)
    await bob.join("sd")
    (receipt,) = await ana.say("sd", "to bob")
    assert receipt.outcome == "confirmed"
    await (await bob.group("sd")).unsubscribe()
    await room.unsubscribe()
    receipts = await ana.say("sd", "a", "b")
    assert [receipt.outcome for receipt in receipts] == ["unroutable", "unroutable"]
    assert journal.counts()["Returned"] == (3 if backend == LOG else 4)


async def test_a_group_keeps_its_backend(rig: Rig, backend: str) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    other = DURABLE if backend == TRANSIENT else TRANSIENT
    late = await eva.group("sd", other)  # both have a handle before the first subscribes
    await ana.join("sd", backend)
    with pytest.raises(BackendMismatch, match=f"(?s){backend}.*{other}|{other}.*{backend}"):
        await bob.group("sd", other)
    with pytest.raises(BackendMismatch):
        await late.subscribe()
    assert not late.subscribed
    assert (await bob.join("sd")).backend == backend


async def test_names_and_backends_that_cannot_be_are_refused(rig: Rig) -> None:
    ana = rig.person("ana")
    for name in ("a/b", "", "amq.fanout", "x" * 65):
        with pytest.raises(InvalidInput):
            await ana.group(name)
    with pytest.raises(InvalidInput, match="rabbitmq-durable"):
        await ana.group("sd", "rabbitmq-eternal")


async def test_any_name_and_body_that_is_allowed_arrives_unchanged(
    rig: Rig, backend: str
) -> None:
    group, user = "größe.日本-x_1", "ñandú"
    ana, bob = rig.people(user, "b" * 64)
    await bob.join(group, backend)
    bodies = ["a", "x" * 65_536, "línea\nlínea\0", "🙃" * 1000, " "]
    receipts = await ana.say(group, *bodies)
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    assert await bob.sees(5) == bodies
    assert bob.shown[0].sender == user


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
    assert (bob.shown[0].sender, bob.shown[0].seq, bob.bodies) == ("outsider", 0, ["¡hola!"])
    await management.put("queues", vhost, "look", body={"durable": True})
    await management.post("bindings", vhost, "e", "sd", "q", "look")
    await ana.say("sd", "plain text")
    (seen,) = await management.post(
        *("queues", vhost, "look", "get"),
        body={"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"},
    )
    payload = seen["payload"]
    assert (payload if seen["payload_encoding"] == "string" else b64decode(payload)) == (
        "plain text"
    )
    properties = seen["properties"]
    assert properties["headers"]["sender"] == "ana"
    assert properties["message_id"] == "ana:1:1"
    assert properties["delivery_mode"] == (1 if backend == TRANSIENT else 2)


async def test_a_frozen_member_is_shown_nothing_until_it_thaws(rig: Rig, backend: str) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    for person in (bob, eva):
        await person.join("sd", backend)
    bob.life.gate.clear()
    await ana.say("sd", "a", "b")
    await eva.sees(2)
    assert bob.shown == []
    bob.life.gate.set()
    assert await bob.sees(2) == ["a", "b"]


async def test_two_handles_of_one_life_show_each_message_once(rig: Rig, backend: str) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", backend)
    await ana.say("sd", "seen")
    await bob.sees(1)
    await room.close()
    bob._groups.clear()  # offline and online again: a new handle in the same life
    await bob.join("sd")
    copy = bob.life.message(CHAT, "sd", "again")._replace(id=bob.shown[0].id)
    await (await ana.group("sd")).send([copy])
    await ana.say("sd", "new")
    assert await bob.sees(2) == ["seen", "new"]


async def test_two_members_leave_in_any_order_and_nobody_else_is_touched(
    rig: Rig, backend: str
) -> None:
    people = rig.people("ana", "bob", "eva", "dan")
    ana, bob, eva, dan = people
    for person in people:
        await person.join("sd", backend)
    bob.crash()
    await (await eva.group("sd")).unsubscribe()

    async def one_listens() -> bool:
        (receipt,) = await ana.say("sd", "still here?")
        return receipt.listeners == 1

    await eventually_is(one_listens)  # RabbitMQ needs a moment to see the crash
    await dan.sees(1)
    assert eva.shown == []


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


async def test_a_second_life_takes_over_at_once_and_the_first_is_told(
    rig: Rig, backend: str
) -> None:
    ana = rig.person("ana")
    old, new = (rig.person("bob", settings=PATIENT) for _ in range(2))
    await old.join("sd", backend)
    await ana.say("sd", "shown")
    await old.sees(1)
    await new.join("sd")
    await eventually(lambda: old.ends)
    assert isinstance(old.ends[0], Taken)
    assert not (await old.group("sd")).connected
    await ana.say("sd", "new")
    assert await new.sees(1) == ["new"]
    assert old.bodies == ["shown"]


async def test_a_frozen_life_that_was_taken_over_shows_nothing_more_when_it_thaws(
    rig: Rig, backend: str
) -> None:
    ana = rig.person("ana")
    old, new = (rig.person("bob", settings=PATIENT) for _ in range(2))
    await old.join("sd", backend)
    old.life.gate.clear()
    await ana.say("sd", "held")
    await eventually(lambda: old._groups["sd"].state()["unacked"])
    await new.join("sd")
    await ana.say("sd", "new")
    if backend != TRANSIENT:
        assert await new.sees(2) == ["held", "new"]
        # A log knows that it was shown or begun to be; the frozen one had not begun.
        assert (new.shown[0].id in new.redelivered) is (backend != LOG)
    else:
        assert await new.sees(1) == ["new"]
    old.life.gate.set()
    await eventually(lambda: old.ends)
    assert isinstance(old.ends[0], Taken)
    assert old.shown == []


@pytest.mark.parametrize("backend", [DURABLE, QUORUM], indirect=True)
async def test_after_a_crash_only_the_unacknowledged_tail_comes_again(
    rig: Rig, backend: str
) -> None:
    ana, old = rig.people("ana", "bob")
    await old.join("sd", backend)
    await ana.say("sd", "acked")
    await old.sees(1)
    await eventually(lambda: (old._groups["sd"]).state()["unacked"] == 0)
    old.life.gate.clear()
    await ana.say("sd", "held 1", "held 2")
    old.crash()
    await ana.say("sd", "sent while away")
    new = rig.person("bob")
    await new.join("sd")
    assert await new.sees(3) == ["held 1", "held 2", "sent while away"]
    # The third may have been on its way to the crashed one, too.
    assert new.redelivered[:2] == [message.id for message in new.shown[:2]]
    assert old.bodies == ["acked"]


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
