"""Insults in a Redis that is killed and started again, and behind a link that is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatlab.insults import guarantees
from chatlab.journal import Delivered
from chatlab.lab import Lab
from chatlab.settings import Settings

BACKENDS = ("redis-stream", "redis-list")


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("insults-killed", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_confirmed_outlives_a_kill_of_redis(lab: Lab, backend: str) -> None:
    assert guarantees(backend).broker_killed == "kept"
    ana, bob = lab.users("ana", "bob")
    sender = ana.insults("producer", backend=backend)
    receipts = sender.send_many(map(str, range(300)))
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    with lab.redis.killed():
        pass
    channel = bob.insults("consumer")
    assert [x.body for x in channel.wait(300, timeout=20)] == [str(n) for n in range(300)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_listeners_come_back_by_themselves_and_nothing_is_lost_or_done_twice(
    lab: Lab, backend: str
) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    channels = [bob.insults("consumer", backend=backend), eva.insults("consumer")]
    sender = ana.insults("producer")
    receipts = sender.send_many(map(str, range(50)))
    assert lab.settle().done
    with lab.redis.killed():
        pass
    receipts += sender.send_many(map(str, range(50, 100)))
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    assert lab.settle(timeout=20).done
    seen = [fact.message.id for fact in lab.journal.facts(Delivered)]
    assert sorted(seen) == sorted(receipt.id for receipt in receipts)
    assert sum(len(channel.received) for channel in channels) == 100


def test_what_a_member_behind_a_cut_link_held_goes_to_another(lab: Lab) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    channel = bob.insults("consumer", backend="redis-stream", prefetch=5, work=0.5)
    sender = ana.insults("producer")
    receipts = sender.send_many("abcde")
    channel.wait(1)
    lab.cut(bob, "redis")
    other = eva.insults("consumer", work=0)
    other.wait_for(receipts[-1], timeout=10)
    lab.heal(bob)
    assert lab.settle(timeout=10).done
    receipt = sender.send("whole again", require_listener=True)
    assert receipt.outcome == "confirmed"
    seen = {fact.message.id for fact in lab.journal.facts(Delivered)}
    assert {r.id for r in receipts} <= seen
    again = [f for f in lab.journal.facts(Delivered) if f.user == "eva" and f.redelivered]
    assert again
