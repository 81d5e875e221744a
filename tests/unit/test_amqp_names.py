"""Names on a RabbitMQ that is shared with others."""

from __future__ import annotations

import pytest

from chatlab.amqp.names import Names
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.namespaces import of_lab

NAMES = Names("lab.")


@pytest.mark.parametrize(
    ("here", "there"),
    [("sd", "lab.sd"), ("", ""), ("amq.gen-x", "amq.gen-x"), ("amq.fanout", "amq.fanout")],
)
def test_what_we_name_has_the_prefix_and_what_the_broker_names_has_not(
    here: str, there: str
) -> None:
    assert NAMES.there(here) == there


def test_queues_exchanges_and_dead_letters_of_a_call_are_named() -> None:
    dead = {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
        "x-max-length": 1,
    }
    found = NAMES.of_call(
        {"queue": "q", "exchange": "e", "routing_key": "k", "arguments": dead}
    )
    assert found == {
        "queue": "lab.q",
        "exchange": "lab.e",
        "routing_key": "k",
        "arguments": {**dead, "x-dead-letter-routing-key": "lab.dead"},
    }
    assert dead["x-dead-letter-routing-key"] == "dead"


def test_a_key_of_an_exchange_is_no_name() -> None:
    dead = {"x-dead-letter-exchange": "e", "x-dead-letter-routing-key": "k"}
    assert NAMES.of_call({"arguments": dead})["arguments"] == {
        "x-dead-letter-exchange": "lab.e",
        "x-dead-letter-routing-key": "k",
    }
    assert NAMES.of_publish("e", "k", b"") == ("lab.e", "k", b"")
    assert NAMES.of_publish("", "q", b"") == ("", "lab.q", b"")


def test_a_refusal_is_told_with_the_names_that_the_reader_knows() -> None:
    assert NAMES.here("no exchange 'lab.sd' in vhost '/'") == "no exchange 'sd' in vhost '/'"


def test_where_the_lab_has_a_virtual_host_nothing_is_renamed() -> None:
    call = {"queue": "q"}
    assert Names("").of_call(call) is call
    broker = RabbitAddress(host="b", port=1, user="u", password="p", management_url="http://b")
    store = RedisAddress(host="s", port=1)
    assert of_lab("mine", broker, store).rabbitmq.prefix == ""


def test_without_a_management_api_the_virtual_host_stays_and_names_get_a_prefix() -> None:
    broker = RabbitAddress(host="b", port=1, user="u", password="p", vhost="company")
    found = of_lab("mine", broker, RedisAddress(host="s", port=1)).rabbitmq
    assert (found.vhost, found.prefix) == ("company", "chatlab-mine.")


def test_behind_a_link_the_certificate_is_still_the_brokers() -> None:
    broker = RabbitAddress(host="rabbit.example", port=5671, user="u", password="p", tls=True)
    linked = broker.through("127.0.0.1", 9).through("127.0.0.1", 10)
    assert (linked.host, linked.certificate_host) == ("127.0.0.1", "rabbit.example")
    store = RedisAddress(host="redis.example", port=1, tls=True).through("127.0.0.1", 9)
    assert store.certificate_host == "redis.example"
