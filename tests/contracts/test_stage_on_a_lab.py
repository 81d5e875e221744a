"""A stage on a real lab: what it shows is what the broker has, and its buttons do break it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatlab import panels
from chatlab.lab import Lab
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("stage", breakable=True, settings=lab_settings) as lab:
        yield lab


@pytest.fixture
def stage(lab: Lab) -> Iterator[panels.Stage]:
    lab.scene("a lecture")
    made = panels.stage(lab)
    yield made
    made.close()


def until(look: Callable[[], Any], wanted: Any, seconds: float = 15.0) -> None:
    """Wait for a value; what is shown follows within a look and a tick."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen == wanted


def row(stage: panels.Stage, user: str) -> tuple[Any, ...]:
    (found,) = [r for r in stage.table() if user in r["store"]]
    return found["ready"], found["unacknowledged"], found["consumer"]


def line(stage: panels.Stage, user: str) -> dict[str, Any]:
    lines: list[dict[str, Any]] = stage.topology.view["lines"]
    return next((each for each in lines if user in each["name"]), {})


def test_a_stage_of_a_lab_without_users_makes_three_and_their_group(
    stage: panels.Stage,
) -> None:
    assert [user.name for user in stage.users] == ["ana", "bob", "eva"]
    facts = stage.facts()
    assert (facts["group"], facts["backend"]) == ("sd", "rabbitmq-durable")
    assert [column.user.name for column in stage.columns] == ["ana", "bob", "eva"]


def test_what_waits_and_what_is_not_acknowledged_is_counted_as_the_broker_has_it(
    stage: panels.Stage,
) -> None:
    ana, bob, eva = stage.users
    room = ana.group("sd")
    bob.offline()
    room.send("one")
    stage.lab.settle()
    until(lambda: row(stage, "bob"), (1, 0, "nobody"))
    until(lambda: line(stage, "bob").get("filled"), 1)
    with eva.frozen():
        room.send("two")
        until(lambda: row(stage, "eva"), (0, 1, "eva"))
        until(lambda: line(stage, "eva").get("outlined"), 1)
    bob.online()
    stage.lab.settle()
    for user in ("ana", "bob", "eva"):
        until(lambda name=user: row(stage, name), (0, 0, user))


def test_the_broker_that_was_killed_comes_back_and_nothing_is_lost(stage: panels.Stage) -> None:
    ana, bob, _ = stage.users
    bob.offline()
    ana.group("sd").send("does it stay?")
    until(lambda: row(stage, "bob"), (1, 0, "nobody"))
    stage.toolbar.ask("kill")  # as the browser does
    until(lambda: stage.facts()["services"]["rabbitmq"], "starting")
    until(lambda: bool(stage.topology.view["silent"]), True)
    words = {each["key"]: each["word"] for each in stage.toolbar.view["services"]}
    assert words["rabbitmq"].startswith("back ")
    assert "kill RabbitMQ" not in stage.facts()["buttons"]
    stage.toolbar.wait(60)
    until(lambda: stage.facts()["services"]["rabbitmq"], "up")
    until(lambda: row(stage, "bob"), (1, 0, "nobody"))
    bob.online()
    stage.lab.settle()
    assert [message.body for message in bob.group("sd").received] == ["does it stay?"]
    assert stage.lab.current.verdict().outcome == "kept"


def test_a_cut_link_and_a_pause_are_shown_and_mended(stage: panels.Stage) -> None:
    stage.click("cut bob's link")
    until(lambda: stage.facts()["cut"], ["bob"])
    until(lambda: row(stage, "bob")[2], "nobody")
    stage.click("heal bob's link")
    until(lambda: stage.facts()["cut"], [])
    until(lambda: row(stage, "bob")[2], "bob")
    stage.click("pause")
    until(lambda: bool(stage.facts()["silent"]), True)
    assert stage.facts()["services"]["rabbitmq"] == "paused"
    stage.click("resume")
    until(lambda: stage.facts()["silent"], "")


def test_another_run_of_its_cell_replaces_it_and_a_new_scene_is_joined_by_a_click(
    stage: panels.Stage,
) -> None:
    again = panels.stage(stage.lab)
    assert stage.comm is None and all(panel.comm is None for panel in stage.panels)
    stage.lab.scene("the next")
    until(lambda: [b["label"] for b in again.topology.view["buttons"]], ["all join sd"])
    again.click("all join sd")
    until(lambda: line(again, "bob").get("consumer"), "bob")
    until(lambda: again.facts()["backend"], "rabbitmq-durable")
    again.close()
    assert again.comm is None and all(panel.comm is None for panel in again.panels)


@pytest.mark.parametrize(
    ("backend", "kind", "waiting"),
    [
        ("redis-stream", "stream", (1, None, None)),
        ("redis-pubsub", "channel", (None, None, "nobody")),
        ("memory", "list", (1, None, "nobody")),
        ("rabbitmq-log", "exchange", None),
    ],
)
def test_groups_that_are_kept_elsewhere_show_what_there_is_instead(
    lab: Lab, backend: str, kind: str, waiting: tuple[Any, ...] | None
) -> None:
    lab.scene("elsewhere")
    stage = panels.stage(lab, "news", backend=backend)
    ana, bob, _ = stage.users
    bob.offline()
    ana.group("news").send("one")
    until(lambda: stage.topology.view["kind"], kind)
    if waiting is not None:
        until(lambda: row(stage, "bob"), waiting)
    else:
        until(lambda: (stage.table()[0]["ready"] or 0) > 0, True)
        assert stage.table()[0]["store"] == "log news"
    stage.close()
