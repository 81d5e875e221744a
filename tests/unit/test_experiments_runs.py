"""Runs and grids as values: figures, folders, comparison, exit statuses. No broker."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path

import pytest
from checkers_script import Run as Script

from chatlab import cli, commands, experiments
from chatlab.backends import PRIVATE
from chatlab.checkers import Check, Verdict, judge
from chatlab.errors import InvalidInput
from chatlab.experiments import Matrix, Run, compare, shipped
from chatlab.experiments.asked import asked, rows_of
from chatlab.experiments.figures import figures, spread
from chatlab.experiments.run import judged, not_played, worst
from chatlab.experiments.shiviz import shiviz
from chatlab.experiments.steps import ALL
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


def unplayed(why: str, backend: str = "memory") -> Run:
    return Run(shipped("burst"), backend, Journal(), Verdict((not_played(why),)), 0.0)


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
    assert (back.scenario, back.backend) == (run.scenario, run.backend)
    assert back.verdict.checks == run.verdict.checks
    assert (back.stored, back.differences) == (run.verdict, ())
    assert (run.stored, run.differences) == (None, ())
    assert back.journal.rows == run.journal.rows
    assert back.figures == run.figures
    assert back.journal.header["tier"] == back.verdict.tier == "replay"


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


def test_a_run_in_which_nobody_else_was_there_has_its_folder_too(tmp_path: Path) -> None:
    script = Script("ana").join()
    script.send("ana", outcome="Returned")
    run = replace(run_of(script), scenario=shipped("no-subscriber")).save(tmp_path)
    assert run.folder is not None
    assert "Nobody else was there" in (run.folder / "persistence.svg").read_text("utf-8")


def forged(run: Run, outcome: str) -> Path:
    """The run's folder, and in it a verdict that its journal does not bear out."""
    assert run.folder is not None
    file = run.folder / "verdict.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    for check in data["checks"]:
        check["outcome"] = outcome
    file.write_text(json.dumps(data), encoding="utf-8")
    return run.folder


def test_a_verdict_that_is_not_its_journals_is_told_and_the_new_one_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whitewashed = forged(run_of(one_lost()).save(tmp_path), "kept")
    assert cli.main(["replay", str(whitewashed)]) == 1
    shown = capsys.readouterr().out
    assert "The stored verdict differs: verdict: kept, 1 lost; now broken, 1 lost." in shown
    assert "differs: delivery sd: kept, 1 lost; now broken, 1 lost." in shown
    assert cli.main(["replay", str(whitewashed), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["stored"]) == ("broken", "kept")
    assert found["differences"][0] == "verdict: kept, 1 lost; now broken, 1 lost"
    assert cli.main(["replay", str(forged(run_of(all_seen()).save(tmp_path), "broken"))]) == 0


def test_what_the_scenario_breaks_has_to_be_in_the_journal_of_a_kept_run(
    tmp_path: Path,
) -> None:
    quiet = run_of(all_seen())
    untold = replace(quiet, scenario=shipped("broker-kill")).save(tmp_path)
    assert untold.folder is not None
    found = Run.load(untold.folder)
    assert found.outcome == "cannot tell"
    assert found.differences == (
        "verdict: kept; now cannot tell",
        "expected: not asked; now cannot tell",
    )
    killed = all_seen()
    killed.fault("kill", "rabbitmq").over("kill", "rabbitmq")
    killed.send("ana", "ana", "bob")
    again = replace(run_of(killed), scenario=shipped("broker-kill")).save(tmp_path)
    assert again.folder is not None
    assert Run.load(again.folder).outcome == "kept"


@pytest.mark.parametrize(
    ("promises", "outcome"),
    [("rabbitmq-durable", "broken"), ("rabbitmq-transient", "not promised")],
)
def test_a_client_that_is_not_ours_is_judged_anew_by_what_it_promises(
    promises: str, outcome: str, tmp_path: Path
) -> None:
    client = "outside:gone/group.py:Group"
    script = Script("ana", "bob", backend=client)
    script.join().leave("bob")
    script.send("ana", "ana")
    script.come("bob").settle()
    journal = script.journal
    journal.header |= {"pattern": "group", "backend": client, "promises": promises}
    journal.header |= {"broker": "rabbitmq"}
    verdict = judged(shipped("absent-member"), "group", "rabbitmq", journal)
    run = Run(shipped("absent-member"), client, journal, verdict, 0.0).save(tmp_path)
    assert run.folder is not None
    back = Run.load(run.folder)  # its file need not be there
    assert (back.outcome, back.differences) == (outcome, ())
    assert {check.backend for check in back.verdict.checks} == {client}


def test_a_kept_run_is_played_again_on_the_backend_of_its_own_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(all_seen(), "as-reported")
    run.journal.header["pattern"] = "private"
    folder = run.save(tmp_path).folder
    played: list[str] = []

    def again(_: object, backend: str, **options: object) -> Run:
        played.append(backend)
        return run

    monkeypatch.setattr(experiments, "run", again)
    assert cli.main(["rerun", str(folder)]) == 0
    assert played == ["private/as-reported"]
    assert "Then: kept. Now: kept." in capsys.readouterr().out


def test_what_no_journal_tells_is_kept_with_the_verdict(tmp_path: Path) -> None:
    left = Check("removal", "", "", "cannot tell", "Still there: x.", counted=False)
    run = run_of(all_seen())
    kept = replace(run, verdict=replace(run.verdict, checks=(*run.verdict.checks, left)))
    back = Run.load(kept.save(tmp_path).folder or tmp_path)
    assert back.verdict.checks[-1] == left
    assert back.differences == ()


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
    quiet = unplayed("no broker: none.")
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


def test_two_grids_become_one_and_the_later_run_of_a_cell_counts() -> None:
    kept, lost = run_of(all_seen()), run_of(one_lost())
    first = Matrix(["a"], ["x", "y"], {("a", "x"): kept, ("a", "y"): kept})
    both = first | Matrix(["b", "a"], ["y"], {("b", "y"): kept, ("a", "y"): lost})
    assert (both.backends, both.scenarios) == (["a", "b"], ["x", "y"])
    shown = [both.cell("a", "x"), both.cell("a", "y"), both.cell("b", "y")]
    assert shown == ["✓", "✗ 1 lost", "✓"]
    assert both.cell("b", "x") == ""
    assert first.cell("a", "y") == "✓"


RECORDINGS = Path(__file__).parents[2] / "notebooks" / "recordings"


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.iterdir()))
def test_a_recording_replays_and_its_verdict_is_reached_again(name: str) -> None:
    run = Run.load(RECORDINGS / name)
    assert run.stored is not None
    assert (run.stored.outcome, run.differences) == (run.outcome, ())
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
    assert cli.main(["replay", str(unplayed("no broker").save(tmp_path).folder)]) == 2
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


def test_a_grid_of_one_pattern_is_asked_for_in_a_word() -> None:
    scripts, backends = asked([], [], [], "private")
    assert [script.name for script in scripts] == [
        *("absent-member", "burst", "reader-kill", "broker-restart", "broker-kill"),
        *("redis-kill", "server-kill", "link-cut", "two-windows"),
    ]
    assert backends[0] == "private/as-reported"
    assert set(backends) == {f"private/{name}" for name in PRIVATE}
    # A name that several patterns have means that of the pattern, in every scenario.
    _, backends = asked(["burst"], ["as-reported", "memory"], [], "insults")
    assert backends == ["insults/as-reported", "insults/memory"]


def test_without_a_word_the_pattern_is_the_first_that_all_scenarios_are_for() -> None:
    assert asked(["burst"], ["as-reported"], [], None)[1] == ["group/as-reported"]
    assert asked(["burst", "poison"], ["as-reported"], [], None)[1] == ["insults/as-reported"]
    assert asked(["burst"], ["direct", "redis-stream"], [], None)[1] == [
        "private/direct",
        "group/redis-stream",
    ]
    with pytest.raises(InvalidInput, match="No pattern is one of all"):
        asked(["late-joiner", "poison"], [], [], None)


def test_rows_say_their_pattern_where_two_have_one_name() -> None:
    names = ["group/as-reported", "private/as-reported", "private/direct"]
    assert rows_of(shipped("burst"), names) == {
        "group/as-reported": "group/as-reported",
        "private/as-reported": "private/as-reported",
        "private/direct": "direct",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["late-joiner", "--pattern", "private"], "late-joiner cannot be run on"),
        (
            ["burst", "--pattern", "private", "--backend", "group/memory"],
            "is no backend of the",
        ),
        (
            ["burst", "--pattern", "private", "--backend", "redis-pubsub"],
            "of the pattern private",
        ),
        ([], "A grid needs a scenario."),
    ],
)
def test_a_grid_that_cannot_be_is_refused_by_what_is_wrong(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["matrix", "--dry-run", *words]) == 3
    assert said in capsys.readouterr().err


def test_the_command_line_knows_every_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(commands.PATTERNS) == set(ALL)
    assert cli.main(["matrix", "--dry-run", "--pattern", "insults"]) == 0
    shown = capsys.readouterr().out
    assert "chatlab/insults" in shown
    assert "chatlab/burst" not in shown


def test_what_cannot_be_run_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match="no scenario"):
        experiments.run("nothing", "memory")
    with pytest.raises(InvalidInput, match="at least once"):
        experiments.run("burst", "memory", repeat=0)
    with pytest.raises(InvalidInput, match="at least 4"):
        experiments.run("burst", "memory", messages=1)
    with pytest.raises(InvalidInput, match="needs a scenario"):
        experiments.matrix([])
