"""The insult panel on a real lab: what a lecturer clicks, and what the class then sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatlab.errors import InvalidInput, SendFailed
from chatlab.journal import Connected
from chatlab.lab import Lab
from chatlab.messages import INSULTS
from chatlab.panels import InsultPanel, insults
from chatlab.plots.shares import shares
from chatlab.settings import Settings

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("insult-panel", settings=lab_settings) as running:
        yield running


@pytest.fixture
def panel(lab: Lab, request: pytest.FixtureRequest) -> Iterator[InsultPanel]:
    lab.scene(request.node.name)
    shown = insults(lab)
    yield shown
    shown.close()


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.02)


def strip(panel: InsultPanel, number: int = -1) -> dict[str, Any]:
    panel.refresh()
    found: dict[str, Any] = panel.view["strips"][number]
    return found


def counts(panel: InsultPanel, number: int = -1) -> dict[str, int]:
    return {row["name"]: row["count"] for row in strip(panel, number)["rows"]}


def handled(panel: InsultPanel, number: int) -> Callable[[], bool]:
    return lambda: strip(panel)["how"].lower().count("h") == number


def browser(panel: InsultPanel, **message: Any) -> None:
    """What a click in the browser sends."""
    data = {"method": "custom", "content": message}
    panel._handle_msg({"content": {"data": data}, "buffers": []})
    panel.wait()
    panel.refresh()


def test_in_a_lab_without_users_three_share_what_a_fourth_sends(panel: InsultPanel) -> None:
    lab = panel.lab
    users = [(user["name"], user["joined"]) for user in panel.view["users"]]
    assert users == [("ana", True), ("bob", True), ("eva", True), ("dan", False)]
    panel.click("send 30")
    until(handled(panel, 30))
    assert list(counts(panel).values()) == shares(lab.current).counts
    assert min(counts(panel).values()) >= 8
    assert strip(panel)["title"] == "prefetch 1, 50 ms of work each"
    assert (float(strip(panel)["fairness"]) > 0.95, panel.view["waiting"]) == (True, 0)
    assert {row["member"]: row["insults"] for row in panel.table()} == counts(panel)


def test_whoever_comes_first_takes_the_backlog_unless_prefetch_is_1(panel: InsultPanel) -> None:
    for prefetch in (0, 1):
        panel.click("all leave")
        panel.click("send 30")
        panel.refresh()
        assert panel.view["waiting"] == 30
        panel.click(f"prefetch {prefetch}")
        panel.click("all join")
        until(handled(panel, 30))
    assert [one["title"] for one in panel.view["strips"]] == [
        "no prefetch, 50 ms of work each: 30 waiting, then 3 members joined",
        "prefetch 1, 50 ms of work each: 30 waiting, then 3 members joined",
    ]
    assert counts(panel, 0) == {"ana": 30, "bob": 0, "eva": 0}
    assert min(counts(panel, 1).values()) >= 8


def test_a_changed_setting_is_every_member_s_and_begins_a_strip(panel: InsultPanel) -> None:
    panel.click("send 1")
    until(handled(panel, 1))
    browser(panel, do="work", name="bob", seconds=0.3)
    panel.click("ack auto")
    assert (
        strip(panel)["title"] == "auto-ack (prefetch ignored), bob works 300 ms, others 50 ms"
    )
    assert strip(panel)["total"] == 0
    buttons = {button["label"]: button for button in panel.view["buttons"]}
    assert (buttons["ack auto"]["pressed"], buttons["ack manual"]["pressed"]) == (True, False)
    assert buttons["prefetch 10"]["title"] == "ignored while acks are auto"
    state = {(row["process"], row["thing"]): row["value"] for row in panel.lab.state()}
    assert [state[f"client of {name}", "ack"] for name in ("ana", "bob", "eva")] == ["auto"] * 3
    panel.click("send 1")
    until(handled(panel, 1))
    assert [one["total"] for one in panel.view["strips"]] == [1, 1]


def test_what_a_member_with_auto_ack_takes_along_is_lost_and_shown_so(
    panel: InsultPanel,
) -> None:
    panel.click("ack auto")
    panel.do("work", name="eva", seconds=1.0)
    panel.click("send 30")
    until(lambda: counts(panel)["eva"] == 1)
    panel.lab.user("eva").crash()
    until(lambda: strip(panel, 0)["lost"] > 1)  # more than what was seen in her hands
    assert counts(panel, 0)["eva"] == 0
    lost = strip(panel, 0)["how"].count("x")
    assert (panel.view["waiting"], lost) == (0, 30 - sum(counts(panel, 0).values()))
    assert lost >= 5
    panel.lab.user("eva").online()


def test_what_a_crashed_member_had_comes_again_marked(panel: InsultPanel) -> None:
    panel.do("work", name="eva", seconds=1.0)
    panel.click("send 30")
    until(lambda: counts(panel)["eva"] == 1)
    panel.lab.user("eva").crash()
    until(lambda: strip(panel, 0)["how"].lower().count("h") == 30)
    assert sum(row["again"] for row in strip(panel, 0)["rows"]) >= 1
    assert (counts(panel, 0)["eva"], strip(panel, 0)["lost"]) == (0, 0)
    panel.lab.user("eva").online()


def test_members_come_and_leave_one_by_one_and_a_member_may_send(panel: InsultPanel) -> None:
    panel.click("leave bob")
    panel.click("leave eva")
    browser(panel, do="sender", name="ana")
    panel.click("send 1")
    until(handled(panel, 1))
    assert counts(panel) == {"ana": 1}
    panel.click("join bob")
    assert list(counts(panel)) == ["ana", "bob"]
    browser(panel, do="sender", name="eva")
    panel.click("send 1")  # she takes no part: from now on she only sends
    until(handled(panel, 1))
    assert list(counts(panel)) == ["ana", "bob"]


def test_where_a_backend_has_no_such_option_the_button_says_so(
    panel: InsultPanel,
) -> None:
    lab = panel.lab
    lab.scene("a list")
    lab.user("bob").insults("consumer", backend="redis-list", work=0.01)
    until(lambda: panel.view["backend"] == "redis-list")
    assert [user["joined"] for user in panel.view["users"]] == [False, True, False, False]
    buttons = {button["label"]: button for button in panel.view["buttons"]}
    assert buttons["prefetch 1"]["title"] == "redis-list has no option prefetch"
    with pytest.raises(InvalidInput, match="cannot be pressed"):
        panel.click("ack auto")
    panel.click("all join")
    panel.click("send 30")
    until(handled(panel, 30))
    assert strip(panel)["title"] == "redis-list, bob works 10 ms, others 50 ms"
    facts = [f for f in lab.journal.facts(Connected) if f.chat == INSULTS and f.user == "bob"]
    assert {fact.role for fact in facts} == {"consumer"}  # who only drew does so still


def test_run_again_the_cell_shows_the_same_strips_and_changes_nothing(
    panel: InsultPanel,
) -> None:
    panel.click("leave eva")
    panel.click("send 1")
    until(handled(panel, 1))
    facts = len(panel.lab.journal)
    again = insults(panel.lab)
    assert again.view["strips"] == panel.view["strips"]
    assert (panel.comm, len(panel.lab.journal)) == (None, facts)
    again.close()


def test_what_the_browser_may_not_ask_is_a_note_and_nothing_else(panel: InsultPanel) -> None:
    before = len(panel.lab.journal)
    for message in (
        {"do": "send", "count": 10_000},
        {"do": "work", "name": "bob", "seconds": 7},
        {"do": "work", "name": "bob", "seconds": "1"},
        {"do": "prefetch", "value": -1},
        {"do": "ack", "value": HOSTILE},
        {"do": "join", "name": HOSTILE},
        {"do": "sender", "name": "nobody"},
        {"do": "close"},
        {"do": "join"},
    ):
        browser(panel, **message)
        assert panel.view["note"], message
    assert len(panel.lab.journal) == before
    browser(panel, do="older")
    assert panel.view["note"] == ""


def test_who_cannot_take_part_now_keeps_nobody_from_it(panel: InsultPanel) -> None:
    with panel.lab.user("ana").frozen():
        with pytest.raises(SendFailed, match="ana is frozen"):
            panel.click("prefetch 10")
        assert strip(panel)["title"] == "mixed settings, 50 ms of work each"
    panel.click("prefetch 10")
    assert strip(panel)["title"] == "prefetch 10, 50 ms of work each"


def test_older_strips_come_on_demand(panel: InsultPanel) -> None:
    for number in range(6):
        panel.click(f"prefetch {(0, 1)[number % 2]}")
        panel.click("send 1")
        until(handled(panel, 1))
    assert (len(panel.view["strips"]), panel.view["older"]) == (4, 2)
    panel.do("older")
    panel.refresh()
    assert (len(panel.view["strips"]), panel.view["older"]) == (6, 0)


def test_another_backend_and_other_members_may_be_asked_for_and_the_end_is_said(
    lab_settings: Settings,
) -> None:
    with Lab.start("other-insult-panel", settings=lab_settings) as lab:
        with pytest.raises(InvalidInput, match="no backend"):
            insults(lab, backend="rabbit")
        shown = insults(lab, members=["zoe", lab.user("max")], sender="max", backend="memory")
        assert [user["joined"] for user in shown.view["users"]] == [True, True]
        shown.click("send 30")
        until(handled(shown, 30))
        assert (shown.view["backend"], sum(counts(shown).values())) == ("memory", 30)
    until(lambda: shown.view["over"])
    browser(shown, do="send", count=1)
    assert "closed" in shown.view["over"]
    shown.close()
