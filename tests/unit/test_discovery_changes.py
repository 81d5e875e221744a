"""What RabbitMQ's events make of a picture, and what leads from one answer to another."""

from __future__ import annotations

from typing import Any

import pytest

from chatlab.discovery import Change, Changes, Presence
from chatlab.discovery.broker_events import Picture
from chatlab.discovery.watching import differences
from chatlab.tables import SHOWN_ROWS


def bound(user: str, life: int) -> dict[str, Any]:
    """The headers of an event about a presence, as RabbitMQ 3.10 writes them."""
    return {
        "user_who_performed_action": "chatlab",
        "vhost": "chatlab-lab",
        "arguments": [
            '{<<"address">>,longstr,<<"127.0.0.1:4711">>}',
            f'{{<<"incarnation">>,signedint,{life}}}',
            '{<<"since">>,long,1795526221631}',
        ],
        "routing_key": "",
        "destination_kind": "queue",
        "destination_name": f"chatlab/presence/{user}",
        "source_kind": "exchange",
        "source_name": "chatlab/discovery",
    }


def member(user: str, group: str) -> dict[str, Any]:
    return {
        **bound(user, 0),
        "arguments": [],
        "destination_name": f"chatlab/{group}/{user}",
        "source_name": group,
    }


def picture(*events: tuple[str, dict[str, Any]]) -> Picture:
    made = Picture()
    for event in events:
        made.apply(*event)
    return made


SD = ("exchange.created", {"name": "sd", "type": "fanout"})

# -- the picture


def test_what_a_binding_says_of_a_user_is_read_from_its_event() -> None:
    (bob,) = picture(("binding.created", bound("bob", 3))).presences(0.5)
    assert (bob.name, bob.address, bob.incarnation) == ("bob", "127.0.0.1:4711", 3)
    assert (bob.since, bob.source, bob.age) == (1795526221.631, "broker-events", 0.5)


def test_the_end_of_an_older_life_that_is_told_late_does_not_end_the_newer_one() -> None:
    seen = picture(
        ("binding.created", bound("bob", 1)),
        ("binding.created", bound("bob", 2)),
        ("binding.deleted", bound("bob", 1)),
    )
    assert [entry.incarnation for entry in seen.presences(0)] == [2]
    seen.apply("binding.deleted", bound("bob", 2))
    assert seen.presences(0) == []


def test_a_group_has_members_who_are_there_and_members_who_are_away() -> None:
    seen = picture(
        SD,
        ("binding.created", member("ana", "sd")),
        ("binding.created", member("bob", "sd")),
        ("binding.created", bound("bob", 1)),
    )
    (_, sd) = seen.presences(0)
    assert (sd.name, sd.members, sd.away) == ("sd", ("bob",), ("ana",))
    seen.apply("binding.deleted", member("ana", "sd"))
    seen.apply("binding.deleted", bound("bob", 1))
    (sd,) = seen.presences(0)
    assert (sd.members, sd.away) == ((), ("bob",))
    seen.apply("exchange.deleted", {"name": "sd"})
    assert seen.presences(0) == []


def test_an_event_that_is_told_twice_does_no_harm() -> None:
    once = [SD, ("binding.created", bound("bob", 1)), ("binding.created", member("bob", "sd"))]
    assert picture(*once, *once).presences(0) == picture(*once).presences(0)
    gone = ("binding.deleted", bound("bob", 1))
    assert picture(*once, gone, gone).presences(0).users == []


@pytest.mark.parametrize(
    ("event", "headers"),
    [
        ("", {}),
        ("binding.created", {}),
        ("exchange.created", {"name": 1, "type": "fanout"}),
        ("exchange.created", {"name": "x", "type": None}),
        ("exchange.created", {"name": "amq.fanout", "type": "fanout"}),
        ("exchange.created", {"name": "chatlab/discovery", "type": "fanout"}),
        ("exchange.created", {"name": "x", "type": "direct"}),
        ("exchange.deleted", {"name": "another"}),
        ("exchange.deleted", {"name": ["sd"]}),
        ("queue.deleted", {"name": "chatlab/presence/bob"}),
        ("binding.created", {**bound("eva", 1), "destination_kind": "exchange"}),
        ("binding.created", {**bound("eva", 1), "destination_name": 7}),
        ("binding.created", {**bound("eva", 1), "source_name": None}),
        ("binding.created", {**bound("eva", 1), "source_name": ""}),
        ("binding.deleted", {**bound("bob", 1), "routing_key": []}),
        ("binding.deleted", {**bound("bob", 1), "routing_key": "other"}),
    ],
)
def test_what_is_no_event_of_ours_changes_nothing(event: str, headers: dict[str, Any]) -> None:
    seen = picture(SD, ("binding.created", bound("bob", 1)))
    before = seen.presences(0)
    seen.apply(event, headers)
    assert seen.presences(0) == before


@pytest.mark.parametrize(
    "arguments",
    [None, "text", 7, [7, None], ["", "{}", '{<<"address">>,longstr,<<1,2>>}'], {"address": 1}],
)
def test_arguments_that_cannot_be_read_are_none(arguments: Any) -> None:
    headers = {**bound("bob", 1), "arguments": arguments}
    (bob,) = picture(("binding.created", headers)).presences(0)
    assert (bob.address, bob.incarnation, bob.since) == ("", None, None)


# -- differences


def user(name: str, life: int = 1, since: float = 1.0, age: float = 0.0) -> Presence:
    return Presence(name, "private", "a:1", since=since, age=age, incarnation=life)


def group(name: str, *members: str, away: tuple[str, ...] = ()) -> Presence:
    return Presence(name, "group", name, members=members, away=away)


def told(before: list[Presence], after: list[Presence]) -> list[str]:
    found = differences(before, after)
    return [" ".join(filter(None, (c.name, c.what, c.group))) for c in found]


def test_a_group_begins_before_somebody_joins_and_ends_after_all_have_parted() -> None:
    full = [user("ana"), user("bob"), group("sd", "ana", "bob")]
    begins = ["sd began sd", "ana came", "bob came", "ana joined sd", "bob joined sd"]
    ends = ["ana parted sd", "bob parted sd", "ana left", "bob left", "sd ended sd"]
    assert told([], full) == begins
    assert told(full, []) == ends


def test_a_member_who_is_away_stays_a_member() -> None:
    there = [user("bob"), group("sd", "bob")]
    away = [group("sd", away=("bob",))]
    assert told(there, away) == ["bob left"]
    assert told(away, there) == ["bob came"]


def test_another_life_or_another_coming_is_told_and_a_later_look_is_not() -> None:
    assert told([user("bob", 1)], [user("bob", 2)]) == ["bob came"]
    assert told([user("bob", since=1.0)], [user("bob", since=2.0)]) == ["bob came"]
    assert told([user("bob", age=0.1)], [user("bob", age=0.9)]) == []


def test_a_change_shows_what_it_is_about_and_what_is_gone_as_it_was() -> None:
    old, new = user("bob", 1), user("bob", 2)
    assert [c.presence for c in differences([old], [new])] == [new]
    assert [c.presence for c in differences([old], [])] == [old]
    sd, less = group("sd", "ana", "bob"), group("sd", "ana")
    assert [c.presence for c in differences([sd], [less])] == [less]


# -- looks


def test_changes_are_shown_escaped_newest_first_to_stay_and_leave_as_a_table() -> None:
    changes = Changes(Change(0.0, "came", f"<b>{n}", "g|h") for n in range(SHOWN_ROWS + 2))
    html = changes._repr_html_()
    assert "<b>1" not in html
    assert "&lt;b&gt;41" in html
    assert "&lt;b&gt;1<" not in html
    assert "2 older not shown" in html
    assert repr(changes[:1]) == repr([Change(0.0, "came", "<b>0", "g|h")])
    assert "<b>0" in repr(changes)
    assert r"g\|h" in changes.to_markdown()
    assert len(changes.table()) == len(changes.to_csv().splitlines()) - 1 == SHOWN_ROWS + 2
