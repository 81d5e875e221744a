"""A picture is a card of 900 x 440 pixels that shows itself once, whatever it is given."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from plots_script import Script, bob_is_away, dealt

from chatlab import plots
from chatlab.errors import InvalidInput
from chatlab.plots.fonts import drawable, fit, text_width
from chatlab.plots.style import LOSS

ALL: list[Callable[..., Any]] = [plots.spacetime, plots.persistence, plots.insults]


def size(png: bytes) -> tuple[int, int]:
    return struct.unpack(">II", png[16:24])


def words(picture: Axes) -> list[str]:
    return [text.get_text() for text in picture.texts]


def overflowing(picture: Axes) -> list[str]:
    """Texts that leave the card."""
    figure = picture.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    found = []
    for text in picture.findobj(Text):
        if not text.get_text() or not text.get_visible() or text not in picture.texts:
            continue
        box = text.get_window_extent(renderer)
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            found.append(text.get_text())
    return found


def big(messages: int, users: int) -> Script:
    names = [f"user-{number}" for number in range(users)]
    script = Script(*names).join()
    for number in range(messages):
        if number == messages // 3:
            script.leave(names[1])
        there = [n for n in names[1:] if number < messages // 3 or n != names[1]]
        script.send(names[0], *there)
    return script


@pytest.mark.parametrize("draw", ALL)
def test_a_picture_is_900_by_440_opaque_and_has_its_finding_as_alt_text(draw: Any) -> None:
    picture = draw(dealt("ana", "bob", "eva"))
    data, metadata = picture._repr_mimebundle_()
    assert size(data["image/png"]) == (900, 440)
    assert data["text/plain"] == picture.finding
    assert f'alt="{picture.finding}"' in data["text/html"]
    assert metadata["image/png"] == {"width": 900, "height": 440, "alt": picture.finding}
    assert picture.finding in words(picture)


@pytest.mark.parametrize("draw", ALL)
@pytest.mark.parametrize(
    "script",
    [
        Script(),
        dealt("ana"),
        bob_is_away(kept=True, missed=36),
        big(6, 5),
        big(41, 3),
        big(20, 30),
        Script("x" * 64, "Ж" * 48, "小明", "עברית", tier="stand-in").join(),
    ],
)
def test_nothing_is_clipped(draw: Any, script: Script) -> None:
    if script.users and script.users[0].startswith("x"):
        script.leave(script.users[1])
        script.send(script.users[0], *script.users[2:])
    assert overflowing(draw(script)) == []


@pytest.mark.parametrize("draw", ALL)
def test_nothing_is_clipped_in_strips(draw: Any) -> None:
    lost, kept, many = bob_is_away(kept=False), bob_is_away(kept=True), big(41, 3)
    assert overflowing(draw(lost, kept)) == []
    assert overflowing(draw(lost, kept, dealt("ana", "bob"), many)) == []


@pytest.mark.parametrize("axis", ["order", "time"])
def test_space_time_and_persistence_have_two_axes(axis: Any) -> None:
    for draw in (plots.spacetime, plots.persistence):
        picture = draw(bob_is_away(kept=True), axis=axis)
        label = "seconds (idle gaps cut)" if axis == "time" else "in order"
        assert any(label in text for text in words(picture))


def test_red_means_loss_and_loss_has_a_cross() -> None:
    def reds(picture: Axes) -> int:
        red = matplotlib.colors.to_rgba(LOSS)
        return sum(
            tuple(colour) == red
            for lines in picture.collections
            if hasattr(lines, "get_segments")
            for colour in lines.get_colors()
        )

    for draw in (plots.spacetime, plots.persistence):
        assert reds(draw(bob_is_away(kept=True))) == 0
        assert reds(draw(bob_is_away(kept=False))) >= 4


def test_the_tier_is_a_badge_unless_it_is_real() -> None:
    badges = {"STAND-IN", "REPLAY"}
    for tier, badge in (("real", set()), ("stand-in", {"STAND-IN"}), ("replay", {"REPLAY"})):
        script = Script("ana", "bob", tier=tier).join()
        for draw in ALL:
            assert badges & set(words(draw(script))) == badge


def test_the_caption_names_tier_versions_and_settings() -> None:
    settings = {"seed": 7, "lease_seconds": 1.5, "note": "$x$ costs $5"}
    script = Script("ana", "bob", settings=settings).join()
    script.send("ana", "bob")
    caption = plots.spacetime(script).caption
    assert caption.startswith("real · RabbitMQ 3.10.8 · durable queue, persistent, confirms")
    assert "Redis" not in caption and "seed 7 · lease 1.5 s · note $x$ costs $5" in caption


def test_a_journal_without_a_header_is_drawn() -> None:
    script = bob_is_away(kept=True)
    script.journal.header.clear()
    assert plots.spacetime(script).caption.startswith("tier not recorded")


def test_a_store_is_named_and_what_waits_is_counted() -> None:
    shown = words(plots.spacetime(bob_is_away(kept=True)))
    assert {"queue sd.bob", "3 wait in the queue", "bob offline"} <= set(shown)


def test_the_legend_names_only_what_is_there() -> None:
    lost, kept = bob_is_away(kept=False), bob_is_away(kept=True)
    both = plots.persistence(lost, kept).caption
    assert "× = never seen" in both and "hatched = bob offline" in both
    assert "× = never seen" not in plots.persistence(kept).caption


def test_many_users_or_messages_become_bands_with_counts() -> None:
    shown = words(plots.spacetime(big(41, 3)))
    assert "41 sent · 0 seen" in shown and "0 sent · 41 seen" in shown
    assert "22 others" in words(plots.spacetime(big(20, 30)))


def test_persistence_and_insults_show_their_counts() -> None:
    lost = words(plots.persistence(bob_is_away(kept=False, before=4)))
    assert {"4 of 7", "seen"} <= set(lost)
    insults = words(plots.insults(dealt(*["ana", "bob", "eva"] * 10)))
    assert insults.count("10") >= 3 and {"fairness", "1.00"} <= set(insults)


def test_the_note_of_a_strip_leaves_room_for_what_broke() -> None:
    group = "the-second-group-of-friends"
    script = Script("ana", "bob").join(to=group).leave("bob")
    script.send("ana", "ana", to=group)
    script.fact("FaultBegan", "", "", "kill", "rabbitmq").wait(1)
    script.fact("FaultEnded", "", "", "kill", "rabbitmq").come("bob")
    picture = plots.persistence(script.journal)
    figure = picture.get_figure()
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    extents = {
        text.get_text(): text.get_window_extent(renderer)
        for text in picture.texts
        if text.get_text()
    }
    label = "RabbitMQ killed"
    over = [words for words, box in extents.items() if box.overlaps(extents[label])]
    assert over == [label]


def test_a_user_keeps_its_colour_across_strips() -> None:
    first = Script("ana", "bob").join()
    second = Script("bob", "ana").join()
    for script in (first, second):
        script.send("ana", "bob")
    picture = plots.persistence(first, second)
    chips = [
        patch.get_facecolor()
        for patch in picture.patches
        if getattr(patch, "get_width", lambda: 0)() == 16
    ]
    assert len(chips) == 4 and chips[:2] == chips[2:]


@pytest.mark.parametrize("draw", ALL)
def test_the_notebooks_own_style_changes_nothing(draw: Any) -> None:
    plain = draw(bob_is_away(kept=True))._bytes("png")
    with matplotlib.rc_context(
        {"path.sketch": (5, 100, 1), "savefig.bbox": "tight", "font.size": 30}
    ):
        assert draw(bob_is_away(kept=True))._bytes("png") == plain


def test_a_picture_is_saved_as_png_and_svg_and_always_the_same(tmp_path: Path) -> None:
    picture = plots.spacetime(bob_is_away(kept=True))
    assert size(picture.save(tmp_path / "a.png").read_bytes()) == (900, 440)
    svg = picture.save(str(tmp_path / "a.svg")).read_text()
    assert "Bob was away: 3 messages waited" in svg
    assert plots.spacetime(bob_is_away(kept=True)).save(tmp_path / "b.svg").read_text() == svg


@pytest.mark.parametrize("draw", ALL)
def test_a_picture_can_be_drawn_on_an_axes_of_ones_own(draw: Any) -> None:
    figure = Figure(figsize=(8, 3))
    _, right = figure.subplots(1, 2)
    assert draw(bob_is_away(kept=True), ax=right) is right
    assert overflowing(right) == []


@pytest.mark.parametrize("draw", ALL)
def test_a_picture_of_nothing_is_refused(draw: Any) -> None:
    with pytest.raises(InvalidInput, match="scene, run or journal"):
        draw()
    with pytest.raises(InvalidInput, match="not of str"):
        draw("bob is away")


def test_table_tells_what_the_picture_shows() -> None:
    rows = plots.spacetime(bob_is_away(kept=False)).table()
    assert [row["fate"] for row in rows if row["receiver"] == "bob"].count("lost") == 3
    assert sum(row["insults"] for row in plots.insults(dealt("ana", "bob")).table()) == 2


@pytest.mark.parametrize("draw", ALL)
def test_ten_thousand_facts_are_drawn_without_a_cost_per_fact_that_hurts(draw: Any) -> None:
    script = big(1_600, 3) if draw is not plots.insults else dealt(*["ana", "bob", "eva"] * 830)
    begin = time.process_time()
    draw(script)
    # The goal is one second; the bound leaves room for a busy machine.
    assert time.process_time() - begin < 3


def test_words_are_cut_measured_and_drawn_literally() -> None:
    assert text_width("ab", 11) > text_width("a", 11) > 0
    assert (
        fit("abcdefghij", 40, 11).endswith("…") and text_width(fit("a" * 99, 40, 11), 11) <= 40
    )
    assert drawable("one\n\ttwo") == "one two"
    assert "\U000f0000" not in drawable("x\U000f0000")
    picture = plots.spacetime(Script("ana", settings={"price": "$5 to $6"}))
    assert not any(text.get_parse_math() for text in picture.texts)
