"""Latency, throughput and depth show the numbers of a journal, the same as a run's figures."""

from __future__ import annotations

import random

import numpy
import pytest
from plots_script import Script, bob_is_away, dealt

from chatlab import plots
from chatlab.experiments.figures import figures
from chatlab.journal import Journal
from chatlab.plots.latency import shown_seconds, ticks
from chatlab.plots.measures import deepest, depth, measure, waits
from chatlab.plots.throughput import Pace, stretch


def after(*delays: float, backend: str = "rabbitmq-durable") -> Script:
    """Ana sends one a second; bob is shown each so much later, in order of time."""
    script = Script("ana", "bob", backend=backend).join()
    begin, rows = script.at, []
    for number, delay in enumerate(delays):
        message = script.message("ana", "sd")
        at = begin + number
        rows += [
            (at, ("Sent", at, "ana", 1, "group:sd", message)),
            (at, ("Confirmed", at, "ana", 1, "group:sd", message.id, 0, 1)),
            (at + delay, ("Delivered", at + delay, "bob", 1, "group:sd", message, False)),
        ]
    script.journal.append(*(row for _, row in sorted(rows, key=lambda row: row[0])))
    return script


# ------------------------------------------------------------------------------- latency


def test_percentiles_are_those_of_numpy_and_of_the_figures() -> None:
    rng = random.Random(7)
    delays = [rng.lognormvariate(-4, 1) for _ in range(333)]
    script = after(*delays)
    (row,) = plots.latency(script).table()
    for name, percent in (("median", 50), ("p95", 95), ("p99", 99)):
        expected = numpy.percentile(delays, percent, method="inverted_cdf")
        assert row[name] == pytest.approx(expected, abs=1e-6)
    assert {name: row[name] for name in ("min", "median", "p95", "p99", "max")} == figures(
        script.journal
    ).latency
    assert (row["deliveries"], row["lost"]) == (333, 0)


def test_the_discs_stand_on_the_curve_at_the_percentiles() -> None:
    picture = plots.latency(after(*(number / 100 for number in range(1, 101))))
    (line,) = [
        segment
        for lines in picture.collections
        if hasattr(lines, "get_segments")
        for segment in lines.get_segments()
        if len(segment) > 100
    ]
    discs = {tuple(p) for marks in picture.collections for p in marks.get_offsets() if p[1] > 0}
    assert len(discs) == 3
    for x, y in discs:
        heights = [b for a, b in line if a == pytest.approx(x)]
        assert min(heights) - 1e-6 <= y <= max(heights) + 1e-6


def test_the_latency_of_a_message_sent_again_begins_with_its_first_send() -> None:
    script = Script("ana", "bob").join()
    message = script.send("ana", outcome="Uncertain")
    script.wait(1).fact("Sent", "ana", "group:sd", message).see("bob", message)
    assert figures(script.journal).latency["median"] == pytest.approx(1.0, abs=0.05)


def test_a_curve_per_backend_and_losses_are_counted_beside_it() -> None:
    picture = plots.latency(bob_is_away(kept=True), bob_is_away(kept=False))
    assert [(row["backend"], row["lost"]) for row in picture.table()] == [
        ("rabbitmq-durable", 0),
        ("rabbitmq-transient", 3),
    ]
    assert "× 3 lost" in {text.get_text() for text in picture.texts}


def test_one_scene_with_two_backends_has_two_curves() -> None:
    script = Script("ana", "bob").join().join(to="news", backend="redis-stream")
    script.send("ana", "bob")
    script.send("ana", "bob", to="news")
    rows = plots.latency(script).table()
    assert [row["backend"] for row in rows] == ["rabbitmq-durable", "redis-stream"]
    assert [row["deliveries"] for row in rows] == [1, 1]


def test_the_header_of_a_run_names_the_curve_and_equal_names_are_told_apart() -> None:
    first, second = after(0.1), after(0.2)
    first.journal.header["backend"] = second.journal.header["backend"] = "mine:x=1"
    assert [row["backend"] for row in plots.latency(first, second).table()] == [
        "mine:x=1 (1)",
        "mine:x=1 (2)",
    ]
    assert [row["backend"] for row in plots.latency(first).table()] == ["mine:x=1"]


def test_titles_of_latency() -> None:
    assert plots.latency(after(0.25)).finding == "One delivery, after 250 ms"
    two = plots.latency(after(0.001, 0.002), after(0.1, 0.2, backend="memory"))
    assert two.finding == "Median 1.0 ms on rabbitmq-durable, 100 ms on memory"
    assert plots.latency(Script("ana")).finding == "Nothing was delivered"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00045, "0.45 ms"), (0.0041, "4.1 ms"), (0.045, "45 ms"), (1.2, "1.2 s"), (75, "75 s")],
)
def test_times_have_two_or_three_digits(seconds: float, words: str) -> None:
    assert shown_seconds(seconds) == words


def test_ticks_of_a_logarithmic_axis_are_round_and_inside() -> None:
    assert ticks(0.002, 0.1) == pytest.approx([0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
    assert ticks(0.0001, 10) == pytest.approx([0.0001, 0.001, 0.01, 0.1, 1, 10])


# ---------------------------------------------------------------------------- throughput


def killed(gap: float = 5.0) -> Script:
    script = Script("ana", "bob").join()
    for _ in range(10):
        script.send("ana", "bob")
    script.fact("FaultBegan", "", "", "kill", "rabbitmq")
    waiting = [script.send("ana") for _ in range(5)]
    script.wait(gap).fact("FaultEnded", "", "", "kill", "rabbitmq").see("bob", *waiting)
    return script


def pace(script: Script) -> Pace:
    found = measure(script.journal)
    times = tuple(sorted(at - found.began for at in found.shown.values()))
    faults = tuple(
        ("it was killed", at[0] - found.began, at[1] - found.began)
        for at in [[fact.at for fact in script.journal if "Fault" in type(fact).__name__]]
        if at
    )
    return Pace("", times, found, faults)


def test_the_stretches_add_up_to_all_deliveries() -> None:
    found = pace(killed())
    for width in (0.01, stretch(found.seconds), 2.0):
        assert sum(rate * width for _, rate in found.rates(width)) == pytest.approx(15)
    assert len(found.rates(stretch(found.seconds))) <= 62


def test_a_stretch_stands_at_its_deliveries_by_its_length() -> None:
    found = pace(after(*[0.0] * 4))  # at 0, 1, 2 and 3 seconds
    assert found.rates(2.0) == [(0.0, 1.0), (2.0, 1.0), (4.0, 0.0)]
    rates = [rate for _, rate in found.rates(1.5)]
    assert rates == pytest.approx([2 / 1.5, 1 / 1.5, 1 / 1.5, 0])


def test_throughput_is_the_figure_of_the_run_and_the_fault_is_the_finding() -> None:
    script = killed()
    picture = plots.throughput(script)
    (row,) = picture.table()
    assert row["a second"] == figures(script.journal).throughput
    assert row["longest pause"] == pytest.approx(5.0, abs=0.1)
    assert picture.finding == "RabbitMQ killed: no delivery for 5.0 s"
    assert "RabbitMQ killed" in {text.get_text() for text in picture.texts}


def test_a_pause_that_no_fault_touches_is_not_blamed_on_one() -> None:
    script = Script("ana", "bob").join()
    script.send("ana", "bob")
    script.wait(30).send("ana", "bob")
    script.fact("FaultBegan", "", "", "cut", "bob-rabbitmq").wait(2)
    script.fact("FaultEnded", "", "", "cut", "bob-rabbitmq").send("ana", "bob")
    (row,) = plots.throughput(script).table()
    assert row["longest pause"] == pytest.approx(2.0, abs=0.1)


def test_a_fault_that_is_not_over_lasts_to_the_end() -> None:
    script = Script("ana", "bob").join()
    script.send("ana", "bob")
    script.fact("FaultBegan", "", "", "kill", "rabbitmq").wait(4).send(
        "ana", outcome="Uncertain"
    )
    (row,) = plots.throughput(script).table()
    assert row["longest pause"] == pytest.approx(4.0, abs=0.1)


def test_titles_of_throughput() -> None:
    plain = plots.throughput(after(0.0, 1.0))
    assert plain.finding == "1.0 deliveries a second on rabbitmq-durable"
    slow = after(0.0, 9.0, backend="memory")
    both = plots.throughput(after(0.0, 1.0), slow).finding
    assert both == "1.0 deliveries a second on rabbitmq-durable, 0.2 on memory"
    assert plots.throughput(Journal()).finding == "Nothing was delivered"


# --------------------------------------------------------------------------------- depth


def test_depth_is_the_figure_of_the_run_and_belongs_to_who_was_away() -> None:
    script = bob_is_away(kept=True, missed=6)
    picture = plots.depth(script)
    rows = {row["queue"]: row for row in picture.table()}
    assert rows["bob"]["most"] == 6 == figures(script.journal).depth
    assert rows["eva"]["most"] == 1
    assert picture.finding == "At most 6 messages waited for bob"


def test_the_steps_of_a_queue_go_up_at_the_confirm_and_down_at_the_sight() -> None:
    script = after(0.5, 2.25, 2.5)  # sent at 0, 1, 2; shown at 0.5, 3.25, 4.5
    found = measure(script.journal)
    marks = waits(found, plots.events.read(script))["bob"]
    assert [(at - found.began, change) for at, change in marks] == [
        (pytest.approx(at, abs=1e-5), change)
        for at, change in [(0, 1), (0.5, -1), (1, 1), (2, 1), (3.25, -1), (4.5, -1)]
    ]
    assert deepest(marks) == 2


def test_what_still_waits_is_in_the_queue_and_what_was_lost_is_not() -> None:
    waiting = Script("ana", "bob").join().leave("bob")
    lost = Script("ana", "bob", backend="rabbitmq-transient").join().leave("bob")
    for script in (waiting, lost):
        for _ in range(3):
            script.send("ana")
        script.wait(2).fact("Drained", "", "", 0)
    picture = plots.depth(waiting)
    assert picture.finding == "At most 3 messages waited for bob and still do"
    assert [row["still waiting"] for row in picture.table()] == [3]
    assert depth(waiting) == 3 and depth(lost) == 0
    assert plots.depth(lost).finding.startswith("Nothing waited")


def test_insults_wait_in_one_queue_whoever_takes_them() -> None:
    script = dealt("ana", "bob", "eva", "ana")
    picture = plots.depth(script)
    assert [(row["queue"], row["most"]) for row in picture.table()] == [("insults", 4)]
    assert picture.finding == "At most 4 messages waited in the insult queue"
    assert figures(script.journal).depth == 4


def test_without_confirms_nobody_knows_what_waited() -> None:
    script = Script("ana", "bob").join()
    script.send("ana", "bob", outcome="")
    picture = plots.depth(script)
    assert picture.finding == "Nothing was confirmed: nobody knows what waited"
    shown = {text.get_text() for text in picture.texts}
    assert "not known: nothing was confirmed" in shown and "nothing waited" not in shown
    assert plots.depth(Script("ana")).finding == "No messages were sent"
