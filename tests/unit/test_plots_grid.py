"""The grid says of every run what the matrix says, and its title what follows from them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from chatlab import plots
from chatlab.checkers import Check, Verdict
from chatlab.errors import InvalidInput
from chatlab.experiments import Matrix, Run, Scenario
from chatlab.journal import Journal
from chatlab.plots.fonts import text_width, wrap
from chatlab.plots.style import LOSS

#: Sign of an outcome, as these tests write grids.
SIGNS = {"+": "kept", "-": "not promised", "x": "broken", "?": "cannot tell"}
SITUATIONS = ("absent-member", "reader-kill", "broker-kill", "late-joiner")


def run(
    word: str,
    *,
    why: str = "no broker: memory relies on no service.",
    tier: str = "real",
    sent: int = 40,
    repeats: int = 0,
) -> Run:
    """``x20``: broken, 20 lost."""
    check = Check("delivery", "group:sd", "", SIGNS[word[0]], why, {"lost": int(word[1:] or 0)})  # type: ignore[arg-type]
    rows = [("Sent", 1.0, "ana", 1, "group:sd", None)] * sent
    versions = {"RabbitMQ": "3.10.8", "Redis": "7.0.15"}
    journal = Journal(rows, tier=tier, versions=versions)
    played = Run(Scenario("any", ("ana",)), "any", journal, Verdict((check,)), 0.0)
    return Run(**{**vars(played), "repeats": (played,) * repeats})


def matrix(situations: Sequence[str] = SITUATIONS, /, **rows: str) -> Matrix:
    """``as_reported="x20 -40"``: a row and its cells, in the order of the situations."""
    backends = [name.replace("_", "-") for name in rows]
    runs = {
        (backend, situation): run(word)
        for backend, words in zip(backends, rows.values(), strict=True)
        for situation, word in zip(situations, words.split(), strict=True)
    }
    return Matrix(backends, list(situations), runs)


def q4() -> Matrix:
    return matrix(
        rabbitmq_durable="+ + + -40",
        rabbitmq_log="+ + + +",
        as_reported="x20 x7 x20 -40",
        redis_pubsub="-20 -7 -20 -40",
        memory="+ + ? -40",
    )


def words(picture: Axes) -> list[str]:
    return [text.get_text() for text in picture.texts]


def line_of(picture: Axes, text: str) -> list[str]:
    """The words on the same height as ``text``, from left to right."""
    (y,) = (found.get_position()[1] for found in picture.texts if found.get_text() == text)
    row = [t for t in picture.texts if abs(t.get_position()[1] - y) < 0.5]
    return [t.get_text() for t in sorted(row, key=lambda t: t.get_position()[0])]


def outside(picture: Axes) -> list[str]:
    """Texts that leave the card, and those that cover each other."""
    figure = picture.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in picture.findobj(Text)
        if text in picture.texts
    ]
    found = [
        text
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]
    for number, (text, box) in enumerate(boxes):
        for other, place in boxes[number + 1 :]:
            wide = min(box.x1, place.x1) - max(box.x0, place.x0)
            tall = min(box.y1, place.y1) - max(box.y0, place.y0)
            if wide > 1 and tall > 4:
                found.append(f"{text} / {other}")
    return found


def test_every_cell_says_what_the_matrix_says() -> None:
    grid = q4()
    picture = plots.grid(grid)
    for backend in grid.backends:
        cells = [grid.cell(backend, situation) for situation in grid.scenarios]
        assert line_of(picture, backend) == [backend, *cells]
    assert line_of(picture, "as-reported")[1:] == [
        "✗ 20 lost",
        "✗ 7 lost",
        "✗ 20 lost",
        "– 40 lost",
    ]


def test_a_cell_has_the_colour_of_its_outcome_and_red_is_for_broken_promises() -> None:
    picture = plots.grid(matrix(("a", "b", "c", "d"), rabbitmq_log="+ -1 x2 ?"))
    inks = {t.get_text(): to_hex(t.get_color()) for t in picture.texts}
    fills = {to_hex(patch.get_facecolor()) for patch in picture.patches}
    assert inks["✗ 2 lost"] == LOSS and inks["– 1 lost"] != LOSS
    assert {"#dcf0e2", "#eeeeef", "#fad4d6", "#fff0c2"} <= fills
    assert LOSS not in {to_hex(t.get_color()) for t in plots.grid(matrix(("a",), b="+")).texts}


def test_as_reported_stands_first_and_a_rule_parts_it_from_the_others() -> None:
    picture = plots.grid(q4())
    ys = {t.get_text(): t.get_position()[1] for t in picture.texts}
    rules = sorted(path[0][1] for lines in picture.collections for path in lines.get_segments())
    assert rules[0] < ys["as-reported"] < rules[1] < ys["rabbitmq-durable"]
    assert ys["as-reported"] == min(ys[backend] for backend in q4().backends)
    without = plots.grid(matrix(rabbitmq_log="+ + + +", redis_stream="+ + + +"))
    assert sum(len(lines.get_segments()) for lines in without.collections) == 1


def test_rows_are_named_in_monospace() -> None:
    picture = plots.grid(q4())
    families = {t.get_text(): t.get_fontfamily()[0] for t in picture.texts}
    assert families["rabbitmq-log"] == "DejaVu Sans Mono" != families["✓"]


def test_the_legend_names_the_signs_that_are_there() -> None:
    caption = plots.grid(q4()).caption
    assert caption.startswith(
        "✓ promised and kept, – not promised, ✗ promised and broken, ? cannot tell · real"
    )
    assert "✗" not in plots.grid(matrix(("a",), b="+", c="-3")).caption


def test_the_caption_names_tier_versions_messages_and_the_worst_of_how_many() -> None:
    cells = {
        ("rabbitmq-log", "burst"): run("+", repeats=3),
        ("rabbitmq-log", "x"): run("?", sent=9),
    }
    caption = plots.grid(Matrix(["rabbitmq-log"], ["burst", "x"], cells)).caption
    assert caption.endswith("real · RabbitMQ 3.10.8 · 40 messages each · worst of 3 runs")


def test_a_stand_in_among_real_rows_says_so_and_alone_it_is_a_badge() -> None:
    rows = {("redis-stream", "burst"): run("+"), ("memory", "burst"): run("+", tier="stand-in")}
    both = words(plots.grid(Matrix(["redis-stream", "memory"], ["burst"], rows)))
    assert "memory (stand-in)" in both and "redis-stream" in both and "STAND-IN" not in both
    alone = words(plots.grid(Matrix(["memory"], ["burst"], rows)))
    assert "memory" in alone and "STAND-IN" in alone


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (
            {"as_reported": "x20 x7 x20 -40", "rabbitmq_log": "+ + + +", "redis": "-1 + + +"},
            "Only rabbitmq-log survives all 4; as-reported breaks 3 promises",
        ),
        (  # Memory was never tried with a broker: it may be one more.
            {"rabbitmq_log": "+ + + +", "memory": "+ + ? +"},
            "rabbitmq-log survives all 4 situations; no promise was broken",
        ),
        (
            {"a": "+ + + +", "b": "+ + + +", "c": "+ + + -9"},
            "Only a and b survive all 4 situations; no promise was broken",
        ),
        (
            {"a": "+ + + +", "b": "+ + + +", "c": "+ + + +", "d": "x1 + + +"},
            "3 of 4 survive all 4 situations; d breaks 1 promise",
        ),
        (
            {"a": "+ + + x1", "b": "+ x2 x3 +"},
            "None of 2 survives all 4 situations; 3 promises are broken",
        ),
        (
            {"a": "+ + + +", "b": "+ + + +"},
            "All 2 survive all 4 situations; no promise was broken",
        ),
        (
            {"a": "+ + x2 -1"},
            "Of 4 situations a survives 2; 1 broke a promise, 1 not promised",
        ),
        ({"a": "? ? ? ?", "b": "? ? ? ?"}, "Nothing can be told: no run proves anything"),
    ],
)
def test_the_title_is_what_the_cells_say_together(rows: dict[str, str], finding: str) -> None:
    # Where a sentence is too long, the picture takes the next shorter one.
    assert plots.grid(matrix(**rows)).finding == finding


def test_one_situation_is_named_in_the_title() -> None:
    picture = plots.grid(matrix(("broker-kill",), rabbitmq_log="+", redis_pubsub="-20"))
    assert picture.finding == "Only rabbitmq-log survives broker kill; no promise was broken"
    assert plots.grid(matrix(("broker-kill",), a="+")).finding == "Broker kill on a: kept"


def test_the_table_has_a_row_for_each_run() -> None:
    rows = plots.grid(q4()).table()
    assert len(rows) == 20 and rows[0]["backend"] == "as-reported"
    assert sum(row["lost"] for row in rows) == 20 + 7 + 20 + 40 + 20 + 7 + 20 + 40 + 40 + 40
    assert {row["sent"] for row in rows} == {40}


WHY = "Nothing was sent by bob, who was never there. Therefore no promise can be judged: so"


def wide(rows: int, columns: int, word: str, why: str = "") -> Matrix:
    backends = ["as-reported", *(f"rabbitmq-transient{n:02}"[-18:] for n in range(1, rows))]
    situations = [*SITUATIONS, *(f"situation-{n}" for n in range(4, columns))][:columns]
    runs = {(b, s): run(word, why=why) for b in backends for s in situations}
    return Matrix(backends, situations, runs)


def test_ten_rows_of_eight_columns_fit_the_card_with_nothing_cut() -> None:
    picture = plots.grid(wide(10, 8, "x40"))
    figure = picture.get_figure(root=True)
    assert figure is not None and figure.get_size_inches() * 100 == pytest.approx((900, 440))
    shown = words(picture)
    assert shown.count("✗ 40 lost") == 80 and not any("…" in text for text in shown)
    assert outside(picture) == []
    assert min(t.get_fontsize() for t in picture.texts if "real" not in t.get_text()) >= 11


@pytest.mark.parametrize(
    "grid",
    [
        wide(11, 9, "?", WHY),
        wide(3, 2, "?", WHY),
        wide(5, 6, "x", WHY),
        wide(1, 1, "-12345"),
        Matrix(["$x$ <i>_", "w" * 64, "Ж" * 48, "小明"], ["z" * 64, "a_b"], {}),
        Matrix(["rabbitmq-durable:confirms=no,persistent=no"], SITUATIONS * 2, {}),
    ],
)
def test_long_names_and_reasons_are_cut_inside_their_cell_and_the_card_grows(grid: Any) -> None:
    assert outside(plots.grid(grid)) == []


def test_a_reason_is_shown_as_far_as_it_fits_and_whole_in_the_table() -> None:
    picture = plots.grid(wide(2, 6, "?", WHY))
    assert any(text.startswith("? Nothing") for text in words(picture))
    assert picture.table()[0]["says"] == f"? {WHY.partition(':')[0]}"


def test_words_are_wrapped_between_words_and_the_last_line_is_cut() -> None:
    assert wrap("no broker", 500, 11, 2) == ["no broker"]
    assert wrap("no broker at all", text_width("no broker", 11), 11, 2) == [
        "no broker",
        "at all",
    ]
    cut = wrap("no broker at all today", text_width("no broker", 11), 11, 2)
    assert cut[0] == "no broker" and cut[1].startswith("at al") and cut[1].endswith("…")
    assert wrap("", 100, 11, 2) == []


def test_a_picture_is_saved_as_png_and_svg_with_its_finding_as_alt_text(tmp_path: Path) -> None:
    picture = plots.grid(q4())
    data, metadata = picture._repr_mimebundle_()
    assert metadata["image/png"] == {"width": 900, "height": 440, "alt": picture.finding}
    assert picture.save(tmp_path / "a.png").read_bytes() == data["image/png"]
    svg = picture.save(tmp_path / "a.svg").read_bytes()
    again = plots.grid(q4()).save(tmp_path / "b.svg").read_bytes()
    assert picture.finding.encode() in svg and svg == again


def test_a_grid_can_be_drawn_on_an_axes_of_ones_own() -> None:
    right = Figure(figsize=(9, 3)).subplots(1, 2)[1]
    assert plots.grid(q4(), ax=right) is right


def test_something_else_or_an_empty_grid_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not int"):
        plots.grid(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="without a row"):
        plots.grid(Matrix([], ["burst"], {}))
    same = SimpleNamespace(**vars(q4()), cell=q4().cell)
    assert plots.grid(same).finding == plots.grid(q4()).finding


def test_ten_thousand_facts_are_drawn_in_no_time() -> None:
    grid = Matrix(["a"], ["b", "c"], {("a", s): run("+", sent=5_000) for s in "bc"})
    begin = time.process_time()
    assert plots.grid(grid).caption.endswith("5,000 messages each")
    # The goal is one second; the bound leaves room for a busy machine.
    assert time.process_time() - begin < 3
