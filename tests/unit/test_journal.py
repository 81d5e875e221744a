"""The record of what happened, in memory and on disk."""

from __future__ import annotations

import json
import threading
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from chatlab import journal as module
from chatlab.errors import InvalidInput
from chatlab.journal import Confirmed, Crashed, Delivered, Fact, Journal, Sent
from chatlab.messages import Message

MESSAGE = Message("ana:1:1", "ana", 1, "bob", "¿qué?\n$x$ <b>", 1, 5.5, 3)
CHAT = "private:ana:bob"

SENT = ("Sent", 10.0, "ana", 1, CHAT, MESSAGE)
CONFIRMED = ("Confirmed", 10.1, "ana", 1, CHAT, "ana:1:1", 2, None)
DELIVERED = ("Delivered", 10.2, "bob", 4, CHAT, MESSAGE, True)
CRASHED = ("Crashed", 10.3, "bob", 4, "")
ROWS = [SENT, CONFIRMED, DELIVERED, CRASHED]


def a_row_of(kind: str) -> tuple[Any, ...]:
    values = {"message": MESSAGE, "redelivered": False, "waiting": 1, "listeners": 0}
    rest = [values.get(f.name, f.name) for f in fields(module.KINDS[kind])[4:]]
    return (kind, 1.0, "ana", 1, CHAT, *rest)


def test_facts_are_frozen_values_in_order() -> None:
    facts = list(Journal(ROWS))
    assert facts == [
        Sent(10.0, "ana", 1, CHAT, MESSAGE),
        Confirmed(10.1, "ana", 1, CHAT, "ana:1:1", 2, None),
        Delivered(10.2, "bob", 4, CHAT, MESSAGE, True),
        Crashed(10.3, "bob", 4, ""),
    ]
    with pytest.raises(FrozenInstanceError):
        facts[0].user = "eva"  # type: ignore[misc]


def test_facts_can_be_asked_for_by_kind() -> None:
    journal = Journal(ROWS)
    assert [type(fact) for fact in journal.facts(Sent, Crashed)] == [Sent, Crashed]
    assert len(list(journal.facts(Fact))) == len(list(journal.facts())) == 4
    assert journal.counts() == {"Sent": 1, "Confirmed": 1, "Delivered": 1, "Crashed": 1}


def test_every_kind_of_fact_is_known() -> None:
    assert set(module.KINDS) == {kind.__name__ for kind in Fact.__subclasses__()}


@pytest.mark.parametrize("kind", module.KINDS)
def test_every_kind_survives_the_way_to_disk_and_back(kind: str) -> None:
    row = a_row_of(kind)
    line = module.encode(row)
    assert "\n" not in line
    assert module.decode(line) == module.decode(line.encode()) == row
    (fact,) = Journal([module.decode(line)])
    assert type(fact).__name__ == kind


def test_an_older_journal_does_not_say_that_a_member_began_at_the_first_message() -> None:
    older = module.decode('["Subscribed", 1.0, "bob", 1, "group:sd", "rabbitmq-log"]')
    (fact,) = Journal([older])
    assert fact == module.Subscribed(1.0, "bob", 1, "group:sd", "rabbitmq-log", first=False)
    for line in ('["Subscribed", 1.0, "bob", 1, "group:sd"]', '["Left", 1.0, "bob", 1]'):
        with pytest.raises(InvalidInput, match="fields"):
            module.decode(line)


def test_a_journal_survives_the_way_to_disk_and_back(tmp_path: Path) -> None:
    journal = Journal(ROWS, tier="real", versions={"RabbitMQ": "3.10.8"}, rows_of="zoë")
    loaded = Journal.load(journal.save(tmp_path / "j.jsonl"))
    assert loaded.rows == journal.rows
    assert loaded.header == journal.header
    loaded.append(SENT)
    assert len(loaded) == 5


def test_a_header_may_hold_anything_that_has_a_text(tmp_path: Path) -> None:
    journal = Journal([], folder=tmp_path, self_=1)
    journal.header["rows"] = "a key that is also an argument"
    loaded = Journal.load(str(journal.save(str(tmp_path / "j.jsonl"))))
    assert loaded.header["folder"] == str(tmp_path)
    assert loaded.header["rows"] == "a key that is also an argument"
    assert len(loaded) == 0


def test_a_last_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = Journal(ROWS).save(tmp_path / "j.jsonl")
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last)):
        path.write_bytes(whole[:-cut])
        rows = Journal.load(path).rows
        assert rows == (ROWS if cut == 1 else ROWS[:3])


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"7",
        b'"Sent"',
        b'["Seen",1,"a",1,""]',
        b'["Crashed",1,"a",1]',
        b"",
        b"\xff",
    ],
)
def test_a_damaged_line_is_refused_by_its_number(tmp_path: Path, line: bytes) -> None:
    path = Journal([SENT]).save(tmp_path / "j.jsonl")
    path.write_bytes(path.read_bytes() + line + b"\n" + module.encode(CRASHED).encode())
    with pytest.raises(InvalidInput, match="line 3"):
        Journal.load(path)


@pytest.mark.parametrize("first", [b"", b"7\n", b"[1]\n", b"{}\n", b"null\n", b"\xff\xfe\n"])
def test_another_file_is_not_taken_for_a_journal(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(first)
    with pytest.raises(InvalidInput, match="not a chatlab journal"):
        Journal.load(path)


def test_another_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps({"chatlab-journal": 99}))
    with pytest.raises(InvalidInput, match="99"):
        Journal.load(path)


def test_journals_of_several_processes_are_merged_by_time() -> None:
    ana = Journal([("Crashed", at, "ana", 1, "") for at in (1.0, 4.0)], tier="real")
    bob = Journal([("Crashed", at, "bob", 1, "") for at in (2.0, 3.0, 5.0)])
    merged = ana.merged(bob)
    assert [(row[1], row[2]) for row in merged.rows] == [
        (1.0, "ana"),
        (2.0, "bob"),
        (3.0, "bob"),
        (4.0, "ana"),
        (5.0, "bob"),
    ]
    assert merged.header == {"tier": "real"}
    assert len(ana) == 2


def test_a_clock_that_is_set_back_does_not_turn_the_order_around() -> None:
    back = Journal([("Sent", 9.0, "ana", 1, CHAT, MESSAGE), ("Crashed", 1.0, "ana", 1, "")])
    other = Journal([("Crashed", 5.0, "bob", 1, "")])
    assert [row[2] for row in back.merged(other).rows] == ["bob", "ana", "ana"]
    assert [row[0] for row in back.merged().rows] == ["Sent", "Crashed"]


def test_the_table_keeps_the_receivers_and_the_senders_life_apart() -> None:
    row = Journal([DELIVERED]).table()[0]
    assert (row["kind"], row["user"], row["incarnation"]) == ("Delivered", "bob", 4)
    assert (row["id"], row["sender"], row["life"]) == ("ana:1:1", "ana", 1)


def test_facts_of_several_threads_are_all_kept() -> None:
    journal = Journal()

    def write() -> None:
        for _ in range(2000):
            journal.append(CRASHED)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert all(type(fact) is Crashed for fact in journal)
    assert len(journal) == 8000
