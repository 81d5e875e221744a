"""What the table of guarantees says, and that it agrees with what the backends are."""

from __future__ import annotations

import pytest

from chatlab.backends import FORGETFUL, GROUPS, forgets_the_absent
from chatlab.errors import InvalidInput
from chatlab.groups.guarantees import _ROWS, guarantees, table
from chatlab.groups.rabbitmq import kind_of
from chatlab.plots.events import keeps


def test_every_backend_has_a_row() -> None:
    assert set(GROUPS) <= set(_ROWS)
    assert {row["backend"] for row in table(GROUPS)} == set(GROUPS)


@pytest.mark.parametrize("backend", sorted(_ROWS))
def test_who_forgets_the_absent_is_one_thing_everywhere(backend: str) -> None:
    assert forgets_the_absent(backend) == (guarantees(backend).away == "lost")
    assert keeps("group:sd", backend) == (guarantees(backend).away != "lost")


def test_persistent_messages_do_not_save_an_exclusive_queue() -> None:
    backend = "rabbitmq-transient:persistent=yes"
    assert forgets_the_absent(backend) and guarantees(backend).away == "lost"
    kind = kind_of(backend)
    assert kind.persistent and kind.exclusive
    assert not kind_of("rabbitmq-transient").persistent


def test_the_forgetful_exist() -> None:
    assert set(_ROWS) >= FORGETFUL


def test_options_only_ever_make_it_worse() -> None:
    both = guarantees("rabbitmq-durable:persistent=no,confirms=no")
    assert (both.broker_restart, both.broker_killed) == ("lost", "lost")
    assert (both.link_cut, both.away) == ("not promised", "kept")
    assert guarantees("redis-stream:maxlen=10").away == "not promised"
    assert guarantees("redis-stream:maxlen=0").away == "kept"
    reported = guarantees("as-reported:persistent=yes")
    assert (reported.away, reported.killed) == ("kept", "lost")


def test_the_broker_that_counts_is_named_and_what_it_writes_counts() -> None:
    assert guarantees("redis-stream").broker == "Redis"
    assert guarantees("rabbitmq-durable").broker == "RabbitMQ"
    assert guarantees("redis-stream").broker_killed == "kept"
    assert guarantees("redis-stream", aof=False).broker_killed == "lost"
    assert guarantees("rabbitmq-durable", aof=False).broker_killed == "kept"
    assert guarantees("memory").tier == "stand-in"
    memory = guarantees("memory:maxlen=10")
    assert (memory.broker_killed, memory.link_cut) == ("no broker", "no broker")
    assert memory.away == "not promised"


def test_an_unknown_backend_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="redis-pubsub"):
        guarantees("rabbit")
    with pytest.raises(InvalidInput, match="persistent"):
        guarantees("rabbitmq-durable:eternal=yes")
