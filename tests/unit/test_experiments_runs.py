"""Runs and grids as values: figures, folders, comparison, exit statuses. No broker."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from checkers_script import Run as Script

from chatlab import cli, experiments
from chatlab.checkers import judge
from chatlab.errors import InvalidInput
from chatlab.experiments import Matrix, Run, compare, shipped
from chatlab.experiments.figures import figures, spread
from chatlab.experiments.lanes import LANES
from chatlab.experiments.run import cannot_tell, worst
from chatlab.experiments.shiviz import shiviz
from chatlab.journal import Journal
from chatlab.plots import spacetime


def all_seen() -> Script:
    script = Script("ana", "bob").join()
    for _ in range(3):
        script.send("ana", "ana", "bob")
    script.settle()
    return script


def one_lost() -> Script:
    script = all_seen()
    script.send("ana", "ana")
    script.settle()
    return script


def run_of(script: Script, backend: str = "rabbitmq-durable", began: float = 1e9) -> Run:
    return Run(shipped("burst"), backend, script.journal, judge(script.journal), began)


def test_figures_count_messages_and_measure_from_send_to_first_sight() -> None:
    script = Script("ana", "bob").join()
    first = script.send("ana")
    script.wait(0.5)
    script.see("ana", first)
    script.wait(1.5)
    script.see("bob", first)
    found = figures(script.journal)
    assert (found.sent, found.confirmed, found.delivered) == (1, 1, 2)
    assert found.latency["min"] == pytest.approx(0.5, abs=0.05)
    assert found.latency["max"] == pytest.approx(2.0, abs=0.05)
    assert found.seconds == pytest.approx(2.0, abs=0.05)
    assert found.throughput == pytest.approx(1.0, rel=0.05)
    assert found.depth == 1


def test_figures_of_nothing_are_zero_and_not_an_error() -> None:
    found = figures(Journal())
    assert (found.sent, found.throughput, found.latency, found.depth) == (0, 0.0, {}, 0)


def test_percentiles_are_values_that_occurred() -> None:
    assert spread([float(n) for n in range(1, 101)]) == {
        "min": 1.0,
        "median": 50.0,
        "p95": 95.0,
        "p99": 99.0,
        "max": 100.0,
    }
    assert set(spread([7.0]).values()) == {7.0}


def test_the_worst_of_several_runs_stands_for_them() -> None:
    good, bad = run_of(all_seen()), run_of(one_lost())
    found = worst([good, bad, good])
    assert (found.outcome, found.verdict.lost, len(found.repeats)) == ("broken", 1, 3)
    assert worst([good, good]).outcome == "kept"


def test_a_run_comes_back_from_its_folder_without_a_broker(tmp_path: Path) -> None:
    run = run_of(one_lost()).save(tmp_path)
    assert run.folder is not None
    back = Run.load(run.folder)
    assert (back.scenario, back.backend, back.verdict) == (
        run.scenario,
        run.backend,
        run.verdict,
    )
    assert back.journal.rows == run.journal.rows
    assert back.figures == run.figures
    assert back.journal.header["tier"] == "replay"
    assert judge(back.journal).outcome == run.outcome  # the verdict can be reached again


def test_a_folder_holds_what_can_be_read_without_chatlab(tmp_path: Path) -> None:
    run = run_of(one_lost()).save(tmp_path)
    assert run.folder is not None
    there = {path.name for path in run.folder.iterdir()}
    assert there == {
        *("journal.jsonl", "verdict.json", "run.json", "summary.html", "shiviz.log"),
        *("space-time.svg", "persistence.svg"),
    }
    page = (run.folder / "summary.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == 2
    assert "http" not in page.replace("http://www.w3.org", "")
    assert run.verdict.example.expected in page
    facts = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert (facts["outcome"], facts["figures"]["sent"]) == ("broken", 4)


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    first, second = run_of(all_seen()).save(tmp_path), run_of(all_seen()).save(tmp_path)
    assert first.folder != second.folder


@pytest.mark.parametrize("file", ["run.json", "verdict.json", "journal.jsonl"])
def test_a_damaged_folder_is_refused_by_name(tmp_path: Path, file: str) -> None:
    run = run_of(all_seen()).save(tmp_path)
    assert run.folder is not None
    (run.folder / file).write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidInput, match=run.folder.name):
        Run.load(run.folder)


def test_a_folder_of_something_else_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        Run.load(tmp_path)


def test_a_grid_says_kept_lost_and_cannot_tell() -> None:
    quiet = Run(shipped("burst"), "memory", Journal(), cannot_tell("no broker: none."), 0.0)
    grid = Matrix(
        ["rabbitmq-durable", "as-reported", "memory", "redis-stream"],
        ["burst"],
        {
            ("rabbitmq-durable", "burst"): run_of(all_seen()),
            ("as-reported", "burst"): run_of(one_lost()),
            ("memory", "burst"): quiet,
        },
    )
    assert [row["burst"] for row in grid.table()] == ["✓", "✗ 1 lost", "? no broker", ""]
    assert "| memory | ? no broker |" in grid.to_markdown()


RECORDINGS = Path(__file__).parents[2] / "notebooks" / "recordings"


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.iterdir()))
def test_a_recording_replays_and_its_verdict_is_reached_again(name: str) -> None:
    run = Run.load(RECORDINGS / name)
    lane = LANES[run.pattern](None, run.scenario, run.backend)  # type: ignore[arg-type]
    assert judge(run.journal, expect=lane.faults).outcome == run.outcome
    picture = spacetime(run)
    assert picture.finding  # type: ignore[attr-defined]
    assert "replay" in picture.caption.lower()  # type: ignore[attr-defined]


def test_the_recordings_show_kept_lost_and_broken() -> None:
    outcomes = {Run.load(path).outcome for path in RECORDINGS.iterdir()}
    assert outcomes == {"kept", "not promised", "broken"}


def test_comparing_shows_where_two_runs_part() -> None:
    same = compare(run_of(all_seen()), run_of(all_seen(), "redis-stream"))
    assert len(same) == 0
    found = compare(run_of(all_seen()), run_of(one_lost(), "redis-stream"))
    verdict, ana = found
    assert verdict == {
        "who": "(verdict)",
        "rabbitmq-durable": "kept",
        "redis-stream": "broken",
    }
    assert (ana["who"], ana["place"], ana["rabbitmq-durable"]) == ("ana", 3, "—")
    assert ana["only redis-stream"] == 1


def test_vector_clocks_say_what_came_before_what() -> None:
    script = Script("ana", "bob").join()
    first = script.send("ana", "bob")
    script.send("bob", "ana")
    lines = shiviz(script.journal).splitlines()
    clocks = dict(zip(lines[1::2], lines[0::2], strict=True))
    shown = next(line for event, line in clocks.items() if f"is shown {first.id}" in event)
    host, _, text = shown.partition(" ")
    assert host == "bob.1"
    clock = json.loads(text)
    assert clock["ana.1"] >= 1 and clock["bob.1"] >= 1


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return run_of(all_seen()).save(tmp_path).folder or tmp_path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return run_of(one_lost()).save(tmp_path).folder or tmp_path


def test_the_exit_status_tells_the_verdict(
    kept: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["replay", str(kept)]) == 0
    assert cli.main(["replay", str(broken)]) == 1
    quiet = Run(shipped("burst"), "memory", Journal(), cannot_tell("no broker"), 0.0)
    assert cli.main(["replay", str(quiet.save(tmp_path).folder)]) == 2
    assert cli.main(["replay", str(tmp_path / "nowhere")]) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_what_is_required_counts_even_where_it_is_not_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script("ana", "bob", backend="rabbitmq-transient").join()
    script.leave("bob")
    script.send("ana", "ana")
    script.come("bob").settle()
    run = run_of(script, "rabbitmq-transient").save(tmp_path)
    assert run.outcome == "not promised"
    assert cli.main(["replay", str(run.folder)]) == 0
    assert cli.main(["replay", str(run.folder), "--require", "no-loss"]) == 1
    assert "no-loss" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["replay", str(run.folder), "--require", "speed"])


def test_machines_read_json_and_junit(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.xml"
    cli.main(["replay", str(broken), "--json", "--junit", str(report)])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["lost"], found["backend"]) == (
        "broken",
        1,
        "rabbitmq-durable",
    )
    suite = xml.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert suite.find("testcase/failure") is not None


def test_what_cannot_be_run_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match="no scenario"):
        experiments.run("nothing", "memory")
    with pytest.raises(InvalidInput, match="at least once"):
        experiments.run("burst", "memory", repeat=0)
    with pytest.raises(InvalidInput, match="at least 4"):
        experiments.run("burst", "memory", messages=1)
    with pytest.raises(InvalidInput, match="needs a scenario"):
        experiments.matrix([])
