"""The plain pictures are cards like the others, whatever they are given."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from plots_script import Script, bob_is_away, dealt
from test_plots_picture import big, overflowing, words

from chatlab import plots
from chatlab.bench.report import Figure as Ratio
from chatlab.errors import InvalidInput
from chatlab.journal import Journal

ALL = [plots.order, plots.latency, plots.throughput, plots.depth]
#: Names that would be mathematics or markup, long ones, letters of other scripts.
NAMES = ("$a_b$<i>", "x" * 64, "Ж" * 48, "小明", "עברית")


def odd() -> Script:
    script = Script(*NAMES, backend="x:" + "y" * 80, tier="stand-in").join().leave(NAMES[1])
    script.fact("FaultBegan", "", "", "cut", f"{NAMES[1]}-rabbitmq")
    for _ in range(3):
        script.send(NAMES[0], *NAMES[2:])
    return script


def one_message() -> Script:
    script = Script("ana", "bob").join()
    script.send("ana", "bob")
    return script


@pytest.mark.parametrize("draw", ALL)
def test_nothing_is_clipped_or_read_as_markup(draw: Any) -> None:
    many = [big(6, 5), big(20, 30), dealt("ana"), bob_is_away(kept=False)]
    for scenes in ([odd()], [Script("ana")], [one_message()], many, [odd()] * 3):
        picture = draw(*scenes)
        assert overflowing(picture) == []
        assert not any(text.get_parse_math() for text in picture.texts)
    assert "STAND-IN" in words(draw(odd()))


@pytest.mark.parametrize("draw", ALL)
def test_a_journal_of_nothing_is_a_clear_picture_and_nothing_at_all_is_refused(
    draw: Any,
) -> None:
    assert draw(Journal()).finding in ("No messages were sent", "Nothing was delivered")
    with pytest.raises(InvalidInput, match="scene, run or journal"):
        draw()
    with pytest.raises(InvalidInput, match="not of str"):
        draw(one_message(), "bob is away")


@pytest.mark.parametrize("draw", ALL)
def test_saved_as_png_and_svg_and_drawn_on_an_axes_of_ones_own(
    draw: Any, tmp_path: Path
) -> None:
    picture = draw(bob_is_away(kept=True))
    png = picture.save(tmp_path / "a.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (900, 440)
    assert picture.finding.replace("'", "&apos;") in picture.save(
        tmp_path / "a.svg"
    ).read_text().replace("'", "&apos;")
    figure = Figure(figsize=(8, 3))
    _, right = figure.subplots(1, 2)
    assert draw(bob_is_away(kept=True), ax=right) is right
    assert overflowing(right) == []


@pytest.mark.parametrize("draw", ALL)
def test_ten_thousand_facts_are_drawn_without_a_cost_per_fact_that_hurts(draw: Any) -> None:
    script = big(2_200, 3)
    assert len(script.journal) > 10_000
    begin = time.process_time()
    draw(script)
    # The goal is one second; the bound leaves room for a busy machine.
    assert time.process_time() - begin < 3


def test_ratios_of_odd_names_and_of_thirty_figures_are_not_clipped() -> None:
    names = [*NAMES, *(f"figure {number}" for number in range(25))]
    figures = [
        Ratio(name, [0.01 * 1.5**at, 1.0], [1.0], name, at_most=1.0 if at % 2 else None)
        for at, name in enumerate(names)
    ]
    for some in (figures, figures[:1], figures[:2]):
        picture = plots.ratios(some)
        assert overflowing(picture) == []
        assert not any(text.get_parse_math() for text in picture.texts)
