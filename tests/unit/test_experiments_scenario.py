"""Scenarios as values: built, read, shown, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatlab.checkers.listed import BACK_SECONDS, LEASE_SECONDS, MARGIN_SECONDS
from chatlab.errors import InvalidInput
from chatlab.experiments import Scenario, Step, scenarios, shipped
from chatlab.experiments.expected import broker_of, expected
from chatlab.experiments.lanes import LANES, pattern_of
from chatlab.experiments.shipped import names
from chatlab.experiments.steps import ALL, VERBS, Pattern

NAMES = [
    *("absent-member", "late-joiner", "burst", "slow-consumer", "crash-with-work"),
    *("reader-kill", "broker-restart", "broker-kill", "redis-kill", "server-kill"),
    *("link-cut", "two-windows", "backlog-first", "no-subscriber", "poison", "ghosts"),
]


def away() -> Scenario:
    return (
        Scenario("away", "ana bob", about="Bob is away.", seed=3)
        .join("ana", "bob")
        .send("ana", 3)
        .offline("bob")
        .send("ana", 4, rate=20, wait=False)
        .sent()
        .online("bob")
    )


def test_each_call_gives_a_new_scenario_with_one_step_more() -> None:
    first = Scenario("away", "ana bob")
    second = first.join("ana")
    assert first.steps == ()
    assert second.steps == (Step("join", ("ana",)),)
    assert second.users == ("ana", "bob")


def test_a_scenario_reads_as_a_table_and_as_a_timeline() -> None:
    table = away().table()
    assert [row["what"] for row in table][:4] == [
        "ana, bob: take part",
        "ana: send 3",
        "bob: go offline",
        "ana: send 4 at 20 a second, and meanwhile",
    ]
    ana, bob = away().timeline()
    assert (ana["2"], ana["4"], bob["3"]) == ("sends 3", "sends 4 …", "offline")
    assert bob["2"] == ""


def test_what_is_shown_is_escaped() -> None:
    shown = Scenario("x", "ana", about="<script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_survives_toml(name: str, tmp_path: Path) -> None:
    scenario = shipped(name, messages=12, seed=7)
    file = tmp_path / "scenario.toml"
    file.write_text(scenario.to_toml(), encoding="utf-8")
    assert Scenario.load(file) == scenario


def test_all_shipped_scenarios_are_listed_with_their_question() -> None:
    assert names() == NAMES
    rows = scenarios()
    assert [row["scenario"] for row in rows] == NAMES
    assert all(row["question"].endswith("?") for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_sends_as_many_messages_as_asked_for(name: str) -> None:
    extra = 1 if name == "poison" else 0  # the poison itself
    assert shipped(name, messages=41).messages == 41 + extra


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_mends_what_it_broke(name: str) -> None:
    scenario = shipped(name)
    mends = {
        "kill": "start",
        "pause": "resume",
        "cut": "heal",
        "freeze": "thaw",
        "offline": "online",
    }
    for place, step in enumerate(scenario.steps):
        if step.do in mends:
            later = [after.do for after in scenario.steps[place:]]
            assert mends[step.do] in later, step


@pytest.mark.parametrize(
    ("do", "fields", "said"),
    [
        ("fly", {}, "no step 'fly'"),
        ("send", {"who": ("ana",)}, "needs count"),
        ("send", {"who": ("ana",), "count": 1, "service": "redis"}, "has no service"),
        ("kill", {"service": "printer"}, "no service 'printer'"),
        ("wait", {"seconds": -1.0}, "below 0"),
    ],
)
def test_a_step_that_cannot_be_is_refused(do: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Step(do, **fields)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("users = ['ana']", "needs a name"),
        ("name = 'x'\nusers = []", "needs users"),
        ("name = 'x'\nusers = ['ana', 'ana']", "each named once"),
        ("name = 'x y'\nusers = ['ana']", "not allowed"),
        ("name = 'x'\nusers = ['ana']\ncolour = 'red'", "has no colour"),
        ("name = 'x'\nusers = ['ana']\n[[step]]\ndo = 'send'\nwho = 'eva'\ncount = 1", "'eva'"),
        (
            "name = 'x'\nusers = ['ana']\n[[step]]\ndo = 'send'\nwho = 'ana'\ncount = 'many'",
            "many",
        ),
        ("name = 'x'\nusers = ['ana']\n[[step]]\nwho = 'ana'", "says what to do"),
        ("name = 'x'\nusers = ['ana']\n[[step]]\ndo = 'wait'\nhow = 1", "has no how"),
        ("name = 'x'\nusers = ['ana']\nstep = 3", r"\[\[step\]\]"),
        ("name = 'x'\nusers = ['ana']\n[[step]]\ndo = 'connect'\nwho = 'ana'", "for a group"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_by_name(
    toml: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(InvalidInput, match=said) as caught:
        Scenario.load(file)
    assert "mine.toml" in caught.value.what


def test_a_name_that_several_patterns_have_means_the_first_or_the_one_that_is_said() -> None:
    scenario = shipped("absent-member")
    assert pattern_of(scenario, "as-reported") == ("group", "as-reported")
    assert pattern_of(scenario, "private/as-reported") == ("private", "as-reported")
    assert pattern_of(scenario, "rabbitmq:prefetch=0") == ("insults", "rabbitmq:prefetch=0")
    with pytest.raises(InvalidInput, match="cannot be run on 'carrier-pigeon'"):
        pattern_of(scenario, "carrier-pigeon")
    with pytest.raises(InvalidInput, match="cannot be run on 'direct'"):
        pattern_of(shipped("late-joiner"), "direct")
    with pytest.raises(InvalidInput, match="no option"):
        pattern_of(scenario, "rabbitmq-durable:speed=high")


def test_every_verb_says_what_it_does_and_every_pattern_has_a_lane() -> None:
    assert set(LANES) == set(ALL)
    for name, verb in VERBS.items():
        needed: dict[str, Any] = {
            "who": ("ana",),
            "count": 2,
            "service": "redis",
            "seconds": 1.5,
        }
        step = Step(name, **{field: needed[field] for field in verb.needs})
        assert "{" not in str(step)
        assert all(word in str(step) for word in (["ana"] if "who" in verb.needs else []))


def test_who_joins_a_group_when_something_was_sent_comes_late() -> None:
    assert expected(shipped("late-joiner"), "group", "rabbitmq") == ("late eva",)
    assert expected(shipped("absent-member"), "group", "rabbitmq") == ()


@pytest.mark.parametrize(
    ("pattern", "backend", "faults"),
    [
        ("group", "redis-pubsub", ("cut bob-redis", "freeze eva-redis", "kill redis")),
        ("private", "mailbox-redis", ("cut bob-server", "freeze eva-server", "kill server")),
        ("private", "direct", ("cut bob-direct", "freeze eva-direct", "kill broker")),
        ("insults", "rabbitmq-not-me", ("cut bob-rabbitmq", "kill rabbitmq", "crash eva")),
        ("insults", "memory", ("cut bob-broker", "kill broker", "crash eva")),
    ],
)
def test_what_a_run_has_to_show_depends_on_pattern_and_backend(
    pattern: Pattern, backend: str, faults: tuple[str, ...]
) -> None:
    scenario = (
        Scenario("much", "ana bob eva")
        .join("ana", "bob", "eva")
        .cut("bob")
        .then("freeze_link", "eva", service="broker", only=("group", "private"))
        .kill()
        .then("crash", "eva", only=("insults",))
        .second_window("bob")
    )
    assert expected(scenario, pattern, broker_of(pattern, backend)) == faults


def test_a_step_for_some_patterns_only_says_so_and_survives_toml(tmp_path: Path) -> None:
    scenario = Scenario("x", "ana eva").then("offline", "eva", only=("insults",))
    (step,) = scenario.steps
    assert str(step) == "eva: go offline (insults only)"
    assert [row["1"] for row in scenario.timeline()] == ["", "offline (insults)"]
    assert step.done_on("insults")
    assert not step.done_on("group")
    file = tmp_path / "x.toml"
    file.write_text(scenario.to_toml(), encoding="utf-8")
    assert Scenario.load(file) == scenario
    with pytest.raises(InvalidInput, match="only for private"):
        Scenario("x", "ana", patterns=("group",)).then("offline", "ana", only=("private",))
    # A verb that only groups have may be a step of a scenario for all patterns.
    Scenario("x", "ana").then("subscribe", "ana", only=("group",))


@pytest.mark.parametrize("name", ["broker-kill", "broker-restart", "redis-kill"])
def test_what_waits_while_a_broker_fails_waits_for_two_where_it_is_one_of_theirs(
    name: str,
) -> None:
    steps = shipped(name).steps

    def away(pattern: Pattern) -> set[str]:
        gone = (s for s in steps if s.do == "offline" and s.done_on(pattern))
        return {user for step in gone for user in step.who}

    assert away("insults") == {"bob", "eva"}  # of one, nobody could tell whether it was fair
    assert away("group") == away("private") == {"bob"}


def test_in_ghosts_discovery_is_asked_before_during_and_after_and_longer_than_a_lease() -> None:
    steps = shipped("ghosts").steps
    before, during, after = (n for n, step in enumerate(steps) if step.do == "ask")
    crash, back = (
        next(n for n, s in enumerate(steps) if s.do == do) for do in ("crash", "online")
    )
    assert before < crash < during < back < after
    assert steps[during].seconds > LEASE_SECONDS + MARGIN_SECONDS
    assert steps[after].seconds > BACK_SECONDS
