"""Judging what the ways of discovery said, and drawing it: on runs made by hand."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba

from chatlab import experiments, plots
from chatlab.discovery.accuracy import Sample, Turn
from chatlab.errors import InvalidInput
from chatlab.experiments import Accuracy, Costs
from chatlab.experiments.costs import Cost, Down
from chatlab.plots.cost import exponent
from chatlab.plots.discovery import spans
from chatlab.plots.style import LOSS

KILL = Turn("dan", "killed", 1.0, 1.1, False)
FREEZE = Turn("eli", "frozen", 2.0, 2.0, False)
THAW = Turn("eli", "thawed", 3.0, 3.0, True)


def says(way: str, at: float, *names: str, asked: float | None = None, **more: Any) -> Sample:
    return Sample(way, at if asked is None else asked, at, frozenset(names), **more)


def run(*samples: Sample, changes: tuple[Turn, ...] = (KILL,), **more: Any) -> Accuracy:
    values = {"users": ("dan", "ana", "bob"), "seconds": 4.0, **more}
    return Accuracy(changes=changes, samples=samples, **values)


def every(way: str, until: dict[str, float], back: dict[str, float] | None = None) -> Any:
    """A sample each 0.1 s; each name is listed until then, and again from ``back`` on."""
    for tenth in range(40):
        at = tenth / 10
        listed = [n for n, end in until.items() if at < end or at >= (back or {}).get(n, 9)]
        yield says(way, at, *listed, messages=2)


ALWAYS = {"ana": 9.0, "bob": 9.0}


def five() -> Accuracy:
    """Five ways, and two users to whom something happens."""
    made: list[Sample] = []
    made += every("registry", {**ALWAYS, "dan": 2.2, "eli": 2.7}, {"eli": 3.0})
    made += every("management", {**ALWAYS, "dan": 1.2, "eli": 9.0})
    made += every("events", {**ALWAYS, "dan": 1.1, "eli": 2.0}, {"eli": 3.3})
    made += every("broker-events", {**ALWAYS, "dan": 1.2, "eli": 9.0})
    made += every("as-reported", {**ALWAYS, "dan": 9.0, "eli": 9.0})
    return run(
        *made,
        changes=(KILL, FREEZE, THAW),
        users=("dan", "eli", "ana", "bob"),
        versions={"RabbitMQ": "3.10.8"},
        settings={"lease_seconds": 1.0, "heartbeat_seconds": 3.0, "timeout": 0.5},
    )


# -- the truth and what is wrong


def test_the_truth_is_known_before_and_after_a_change_and_not_in_between() -> None:
    frozen = run(changes=(KILL, FREEZE, THAW), users=("dan", "eli", "ana"))
    assert frozen.truth == {
        "dan": ((0.0, 1.0),),
        "eli": ((0.0, 2.0), (3.0, 4.0)),
        "ana": ((0.0, 4.0),),
    }
    assert (frozen.changing, frozen.staying) == (("dan", "eli"), ("ana",))


@pytest.mark.parametrize(
    ("asked", "answered", "ghost"),
    [(0.5, 0.9, False), (0.9, 1.5, False), (1.05, 1.5, False), (1.1, 1.5, True)],
)
def test_an_answer_shows_a_ghost_only_if_it_was_false_all_the_time_of_the_question(
    asked: float, answered: float, ghost: bool
) -> None:
    made = run(says("w", answered, "dan", "ana", "bob", asked=asked))
    assert ("dan" in made.ghosts["w"]) == ghost


@pytest.mark.parametrize(
    ("asked", "answered", "missed"),
    [(0.5, 0.9, True), (0.5, 1.05, False), (1.2, 1.3, False)],
)
def test_who_was_there_all_the_time_of_the_question_and_is_not_listed_was_missed(
    asked: float, answered: float, missed: bool
) -> None:
    made = run(says("w", answered, "ana", "bob", asked=asked))
    assert ("dan" in made.missed["w"]) == missed


def test_a_wrong_answer_weighs_until_the_next_one_or_an_error_or_the_end() -> None:
    both = ("ana", "bob")
    made = run(
        says("w", 1.5, "dan", *both),
        says("other", 1.6, *both),
        says("w", 2.0, *both),
        says("w", 2.5, "dan", *both),
        says("w", 2.75, error="Redis is not there"),
        says("w", 3.5, "dan", "ana"),
    )
    assert made.ghosts["w"] == {"dan": pytest.approx(0.5 + 0.25 + 0.5)}
    assert made.missed["w"] == {"bob": pytest.approx(0.5)}
    assert made.ghosts["other"] == {}
    assert made.errors["w"] == ("Redis is not there",)


def test_somebody_who_never_was_there_is_a_ghost() -> None:
    assert run(says("w", 3.0, "ana", "bob", "zoe")).ghosts["w"] == {"zoe": 1.0}


# -- seconds until right


def test_right_after_counts_to_the_first_answer_from_which_on_all_are_right() -> None:
    both = ("ana", "bob")
    made = run(
        says("w", 1.2, *both),
        says("w", 1.4, "dan", *both),
        says("w", 1.6, *both),
        says("w", 1.8, *both),
    )
    assert made.right_after["w"] == {"killed": pytest.approx(0.5)}
    assert run(says("w", 1.2), says("w", 3.0, "dan")).right_after["w"]["killed"] == math.inf
    assert run(says("w", 0.5)).right_after["w"]["killed"] == math.inf


def test_an_answer_during_the_change_may_be_right_already_but_never_before_it() -> None:
    assert run(says("w", 1.05)).right_after["w"]["killed"] == 0.0


def test_a_change_holds_until_the_next_one_of_the_same_user() -> None:
    found = five().right_after
    assert found["management"]["frozen"] == math.inf
    assert found["management"]["thawed"] == pytest.approx(0.0)
    assert found["events"]["frozen"] == pytest.approx(0.0)
    assert found["events"]["thawed"] == pytest.approx(0.3)
    assert found["registry"]["killed"] == pytest.approx(1.1)
    assert five().worst("registry") == pytest.approx(1.1)
    assert [turn.user for turn in five().never("as-reported")] == ["dan", "eli"]


def test_of_two_users_with_the_same_fault_the_worst_counts() -> None:
    other = Turn("ana", "killed", 1.0, 1.1, False)
    made = run(says("w", 1.3, "ana"), says("w", 2.1), changes=(KILL, other))
    assert made.right_after["w"]["killed"] == pytest.approx(1.0)


# -- tables and files


def test_messages_and_seconds_are_medians_without_the_errors() -> None:
    made = run(
        says("w", 1.0, asked=0.9, messages=4),
        says("w", 2.0, asked=1.8, messages=6),
        says("w", 3.0, asked=2.7, messages=20),
        says("w", 3.9, asked=3.0, error="gone"),
    )
    assert made.messages["w"] == 6
    assert made.question_seconds["w"] == pytest.approx(0.2)
    (row,) = made.table()
    assert (row["questions"], row["errors"], row["ms"]) == (4, 1, pytest.approx(200))


def test_the_table_says_never_and_its_plain_rows_infinite() -> None:
    rows = {row["way"]: row for row in five().table()}
    assert rows["as-reported"]["killed"] == math.inf
    assert "never" in repr(five()) and "inf" not in repr(five())
    assert "never" in five()._repr_html_() and "never" in five().to_markdown()


def test_a_way_that_never_answers_has_a_row_all_the_same() -> None:
    made = run(says("w", 2.0, error="gone"))
    assert made.right_after["w"]["killed"] == math.inf and made.table()[0]["messages"] is None
    assert "gone" in made.errors["w"]
    assert plots.discovery(made).finding == "W never right"


def test_a_saved_run_is_the_same_when_loaded(tmp_path: Path) -> None:
    assert Accuracy.load(five().save(tmp_path / "run.json")) == five()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"chatlab-accuracy": 1}', "\udcff"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(InvalidInput, match="no record"):
        Accuracy.load(path)
    path.write_text('{"chatlab-accuracy": 99}')
    with pytest.raises(InvalidInput, match="format 99"):
        Accuracy.load(path)


def test_too_few_users_no_ways_and_a_lab_without_links_are_refused() -> None:
    class NoLinks:
        links = False

    for changed in ({"users": 3}, {"ways": ()}, {"ways": ("rumour",)}, {}):
        with pytest.raises(Exception, match=r"too few|no ways|without links"):
            experiments.discovery(NoLinks(), **changed)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="at least one"):
        experiments.discovery_costs(users=())


# -- the picture


def words(picture: Axes) -> list[str]:
    return [text.get_text() for text in picture.texts]


def widths(picture: Any, colour: str) -> list[float]:
    """Of the rectangles in ``colour``, in seconds of the run."""
    found = []
    for shapes in picture.collections:
        if isinstance(shapes, PolyCollection):
            for path, face in zip(shapes.get_paths(), shapes.get_facecolor(), strict=False):
                if tuple(face) == to_rgba(colour):
                    box = path.get_extents()
                    found.append((box.x1 - box.x0) / (746 - 170) * 4.0)
    return sorted(found)


def overflowing(picture: Any) -> list[str]:
    renderer = FigureCanvasAgg(picture.figure).get_renderer()
    width, height = picture.figure.get_size_inches() * picture.figure.dpi
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in picture.texts]
    return [w for w, b in boxes if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height]


def test_neighbours_of_one_judgement_are_joined() -> None:
    found = spans(five(), "registry")
    ((began, ended),) = found["dan", "ghost"]
    assert (began, ended) == (pytest.approx(1.1), pytest.approx(2.2))
    assert found["", "listed"] == [(0.0, 4.0)]
    assert spans(five(), "events")["eli", "missed"] == [(3.0, pytest.approx(3.3))]
    assert not any(said == "ghost" for _, said in spans(five(), "events"))


def test_red_is_drawn_for_ghosts_only_as_long_as_they_were_listed() -> None:
    red = widths(plots.discovery(five()), LOSS)
    listed = [1.1, 0.7, 0.1, 1.0, 0.1, 1.0, 2.9, 1.0]
    assert red == pytest.approx(sorted(listed), abs=0.02)
    honest = run(*every("events", {**ALWAYS, "dan": 1.1}))
    assert widths(plots.discovery(honest), LOSS) == []


def test_the_margin_tells_seconds_or_how_many_ghosts() -> None:
    shown = words(plots.discovery(five()))
    assert shown.count("right after") == 2 and shown.count("never right:") == 3
    assert {"1.1 s", "0.3 s", "2 ghosts"} <= set(shown) and shown.count("1 ghost") == 2
    assert {"dan killed", "eli frozen", "2 stay", "truth"} <= set(shown)


def test_title_caption_and_size_of_the_picture_of_discovery() -> None:
    picture = plots.discovery(five())
    assert picture.finding == "Events right after 0.3 s, registry after 1.1 s, 3 ways never"
    assert picture.caption == (
        "real · RabbitMQ 3.10.8 · lease 1 s · heartbeat 3 s · time-out of events 0.5 s "
        "· 4 users"
    )
    assert any("the worst of 3 changes" in text for text in words(picture))
    assert (picture.figure.get_size_inches() * 100).round().tolist() == [900, 440]
    assert overflowing(picture) == [] and len(picture.table()) == 5
    assert min(t.get_fontsize() for t in picture.texts) >= 9.5
    small = [t.get_text() for t in picture.texts if t.get_fontsize() < 11]
    assert len(small) == 2  # legend and caption


def test_a_missed_user_and_one_of_those_who_stay_are_named_by_number() -> None:
    made = run(*every("w", {"ana": 9.0, "bob": 2.0, "dan": 1.0}))
    assert spans(made, "w")["", "missed"] == [(2.0, 4.0)]
    lost = run(says("w", 0.5, "ana", "bob"), changes=(FREEZE, THAW), users=("eli", "ana"))
    assert "2 wrong" in words(plots.discovery(lost))


def test_a_run_without_changes_or_answers_is_drawn() -> None:
    assert plots.discovery(run(changes=())).finding == "Nobody was asked"
    assert plots.discovery(run(says("w", 1.0), changes=())).finding == "Nothing was changed"


def test_ten_thousand_answers_are_judged_and_drawn_within_a_second() -> None:
    samples = [
        Sample(way, at / 600, at / 600, frozenset(("ana", "bob", "dan")[: 2 + (at < 800)]), 2)
        for way in "abcde"
        for at in range(2_000)
    ]
    made = run(*samples)
    began = time.process_time()
    plots.discovery(made)
    # The goal is one second; the bound leaves room for a busy machine.
    assert time.process_time() - began < 3


@pytest.mark.parametrize("draw", [plots.discovery, plots.cost])
def test_something_else_is_not_drawn(draw: Any) -> None:
    with pytest.raises(InvalidInput, match="str"):
        draw("bob is away")


# -- costs


def costs() -> Costs:
    points = [
        Cost(way, n, messages, 0.01 * n)
        for n in (10, 100, 500)
        for way, messages in (("registry", 2), ("events", 2 * n + 1), ("broker-events", 0))
    ]
    downs = [
        Down("registry", "redis", error="Redis does not answer"),
        Down("registry", "rabbitmq"),
        Down("events", "redis"),
        Down("events", "rabbitmq", missed=("ana", "bob")),
        Down("broker-events", "redis"),
        Down("broker-events", "rabbitmq", ghosts=("eva",)),
    ]
    return Costs(points, downs, five())


def test_costs_are_a_row_a_way_and_need_what_they_were_wrong_without() -> None:
    rows = {row["way"]: row for row in costs()}
    assert rows["registry"]["must be running"] == "Redis"
    assert rows["registry"]["Redis down"] == "Redis does not answer"
    assert rows["registry"]["RabbitMQ down"] == "right"
    assert rows["events"]["RabbitMQ down"] == "misses ana, misses bob"
    assert rows["broker-events"]["RabbitMQ down"] == "lists eva, who has left"
    assert rows["broker-events"]["must be running"] == "RabbitMQ"
    assert rows["events"]["messages at 500"] == 1001 and rows["events"]["ms at 10"] == 100
    assert rows["broker-events"]["after a freeze, s"] == "never"
    assert rows["registry"]["right after SIGKILL, s"] == pytest.approx(1.1)


def test_the_exponent_is_that_of_the_growth() -> None:
    def grown(power: float) -> list[Cost]:
        return [Cost("w", n, 3 * n**power, 0.0) for n in (10, 100, 500)]

    assert [exponent(grown(power)) for power in (0, 1, 2)] == pytest.approx([0, 1, 2])
    assert exponent([Cost("w", 10, 0, 0.0), Cost("w", 20, 0, 0.0)]) is None
    assert exponent(grown(1)[:1]) is None


def test_the_picture_of_costs_shows_exponents_and_what_most_and_least_cost() -> None:
    picture = plots.cost(costs())
    assert picture.finding == "Among 500 users a question costs 0 to 1,001 messages"
    shown = words(picture)
    assert {"registry: n^0.0", "events: n^1.0", "broker-events: 0"} <= set(shown)
    assert {"10", "100", "500", "1,000"} <= set(shown)
    assert overflowing(picture) == []
    assert len(picture.table()) == 3


def test_equal_costs_are_one_number() -> None:
    same = Costs([Cost("a", 10, 4, 0.1), Cost("b", 10, 4, 0.1)], [], five())
    assert plots.cost(same).finding == "Among 10 users a question costs 4 messages"
