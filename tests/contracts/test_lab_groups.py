"""The other RabbitMQ groups through the public face: what a cell of a notebook sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatlab import plots
from chatlab.errors import BackendMismatch
from chatlab.lab import Lab
from chatlab.plots.events import read
from chatlab.settings import Settings

KEEPING = (
    *("rabbitmq-quorum", "rabbitmq-log", "rabbitmq-durable:persistent=no,confirms=no"),
    "as-reported:persistent=yes",
)


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("groups", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


@pytest.mark.parametrize("backend", KEEPING)
def test_an_absent_member_finds_what_was_sent_and_the_picture_says_so(
    lab: Lab, backend: str
) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    room = ana.join("sd", backend)
    bob.join("sd")
    eva.join("sd")
    with bob.away():
        receipts = room.send_many(["a", "b", "c"])
        assert len({receipt.outcome for receipt in receipts}) == 1
        eva.group("sd").wait(3)
    assert [message.body for message in bob.group("sd").wait(3)] == ["a", "b", "c"]
    assert lab.settle().done
    fates = {(flight.receiver, flight.fate) for flight in read(lab.current).flights}
    assert fates == {("bob", "waited"), ("eva", "at once")}
    assert plots.persistence(lab.current) is not None


def test_a_send_without_a_confirm_is_no_error_and_settle_waits_for_it(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room = ana.join("sd", "as-reported")
    bob.join("sd")
    receipt = room.send("hola")
    assert (receipt.outcome, receipt.listeners, receipt.waiting) == ("sent", None, None)
    assert lab.settle().done
    (message,) = bob.group("sd").received
    assert (message.body, message.sender) == ("hola", "?")


def test_settle_says_what_a_member_of_the_report_s_group_has_lost(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room = ana.join("sd", "as-reported:persistent=yes")
    bob.join("sd")
    bob.freeze()
    room.send_many(map(str, range(50)))
    lab.settle(timeout=0.5)
    bob.crash()
    bob.online()
    late = lab.settle(timeout=0.5).late
    # In the link or in the buffer, RabbitMQ had forgotten most of them.
    assert sum(row["messages"] for row in late) == 50 - len(bob.group("sd").received)


def test_a_late_joiner_of_a_log_chooses_and_the_group_is_one(lab: Lab) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    room = ana.join("news", "rabbitmq-log")
    room.send_many(["1", "2"])
    first = bob.join("news", "rabbitmq-log:from=first")
    following = eva.join("news")
    room.send("3")
    assert [m.body for m in first.wait(3)] == ["1", "2", "3"]
    assert [m.body for m in following.wait(1)] == ["3"]
    assert {first.backend, following.backend} == {"rabbitmq-log"}
    bob.join("news", "rabbitmq-log:from=first")  # again: no mismatch
    with pytest.raises(BackendMismatch):
        bob.join("news", "rabbitmq-quorum")
    assert lab.settle().done


def test_settle_knows_that_a_log_owes_a_late_joiner_what_it_asked_for(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("news", "rabbitmq-log").send_many(["1", "2"])
    seen = bob.subscribe("news", "rabbitmq-log:from=first")
    waiting = [(row["for"], row["messages"]) for row in lab.settle().waiting]
    assert waiting == [("bob", 2)]
    bob.join("news", "rabbitmq-log:from=first")
    assert lab.settle().done
    assert [m.body for m in seen.received] == ["1", "2"]


def test_a_position_in_the_log_outlives_a_crash(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room = ana.join("news", "rabbitmq-log")
    seen = bob.join("news")
    room.send("1")
    seen.wait(1)
    bob.crash()
    room.send("2")
    bob.online()
    assert [m.body for m in bob.group("news").wait(2)] == ["1", "2"]


@pytest.mark.parametrize("backend", ["rabbitmq-transient", "rabbitmq-log", "as-reported"])
def test_members_see_who_comes_and_goes(lab: Lab, backend: str) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    room = ana.join("sd", backend)
    assert room.members() == {"ana": True}
    seen = bob.subscribe("sd")
    assert room.members() == {"ana": True, "bob": False}
    seen.connect()
    eva.join("sd")
    assert room.members() == {"ana": True, "bob": True, "eva": True}
    with bob.away():
        assert room.members() == {"ana": True, "bob": False, "eva": True}
    eva.group("sd").unsubscribe()
    assert bob.group("sd").members() == {"ana": True, "bob": True}
