"""A lab with services of its own: real kills, and what is left afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatlab.errors import SendFailed, SendUncertain, WaitTimeout
from chatlab.journal import Crashed, Delivered, FaultBegan, FaultEnded
from chatlab.lab import Lab
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("faults", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


def bodies(messages: object) -> list[str]:
    return [m.body for m in messages]  # type: ignore[attr-defined]


def test_what_a_durable_group_confirmed_survives_a_sigkill_of_rabbitmq(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room, other = ana.join("sd", backend="rabbitmq-durable"), bob.join("sd")
    bob.offline()
    receipts = room.send_many([str(n) for n in range(300)])
    with lab.rabbitmq.killed():
        assert not lab.rabbitmq.running
    bob.online()
    assert {r.outcome for r in receipts} == {"confirmed"}
    assert bodies(other.wait(300, timeout=30)) == [str(n) for n in range(300)]
    assert room.send("after").outcome == "confirmed"
    assert other.wait(301, timeout=30)[-1].body == "after"
    faults = [(f.fault, f.target) for f in lab.journal.facts(FaultBegan, FaultEnded)]
    assert faults == [("kill", "rabbitmq")] * 2


def test_a_member_that_stays_connected_recovers_by_itself(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    rooms = [
        (ana.join(b, backend=b), bob.join(b))
        for b in ("rabbitmq-transient", "rabbitmq-durable")
    ]
    lab.rabbitmq.restart()
    assert lab.settle(timeout=30).done
    for room, other in rooms:
        receipt = room.send("back again")
        assert other.wait_for(receipt, timeout=30).body == "back again"


def test_what_the_chat_server_confirmed_survives_its_sigkill(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob"), bob.private_chat("ana")
    bob.offline()
    receipts = chat.send_many([str(n) for n in range(300)])
    with lab.server.killed():
        assert not lab.server.running
        with pytest.raises((SendFailed, SendUncertain)):
            chat.send("to nobody")
    bob.online()
    assert {r.outcome for r in receipts} == {"confirmed"}
    seen = bodies(inbox.wait(300, timeout=30))
    assert [body for body in seen if body != "to nobody"][:300] == [str(n) for n in range(300)]
    assert inbox.wait_for(chat.send("after"), timeout=30).body == "after"


def test_a_restarted_chat_server_takes_the_place_of_the_killed_one(lab: Lab) -> None:
    def listed() -> list[str]:
        return [str(s) for s in lab._call(lab._registry.servers_of("mailbox-redis")).values()]

    (before,) = listed()
    lab.server.kill()
    lab.server.start()  # well before the killed one's lease is over
    (after,) = listed()
    assert after == lab.server.facts()["mailbox-redis"]
    assert after != before
    lab.settle(timeout=20)


def test_a_send_of_unknown_outcome_may_be_repeated_and_arrives_once(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob"), bob.private_chat("ana")
    inbox.wait_for(chat.send("before"))  # what never left has failed for certain
    lab.server.pause()
    with pytest.raises(SendUncertain) as caught:
        chat.send("did it arrive?")
    lab.server.resume()
    again = chat.send("did it arrive?", id=caught.value.receipt.id)
    assert inbox.wait_for(again, timeout=20).body == "did it arrive?"
    lab.settle()
    assert bodies(inbox.received) == ["before", "did it arrive?"]


def test_redis_comes_back_with_the_mailboxes_after_a_sigkill(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob"), bob.private_chat("ana")
    bob.offline()
    chat.send_many([str(n) for n in range(100)])
    with lab.redis.killed():
        pass
    bob.online()
    assert bodies(inbox.wait(100, timeout=30)) == [str(n) for n in range(100)]


def test_a_group_on_a_redis_stream_survives_a_sigkill_of_redis(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room, other = ana.join("sd", backend="redis-stream"), bob.join("sd")
    bob.offline()
    receipts = room.send_many([str(n) for n in range(300)])
    with lab.redis.killed():
        assert not lab.redis.running
    bob.online()
    assert {r.outcome for r in receipts} == {"confirmed"}
    assert bodies(other.wait(300, timeout=30)) == [str(n) for n in range(300)]
    assert room.send("after").outcome == "confirmed"
    assert other.wait(301, timeout=30)[-1].body == "after"


def test_a_user_in_a_process_of_its_own_survives_sigkill_and_sigstop(lab: Lab) -> None:
    ana = lab.user("ana")
    dan = lab.user("dan", process=True)
    chat, inbox = ana.private_chat("dan"), dan.private_chat("ana")
    room, other = ana.join("sd"), dan.join("sd")
    inbox.wait_for(chat.send("one"))
    other.wait_for(room.send("one"))
    life = dan.incarnation
    dan.crash()
    chat.send("two")
    room.send("two")
    dan.online()
    assert dan.incarnation == life + 1
    assert bodies(inbox.wait(2)) == bodies(other.wait(2)) == ["one", "two"]
    with dan.frozen():
        receipt = chat.send("three")
        with pytest.raises(WaitTimeout, match="dan is frozen"):
            inbox.wait_for(receipt, timeout=0.2)
    assert inbox.wait_for(receipt).body == "three"
    assert [f.user for f in lab.journal.facts(Crashed)] == ["dan"]
    lives = {f.incarnation for f in lab.journal.facts(Delivered) if f.user == "dan"}
    assert lives == {life, life + 1}


@pytest.mark.parametrize("service", ["rabbitmq", "server"])
def test_a_cut_link_hurts_one_user_and_heals_without_loss(lab: Lab, service: str) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    if service == "rabbitmq":
        here, there, third = ana.join("sd"), bob.join("sd"), eva.join("sd")
    else:
        here, there = ana.private_chat("bob"), bob.private_chat("ana")
        third = None
    there.wait_for(here.send("before"))
    lab.cut(bob, service)
    receipts = here.send_many([str(n) for n in range(50)])
    if third is not None:
        third.wait(51)
    assert len(there.received) == 1
    lab.heal(bob)
    assert bodies(there.wait(51, timeout=20)) == ["before", *(str(n) for n in range(50))]
    assert {r.outcome for r in receipts} == {"confirmed"}
    assert len({m.id for m in there.received}) == 51


def test_a_slow_link_delays_one_user(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob"), bob.private_chat("ana")
    inbox.wait_for(chat.send("quick"))
    lab.slow(bob, "server", 0.4)
    with pytest.raises(WaitTimeout):
        inbox.wait_for(chat.send("slow"), timeout=0.3)
    assert inbox.wait(2)[-1].body == "slow"
    lab.heal(bob)


def test_an_insult_in_the_hand_of_a_crashed_member_goes_to_another(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.insults(role="producer")
    channel = bob.insults(role="consumer", work=30)
    receipt = ana.insults(role="producer").send("hold this")
    channel.wait_for(receipt)
    bob.crash()
    other = ana.insults(role="both")
    assert other.wait_for(receipt).body == "hold this"
    assert lab.settle().done
    (first, second) = lab.journal.facts(Delivered)
    assert (first.user, first.redelivered) == ("bob", False)
    assert (second.user, second.redelivered) == ("ana", True)
