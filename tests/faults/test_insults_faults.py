"""Insults on brokers that are restarted or killed: each backend as it declares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatlab.backends import INSULTS
from chatlab.insults import guarantees
from chatlab.journal import Delivered
from chatlab.lab import Lab
from chatlab.lab.controls import Service
from chatlab.settings import Settings

BACKENDS = [name for name in INSULTS if guarantees(name).broker_killed != "no broker"]


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("insults-killed", breakable=True, settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


#: Restarted for ``make soak`` only.
ALIKE = ("rabbitmq-not-me", "as-reported")


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


def broker_of(lab: Lab, backend: str) -> Service:
    return lab.redis if backend.startswith("redis") else lab.rabbitmq


@pytest.mark.parametrize(
    ("backend", "fault"),
    [
        # An orderly restart of RabbitMQ takes long: one backend on it stands for all.
        pytest.param(backend, fault, marks=[pytest.mark.soak] * (backend in ALIKE))
        if fault == "broker_restart"
        else (backend, fault)
        for backend in BACKENDS
        for fault in ("broker_restart", "broker_killed")
    ],
)
def test_what_was_confirmed_and_waits_is_there_afterwards_or_gone_as_declared(
    lab: Lab, backend: str, fault: str
) -> None:
    """At once: the queue is as new as it can be."""
    ana, bob = lab.users("ana", "bob")
    broker = broker_of(lab, backend)
    sender = ana.insults("producer", backend=backend)
    receipts = sender.send_many(map(str, range(40)))
    if fault == "broker_killed":
        with broker.killed():
            pass
    else:
        broker.restart()
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    kept = [str(n) for n in range(40)] if getattr(guarantees(backend), fault) == "kept" else []
    channel = bob.insults("consumer")
    assert [x.body for x in channel.wait(len(kept), timeout=60)] == kept
    channel.wait_for(sender.send("and on"))
    assert [x.body for x in channel.received] == [*kept, "and on"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_members_come_back_by_themselves_after_a_kill_amid_their_work(
    lab: Lab, backend: str
) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    channels = [u.insults("consumer", backend=backend, work=0.05) for u in (bob, eva)]
    sender = ana.insults("producer")
    receipts = sender.send_many(map(str, range(40)))
    channels[0].wait(3)
    with broker_of(lab, backend).killed():
        pass
    assert lab.settle(timeout=60).done
    receipts.append(sender.send("and on", require_listener=True))
    assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    assert lab.settle(timeout=60).done
    seen = [(fact.user, fact.message.id) for fact in lab.journal.facts(Delivered)]
    if guarantees(backend).broker_killed == "kept":
        assert {id for _, id in seen} == {receipt.id for receipt in receipts}
    assert receipts[-1].id in {id for _, id in seen}
    assert len(set(seen)) == len(seen)  # nobody works on one twice
