"""The insult channel of a lab on every backend: what a cell of a notebook does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatlab.backends import INSULTS
from chatlab.errors import BackendMismatch, InvalidInput, NotPossible, PeerAway
from chatlab.insults import DEAD, DELIVERIES, guarantees
from chatlab.journal import Delivered, Handled
from chatlab.lab import Lab
from chatlab.plots.shares import jain, shares
from chatlab.settings import Settings

KEEPS_DEAD = [name for name in INSULTS if guarantees(name).poison == "kept"]


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("insults", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


@pytest.mark.parametrize("backend", INSULTS)
def test_thirty_insults_are_shared_and_the_picture_says_so(lab: Lab, backend: str) -> None:
    ana, *others = lab.users("ana", "bob", "eva")
    channels = [u.insults("consumer", backend=backend, work=0.02) for u in others]
    sender = ana.insults("producer")
    assert {receipt.outcome for receipt in sender.send_many(map(str, range(30)))} == {
        "confirmed"
    }
    assert lab.settle(timeout=10).done
    assert sum(len(channel.received) for channel in channels) == 30
    found = shares(lab.current)
    assert (found.members, found.total, found.lost) == (("bob", "eva"), 30, ())
    assert jain(found.counts) >= 0.95
    assert found.setting.words() not in ("insults", "mixed settings")
    assert channels[0].backend.startswith(f"{backend}:")
    assert lab.journal.header["tier"] == guarantees(backend).tier


@pytest.mark.parametrize("backend", KEEPS_DEAD)
def test_a_dead_letter_is_not_still_to_come_and_can_be_seen(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    bob.insults("consumer", backend=backend, fails_on="poison")
    sender = ana.insults("producer")
    receipt = sender.send("the poison")
    sender.send("fine")
    assert lab.settle(timeout=10).done
    assert [x.id for x in sender.dead_letters()] == [receipt.id]
    deliveries = [f for f in lab.journal.facts(Delivered) if f.message.id == receipt.id]
    assert len(deliveries) == DELIVERIES
    assert receipt.id not in [fact.id for fact in lab.journal.facts(Handled)]
    found = shares(lab.current)
    assert (found.got["bob"], found.taken_back["bob"], found.dead) == ((2,), (1,), (1,))
    state = {(row["thing"], row["name"]): row["value"] for row in lab.state()}
    where = {
        "redis-stream": ("insults", "insults:{stream}:dead"),
        "memory": ("dead letters", "insults"),
    }
    assert where.get(backend, ("messages in queue", DEAD)) in state


@pytest.mark.parametrize("backend", INSULTS)
def test_the_receiver_must_be_connected_if_that_is_required(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    sender = ana.insults("producer", backend=backend)
    with pytest.raises(PeerAway, match="Nobody listens") as caught:
        sender.send("now or never", require_listener=True)
    assert caught.value.receipt.outcome == "unroutable"
    waits = sender.send("I can wait")
    assert lab.settle().waiting
    channel = bob.insults("consumer")
    assert channel.wait_for(waits).body == "I can wait"
    receipts = sender.send_many(["a", "b"], require_listener=True)
    assert [channel.wait_for(receipt).body for receipt in receipts] == ["a", "b"]
    assert [message.body for message in channel.received] == ["I can wait", "a", "b"]


@pytest.mark.parametrize("backend", INSULTS)
def test_a_crash_gives_what_was_in_hand_to_another_where_that_is_promised(
    lab: Lab, backend: str
) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    channel = bob.insults("consumer", backend=backend, work=30)
    receipt = ana.insults("producer").send("hold this")
    channel.wait_for(receipt)
    bob.crash()
    other = eva.insults("consumer", work=0)
    if guarantees(backend).member_killed == "kept":
        assert other.wait_for(receipt).body == "hold this"
        assert lab.settle().done
        assert [f.redelivered for f in lab.journal.facts(Delivered)] == [False, True]
    else:
        assert ana.insults("producer").send("next").outcome == "confirmed"
        assert other.next().body == "next"
    bob.online()  # what was open is opened again
    assert ana.insults("producer").send("and on", require_listener=True).listeners == 2


@pytest.mark.parametrize("backend", [name for name in INSULTS if name != "memory"])
def test_what_the_process_of_a_killed_member_takes_along_is_as_declared(
    lab: Lab, backend: str
) -> None:
    dan = lab.user("dan", process=True)
    ana, eva = lab.users("ana", "eva")
    channel = dan.insults("consumer", backend=backend, work=30)
    sender = ana.insults("producer")
    receipts = sender.send_many("abc")
    channel.wait_for(receipts[0])
    dan.crash()  # SIGKILL, with the first in hand
    other = eva.insults("consumer", work=0)
    promised = guarantees(backend)
    if promised.member_killed == "kept":
        expected = ["a", "b", "c"]
    else:
        expected = [] if promised.turn == "greedy" else ["b", "c"]
    other.wait(len(expected), timeout=10)
    other.wait_for(sender.send("and on"))
    assert sorted(message.body for message in other.received) == sorted([*expected, "and on"])
    marked = [f.message.body for f in lab.journal.facts(Delivered) if f.redelivered]
    assert ("a" in marked) == (promised.member_killed == "kept")


@pytest.mark.parametrize("backend", ["rabbitmq-not-me", "redis-stream"])
def test_a_member_may_be_a_process_of_its_own(lab: Lab, backend: str) -> None:
    dan = lab.user("dan", process=True)
    (ana,) = lab.users("ana")
    channel = dan.insults("consumer", backend=backend, fails_on="poison")
    sender = ana.insults("producer")
    assert channel.wait_for(sender.send("hola")).body == "hola"
    receipt = sender.send("poison")
    assert lab.settle(timeout=10).done
    assert [x.id for x in channel.dead_letters()] == [receipt.id]


def test_memory_does_not_reach_another_process(lab: Lab) -> None:
    dan = lab.user("dan", process=True)
    (ana,) = lab.users("ana")
    ana.insults(backend="memory")
    with pytest.raises(NotPossible, match="another process"):
        dan.insults()


def test_what_does_not_fit_is_refused_by_name(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    with pytest.raises(InvalidInput, match="redis-stream"):
        ana.insults(backend="rabbit")
    with pytest.raises(InvalidInput, match="no option 'prefetch"):
        ana.insults(backend="redis-list", prefetch=3)
    ana.insults(backend="redis-list:work=0.01")
    with pytest.raises(BackendMismatch, match="redis-list, not rabbitmq"):
        bob.insults(backend="rabbitmq")
    assert bob.insults().backend == "redis-list:work=0"
    lab.scene("a new one")
    assert bob.insults(backend="rabbitmq", prefetch=3).backend.startswith("rabbitmq:prefetch=3")


def test_a_group_may_not_be_called_as_the_insult_queues_are(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="kept"):
        lab.user("ana").join("insults")
