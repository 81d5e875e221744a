"""The horizontal axis: columns in order, common to all strips, or seconds without gaps."""

from __future__ import annotations

import pytest
from plots_script import bob_is_away

from chatlab.plots.events import read
from chatlab.plots.scale import OrderScale, TimeScale, events, round_up
from chatlab.plots.story import Moment


def test_columns_follow_the_order_of_events() -> None:
    story = read(bob_is_away(kept=True).journal)
    marks = events(story, story.flights)
    scale = OrderScale.of([marks], 100, 800)
    xs = [scale.x(0, moment) for moment, _, _ in marks]
    assert xs == sorted(xs) and xs[0] == 100 and xs[-1] == pytest.approx(800)


def test_two_strips_share_the_columns_of_their_sends() -> None:
    scripts = [bob_is_away(kept=kept) for kept in (True, False)]
    for script in scripts:  # after the late ones, which only the first strip has
        script.send("ana", "eva", "bob")
    stories = [read(script) for script in scripts]
    scale = OrderScale.of([events(s, s.flights) for s in stories], 100, 800)
    first, second = (
        [scale.x(number, send.when) for send in story.sends]
        for number, story in enumerate(stories)
    )
    assert first == pytest.approx(second)
    for number, story in enumerate(stories):
        xs = [scale.x(number, moment) for moment, _, _ in events(story, story.flights)]
        assert xs == sorted(xs)


def test_a_gap_of_more_than_a_second_is_cut_and_its_length_told() -> None:
    marks = [(Moment(n, at), "send", str(n)) for n, at in enumerate((10.0, 10.5, 14.5, 15.0))]
    scale = TimeScale.of([marks], 0, 1046)  # type: ignore[list-item]
    assert [scale.x(0, moment) for moment, _, _ in marks] == pytest.approx([0, 500, 546, 1046])
    assert scale.cuts() == [(pytest.approx(500), pytest.approx(546), pytest.approx(4.0))]
    labels = [label for _, label in scale.ticks(apart=200)]
    assert labels == ["0.0", "0.2", "0.4", "4.6", "4.8", "5.0"]


def test_time_runs_to_the_right_inside_a_cut_too() -> None:
    marks = [(Moment(0, 0.0), "send", "a"), (Moment(1, 9.0), "send", "b")]
    scale = TimeScale.of([marks], 0, 400)  # type: ignore[list-item]
    assert 0 < scale.at(3.0) < scale.at(6.0) < scale.at(9.0) <= 400


@pytest.mark.parametrize(("value", "rounded"), [(0.3, 0.5), (1, 1), (1.1, 2), (6, 10)])
def test_steps_are_round(value: float, rounded: float) -> None:
    assert round_up(value) == pytest.approx(rounded)
