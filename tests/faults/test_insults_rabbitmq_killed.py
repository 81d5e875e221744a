"""Insults in a RabbitMQ that is killed and started again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatlab.insults import guarantees
from chatlab.journal import Delivered
from chatlab.lab import Lab
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("insults-killed", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.mark.parametrize("backend", ["rabbitmq", "rabbitmq-not-me", "rabbitmq"])
def test_what_a_new_queue_has_confirmed_is_there_although_the_broker_is_killed_at_once(
    lab: Lab, backend: str
) -> None:
    assert guarantees(backend).broker_killed == "kept"
    lab.scene(backend)
    ana, bob = lab.users("ana", "bob")
    receipts = ana.insults("producer", backend=backend).send_many(map(str, range(40)))
    with lab.rabbitmq.killed():
        pass
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    found = bob.insults("consumer").wait(40, timeout=60)
    assert [message.id for message in found] == [receipt.id for receipt in receipts]


@pytest.mark.parametrize("backend", ["rabbitmq", "rabbitmq-not-me"])
def test_members_come_back_by_themselves_and_what_was_confirmed_is_there(
    lab: Lab, backend: str
) -> None:
    assert guarantees(backend).broker_killed == "kept"
    lab.scene(backend)
    ana, bob, eva = lab.users("ana", "bob", "eva")
    channel = bob.insults("consumer", backend=backend, work=0.05)
    sender = ana.insults("producer")
    receipts = sender.send_many(map(str, range(40)))
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    channel.wait(3)
    with lab.rabbitmq.killed():
        pass
    assert lab.settle(timeout=60).done
    seen = {fact.message.id for fact in lab.journal.facts(Delivered)}
    assert {receipt.id for receipt in receipts} <= seen
    receipt = sender.send("and on", require_listener=True)
    assert receipt.outcome == "confirmed"
    assert channel.wait_for(receipt).body == "and on"
    assert eva.insults("consumer").role == "consumer"
