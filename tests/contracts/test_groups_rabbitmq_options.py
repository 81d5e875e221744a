"""What the options of the RabbitMQ groups change, and what the log and the report's groups
do that no other does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from rabbit_rig import Rig, eventually, eventually_is

from chatlab import journal as j
from chatlab.errors import BackendMismatch, ChatClosed, InvalidInput, ServiceUnavailable
from chatlab.groups.as_reported import SOMEBODY
from chatlab.groups.rabbitmq_kinds import log_queue, queue_name
from chatlab.journal import Journal
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.settings import Settings

Namespace = tuple[RabbitAddress, RedisAddress]
DURABLE, LOG, AS_REPORTED = "rabbitmq-durable", "rabbitmq-log", "as-reported"
PERSISTENT = "as-reported:persistent=yes"
CHAT = "group:sd"
#: The management API may list a new connection only after 5 s.
PATIENT = Settings(lease_seconds=1.5, heartbeat_seconds=3, send_seconds=12)


# ------------------------------------------------------------------- rabbitmq-durable:…


async def test_without_confirms_the_sender_is_told_nothing(rig: Rig, journal: Journal) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", f"{DURABLE}:confirms=no")
    receipts = await ana.say("sd", *map(str, range(250)))
    assert {r[1:] for r in receipts} == {("sent", None, None, "no confirm asked for", "")}
    assert await bob.sees(250) == [str(number) for number in range(250)]
    told = {"Confirmed", "Returned", "Failed", "Uncertain"}
    assert not told & set(journal.counts())
    assert journal.counts()["Sent"] == journal.counts()["Acked"] == 250


async def test_without_confirms_a_message_to_nobody_is_lost_in_silence(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", f"{DURABLE}:confirms=no")
    await ana.say("sd", "heard")
    await bob.sees(1)
    await management.delete("exchanges", namespace[0].vhost, "sd")
    # RabbitMQ closes the channel of the first; the next ones vanish as quietly.
    for body in ("a", "b", "c"):
        (receipt,) = await ana.say("sd", body)
        assert receipt.outcome == "sent"
    await room.unsubscribe()
    assert bob.bodies == ["heard"]


async def test_without_confirms_what_never_left_has_failed(
    rig: Rig, namespace: Namespace, journal: Journal, settings: Settings
) -> None:
    bob = rig.person("bob")
    await bob.join("sd", f"{DURABLE}:confirms=no")
    ana = rig.person(
        "ana",
        rabbitmq=replace(namespace[0], port=1),
        settings=replace(settings, send_seconds=0.5),
    )
    (receipt,) = await ana.say("sd", "x")
    assert receipt.outcome == "failed"
    assert "is not running" in receipt.reason
    assert journal.counts()["Failed"] == 1


@pytest.mark.parametrize(("option", "mode"), [("", 2), (":persistent=no", 1)])
async def test_persistent_says_how_messages_are_marked(
    rig: Rig, option: str, mode: int, management: Management, namespace: Namespace
) -> None:
    vhost = namespace[0].vhost
    ana, bob = rig.people("ana", "bob")
    await (await bob.group("sd", DURABLE + option)).subscribe()
    (receipt,) = await ana.say("sd", "x")
    assert (receipt.outcome, receipt.waiting) == ("confirmed", 1)
    (seen,) = await management.post(
        *("queues", vhost, queue_name("sd", "bob"), "get"),
        body={"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"},
    )
    assert seen["properties"]["delivery_mode"] == mode


async def test_groups_with_other_options_are_other_groups(rig: Rig) -> None:
    ana, bob = rig.people("ana", "bob")
    await ana.join("sd", f"{DURABLE}:persistent=no")
    with pytest.raises(BackendMismatch, match="persistent=no"):
        await bob.group("sd", DURABLE)
    same = await bob.group("sd", f"{DURABLE}:confirms=yes,persistent=no")
    assert same.backend == f"{DURABLE}:persistent=no"


@pytest.mark.parametrize("exchange", ["durable", "transient"])
async def test_the_exchange_is_as_durable_as_asked(
    rig: Rig, exchange: str, management: Management, namespace: Namespace
) -> None:
    await rig.person("bob").join("sd", f"{DURABLE}:exchange={exchange}")
    found = await management.get("exchanges", namespace[0].vhost, "sd")
    assert found["durable"] is (exchange == "durable")


# -------------------------------------------------------------------------- rabbitmq-log


async def test_a_late_joiner_of_a_log_chooses_where_to_begin(
    rig: Rig, journal: Journal
) -> None:
    ana, bob, eva, dan = rig.people("ana", "bob", "eva", "dan")
    await bob.join("sd", LOG)
    await ana.say("sd", "1", "2")
    assert (await eva.join("sd", f"{LOG}:from=first")).backend == LOG
    await (await dan.group("sd")).subscribe()
    await ana.say("sd", "3")
    await (await dan.group("sd")).connect()
    assert await bob.sees(3) == await eva.sees(3) == ["1", "2", "3"]
    assert await dan.sees(1) == ["3"]
    assert not (bob.redelivered or eva.redelivered or dan.redelivered)
    first = {fact.user: fact.first for fact in journal.facts(j.Subscribed)}
    assert first == {"bob": False, "eva": True, "dan": False}


async def test_an_offset_that_rabbitmq_does_not_know_is_refused_before_it_is_sent(
    rig: Rig,
) -> None:
    bob = rig.person("bob")
    for text in ("last", "-1", "7", ""):
        with pytest.raises(InvalidInput, match="next or first"):
            await bob.group("sd", f"{LOG}:from={text}")
    assert not bob.connections.consuming.up


async def test_a_position_in_the_log_outlives_disconnect_crash_and_life(
    rig: Rig, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", LOG)
    await ana.say("sd", "1")
    await bob.sees(1)
    await room.disconnect()
    await ana.say("sd", "2")
    await room.connect()
    await bob.sees(2)
    await eventually(lambda: journal.counts().get("Acked") == 2)
    bob.crash()
    await ana.say("sd", "3", "4")
    new = rig.person("bob", settings=PATIENT)
    await new.join("sd", f"{LOG}:from=first")  # it does not begin: it goes on
    assert not any(fact.first for fact in journal.facts(j.Subscribed))
    await ana.say("sd", "5")
    assert await new.sees(3) == ["3", "4", "5"]
    assert new.redelivered == []
    assert bob.bodies == ["1", "2"]


async def test_what_a_crashed_reader_of_the_log_had_begun_to_see_is_marked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", LOG)
    await ana.say("sd", "acked")
    await bob.sees(1)
    keep = rig.registry.keep_position
    killed = asyncio.Event()

    async def dies_after_showing(*args: int) -> None:
        """The crash comes after the messages were shown, before their position is kept."""
        if "shown" in bob.bodies:
            killed.set()
            await asyncio.Event().wait()
        await keep(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.registry, "keep_position", dies_after_showing)
    await ana.say("sd", "shown")
    await killed.wait()
    bob.crash()
    monkeypatch.setattr(rig.registry, "keep_position", keep)
    await ana.say("sd", "new")
    new = rig.person("bob", settings=PATIENT)
    await new.join("sd")
    assert await new.sees(2) == ["shown", "new"]
    assert new.redelivered == [new.shown[0].id]


async def test_a_name_server_that_is_away_does_not_stop_a_reader_of_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", LOG)
    keep = rig.registry.keep_position

    async def away(*_: object) -> None:
        raise ServiceUnavailable("away")

    monkeypatch.setattr(rig.registry, "keep_position", away)
    await ana.say("sd", "1")
    await bob.sees(1)
    assert "Acked" not in journal.counts()  # nobody has noted it
    monkeypatch.setattr(rig.registry, "keep_position", keep)
    await ana.say("sd", "2")
    await bob.sees(2)
    await eventually(lambda: journal.counts().get("Acked") == 2)


async def test_many_messages_of_many_senders_keep_each_sender_s_order_in_a_log(
    rig: Rig,
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    for person in (ana, bob, eva):
        await person.join("sd", LOG)
    await asyncio.gather(*(p.say("sd", *map(str, range(700))) for p in (ana, bob)))
    await eva.sees(1400)
    for sender in ("ana", "bob"):
        assert [m.seq for m in eva.shown if m.sender == sender] == list(range(1, 701))


async def test_a_deleted_log_is_said_and_the_next_one_is_read_from_its_beginning(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", LOG)
    await ana.say("sd", "1", "2", "3")
    await bob.sees(3)
    await management.delete("queues", namespace[0].vhost, log_queue("sd").name)
    await eventually(lambda: bob.ends)
    assert isinstance(bob.ends[0], ChatClosed)
    assert not room.subscribed
    await room.connect()
    await ana.say("sd", "4")
    assert await bob.sees(4) == ["1", "2", "3", "4"]


async def test_leaving_a_log_leaves_the_others_alone_and_forgets_the_position(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    room = await bob.join("sd", LOG)
    await eva.join("sd")
    await ana.say("sd", "1")
    await bob.sees(1)
    await room.unsubscribe()
    assert await rig.registry.position("sd", "bob") is None
    (receipt,) = await ana.say("sd", "2")
    assert (receipt.outcome, receipt.listeners) == ("confirmed", 1)
    assert await eva.sees(2) == ["1", "2"]
    await room.connect()  # a new subscription: from the end
    await ana.say("sd", "3")
    assert await bob.sees(2) == ["1", "3"]


async def test_a_member_of_a_log_goes_and_comes_in_the_middle_of_a_flood(rig: Rig) -> None:
    ana, bob = rig.people("ana", "bob")
    other = await bob.join("other", DURABLE)  # on the same connection
    room = await bob.join("sd", LOG)
    total = 0
    for _ in range(15):
        sending = asyncio.create_task(ana.say("sd", *map(str, range(total, total + 200))))
        total += 200
        await bob.sees(total - 199)
        await room.disconnect()
        await room.connect()
        await sending
    assert await bob.sees(total) == [str(number) for number in range(total)]
    assert bob.ends == []
    assert other.connected


async def test_the_last_members_leave_a_log_at_once_and_it_is_deleted(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    people = rig.people("ana", "bob", "eva", "dan")
    for _ in range(3):
        rooms = [await person.join("sd", LOG) for person in people]
        await asyncio.gather(*(room.unsubscribe() for room in rooms))
        vhost = namespace[0].vhost
        assert await management.get("queues", vhost, log_queue("sd").name) is None
        assert await rig.registry.find_group("sd") is None
        assert [end for person in people for end in person.ends] == []


# --------------------------------------------------------------------------- as-reported


@pytest.mark.parametrize("backend", [AS_REPORTED, PERSISTENT])
async def test_everybody_there_sees_the_text_and_nobody_who_wrote_it(
    rig: Rig, backend: str, journal: Journal
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    for person in (ana, bob, eva):
        await person.join("sd", backend)
    receipts = await ana.say("sd", "hola", "adiós")
    assert {(r.outcome, r.listeners, r.waiting) for r in receipts} == {("sent", None, None)}
    for person in (ana, bob, eva):
        assert await person.sees(2) == ["hola", "adiós"]
        assert {message.sender for message in person.shown} == {SOMEBODY}
    sent = {fact.message.id for fact in journal.facts(j.Sent)}
    assert {fact.message.id for fact in journal.facts(j.Delivered)} == sent
    assert not {"Acked", "Confirmed"} & set(journal.counts())


async def test_the_report_s_messages_need_no_label(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    """The protocol is text on an exchange: the broker's own tools can take part."""
    bob = rig.person("bob")
    await bob.join("sd", AS_REPORTED)
    await management.post(
        *("exchanges", namespace[0].vhost, "sd", "publish"),
        body={
            "properties": {},
            "routing_key": "",
            "payload": "¡hola!",
            "payload_encoding": "string",
        },
    )
    assert await bob.sees(1) == ["¡hola!"]
    assert bob.shown[0].sender == SOMEBODY


@pytest.mark.parametrize("backend", [AS_REPORTED, PERSISTENT])
async def test_a_member_killed_with_much_in_its_local_buffer_has_lost_it(
    rig: Rig, backend: str, management: Management, namespace: Namespace
) -> None:
    ana, old = rig.people("ana", "bob")
    await old.join("sd", backend)
    old.life.gate.clear()  # slow: it has shown nothing yet
    await ana.say("sd", *map(str, range(2000)))

    def buffered() -> int:
        return len(old._groups["sd"]._consumer._buffer)  # type: ignore[attr-defined]

    await eventually(lambda: buffered() >= 1900)
    old.crash()
    new = rig.person("bob", settings=PATIENT)
    await new.join("sd")
    await ana.say("sd", "after")
    await eventually(lambda: "after" in new.bodies)
    assert new.bodies == ["after"]  # RabbitMQ had forgotten all 2,000
    assert old.bodies == []


async def test_persistent_messages_in_an_exclusive_queue_are_gone_on_disconnect(
    rig: Rig, management: Management, namespace: Namespace
) -> None:
    vhost = namespace[0].vhost
    ana, bob = rig.people("ana", "bob")
    room = await bob.group("sd", AS_REPORTED)
    await room.subscribe()
    found = await management.get("queues", vhost, queue_name("sd", "bob"))
    # Declared durable; RabbitMQ ignores that of an exclusive queue.
    assert (found["durable"], found["exclusive"]) == (False, True)
    await management.post(
        *("exchanges", vhost, "sd", "publish"),
        body={
            "properties": {"delivery_mode": 2},
            "routing_key": "",
            "payload": "paid for",
            "payload_encoding": "string",
        },
    )
    await bob.connections.close()
    new = rig.person("bob")
    await new.join("sd")
    await ana.say("sd", "after")
    assert await new.sees(1) == ["after"]


async def test_leaving_for_good_only_unbinds_and_the_queue_stays(
    rig: Rig, management: Management, namespace: Namespace, journal: Journal
) -> None:
    vhost = namespace[0].vhost
    ana, bob, eva = rig.people("ana", "bob", "eva")
    room = await bob.group("sd", PERSISTENT)
    await room.subscribe()
    await eva.join("sd")
    await ana.say("sd", "waits")
    await eva.sees(1)
    await room.unsubscribe()
    assert journal.counts()["Left"] == 1
    bindings = await management.get("exchanges", vhost, "sd", "bindings", "source")
    assert [binding["destination"] for binding in bindings] == [queue_name("sd", "eva")]
    await ana.say("sd", "not for bob")
    await eva.sees(2)

    async def stays() -> bool:
        found = await management.get("queues", vhost, queue_name("sd", "bob"))
        assert found is not None
        return bool(found.get("messages") == 1)

    await eventually_is(stays)
    await room.connect()  # back again: what nobody deleted is shown now
    assert await bob.sees(1) == ["waits"]


async def test_an_absent_member_of_the_report_s_groups_misses_or_finds_what_was_sent(
    rig: Rig,
) -> None:
    for backend, expected in ((AS_REPORTED, ["2"]), (PERSISTENT, ["1", "2"])):
        group = "p" if backend == PERSISTENT else "t"
        ana, bob = rig.people("ana", "bob")
        room = await bob.join(group, backend)
        await room.disconnect()
        await ana.say(group, "1")
        # Nobody is told when RabbitMQ has it; a round trip on the same connection tells us.
        await ana.connections.publishing.depths([queue_name(group, "bob")])
        await room.connect()
        await ana.say(group, "2")
        assert await bob.sees(len(expected)) == expected
