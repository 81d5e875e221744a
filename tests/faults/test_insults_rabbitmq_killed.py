"""Insults in a RabbitMQ that is killed and started again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from rabbit_rig import quorum_queue_registered

from chatlab.insults import QUEUE, guarantees
from chatlab.insults.not_me import FROM
from chatlab.journal import Delivered
from chatlab.lab import Lab
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("insults-killed", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.mark.parametrize(
    ("backend", "queue"), [("rabbitmq", QUEUE), ("rabbitmq-not-me", f"{FROM}ana")]
)
def test_members_come_back_by_themselves_and_what_was_confirmed_is_there(
    lab: Lab, backend: str, queue: str, lab_settings: Settings
) -> None:
    assert guarantees(backend).broker_killed == "kept"
    lab.scene(backend)
    ana, bob, eva = lab.users("ana", "bob", "eva")
    channel = bob.insults("consumer", backend=backend, work=0.05)
    sender = ana.insults("producer")
    receipts = sender.send_many(map(str, range(40)))
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    channel.wait(3)
    until = time.monotonic() + 10
    vhost = lab.lease.rabbitmq.vhost
    while not quorum_queue_registered(lab_settings.folder, vhost, queue):
        assert time.monotonic() < until
        time.sleep(0.05)  # a file of the broker's: nothing tells when it is written
    with lab.rabbitmq.killed():
        pass
    assert lab.settle(timeout=60).done
    seen = {fact.message.id for fact in lab.journal.facts(Delivered)}
    assert {receipt.id for receipt in receipts} <= seen
    receipt = sender.send("and on", require_listener=True)
    assert receipt.outcome == "confirmed"
    assert channel.wait_for(receipt).body == "and on"
    assert eva.insults("consumer").role == "consumer"
