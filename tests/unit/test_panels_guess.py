"""Guess cards: chosen by a click, fixed after the run, readable without widgets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import chatlab.panels.panel as panel
from chatlab.errors import InvalidInput
from chatlab.panels import GuessCard, guess

OPTIONS = ["10 / 10 / 10", "30 / 0 / 0", "it depends"]
HOSTILE = "<img src=x onerror=alert(1)>"


def card(**given: Any) -> GuessCard:
    return guess("q2", "Who gets how many?", OPTIONS, **given)


def browser(card: GuessCard, **message: Any) -> None:
    """What a click in the browser sends."""
    data = {"method": "custom", "content": message}
    card._handle_msg({"content": {"data": data}, "buffers": []})


def test_a_click_is_the_guess_and_may_be_changed_until_the_run() -> None:
    shown, told = card(), list[str]()
    shown.on_guess(told.append)
    assert (shown.guess, shown.view["words"], shown.view["guess"]) == (None, "", "")
    browser(shown, do="choose", option=OPTIONS[0])
    shown.click(OPTIONS[1])
    shown.click(OPTIONS[1])  # no other one
    assert (shown.guess, told) == (OPTIONS[1], OPTIONS[:2])
    assert shown.view["words"] == "your guess: 30 / 0 / 0 · change until the run"
    assert [button["label"] for button in shown.view["buttons"]] == OPTIONS


@pytest.mark.parametrize(
    ("seen", "verdict", "right"),
    [("30 / 0 / 0", "not as guessed", False), ("10/10/10", "as guessed", True)],
)
def test_the_run_fixes_it_and_says_in_words_whether_it_was_right(
    seen: str, verdict: str, right: bool
) -> None:
    shown = card(guess=OPTIONS[0])
    assert shown.right is None
    assert shown.fix(seen) is shown
    assert shown.view["words"] == f"guessed 10 / 10 / 10, saw {seen}"
    assert (shown.view["verdict"], shown.right, shown.view["buttons"]) == (verdict, right, [])
    assert repr(shown).endswith(f"saw {seen}: {verdict}")
    assert shown.table()[0] | {"id": "q2", "seen": seen, "right": right} == shown.table()[0]


def test_without_a_click_it_says_so_and_the_run_goes_on() -> None:
    shown = card().fix("30 / 0 / 0")
    assert shown.view["words"] == "no guess recorded, saw 30 / 0 / 0"
    assert (shown.view["verdict"], shown.right) == ("", None)


def test_after_the_run_a_late_click_changes_nothing_and_says_why() -> None:
    shown, told = card().fix("30 / 0 / 0"), list[str]()
    shown.on_guess(told.append)
    browser(shown, do="choose", option=OPTIONS[1])
    assert (shown.guess, told) == (None, [])
    assert "The run is over" in shown.view["note"]


def test_a_further_run_is_what_was_seen_last() -> None:
    shown = card(guess=OPTIONS[1]).fix("10 / 10 / 10").fix("30 / 0 / 0")
    assert (shown.seen, shown.right) == ("30 / 0 / 0", True)


@pytest.mark.parametrize(
    "message",
    [{"do": "choose", "option": "40"}, {"do": "fix", "seen": "x"}, {"do": "choose"}, {}],
)
def test_what_no_button_says_is_refused_with_a_note(message: dict[str, Any]) -> None:
    shown = card()
    browser(shown, **message)
    assert (shown.guess, shown.seen) == (None, None)
    assert shown.view["note"]
    browser(shown, do="choose", option=OPTIONS[2])
    assert (shown.guess, shown.view["note"]) == (OPTIONS[2], "")


def test_an_earlier_guess_counts_as_long_as_it_is_an_option() -> None:
    assert card(guess=OPTIONS[2]).guess == OPTIONS[2]
    assert card(guess="what was asked last year").guess is None


def test_a_cell_that_is_run_again_replaces_its_card_and_no_other() -> None:
    first, other = card(), guess("q3", "Another?", ["yes", "no"])
    second = card()
    assert first.comm is None
    assert other.comm is not None and second.comm is not None
    first.close()  # once more; the second one stays
    assert second in panel._shown
    second.close()
    other.close()


def test_readers_without_widgets_see_question_options_and_guess_escaped() -> None:
    shown = guess("q9", HOSTILE, [HOSTILE + "1", "30 / 0 / 0"], guess="30 / 0 / 0")
    data, _ = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"].startswith(HOSTILE)
    html = data["text/html"]
    assert HOSTILE not in html and html.count("&lt;img") == 2
    assert "<b>30 / 0 / 0</b> (your guess)" in html
    assert HOSTILE not in shown.fix(HOSTILE)._repr_html_()


def test_a_card_without_a_guess_says_so_to_these_readers() -> None:
    assert "no guess yet" in card()._repr_html_()
    assert "no guess yet" in repr(card())


@pytest.mark.parametrize(
    ("id", "question", "options"),
    [
        ("", "why?", OPTIONS),
        ("q", " ", OPTIONS),
        ("q", "why?", ["one"]),
        ("q", "why?", ["one", "one"]),
        ("q", "why?", ["one", ""]),
        ("q", "why?", "ab"),
    ],
)
def test_what_is_no_question_is_refused(id: str, question: str, options: Any) -> None:
    with pytest.raises(InvalidInput):
        guess(id, question, options)


@pytest.mark.parametrize("script", sorted(panel._LOOK.glob("*.js")), ids=lambda path: path.name)
def test_no_script_of_a_panel_sets_html(script: Path) -> None:
    risky = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    assert not re.search(risky, script.read_text())
