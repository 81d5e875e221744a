"""What all panels share: they are fed together, and each lives and fails for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from panels_rig import PaperLab, paper_lab, until
from plots_script import Script

from chatlab.errors import InvalidInput, LabClosed, NotPossible
from chatlab.loop import BackgroundLoop
from chatlab.panels import panel as panels
from chatlab.panels.panel import WAITING_CLICKS, Panel, Place, look_of
from chatlab.panels.pump import PUMP
from chatlab.tables import Table


class Counter(Panel):
    """Counts its looks; its verbs do what a test wants."""

    VERBS = frozenset({"add", "wait", "refuse", "fail"})
    SLOW = frozenset({"wait"})

    def __init__(self, lab: PaperLab, key: Any = "counter") -> None:
        self.sum, self.looks, self.mistake = 0, 0, ""
        self.gate = threading.Event()
        super().__init__(cast(Any, lab), key)
        self.begin()

    def look(self) -> dict[str, Any]:
        self.looks += 1
        if self.mistake:
            raise ValueError(self.mistake)
        button = {"label": "add 2", "do": "add", "args": {"number": 2}}
        return {
            "sum": self.sum,
            "buttons": [button, {"label": "off", "do": "add", "on": False}],
        }

    def table(self) -> Table:
        return Table([{"sum": self.sum}], "sum")

    def do_add(self, number: int = 1) -> None:
        self.sum += number

    def do_wait(self) -> None:
        assert self.gate.wait(10)

    def do_refuse(self) -> None:
        raise NotPossible("It is not possible.", "Nothing was done.", "Try something else.")

    def do_fail(self) -> None:
        raise RuntimeError("a mistake")


@pytest.fixture
def lab() -> Iterator[PaperLab]:
    with paper_lab(Script("ana")) as made:
        yield made
        for shown in panels._shown[:]:
            shown.close()
        until(lambda: not PUMP.running)


def press(panel: Panel, **message: Any) -> None:
    """What the browser sends."""
    panel._handle_custom_msg(message, [])


def in_cell(monkeypatch: pytest.MonkeyPatch, cell: str, run: str) -> None:
    monkeypatch.setattr(panels, "place", lambda: Place(cell, run))


# -- being fed


def test_what_changes_is_shown_by_itself(lab: PaperLab) -> None:
    panel = Counter(lab)
    panel.sum = 5
    until(lambda: panel.view["sum"] == 5)


def test_what_does_not_change_is_not_sent(lab: PaperLab) -> None:
    panel = Counter(lab)
    sent: list[object] = []
    panel.observe(sent.append, "view")
    looks = panel.looks
    until(lambda: panel.looks > looks + 5)
    assert sent == []


def test_a_panel_that_cannot_look_says_so_and_the_others_go_on(lab: PaperLab) -> None:
    broken, whole = Counter(lab, "broken"), Counter(lab, "whole")
    broken.sum = 3
    until(lambda: broken.view["sum"] == 3)
    broken.mistake = "<b>no</b>"
    until(lambda: "ValueError: <b>no</b>" in broken.view["note"])
    assert broken.view["sum"] == 3
    whole.sum = 7
    until(lambda: whole.view["sum"] == 7)
    broken.mistake = ""
    until(lambda: broken.view["note"] == "")


def test_a_panel_that_cannot_look_at_first_raises_and_leaves_nothing(lab: PaperLab) -> None:
    class Broken(Counter):
        def look(self) -> dict[str, Any]:
            raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        Broken(lab)
    assert not PUMP.running
    assert panels._shown == []


def test_the_pump_ends_with_the_last_panel_and_begins_with_the_next(lab: PaperLab) -> None:
    one, two = Counter(lab, 1), Counter(lab, 2)
    one.close()
    assert PUMP.running
    two.close()
    until(lambda: not PUMP.running)
    three = Counter(lab, 3)
    three.sum = 1
    until(lambda: three.view["sum"] == 1)


def test_the_pump_survives_the_loop_that_it_ran_on() -> None:
    with paper_lab(Script("ana")) as lab:
        orphan = Counter(lab)
    until(lambda: not PUMP.running)
    with paper_lab(Script("ana")) as lab:
        panel = Counter(lab, "next")
        panel.sum = 4
        until(lambda: panel.view["sum"] == 4)
        until(lambda: orphan.view["over"])
        panel.close()
        orphan.close()


def test_a_closed_lab_is_over_and_its_panel_does_no_more(lab: PaperLab) -> None:
    other = PaperLab(Script("bob"), BackgroundLoop("other"))
    panel, stays = Counter(other), Counter(lab, "stays")
    other.closed = True
    until(lambda: panel.view["over"] == "The lab paper has been closed.")
    press(panel, do="add")
    panel.wait()
    assert panel.sum == 0
    stays.sum = 1
    until(lambda: stays.view["sum"] == 1)
    with pytest.raises(LabClosed):
        Counter(other)
    stays.close()
    panel.close()
    until(lambda: not PUMP.running)
    other.loop.close()


# -- one in place of another


def test_outside_of_a_notebook_a_panel_replaces_its_like(lab: PaperLab) -> None:
    old, other = Counter(lab, "a"), Counter(lab, "b")
    new = Counter(lab, "a")
    assert old.comm is None
    assert other.comm is not None
    assert new.comm is not None


def test_a_cell_that_runs_again_replaces_its_panels(
    lab: PaperLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cell(monkeypatch, "cell 1", "run 1")
    first, second = Counter(lab), Counter(lab)  # two of a kind in one cell
    in_cell(monkeypatch, "cell 2", "run 2")
    third = Counter(lab)
    assert None not in (first.comm, second.comm, third.comm)
    in_cell(monkeypatch, "cell 1", "run 3")
    again = Counter(lab)
    assert (first.comm, second.comm) == (None, None)
    assert None not in (third.comm, again.comm)


def test_where_cells_have_no_names_every_panel_stays(
    lab: PaperLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cell(monkeypatch, "", "run 1")
    first = Counter(lab)
    in_cell(monkeypatch, "", "run 2")
    Counter(lab)
    assert first.comm is not None


def test_closing_twice_is_closing(lab: PaperLab) -> None:
    panel = Counter(lab)
    panel.close()
    panel.close()
    assert panel.comm is None
    press(panel, do="add")
    assert panel.sum == 0


# -- verbs


def test_the_browser_asks_for_verbs(lab: PaperLab) -> None:
    panel = Counter(lab)
    press(panel, do="add", number=3)
    panel.wait()
    assert panel.sum == 3


@pytest.mark.parametrize(
    "message", [{}, {"do": "close"}, {"do": ""}, {"do": 7}, {"do": "__init__"}, {"verb": "add"}]
)
def test_what_is_no_verb_is_refused(lab: PaperLab, message: dict[str, Any]) -> None:
    panel = Counter(lab)
    press(panel, **message)
    panel.wait()
    assert "has no verb" in panel._note
    assert "add, fail, refuse, wait" in panel._note


def test_wrong_arguments_are_refused_and_the_next_click_is_done(lab: PaperLab) -> None:
    panel = Counter(lab)
    press(panel, do="add", self="x", verb="y")
    panel.wait()
    assert "cannot add like that" in panel._note
    press(panel, do="add")
    panel.wait()
    assert (panel._note, panel.sum) == ("", 1)


def test_an_error_is_a_note_until_it_is_read(lab: PaperLab) -> None:
    panel = Counter(lab)
    press(panel, do="refuse")
    until(lambda: panel.view["note"])
    assert panel.view["note"] == "It is not possible. Nothing was done. Try something else."
    assert panel.view["done"] == 1
    press(panel, do="hush")
    until(lambda: not panel.view["note"])
    assert panel.view["done"] == 2


def test_a_mistake_of_ours_is_told_too(lab: PaperLab) -> None:
    panel = Counter(lab)
    press(panel, do="fail")
    panel.wait()
    assert "RuntimeError: a mistake" in panel._note


def test_a_slow_verb_does_not_hold_up_others(lab: PaperLab) -> None:
    panel = Counter(lab)
    press(panel, do="wait")
    press(panel, do="add")
    until(lambda: panel.sum == 1)
    panel.gate.set()
    panel.wait()


def test_clicks_that_wait_are_bounded(lab: PaperLab) -> None:
    panel = Counter(lab)
    for _ in range(WAITING_CLICKS):
        panel.ask("wait")
    panel.ask("add")
    panel.gate.set()
    panel.wait()
    assert panel.sum == 0


def test_a_test_presses_buttons_by_their_label(lab: PaperLab) -> None:
    panel = Counter(lab)
    panel.click("add 2")
    assert panel.sum == 2
    with pytest.raises(InvalidInput, match="no button 'subtract'"):
        panel.click("subtract")
    with pytest.raises(InvalidInput, match="cannot be pressed"):
        panel.click("off")


# -- where there are no widgets


def test_readers_without_widgets_see_a_stable_text_and_a_table(lab: PaperLab) -> None:
    panel = Counter(lab)
    data, _ = panel._repr_mimebundle_()
    assert data["text/plain"] == "<Counter of the lab paper>"
    assert "sum" in data["text/html"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id


@pytest.mark.parametrize("name", ["column.js", "column.css"])
def test_a_look_is_preceded_by_what_all_share(name: str) -> None:
    ending = name.partition(".")[2]
    assert look_of(name).startswith(look_of(f"common.{ending}").partition("\n")[0])


def test_no_script_sets_html() -> None:
    for file in panels._LOOK.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        for bad in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert bad not in text, f"{file.name}: {bad}"
