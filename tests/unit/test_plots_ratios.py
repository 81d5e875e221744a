"""The benchmark picture shows what ``chatlab bench`` prints, and which goals were missed."""

from __future__ import annotations

from typing import Any

import pytest

from chatlab import plots
from chatlab.bench.report import Figure, table
from chatlab.errors import InvalidInput

QUICK = Figure("quick", [1.0, 2.0, 3.0], [4.0, 4.0], "the base", at_least=1.5)
SLOW = Figure("slow", [6.0, 8.0, 10.0], [4.0], "$_<b>", at_most=1.5)


def width_of_bars(picture: Any) -> list[float]:
    return [patch.get_width() for patch in picture.patches if patch.get_height() == 18]


def test_the_rows_are_ratio_middle_half_and_goal_each_the_right_way_round() -> None:
    slow, quick = plots.ratios([SLOW, QUICK]).table()
    assert (slow["ratio"], slow["goal"], slow["met"], slow["of"]) == (2.0, 1.5, False, "time")
    assert (slow["low"], slow["high"]) == (1.5, 2.5)
    assert (quick["ratio"], quick["goal"], quick["met"], quick["of"]) == (
        2.0,
        1.5,
        True,
        "speed",
    )
    assert (quick["low"], quick["high"]) == pytest.approx((4 / 3, 4))


def test_the_ratios_are_those_that_bench_prints() -> None:
    printed = [row["ratio"] for row in table([SLOW, QUICK]).table()]
    drawn = [row["ratio"] for row in plots.ratios([SLOW, QUICK]).table()]
    assert [float(words.rstrip(" x")) for words in printed] == drawn


def test_bars_are_as_long_as_the_ratio_and_begin_at_one_on_a_logarithmic_axis() -> None:
    linear = [Figure("a", [1.0], [1.0], "b"), Figure("c", [3.0], [1.0], "d")]
    one, three = width_of_bars(plots.ratios(linear))
    assert three == pytest.approx(3 * one)
    far = [Figure("a", [10.0], [1.0], "b"), Figure("c", [100.0], [1.0], "d")]
    ten, hundred = width_of_bars(plots.ratios(far))
    assert hundred == pytest.approx(2 * ten)
    tenth, ten = width_of_bars(plots.ratios([Figure("a", [0.1], [1.0], "b"), far[0]]))
    assert tenth == pytest.approx(ten)  # leftwards and rightwards of 1
    assert any("logarithmic" in text.get_text() for text in plots.ratios(far).texts)


def test_titles_of_ratios() -> None:
    assert plots.ratios([SLOW, QUICK]).finding == "1 of 2 goals met, not: slow"
    assert plots.ratios([QUICK, QUICK]).finding == "Both goals met"
    assert plots.ratios([QUICK]).finding == "Quick: 2.0 times as fast as the base"
    assert plots.ratios([SLOW]).finding == "Slow: 2.0 times as long as $_<b>"


@pytest.mark.parametrize("report", [[], (), None, "bench", [1]])
def test_what_is_no_report_is_refused(report: object) -> None:
    with pytest.raises(InvalidInput, match="chatlab bench"):
        plots.ratios(report)  # type: ignore[arg-type]
