"""Backend strings: name, options, what is refused and how it is said."""

from __future__ import annotations

import pytest

from chatlab.backends import (
    GROUPS,
    INSULTS,
    backend_text,
    choice,
    full_text,
    parse_backend,
    shared_text,
    unconfirmed,
    yes_no,
)
from chatlab.errors import InvalidInput
from chatlab.groups import _MEMBERS, DEFAULT_BACKEND
from chatlab.groups.rabbitmq import kind_of
from chatlab.groups.rabbitmq_kinds import KINDS, QUEUE_MESSAGES, log_queue, queue_name

KNOWN = {"x": {"confirms": yes_no(True), "exchange": choice("durable", "transient")}}


def test_a_name_alone_has_every_option_at_its_default() -> None:
    assert parse_backend("rabbitmq-quorum") == ("rabbitmq-quorum", {})
    assert parse_backend("rabbitmq-durable") == (
        "rabbitmq-durable",
        {"persistent": True, "confirms": True, "exchange": "durable"},
    )
    assert parse_backend("rabbitmq", INSULTS) == (
        "rabbitmq",
        {"prefetch": 1, "ack": "manual", "work": 0.0, "fails_on": ""},
    )


def test_options_are_read_in_any_order() -> None:
    name, options = parse_backend("rabbitmq:work=0.05,ack=auto,prefetch=0", INSULTS)
    assert (name, options) == (
        "rabbitmq",
        {
            "prefetch": 0,
            "ack": "auto",
            "work": 0.05,
            "fails_on": "",
        },
    )
    assert parse_backend("x:confirms=no", KNOWN)[1] == {
        "confirms": False,
        "exchange": "durable",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rabbit", "rabbitmq-transient"),
        ("", "rabbitmq-durable"),
        ("rabbitmq-durable:", "It has: persistent, confirms, exchange"),
        ("rabbitmq-quorum:confirms=no", "It has: none"),
    ],
)
def test_an_unknown_backend_or_option_is_refused_with_what_exists(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_backend(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("prefetch=-1", "whole number"),
        ("prefetch=65536", "65535"),
        ("prefetch=1.5", "whole number"),
        ("work=-1", "seconds"),
        ("work=nan", "seconds"),
        ("work=inf", "seconds"),
        ("ack=never", "manual or auto"),
        ("prefetch", "prefetch, ack, work"),
        ("prefetch=1,,", "prefetch, ack, work"),
        ("colour=red", "prefetch, ack, work"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(options: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_backend(f"rabbitmq:{options}", INSULTS)


def test_the_same_backend_always_has_the_same_text() -> None:
    for text in ("x:exchange=transient,confirms=no", "x:confirms=no,exchange=transient"):
        assert backend_text(*parse_backend(text, KNOWN), KNOWN) == (
            "x:confirms=no,exchange=transient"
        )
    assert backend_text(*parse_backend("x:confirms=yes", KNOWN), KNOWN) == "x"


def test_a_member_s_own_choice_is_no_part_of_what_the_group_is() -> None:
    assert shared_text("rabbitmq-log:from=first") == shared_text("rabbitmq-log")
    assert shared_text("rabbitmq-log:from=first") == "rabbitmq-log"
    assert shared_text("rabbitmq-durable:exchange=transient,confirms=yes") == (
        "rabbitmq-durable:exchange=transient"
    )


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("rabbitmq-durable", False),
        ("rabbitmq-durable:persistent=no", False),
        ("rabbitmq-durable:persistent=no,confirms=no", True),
        ("as-reported", True),
        ("as-reported:persistent=yes", True),
        ("rabbitmq-log", False),
    ],
)
def test_a_backend_says_whether_its_senders_are_told_anything(
    backend: str, expected: bool
) -> None:
    assert unconfirmed(backend) is expected


def test_every_queue_is_bounded_and_durable_or_exclusive() -> None:
    kinds = [
        kind_of(backend)
        for backend in (*KINDS, "as-reported:persistent=yes", "rabbitmq-durable:confirms=no")
    ]
    queues = [kind.queue("q") for kind in kinds]
    for queue in queues:
        assert queue.arguments["x-max-length"] == QUEUE_MESSAGES
        assert queue.arguments["x-overflow"] == "reject-publish"
    log = log_queue("sd")
    assert not log.exclusive
    assert (
        log.arguments["x-max-length-bytes"] > log.arguments["x-stream-max-segment-size-bytes"]
    )
    assert log.name.count("/") < queue_name("sd", "ana").count("/")  # nobody's queue


def test_the_journal_gets_every_option() -> None:
    text = full_text(*parse_backend("rabbitmq:work=0.05", INSULTS))
    assert text == "rabbitmq:prefetch=1,ack=manual,work=0.05"
    assert parse_backend(text, INSULTS)[1]["work"] == 0.05
    assert full_text("rabbitmq-transient", {}) == "rabbitmq-transient"


def test_every_group_backend_in_the_table_can_be_made() -> None:
    assert set(_MEMBERS) == set(GROUPS)
    assert set(KINDS) == {name for name in GROUPS if name.startswith(("rabbitmq", "as-"))}
    assert DEFAULT_BACKEND in GROUPS
