"""Every mark that is drawn is a fact of the journal, and none is hidden by another."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from plots_script import Script, bob_is_away, dealt

from chatlab import plots
from chatlab.journal import Delivered, Journal, Sent
from chatlab.plots.style import FAULT, LOSS


def discs(picture: Axes, *, hollow: bool = False) -> int:
    """How many round marks."""
    return sum(
        len(marks.get_offsets())
        for marks in picture.collections
        if isinstance(marks, PathCollection)
        and (to_hex(marks.get_facecolor()[0]) == "#ffffff") == hollow
    )


def crosses(picture: Axes) -> int:
    """Red strokes of crosses, two each: those that are thick."""
    strokes = [
        colour
        for lines in picture.collections
        if isinstance(lines, LineCollection) and lines.get_linewidth()[0] > 1.8
        for colour in lines.get_colors()
    ]
    return sum(to_hex(colour) == LOSS for colour in strokes) // 2


def squares(picture: Axes) -> int:
    return sum(
        len(shapes.get_paths())
        for shapes in picture.collections
        if isinstance(shapes, PolyCollection)
    )


def sights(journal: Journal) -> int:
    """Deliveries to others than the sender."""
    return sum(fact.user != fact.message.sender for fact in journal.facts(Delivered))


def words(picture: Axes) -> list[str]:
    return [text.get_text() for text in picture.texts]


def columns(picture: Axes) -> list[tuple[float, float]]:
    """Begin and end of each fault."""
    return [
        (patch.get_x(), patch.get_x() + patch.get_width())  # type: ignore[attr-defined]
        for patch in picture.patches
        if to_hex(patch.get_facecolor()) == FAULT
    ]


def box(picture: Axes, text: str, number: int = 0) -> tuple[float, float, float, float]:
    """Where the words stand: left, right, lower and upper edge, in pixels."""
    figure = picture.get_figure(root=True)
    assert figure is not None
    found = [t for t in picture.texts if t.get_text() == text][number]
    place = found.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    return place.x0, place.x1, place.y0, place.y1


def overlapping() -> Script:
    """Two links are cut, one before the other was mended, while the broker restarts."""
    script = Script("ana", "bob", "eva").join()
    script.send("ana", "bob", "eva")
    faults = [("cut", "bob-rabbitmq"), ("cut", "eva-rabbitmq"), ("restart", "rabbitmq")]
    for fault in faults:
        script.fact("FaultBegan", "", "", *fault)
    late = script.send("ana")
    for fault in faults:
        script.fact("FaultEnded", "", "", *fault)
    return script.see("bob", late).see("eva", late)


@pytest.mark.parametrize("kept", [True, False])
def test_space_time_draws_a_disc_a_send_a_dot_a_delivery_and_a_cross_a_loss(kept: bool) -> None:
    journal = bob_is_away(kept=kept).journal
    picture = plots.spacetime(journal)
    sent = len(list(journal.facts(Sent)))
    assert discs(picture) == sent + sights(journal)
    assert crosses(picture) == 2 * sent - sights(journal)


@pytest.mark.parametrize("kept", [True, False])
def test_persistence_draws_the_same_of_the_one_who_was_away(kept: bool) -> None:
    journal = bob_is_away(kept=kept, before=4).journal
    picture = plots.persistence(journal)
    sent = len(list(journal.facts(Sent)))
    seen = sum(fact.user == "bob" for fact in journal.facts(Delivered))
    assert discs(picture) == sent + seen and crosses(picture) == sent - seen
    assert f"{seen} of {sent}" in words(picture)


def test_insults_draws_a_square_an_insult() -> None:
    script = dealt(*["ana", "bob", "eva", "ana"] * 5)
    assert squares(plots.insults(script)) == len(list(script.journal.facts(Sent))) == 20


def test_what_came_again_is_hollow_and_the_legend_says_so() -> None:
    script = Script("ana", "bob").join()
    message = script.send("ana", "bob")
    assert discs(plots.spacetime(script), hollow=True) == 0
    script.fact("Crashed", "bob", "").come("bob").see("bob", message, again=True)
    picture = plots.spacetime(script)
    assert discs(picture, hollow=True) == 1
    assert "hollow, dashed = redelivered" in picture.caption


def test_faults_that_overlap_are_all_named_and_their_names_do_not() -> None:
    names = ["bob's link cut", "eva's link cut", "RabbitMQ restarted"]
    for draw in (plots.spacetime, plots.persistence):
        picture = draw(overlapping())
        assert len(columns(picture)) == 3
        places = sorted(box(picture, name) for name in names)
        for one, other in [(a, b) for n, a in enumerate(places) for b in places[n + 1 :]]:
            apart = one[1] <= other[0] or one[3] <= other[2] + 1 or other[3] <= one[2] + 1
            assert apart, (draw, one, other)


def test_the_name_of_a_fault_stands_beside_the_heading_of_its_strip() -> None:
    first, second = overlapping(), bob_is_away(kept=True)
    first.journal.header["scene"] = second.journal.header["scene"] = "a heading of some length"
    for draw in (plots.spacetime, plots.persistence):
        picture = draw(first, second)
        headings = [t for t in words(picture) if "heading" in t]
        for heading in headings:
            left, right, low, high = box(picture, heading)
            for name in ("bob's link cut", "eva's link cut", "RabbitMQ restarted"):
                x0, x1, y0, y1 = box(picture, name)
                assert x1 <= left or right <= x0 or y1 <= low + 2 or high <= y0 + 2


@pytest.mark.parametrize(
    ("faults", "opening"),
    [
        ([("cut", "bob-rabbitmq")], "Bob's link was cut"),
        ([("cut", "bob-rabbitmq"), ("cut", "bob-redis")], "Bob's link was cut"),
        ([("cut", "bob-rabbitmq"), ("cut", "eva-redis")], "2 links were cut"),
        ([("kill", "rabbitmq")], "RabbitMQ was killed"),
        ([("kill", "rabbitmq"), ("cut", "bob-redis")], "Bob was away"),
    ],
)
def test_who_was_only_cut_off_was_not_away(faults: list[tuple[str, str]], opening: str) -> None:
    script = Script("ana", "bob").join()
    for fault in faults:
        script.fact("FaultBegan", "", "", *fault)
    script.fact("Disconnected", "bob", "group:sd", "")
    message = script.send("ana")
    script.fact("Connected", "bob", "group:sd", "rabbitmq-durable", "member")
    script.see("bob", message)
    assert plots.spacetime(script).finding == f"{opening}: 1 message waited, 0 were lost"
    assert plots.persistence(script).finding == f"{opening}: 1 of 1 seen, 1 of them late"


def test_an_absence_and_a_fault_are_both_in_the_title() -> None:
    script = Script("ana", "bob").join().leave("bob")
    message = script.send("ana")
    script.fact("FaultBegan", "", "", "kill", "rabbitmq")
    script.fact("FaultEnded", "", "", "kill", "rabbitmq").come("bob").see("bob", message)
    title = plots.spacetime(script).finding
    assert title == "Bob away, RabbitMQ killed: 1 message waited, 0 were lost"


def test_one_whom_nobody_heard_is_drawn() -> None:
    script = Script("ana").join()
    script.send("ana", outcome="Returned")
    assert plots.persistence(script).finding == "Nobody else was there to see anything"
    picture = plots.spacetime(script)
    assert picture.finding == "The message reached nobody, the sender was told"
    assert "grey × = reached nobody" in picture.caption


def test_the_word_for_no_messages_stands_on_no_lane() -> None:
    picture = plots.spacetime(Script("ana", "bob", "eva"))
    (y,) = (
        t.get_position()[1] for t in picture.texts if t.get_text() == "no messages were sent"
    )
    lanes = [
        path[0][1]
        for lines in picture.collections
        if isinstance(lines, LineCollection)
        for path in lines.get_segments()
    ]
    assert all(abs(lane - y) > 15 for lane in lanes)


def test_counts_of_any_length_have_one_size_and_stand_right_of_the_bands() -> None:
    for many in (3, 400):
        picture = plots.persistence(bob_is_away(kept=True, before=1, missed=many))
        count = f"{many + 1} of {many + 1}"
        assert {t.get_fontsize() for t in picture.texts if t.get_text() in (count, "seen")} == {
            16.0
        }
        assert box(picture, count)[1] <= 883


@pytest.mark.parametrize("messages", [7, 40, 400])
def test_the_ticks_of_persistence_are_round_numbers_that_do_not_touch(messages: int) -> None:
    picture = plots.persistence(bob_is_away(kept=True, before=messages - 3))
    ticks = sorted(int(text) for text in words(picture) if text.isdigit())
    steps = {b - a for a, b in pairwise(ticks) if a > 1}
    assert len(steps) <= 1 and all(
        number % steps.copy().pop() == 0 for number in ticks if number > 1
    )
    places = [box(picture, str(number)) for number in ticks]
    assert all(a[1] < b[0] for a, b in pairwise(places))


def test_regular_sends_leave_no_holes_in_a_band() -> None:
    script = Script("ana", "bob").join()
    for _ in range(62):
        script.send("ana", "bob")
    picture = plots.spacetime(script)
    paths = [
        path
        for shapes in picture.collections
        if isinstance(shapes, PolyCollection)
        for path in shapes.get_paths()
    ]
    bars = {round(path.vertices[:, 0].min(), 1) for path in paths}
    apart = [b - a for a, b in pairwise(sorted(bars))]
    assert max(apart) < 1.5 * min(apart)
    assert len({round(path.get_extents().height, 1) for path in paths}) == 1


def test_stores_with_long_names_are_told_apart() -> None:
    script = Script("ana", "bob", backend="rabbitmq-durable")
    groups = ("g-rabbitmq-durable", "g-rabbitmq-quorum")
    for name in groups:
        script.join(to=name)
    script.leave("bob", *groups)
    for name in groups:
        script.send("ana", to=name)
    shown = words(plots.spacetime(script))
    assert {"g-rabbitmq-durable", "g-rabbitmq-quorum"} <= {
        text.partition(".")[0] for text in shown
    }


def test_numbers_that_would_touch_are_left_out() -> None:
    script = Script("ana", "bob").join()
    sent = [script.send("ana") for _ in range(40)]
    picture = plots.spacetime(script.wait(0.9).see("bob", *sent), axis="time")
    places = [box(picture, t) for t in words(picture) if t.isdigit() and t != "0"]
    shown = sorted(place for place in places if place[3] > 200)
    assert all(a[1] <= b[0] + 1 for a, b in pairwise(shown))


def test_a_title_of_insults_says_what_was_taken_back() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    insult = script.insult()
    script.see("ana", insult, chat="insults").fact("Crashed", "ana", "")
    script.see("bob", insult, chat="insults", again=True)
    other = script.insult()
    script.see("bob", other, chat="insults")
    title = plots.insults(script).finding
    assert title == "2 insults: 0 / 2, 1 taken back and none lost"
