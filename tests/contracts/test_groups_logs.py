"""What the groups with a log and cursors do at their limits, in Redis and in memory alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rabbit_rig import Person, Rig, eventually

from chatlab import journal as j
from chatlab.errors import ChatClosed, NotPossible
from chatlab.groups import redis_stream
from chatlab.groups.log import Limits, LogMember
from chatlab.groups.memory import MemoryLog, hub
from chatlab.groups.redis_stream import RedisLog, streams
from chatlab.journal import Journal
from chatlab.messages import Receipt
from chatlab.services.addresses import RabbitAddress, RedisAddress

SMALL = Limits(messages=3, history_messages=2, members=2)

Namespace = tuple[RabbitAddress, RedisAddress]


@pytest.fixture(params=["redis-stream", "memory"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def handle(person: Person, backend: str, limits: Limits = SMALL) -> LogMember:
    """A handle whose log has these limits."""
    member = await person.group("sd", backend)
    assert isinstance(member, LogMember)
    assert isinstance(member._log, RedisLog | MemoryLog)
    member._log.limits = limits
    return member


async def length(rig: Rig, person: Person) -> int:
    """How many messages the log of sd holds now."""
    found = {thing: n for thing, _, n in await streams(rig.registry.redis)}
    group = hub(person.life.lab).groups.get("sd")
    return found.get("group: messages in stream", 0) + (len(group.log) if group else 0)


def outcomes(receipts: list[Receipt]) -> list[str]:
    return [receipt.outcome for receipt in receipts]


async def test_at_the_limit_sending_is_refused_and_says_which_and_who_is_behind(
    rig: Rig, backend: str, journal: Journal
) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    room = await handle(bob, backend)
    await room.subscribe()
    await (await handle(eva, backend)).connect()
    await handle(ana, backend)
    receipts = await ana.say("sd", *"abcde")
    assert outcomes(receipts) == [*["confirmed"] * 3, *["failed"] * 2]
    assert receipts[3].error == "MailboxFull"
    assert "3 messages" in receipts[3].reason
    assert "bob" in receipts[3].reason
    assert journal.counts()["Failed"] == 2
    assert await eva.sees(3) == list("abc")
    await room.connect()  # bob reads: there is room again
    await bob.sees(3)
    await eventually(lambda: room.state()["unacked"] == 0)
    assert outcomes(await ana.say("sd", "f")) == ["confirmed"]
    assert await bob.sees(4) == await eva.sees(4) == list("abcf")


async def test_who_unsubscribes_does_not_hold_up_the_others(rig: Rig, backend: str) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    room = await handle(bob, backend)
    await room.subscribe()
    await (await handle(eva, backend)).connect()
    await handle(ana, backend)
    assert outcomes(await ana.say("sd", *"abcd"))[-1] == "failed"
    await eva.sees(3)
    await eventually(lambda: eva._groups["sd"].state()["unacked"] == 0)
    await room.unsubscribe()
    assert outcomes(await ana.say("sd", *"efg")) == ["confirmed"] * 3
    assert await eva.sees(6) == list("abcefg")


async def test_bytes_are_limited_too(rig: Rig, backend: str) -> None:
    ana, bob = rig.people("ana", "bob")
    await (await handle(bob, backend)).subscribe()
    await handle(ana, backend, Limits(bytes=1_000))
    receipts = await ana.say("sd", "x" * 700, "y" * 700)
    assert outcomes(receipts) == ["confirmed", "failed"]
    assert "MiB" in receipts[1].reason


async def test_what_all_have_acknowledged_is_trimmed_to_a_short_history(
    rig: Rig, backend: str
) -> None:
    ana, bob = rig.people("ana", "bob")
    await (await handle(bob, backend)).connect()
    await handle(ana, backend)
    for number in range(20):
        await ana.say("sd", str(number))
        await bob.sees(number + 1)
        await eventually(lambda: bob._groups["sd"].state()["unacked"] == 0)
    assert await length(rig, ana) == SMALL.history_messages


async def test_an_id_is_stored_once(rig: Rig, backend: str, journal: Journal) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.group("sd", backend)
    await room.subscribe()
    message = ana.life.message("group:sd", "sd", "once")
    sender = await ana.group("sd")
    for _ in range(2):
        (receipt,) = await sender.send([message])
        assert (receipt.outcome, receipt.waiting) == ("confirmed", 1)
    (receipt,) = await ana.say("sd", "next")
    assert receipt.waiting == 2
    await room.connect()
    assert await bob.sees(2) == ["once", "next"]
    assert "Discarded" not in journal.counts()


async def test_with_maxlen_the_oldest_go_and_who_misses_them_is_told(
    rig: Rig, backend: str, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.group("sd", f"{backend}:maxlen=4")
    await room.subscribe()
    receipts = await ana.say("sd", *"abcdefg")
    assert outcomes(receipts) == ["confirmed"] * 7
    assert receipts[-1].waiting == 4
    await room.connect()
    assert await bob.sees(4) == list("defg")
    assert room.state()["missed"] == 3
    (gap,) = journal.facts(j.Disconnected)
    assert "3 messages" in gap.reason
    assert room.connected
    await ana.say("sd", "h")
    assert await bob.sees(5) == list("defgh")
    assert room.state()["missed"] == 3
    assert await length(rig, ana) == 4


async def test_a_group_has_so_many_members_and_no_more(rig: Rig, backend: str) -> None:
    people = rig.people("ana", "bob", "eva")
    for person in people[:2]:
        await (await handle(person, backend)).subscribe()
    with pytest.raises(NotPossible, match="2 members"):
        await (await handle(people[2], backend)).subscribe()
    await (await people[0].group("sd")).unsubscribe()
    await (await people[2].group("sd")).subscribe()


async def test_a_log_deleted_under_its_member_is_said_and_may_be_joined_again(
    rig: Rig, backend: str, journal: Journal
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", backend)
    redis = rig.registry.redis
    await redis.driver.delete(*[redis.key("group", "{sd}", x) for x in ("cursors", "me")])
    hub(bob.life.lab).forget()
    await redis.driver.publish(redis.key("group-new", "sd"), "look")
    await eventually(lambda: bob.ends)
    assert isinstance(bob.ends[0], ChatClosed)
    assert not room.connected
    assert not room.subscribed
    (gone,) = journal.facts(j.Disconnected)
    assert "deleted" in gone.reason
    await room.connect()
    await ana.say("sd", "hola")
    assert await bob.sees(1) == ["hola"]


async def test_state_shows_the_stream_and_each_cursor(rig: Rig) -> None:
    ana, bob, eva = rig.people("ana", "bob", "eva")
    room = await bob.group("sd", "redis-stream")
    await room.subscribe()
    await eva.join("sd")
    await ana.say("sd", "a", "b")
    await eva.sees(2)
    await eventually(lambda: eva._groups["sd"].state()["unacked"] == 0)
    assert await streams(rig.registry.redis) == [
        ("group: messages in stream", "sd", 2),
        ("group: cursor", "sd: bob", 0),
        ("group: waiting", "sd: bob", 2),
        ("group: cursor", "sd: eva", 2),
        ("group: waiting", "sd: eva", 0),
    ]


async def test_an_entry_that_another_program_adds_is_refused_and_said_what_to_do(
    rig: Rig,
) -> None:
    ana, bob = rig.people("ana", "bob")
    room = await bob.join("sd", "redis-stream")
    await ana.say("sd", "ours")
    await bob.sees(1)
    redis = rig.registry.redis
    await redis.driver.xadd(redis.key("group", "{sd}", "log"), {"body": "hola"})
    (receipt,) = await ana.say("sd", "refused")
    assert (receipt.outcome, receipt.error) == ("failed", "SendFailed")
    assert "another program" in receipt.reason
    await room.disconnect()
    await room.connect()  # who reads is not harmed
    assert room.state()["missed"] == 0
    await room.unsubscribe()
    await room.connect()
    assert outcomes(await ana.say("sd", "on")) == ["confirmed"]
    assert await bob.sees(2) == ["ours", "on"]
    assert bob.ends == []


async def test_a_pause_for_trimming_is_bounded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_stream, "TRIM_STEP", 2)
    ana, bob = rig.people("ana", "bob")
    await (await handle(bob, "redis-stream", replace(SMALL, messages=100))).subscribe()
    await handle(ana, "redis-stream", replace(SMALL, messages=100))
    await ana.say("sd", *map(str, range(10)))
    await (await bob.group("sd")).unsubscribe()
    assert await length(rig, ana) == 0


async def test_memory_refuses_who_is_in_another_process(rig: Rig) -> None:
    ana, bob = rig.people("ana", "bob")
    await bob.join("sd", "memory")
    stranger = rig.person("eva")
    other = await stranger.group("sd")
    assert isinstance(other, LogMember)
    assert isinstance(other._log, MemoryLog)
    other._log.hub = type(other._log.hub)()  # type: ignore[attr-defined]
    with pytest.raises(NotPossible, match="bob"):
        await other.subscribe()
    (receipt,) = await stranger.say("sd", "hola")
    assert (receipt.outcome, receipt.error) == ("failed", "NotPossible")
    await ana.say("sd", "here")
    assert await bob.sees(1) == ["here"]
