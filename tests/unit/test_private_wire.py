"""Limits, conversions, sessions."""

from __future__ import annotations

from typing import Any

import pytest

from chatlab.messages import BODY_BYTES, Message
from chatlab.private import wire
from chatlab.private.mailbox import Batch, Limits, Stored
from chatlab.private.session import Session, issue, verify
from chatlab.v1 import private_chat_pb2 as pb

MESSAGE = Message("ana:2:7", "ana", 2, "bob", "¿qué tal? 🌍", 7, 1700000000.25, 9)


def test_a_message_is_the_same_after_its_way_up_and_down() -> None:
    (parcel,) = wire.parcels_of([MESSAGE])
    up = pb.Parcel.FromString(parcel.SerializeToString())
    stored = wire.opened(up, Session("ana", 2))
    (delivery,) = wire.deliveries_of(Batch(["1"], stored, [1]))
    down = pb.Delivery.FromString(delivery.SerializeToString())
    assert wire.delivered(down, "bob") == [MESSAGE]


def test_letters_to_one_receiver_travel_together_and_keep_their_order() -> None:
    other = MESSAGE._replace(to="eva")
    parcels = wire.parcels_of([MESSAGE, MESSAGE, other, MESSAGE])
    assert [(parcel.to, len(parcel.letters)) for parcel in parcels] == [
        ("bob", 2),
        ("eva", 1),
        ("bob", 1),
    ]


def test_what_is_handed_out_again_is_marked_and_nothing_else() -> None:
    other = MESSAGE._replace(sender="eva")
    batch = Batch(list("1234"), [MESSAGE, MESSAGE, MESSAGE, other], [1] * 4, again=2)
    runs = [(d.sender, d.redelivered, len(d.letters)) for d in wire.deliveries_of(batch)]
    assert runs == [("ana", True, 2), ("ana", False, 1), ("eva", False, 1)]


def test_the_sender_is_the_sessions_whatever_the_message_said() -> None:
    (forged,) = wire.parcels_of([MESSAGE._replace(sender="bob", incarnation=99)])
    (opened,) = wire.opened(forged, Session("eva", 1))
    assert opened[1:3] == ("eva", 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ""}, "id"),
        ({"id": "é" * 129}, "256 bytes"),
        ({"body": ""}, "body"),
        ({"body": "é" * (BODY_BYTES // 2) + "x"}, "65,536 bytes"),
    ],
)
def test_a_letter_that_breaks_a_limit_is_named(change: dict[str, Any], said: str) -> None:
    assert said in wire.fault_of_letter(MESSAGE._replace(**change))


def test_a_letter_at_the_limits_is_fine() -> None:
    letter = MESSAGE._replace(id="é" * 128, body="é" * (BODY_BYTES // 2))
    assert wire.fault_of_letter(letter) == ""


def test_a_receivers_name_that_cannot_be_is_named() -> None:
    assert "not allowed" in wire.fault_of_receiver("a/b")
    assert "NFC" in wire.fault_of_receiver("n\u0303")
    assert wire.fault_of_receiver("bob") == ""


def test_a_frame_over_a_limit_is_refused() -> None:
    assert "100 letters" in wire.fault_of_frame([[MESSAGE] * 60, [MESSAGE] * 41])
    assert "1 to" in wire.fault_of_frame([])
    assert "1 to" in wire.fault_of_frame([[MESSAGE], []])
    large = MESSAGE._replace(body="é" * (BODY_BYTES // 2))
    assert "524,288 bytes" in wire.fault_of_frame([[large] * 9])
    assert wire.fault_of_frame([[large] * 8]) == ""


def test_a_receipt_stands_for_a_run_and_counts_what_it_stored() -> None:
    stored = Stored(["stored", "stored", "duplicate", "full of messages"], 9, 0)
    runs = list(wire.receipts_of(stored, "bob", Limits()))
    assert [(run.count, run.waiting) for run in runs] == [(2, 9), (1, 9), (1, 9)]
    assert "100,000 messages" in runs[2].reason
    first = wire.answer_of(runs[0])
    assert [receipt.waiting for receipt in first.receipts(["a", "b"])] == [8, 9]
    assert [receipt.waiting for receipt in first.receipts(["b"], skipped=1)] == [9]
    refused = wire.answer_of(runs[2]).receipts(["d"])
    assert (refused[0].outcome, refused[0].error) == ("failed", "MailboxFull")


def test_a_session_is_believed_only_as_it_was_issued() -> None:
    key, session = b"k" * 32, Session("Ñandú", 3)
    token = issue(key, session)
    assert token.isascii()
    assert verify(key, token) == session
    claim, _, mac = token.rpartition(".")
    other = issue(b"o" * 32, session)
    forged = [claim, f"4{claim[1:]}.{mac}", other, f"{claim}.", "", "..", f"{token}0", "é.a.b"]
    assert [verify(key, one) for one in forged] == [None] * len(forged)
