"""The parts of the door to outside clients that need no process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatlab.experiments.outside import Outside
from chatlab.experiments.outside_child import conversation, labelled, unlabelled
from chatlab.experiments.outside_seat import Ledger, OutsideSeat, url_of
from chatlab.insults.line import DELIVERIES
from chatlab.journal import Row
from chatlab.messages import Message
from chatlab.services.addresses import RabbitAddress, RedisAddress

MESSAGE = Message("ana:1:7", "ana", 1, "bob", 'hola ] "tú"', 7, 1.5, 9)


@pytest.mark.parametrize("body", ["hola", 'a ] "b', " ", "[1]", "ñ\n\t", "🦔"])
def test_a_label_goes_round_with_any_body_also_as_bytes(body: str) -> None:
    message = MESSAGE._replace(body=body)
    assert unlabelled(labelled(message)) == message
    assert unlabelled(labelled(message).encode()) == message


@pytest.mark.parametrize("text", ["hola", "[1, 2] x", "{}", "", '["a"]', None])
def test_a_text_without_our_label_is_nobodys_message(text: str | None) -> None:
    found = unlabelled(text)
    assert (found.sender, found.seq, found.body) == ("", 0, str(text))
    assert found.id.startswith("unlabelled:")


def test_a_private_message_belongs_to_its_two_ends() -> None:
    back = MESSAGE._replace(sender="bob", to="ana")
    assert conversation(MESSAGE) == conversation(back) == "private:ana:bob"


def test_an_insult_is_handed_out_again_to_another_member_and_a_group_message_is_not() -> None:
    insults, group = Ledger(), Ledger()
    assert not insults.hand_out("x", "bob", 1, "insults")
    assert insults.hand_out("x", "eva", 1, "insults")
    assert not group.hand_out("x", "bob", 1, "group")
    assert not group.hand_out("x", "eva", 1, "group")


def test_a_message_is_handed_out_again_to_a_later_life_and_not_to_the_same() -> None:
    ledger = Ledger()
    assert not ledger.hand_out("x", "bob", 1, "group")
    assert not ledger.hand_out(
        "x", "bob", 1, "group"
    )  # twice to one life is its client's fault
    assert ledger.hand_out("x", "bob", 2, "group")


def test_what_failed_as_often_as_elsewhere_is_a_dead_letter() -> None:
    ledger = Ledger()
    assert [ledger.fail("x") for _ in range(DELIVERIES)] == [False] * (DELIVERIES - 1) + [True]
    assert not ledger.fail("y")


@pytest.mark.parametrize(
    ("promises", "options", "first"),
    [
        ("rabbitmq-log", {"first_message": True}, True),
        ("rabbitmq-log", {}, False),
        ("rabbitmq-durable", {"first_message": True}, False),
    ],
)
def test_a_client_that_promises_a_log_owes_a_late_joiner_what_was_before(
    promises: str, options: dict[str, Any], first: bool
) -> None:
    rows: list[Row] = []
    lab: Any = SimpleNamespace(lease=SimpleNamespace(rabbitmq=None), record=rows.append)
    client = Outside(
        *("outside:x.py", Path("x.py"), "X", "group", "rabbitmq", promises), False, False
    )
    seat = OutsideSeat(lab, client, "eva", "group:sd", Ledger(), lambda _: None)
    seat._work = options
    said = ("Subscribed", 1.0, "eva", 1, "group:sd", "outside:x.py")
    seat._record(said)
    assert rows == [(*said, first)]


def test_urls_carry_whatever_a_password_holds() -> None:
    broker = RabbitAddress(
        host="::1", port=5, user="a@b", password="p/w:?", vhost="/", tls=True
    )
    assert url_of(broker) == "amqps://a%40b:p%2Fw%3A%3F@[::1]:5/%2F"
    assert url_of(RedisAddress(host="h", port=6, password="x", db=3)) == "redis://:x@h:6/3"
    assert url_of(RedisAddress(host="h", port=6)) == "redis://h:6/0"
