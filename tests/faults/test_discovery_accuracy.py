"""How right each way of discovery is while users are really killed, frozen and cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chatlab import plots
from chatlab.discovery import WAYS
from chatlab.discovery.accuracy import Accuracy, Turn
from chatlab.errors import InvalidInput, NotPossible
from chatlab.experiments import discovery, discovery_verdict
from chatlab.experiments.costs import among, while_killed
from chatlab.lab import Lab
from chatlab.settings import Settings

#: A renewal that was under way, and a look that comes late on a busy machine, in seconds.
MARGIN = 1.0
#: The broker lists a killed client no longer than this, in seconds.
DROPPED = 0.5


@pytest.fixture(scope="module")
def settings(lab_settings: Settings) -> Settings:
    return replace(lab_settings, lease_seconds=1.5, heartbeat_seconds=5)


@pytest.fixture(scope="module")
def accuracy(settings: Settings) -> Iterator[Accuracy]:
    with Lab.start("accuracy", settings=settings) as lab:
        yield discovery(lab, users=8)


def change(accuracy: Accuracy, fault: str) -> Turn:
    (found,) = (turn for turn in accuracy.changes if turn.fault == fault)
    return found


def listed(accuracy: Accuracy, way: str, user: str, since: float, until: float) -> list[float]:
    """When ``user`` was listed by answers to questions asked and answered between the two."""
    return [
        sample.asked_at
        for sample in accuracy.samples
        if sample.way == way
        and since <= sample.asked_at
        and sample.answered_at <= until
        and user in sample.names
    ]


def test_every_way_was_asked_often_and_answered(accuracy: Accuracy) -> None:
    assert set(accuracy.ways) == set(WAYS)
    assert not any(accuracy.errors.values())
    for way in WAYS:
        assert sum(sample.way == way for sample in accuracy.samples) > 20
    assert [turn.fault for turn in accuracy.changes] == [
        *("killed", "frozen", "thawed", "left", "cut", "healed")
    ]


def test_the_registry_shows_a_killed_user_until_its_lease_ends_and_never_after(
    accuracy: Accuracy,
) -> None:
    killed = change(accuracy, "killed")
    lease = accuracy.settings["lease_seconds"]
    seen = listed(accuracy, "registry", killed.user, killed.after, math.inf)
    assert seen  # for a while it is a ghost
    assert max(seen) < killed.after + lease + MARGIN
    assert accuracy.right_after["registry"]["killed"] > 0.1


def test_events_never_show_one_that_cannot_answer(accuracy: Accuracy) -> None:
    for fault, over in (("killed", ""), ("frozen", "thawed"), ("cut", "healed"), ("left", "")):
        began = change(accuracy, fault)
        until = change(accuracy, over).before if over else math.inf
        assert listed(accuracy, "events", began.user, began.after, until) == [], fault


@pytest.mark.parametrize("way", ["management", "broker-events"])
def test_the_broker_drops_a_killed_user_at_once_and_keeps_a_frozen_one(
    accuracy: Accuracy, way: str
) -> None:
    assert accuracy.right_after[way]["killed"] < DROPPED
    frozen, thawed = change(accuracy, "frozen"), change(accuracy, "thawed")
    asked = [
        sample.asked_at
        for sample in accuracy.samples
        if sample.way == way
        and frozen.after <= sample.asked_at
        and sample.answered_at <= thawed.before
    ]
    assert listed(accuracy, way, frozen.user, frozen.after, thawed.before) == asked


def test_as_reported_keeps_the_killed_one_to_the_end(accuracy: Accuracy) -> None:
    killed = change(accuracy, "killed")
    assert math.isinf(accuracy.right_after["as-reported"]["killed"])
    assert accuracy.ghosts["as-reported"][killed.user] > accuracy.seconds / 2
    others = [
        accuracy.ghosts[way].get(killed.user, 0.0) for way in WAYS if way != "as-reported"
    ]
    assert max(others) < accuracy.seconds / 2


def test_nobody_who_stays_is_missed_by_any_way(accuracy: Accuracy) -> None:
    for way in WAYS:
        assert not set(accuracy.missed[way]) & set(accuracy.staying), way


def test_the_judges_find_the_way_that_keeps_ghosts_and_no_other_of_those_with_leases(
    accuracy: Accuracy,
) -> None:
    found = {check.backend: check for check in discovery_verdict(accuracy).checks}
    assert found["as-reported"].outcome == "broken"
    assert change(accuracy, "killed").user in found["as-reported"].example.expected
    for way in ("registry", "events"):
        assert found[way].outcome == "kept", found[way]


def test_a_record_is_drawn_again_from_its_file(accuracy: Accuracy, tmp_path: Path) -> None:
    file = accuracy.save(tmp_path / "accuracy.json")
    back = Accuracy.load(file)
    assert back.right_after == accuracy.right_after
    picture = plots.discovery(back)
    assert len(picture.table()) == len(WAYS)


def test_what_cannot_be_measured_is_refused(settings: Settings) -> None:
    with Lab.start("no-links", settings=settings, links=False) as lab:
        with pytest.raises(NotPossible, match="without links"):
            discovery(lab)
        with pytest.raises(InvalidInput, match="too few"):
            discovery(lab, users=3)
        with pytest.raises(InvalidInput, match="no ways rumour"):
            discovery(lab, ways=["rumour"])


def test_a_question_by_events_costs_two_messages_a_user_and_the_others_do_not_grow(
    settings: Settings,
) -> None:
    costs = {(cost.way, cost.users): cost.messages for cost in among((4, 12), WAYS, settings)}
    assert costs["events", 12] - costs["events", 4] == 2 * 8
    for way in set(WAYS) - {"events"}:
        assert costs[way, 12] == costs[way, 4], way
    assert costs["broker-events", 12] == 0


@pytest.mark.soak  # notebook 04 does the same
def test_each_way_needs_the_broker_that_it_asks(settings: Settings) -> None:
    harmless = {
        (down.way, down.service): down.harmless for down in while_killed(WAYS, settings)
    }
    assert not harmless["registry", "redis"] and not harmless["as-reported", "redis"]
    assert not harmless["management", "rabbitmq"] and not harmless["events", "rabbitmq"]
    assert harmless["registry", "rabbitmq"]
    assert harmless["management", "redis"] and harmless["events", "redis"]
