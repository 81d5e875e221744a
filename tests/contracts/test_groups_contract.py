"""What a group promises, on every backend, each test reading the declared guarantees.

A new backend is proved by one line in :data:`BACKENDS`. What only RabbitMQ has (exchanges,
queues, the management API) is in ``test_groups_rabbitmq.py``.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
from rabbit_rig import LinkedRig, Person, eventually, eventually_is

from chatlab import journal as j
from chatlab.errors import BackendMismatch, InvalidInput, Taken
from chatlab.groups.as_reported import SOMEBODY
from chatlab.groups.guarantees import Guarantees, guarantees
from chatlab.journal import Journal
from chatlab.messages import Receipt
from chatlab.resp import Redis
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings

BACKENDS = [
    "rabbitmq-transient",
    "rabbitmq-durable",
    "rabbitmq-durable:persistent=no",
    "rabbitmq-durable:confirms=no",
    "rabbitmq-durable:exchange=transient",
    "rabbitmq-quorum",
    "rabbitmq-log",
    "redis-pubsub",
    "redis-stream",
    "redis-stream:maxlen=1000",
    "memory",
    "as-reported",
    "as-reported:persistent=yes",
]
#: Where a connection can be cut.
LINKED = [backend for backend in BACKENDS if guarantees(backend).link_cut != "no broker"]
CHAT = "group:sd"
#: The management API may list a new connection only after 5 s.
PATIENT = Settings(lease_seconds=1.5, heartbeat_seconds=3, send_seconds=12)

Namespace = tuple[RabbitAddress, RedisAddress]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def promised(backend: str) -> Guarantees:
    return guarantees(backend)


def kept(fate: str) -> bool:
    """Whether it must be there; ``maxlen`` promises less than these small runs need."""
    return fate != "lost"


def accepted(
    receipts: list[Receipt],
    promised: Guarantees,
    listeners: int | None = None,
    waiting: int | None = None,
) -> None:
    """Each is as good as the backend can say; ``None``: whatever it says."""
    for receipt in receipts:
        if not promised.confirms:
            assert (receipt.outcome, receipt.listeners, receipt.waiting) == ("sent", None, None)
            continue
        assert receipt.outcome == "confirmed"
        assert listeners in (None, receipt.listeners)
        assert waiting is None or not promised.counts_waiting or receipt.waiting == waiting


def held_by(person: Person) -> int | None:
    """Messages of sd that have arrived at this client and are not done with; ``None``: such
    a client does not know."""
    state = person._groups["sd"].state()
    held = state.get("local buffer", state.get("unacked"))
    assert held is None or isinstance(held, int)
    return held


def gaps(journal: Journal) -> list[str]:
    """Reasons of the Disconnected facts that a Connected follows at once."""
    facts = [f for f in journal if isinstance(f, j.Connected | j.Disconnected)]
    return [
        first.reason
        for first, second in itertools.pairwise(facts)
        if isinstance(first, j.Disconnected)
        and isinstance(second, j.Connected)
        and "issed" in first.reason
        and second.user == first.user
    ]


async def stored_for(redis: Redis, user: str) -> list[str]:
    """What of a user is left in Redis outside the name server, as text."""
    found = []
    async for key in redis.driver.scan_iter(redis.key("group", "*")):
        if await redis.driver.type(key) == "hash":
            found += [f"{key} {f}" for f in await redis.driver.hkeys(key) if user in f]
        elif await redis.driver.type(key) == "zset":
            found += [key for member in await redis.driver.zrange(key, 0, -1) if member == user]
    return found


class TestGroups:
    """One class of behaviour."""

    # ------------------------------------------------------------ fan-out, order, facts

    async def test_every_member_gets_every_message_in_its_sender_s_order(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        people = rig.people("ana", "bob", "eva")
        for person in people:
            await person.join("sd", backend)

        async def talk(sender: int) -> None:
            for part in range(3):
                bodies = [f"{sender}:{part * 20 + number}" for number in range(20)]
                receipts = await people[sender].say("sd", *bodies)
                accepted(receipts, promised, listeners=2, waiting=0)

        await asyncio.gather(*map(talk, range(3)))
        for person in people:
            await person.sees(180)
            for sender, name in enumerate(("ana", "bob", "eva")):
                of_one = [x for x in person.shown if x.body.startswith(f"{sender}:")]
                assert [x.body for x in of_one] == [f"{sender}:{n}" for n in range(60)]
                assert [message.seq for message in of_one] == list(range(1, 61))
                names = {message.sender for message in of_one}
                assert names == ({name} if promised.names_sender else {SOMEBODY})
            assert len(person.shown) == 180
            assert person.redelivered == []
        assert "Discarded" not in journal.counts()
        assert gaps(journal) == []

    async def test_a_long_batch_arrives_whole_and_in_order(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        await bob.join("sd", backend)
        bodies = [str(number) for number in range(950)]
        accepted(await ana.say("sd", *bodies), promised)
        assert await bob.sees(950) == bodies

    async def test_facts_come_in_the_order_of_what_happened(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        await bob.join("sd", backend)
        (receipt,) = await ana.say("sd", "hola")
        await bob.sees(1)
        if promised.acknowledged:
            await eventually(lambda: "Acked" in journal.counts())
        room = await bob.group("sd")
        await room.disconnect()
        await room.unsubscribe()
        facts = [fact for fact in journal if fact.chat == CHAT]
        acked = ["Acked"] if promised.acknowledged else []
        assert [type(fact).__name__ for fact in facts if fact.user == "bob"] == [
            *("Subscribed", "Connected", "Delivered"),
            *(*acked, "Disconnected", "Left"),
        ]
        kinds = [type(fact).__name__ for fact in facts]
        assert ("Confirmed" in kinds) is promised.confirms
        assert not promised.confirms or kinds.index("Sent") < kinds.index("Confirmed")
        assert kinds.index("Sent") < kinds.index("Delivered")
        (connected,) = journal.facts(j.Connected)
        assert (connected.backend, connected.role) == (backend, "member")
        (delivered,) = journal.facts(j.Delivered)
        (sent,) = journal.facts(j.Sent)
        sender = "ana" if promised.names_sender else SOMEBODY
        assert delivered.message == sent.message._replace(sender=sender)
        accepted([receipt], promised, listeners=1, waiting=0)

    async def test_a_late_joiner_sees_what_is_sent_since_it_subscribed(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana, bob, eva = rig.people("ana", "bob", "eva")
        await bob.join("sd", backend)
        await ana.say("sd", "before")
        await bob.sees(1)
        await eva.join("sd")
        await ana.say("sd", "after")
        assert await bob.sees(2) == ["before", "after"]
        if promised.late == "lost":
            assert await eva.sees(1) == ["after"]
        else:
            assert (await eva.sees(1))[-1] == "after"

    async def test_a_sender_that_is_a_member_gets_its_own_messages(
        self, rig: LinkedRig, backend: str
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        await ana.join("sd", backend)
        await bob.join("sd")
        await ana.say("sd", "mine")
        assert await ana.sees(1) == await bob.sees(1) == ["mine"]

    # ------------------------------------------------------------------ away and back

    async def test_an_absent_member_misses_what_is_sent_or_finds_it_waiting(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        ana, bob, eva = rig.people("ana", "bob", "eva")
        for person in (ana, bob, eva):
            await person.join("sd", backend)
        room = await bob.group("sd")
        await ana.say("sd", "0")
        await bob.sees(1)
        await room.disconnect()
        for number, body in enumerate("123", start=1):
            receipts = await ana.say("sd", body)
            waits = number if kept(promised.away) else 0
            accepted(receipts, promised, listeners=1, waiting=waits)
        await eva.sees(4)
        await room.connect()
        await ana.say("sd", "4")
        if kept(promised.away):
            assert await bob.sees(5) == list("01234")
            assert bob.redelivered == []
        else:
            assert await bob.sees(2) == ["0", "4"]
        assert await eva.sees(5) == list("01234")
        assert gaps(journal) == []  # who leaves knows that it misses something

    async def test_subscribed_and_not_yet_connected_is_absent_too(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        room = await bob.group("sd", backend)
        await room.subscribe()
        assert (room.subscribed, room.connected) == (True, False)
        if not kept(promised.away):
            return
        accepted(await ana.say("sd", "waits"), promised, listeners=0, waiting=1)
        await room.connect()
        assert await bob.sees(1) == ["waits"]

    async def test_a_frozen_member_is_shown_nothing_until_it_thaws(
        self, rig: LinkedRig, backend: str
    ) -> None:
        ana, bob, eva = rig.people("ana", "bob", "eva")
        for person in (bob, eva):
            await person.join("sd", backend)
        bob.life.gate.clear()
        await ana.say("sd", "a", "b")
        await eva.sees(2)
        assert bob.shown == []
        bob.life.gate.set()
        assert await bob.sees(2) == ["a", "b"]

    async def test_a_frozen_member_can_be_taken_offline_and_shows_nothing(
        self, rig: LinkedRig, backend: str
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        room = await bob.join("sd", backend)
        bob.life.gate.clear()
        await ana.say("sd", "a")
        await room.disconnect()
        assert bob.shown == []
        assert not room.connected

    async def test_a_crash_in_the_middle_of_the_work(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana = rig.person("ana")
        old = rig.person("bob", settings=PATIENT)
        await old.join("sd", backend)
        await ana.say("sd", "shown")
        await old.sees(1)
        await eventually(lambda: held_by(old) in (0, None))
        old.life.gate.clear()
        await ana.say("sd", "held 1", "held 2")
        await eventually(lambda: held_by(old) in (2, None))
        old.crash()
        new = rig.person("bob", settings=PATIENT)
        await new.join("sd", backend)
        await ana.say("sd", "after")
        if kept(promised.killed):
            assert await new.sees(3) == ["held 1", "held 2", "after"]
            held = [message.id for message in new.shown[:2]]
            assert new.redelivered == (held if promised.marks_held else [])
        else:
            assert await new.sees(1) == ["after"]
            assert new.redelivered == []
        assert old.bodies == ["shown"]

    # ---------------------------------------------------------------------- takeover

    async def test_a_second_life_takes_over_at_once_and_the_first_is_told(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana = rig.person("ana")
        old, new = (rig.person("bob", settings=PATIENT) for _ in range(2))
        await old.join("sd", backend)
        await ana.say("sd", "shown")
        await old.sees(1)
        await new.join("sd")
        if not promised.takes_over:  # messages go to either, and nobody is told
            await ana.say("sd", *"0123456789")
            await eventually(lambda: len(old.shown) + len(new.shown) == 11)
            assert 1 < len(old.shown) < 11
            return
        await eventually(lambda: old.ends)
        assert isinstance(old.ends[0], Taken)
        assert not (await old.group("sd")).connected
        accepted(await ana.say("sd", "new"), promised, listeners=1)
        assert await new.sees(1) == ["new"]
        assert old.bodies == ["shown"]

    async def test_a_frozen_life_that_was_taken_over_shows_nothing_more(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana = rig.person("ana")
        old, new = (rig.person("bob", settings=PATIENT) for _ in range(2))
        await old.join("sd", backend)
        old.life.gate.clear()
        await ana.say("sd", "held")
        await eventually(lambda: held_by(old) != 0)
        if not promised.takes_over:
            return
        await new.join("sd")
        await ana.say("sd", "new")
        if kept(promised.away):
            assert await new.sees(2) == ["held", "new"]
            assert (new.shown[0].id in new.redelivered) is promised.marks_held
        else:
            assert await new.sees(1) == ["new"]
        old.life.gate.set()
        await eventually(lambda: old.ends)
        assert isinstance(old.ends[0], Taken)
        # The report's client shows what is in its local buffer, whatever happened.
        assert old.bodies == ([] if promised.names_sender else ["held"])

    async def test_an_older_life_cannot_come_back(self, rig: LinkedRig, backend: str) -> None:
        old, new = (rig.person("bob", settings=PATIENT) for _ in range(2))
        await new.join("sd", backend)
        with pytest.raises(Taken):
            await old.join("sd", backend)
        assert (await new.group("sd")).connected
        assert not (await old.group("sd")).connected

    async def test_two_handles_of_one_life_show_each_message_once(
        self, rig: LinkedRig, backend: str
    ) -> None:
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

    # -------------------------------------------------------------- joining and leaving

    async def test_subscribing_and_connecting_twice_changes_nothing(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        room = await bob.group("sd", backend)
        for _ in range(2):
            await room.subscribe()
        await asyncio.gather(*(room.connect() for _ in range(3)))
        accepted(await ana.say("sd", "once"), promised, listeners=1)
        await ana.say("sd", "last")
        assert await bob.sees(2) == ["once", "last"]
        assert journal.counts()["Subscribed"] == journal.counts()["Connected"] == 1

    async def test_unsubscribing_removes_what_was_stored_and_nobody_else_s(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        ana, bob, eva = rig.people("ana", "bob", "eva")
        room, other = await bob.join("sd", backend), await eva.join("sd")
        await ana.say("sd", "a")
        await bob.sees(1)
        await room.unsubscribe()
        assert (room.subscribed, room.connected) == (False, False)
        assert await stored_for(rig.registry.redis, "bob") == []
        accepted(await ana.say("sd", "b"), promised, listeners=1)
        assert await eva.sees(2) == ["a", "b"]
        await other.unsubscribe()
        assert await rig.registry.find_group("sd") is None
        assert await rig.registry.redis.driver.keys(rig.registry.redis.key("group", "*")) == []
        await room.unsubscribe()  # again: nothing
        await room.connect()  # a new beginning
        accepted(await ana.say("sd", "c"), promised, listeners=1)
        assert await bob.sees(2) == ["a", "c"]

    async def test_two_members_leave_in_any_order_and_nobody_else_is_touched(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        people = rig.people("ana", "bob", "eva", "dan")
        ana, bob, eva, dan = people
        for person in people:
            await person.join("sd", backend)
        bob.crash()
        await (await eva.group("sd")).unsubscribe()

        async def one_listens() -> bool:
            (receipt,) = await ana.say("sd", "still here?")
            return not promised.confirms or receipt.listeners == 1

        await eventually_is(one_listens)  # a broker needs a moment to see the crash
        await dan.sees(1)
        assert eva.shown == []

    async def test_a_message_that_reaches_nobody_else_is_unroutable(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        ana, bob = rig.people("ana", "bob")
        await ana.group("sd", backend)
        if not promised.confirms:  # lost without a word
            accepted(await ana.say("sd", "to nobody"), promised)
            assert "Returned" not in journal.counts()
            return
        (receipt,) = await ana.say("sd", "to a group that nobody ever joined")
        assert (receipt.outcome, receipt.reason) == ("unroutable", "nobody else listens to sd")
        room = await ana.join("sd", backend)
        (receipt,) = await ana.say("sd", "to myself")
        outcome = "confirmed" if promised.keeps_for_nobody else "unroutable"
        assert (receipt.outcome, receipt.listeners, receipt.waiting) == (outcome, 0, 0)
        await bob.join("sd")
        (receipt,) = await ana.say("sd", "to bob")
        assert receipt.outcome == "confirmed"
        await (await bob.group("sd")).unsubscribe()
        await room.unsubscribe()
        receipts = await ana.say("sd", "a", "b")
        assert [receipt.outcome for receipt in receipts] == ["unroutable", "unroutable"]
        assert journal.counts()["Returned"] == (3 if promised.keeps_for_nobody else 4)

    async def test_a_group_keeps_its_backend_and_a_mismatch_names_both(
        self, rig: LinkedRig, backend: str
    ) -> None:
        ana, bob, eva = rig.people("ana", "bob", "eva")
        others = [name for name in BACKENDS if name != backend]
        # They have a handle before the first subscribes.
        early = [(name, await rig.person("dan").group("sd", name)) for name in others]
        await ana.join("sd", backend)
        for other, late in early:
            with pytest.raises(BackendMismatch) as refused:
                await bob.group("sd", other)
            assert f" {backend}, not {other}." in str(refused.value)
            with pytest.raises(BackendMismatch) as refused:
                await late.subscribe()
            assert f" {backend}, not {other}." in str(refused.value)
            assert not late.subscribed
        assert (await bob.join("sd")).backend == backend
        spelled = {"redis-stream": ":maxlen=0", "rabbitmq-durable": ":confirms=yes"}
        same = await eva.group("sd", backend + spelled.get(backend, ""))
        await same.subscribe()
        assert same.backend == backend

    async def test_members_see_each_other_come_and_go(
        self, rig: LinkedRig, backend: str, settings: Settings
    ) -> None:
        ana, bob, eva = rig.people("ana", "bob", "eva")
        registry = rig.registry
        for person in (ana, bob, eva):  # as the lab's clients do: a presence under a lease
            life = person.life
            await registry.claim(life.user, life.secret, "here", life.incarnation)

        async def seen() -> dict[str, bool]:
            """What any member can ask; only ana's lease goes on, and eva's until she dies."""
            return await registry.group_members("sd")

        await ana.join("sd", backend)
        assert await seen() == {"ana": True}
        room = await bob.group("sd")
        await room.subscribe()
        assert await seen() == {"ana": True, "bob": False}
        await room.connect()
        assert await seen() == {"ana": True, "bob": True}
        await room.disconnect()
        assert await seen() == {"ana": True, "bob": False}
        await room.unsubscribe()
        assert await seen() == {"ana": True}
        await eva.join("sd")
        assert await seen() == {"ana": True, "eva": True}
        eva.crash()

        async def gone() -> bool:
            await registry.renew("ana", ana.life.incarnation)
            return await seen() == {"ana": True, "eva": False}

        # Nobody renews eva's lease; nothing else tells of her end.
        await eventually_is(gone, settings.lease_seconds + 1)

    # ------------------------------------------------------------------ names and bodies

    async def test_names_and_backends_that_cannot_be_are_refused(
        self, rig: LinkedRig, backend: str
    ) -> None:
        ana = rig.person("ana")
        for name in ("a/b", "", "amq.fanout", "x" * 65):
            with pytest.raises(InvalidInput):
                await ana.group(name, backend)
        with pytest.raises(InvalidInput, match="rabbitmq-durable"):
            await ana.group("sd", f"{backend.partition(':')[0]}-eternal")

    async def test_any_name_and_body_that_is_allowed_arrives_unchanged(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        group, user = "größe.日本-x_1", "ñandú"
        ana, bob = rig.people(user, "b" * 64)
        await bob.join(group, backend)
        bodies = ["a", "x" * 65_536, "línea\nlínea\0", "🙃" * 1000, " ", "[1, 2]", "0 0 []"]
        accepted(await ana.say(group, *bodies), promised)
        assert await bob.sees(7) == bodies
        sender = user if promised.names_sender else SOMEBODY
        assert {message.sender for message in bob.shown} == {sender}

    async def test_names_that_contain_each_other_do_not_meet(
        self, rig: LinkedRig, backend: str
    ) -> None:
        ana, anabel, eva = rig.people("ana", "anabel", "eva")
        await ana.join("sd", backend)
        await anabel.join("sd.x", backend)
        await eva.group("sd.x", backend)
        await eva.group("sd", backend)
        await eva.say("sd", "to ana")
        await eva.say("sd.x", "to anabel")
        assert await ana.sees(1) == ["to ana"]
        assert await anabel.sees(1) == ["to anabel"]

    # --------------------------------------------------------------------------- faults

    @pytest.mark.parametrize("backend", LINKED)
    async def test_a_member_whose_link_was_cut(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        ana, eva = rig.people("ana", "eva")
        bob, links = await rig.linked("bob", settings=PATIENT)
        room = await bob.join("sd", backend)
        await eva.join("sd")
        await ana.say("sd", "before")
        await bob.sees(1)
        for link in links:
            link.cut()
        await eventually(lambda: not room.connected)
        during = [f"during {number}" for number in range(5)]
        accepted(await ana.say("sd", *during), promised)
        await eva.sees(6)
        for link in links:
            link.heal()
        await eventually(lambda: room.connected)
        await ana.say("sd", "after")
        assert await eva.sees(7) == ["before", *during, "after"]
        if kept(promised.link_cut):
            assert await bob.sees(7) == ["before", *during, "after"]
        else:
            assert await bob.sees(2) == ["before", "after"]
        missing = not kept(promised.link_cut) and promised.reports_gaps
        assert [("5 messages" in reason) for reason in gaps(journal)] == [True] * missing
        if promised.reports_gaps:
            assert room.state()["missed"] == (5 if missing else 0)

    @pytest.mark.parametrize("backend", LINKED)
    async def test_a_sender_whose_link_is_cut_sends_when_it_is_whole_again(
        self, rig: LinkedRig, backend: str, promised: Guarantees
    ) -> None:
        bob = rig.person("bob")
        ana, links = await rig.linked("ana", settings=PATIENT)
        await bob.join("sd", backend)
        await ana.say("sd", "first")
        for link in links:
            link.cut()
        sending = asyncio.create_task(ana.say("sd", "a", "b"))
        sending_next = asyncio.create_task(ana.say("sd", "c"))
        await asyncio.sleep(0)
        assert not (promised.confirms and sending.done())
        for link in links:
            link.heal()
        accepted([*await sending, *await sending_next], promised)
        if promised.confirms:
            assert await bob.sees(4) == ["first", "a", "b", "c"]
            return

        async def arrives() -> bool:
            await ana.say("sd", "last")  # a sender that is told nothing does not know when
            return "last" in bob.bodies

        await eventually_is(arrives)
        there = [body for body in bob.bodies if body != "last"]
        assert there == [body for body in ("first", "a", "b", "c") if body in there]

    @pytest.mark.parametrize("backend", LINKED)
    async def test_a_broker_that_is_not_there_is_said_within_the_deadline(
        self, rig: LinkedRig, backend: str, promised: Guarantees, journal: Journal
    ) -> None:
        bob = rig.person("bob")
        ana, links = await rig.linked("ana", settings=Settings(send_seconds=0.5))
        await bob.join("sd", backend)
        await ana.group("sd")
        for link in links:
            link.cut()
        async with asyncio.timeout(5):
            (receipt,) = await ana.say("sd", "a")
        assert receipt.outcome in ("failed", "uncertain")
        for link in links:
            link.heal()
        assert bob.shown == []
        assert journal.counts().get("Failed", 0) + journal.counts().get("Uncertain", 0) == 1
