"""Limits, conversions, sessions."""

from __future__ import annotations

from typing import Any

import pytest

from chatlab.messages import BODY_BYTES, Message
from chatlab.private import wire
from chatlab.private.mailbox import Entry, Limits, Stored
from chatlab.private.session import Session, issue, verify
from chatlab.v1 import private_chat_pb2 as pb

MESSAGE = Message("ana:2:7", "ana", 2, "bob", "¿qué tal? 🌍", 7, 1700000000.25, 9)


def test_a_message_is_the_same_after_its_way_up_and_down() -> None:
    up = pb.Letter.FromString(wire.letter_of(MESSAGE).SerializeToString())
    stored = wire.message_of(up, Session("ana", 2))
    down = wire.delivery_of(Entry("1", stored, False, 1)).SerializeToString()
    assert wire.delivered(pb.Delivery.FromString(down), "bob") == MESSAGE


def test_the_sender_is_the_sessions_whatever_the_message_said() -> None:
    forged = wire.letter_of(MESSAGE._replace(sender="bob", incarnation=99))
    assert wire.message_of(forged, Session("eva", 1))[1:3] == ("eva", 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ""}, "id"),
        ({"id": "é" * 129}, "256 bytes"),
        ({"body": ""}, "body"),
        ({"body": "é" * (BODY_BYTES // 2) + "x"}, "65,536 bytes"),
        ({"to": "a/b"}, "not allowed"),
        ({"to": "n\u0303"}, "NFC"),
    ],
)
def test_a_letter_that_breaks_a_limit_is_named(change: dict[str, Any], said: str) -> None:
    assert said in wire.fault_of_letter(MESSAGE._replace(**change))


def test_a_letter_at_the_limits_is_fine() -> None:
    letter = MESSAGE._replace(id="é" * 128, body="é" * (BODY_BYTES // 2))
    assert wire.fault_of_letter(letter) == ""


def test_a_frame_over_a_limit_is_refused() -> None:
    letter = wire.letter_of(MESSAGE)
    assert "100 letters" in wire.fault_of_frame([letter] * 101)
    assert "1 to" in wire.fault_of_frame([])
    assert "524,288 bytes" in wire.fault_of_frame([pb.Letter(body="x" * BODY_BYTES)] * 9)
    assert wire.fault_of_frame([pb.Letter(body="x" * BODY_BYTES)] * 8) == ""


def test_a_receipt_stands_for_a_run_and_counts_what_it_stored() -> None:
    stored = Stored(["stored", "stored", "duplicate", "full of messages"], 9, 0)
    runs = list(wire.receipts_of(stored, "bob", Limits()))
    assert [(run.count, run.waiting) for run in runs] == [(2, 9), (1, 9), (1, 9)]
    assert "100,000 messages" in runs[2].reason
    first = wire.receipts(runs[0], ["a", "b"])
    assert [receipt.waiting for receipt in first] == [8, 9]


def test_a_session_is_believed_only_as_it_was_issued() -> None:
    key, session = b"k" * 32, Session("Ñandú", 3)
    token = issue(key, session)
    assert token.isascii()
    assert verify(key, token) == session
    claim, _, mac = token.rpartition(".")
    other = issue(b"o" * 32, session)
    forged = [claim, f"4{claim[1:]}.{mac}", other, f"{claim}.", "", "..", f"{token}0", "é.a.b"]
    assert [verify(key, one) for one in forged] == [None] * len(forged)
