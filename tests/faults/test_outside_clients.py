"""Code that is not ours, played through scenarios: right clients are kept, broken ones broken
by the right check, and what a file does wrong costs three lines and no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatlab import experiments
from chatlab.errors import InvalidInput
from chatlab.experiments import Run, Scenario, outside_process
from chatlab.experiments.outside import find_client
from chatlab.services.lease import Lease
from chatlab.settings import Settings

HERE = Path(__file__).parents[1] / "outside_clients"
INSULTS = f"{HERE}/insults.py:Insults"
GROUP = f"{HERE}/group.py:Group"
MAILBOX = f"{HERE}/mailbox.py:Mailbox"
ACK_FIRST = f"{HERE}/ack_first.py:AckFirst"
FORGETFUL = f"{HERE}/loses_on_reconnect.py:Forgetful"


Play = Callable[..., Run]


@pytest.fixture
def play(lease: Lease, lab_settings: Settings) -> Play:
    """Play a scenario on a client, on the session's brokers."""

    def run(scenario: Scenario | str, client: str, **options: Any) -> Run:
        return experiments.run(
            scenario,
            client=client,
            messages=24,
            folder=None,
            settings=lab_settings,
            report=lambda _: None,
            **options,
        )

    return run


def broken_by(run: Run) -> set[str]:
    return {check.checker for check in run.verdict.checks if check.outcome == "broken"}


def told(run: Run) -> str:
    """What the run says of the code itself."""
    return "\n".join(c.why for c in run.verdict.checks if c.checker == "client")


SOAK = pytest.mark.soak


@pytest.mark.parametrize(
    ("client", "scenario"),
    [
        pytest.param(INSULTS, "absent-member", marks=SOAK),
        (INSULTS, "crash-with-work"),
        pytest.param(INSULTS, "link-cut", marks=SOAK),
        pytest.param(INSULTS, "poison", marks=SOAK),
        (GROUP, "absent-member"),
        pytest.param(GROUP, "reader-kill", marks=SOAK),
        (GROUP, "link-cut"),
        pytest.param(GROUP, "broker-kill", marks=SOAK),
        pytest.param(MAILBOX, "absent-member", marks=SOAK),
        (MAILBOX, "reader-kill"),
    ],
)
def test_a_right_client_keeps_what_is_promised(play: Play, client: str, scenario: str) -> None:
    run = play(scenario, client)
    assert run.outcome == "kept", repr(run.verdict)
    assert run.figures.sent >= 24
    assert run.backend == f"outside:{client}"
    assert not told(run)


@pytest.mark.parametrize(
    ("client", "scenario", "checks"),
    [
        (ACK_FIRST, "crash-with-work", {"delivery"}),
        (FORGETFUL, "link-cut", {"delivery", "fan-out", "reconnect"}),
        pytest.param(
            *(FORGETFUL, "absent-member", {"delivery", "fan-out", "reconnect"}), marks=SOAK
        ),
    ],
)
def test_a_broken_client_is_broken_by_the_check_that_knows_it(
    play: Play, client: str, scenario: str, checks: set[str]
) -> None:
    run = play(scenario, client)
    assert broken_by(run) == checks, repr(run.verdict)
    assert run.verdict.lost > 0
    (delivery,) = run.verdict.of("delivery")
    assert delivery.backend == f"outside:{client}"
    assert "rabbitmq-durable" not in repr(delivery)  # its promises count, not its name


@SOAK
def test_a_client_that_says_that_it_promises_less_is_judged_by_that(
    play: Play, tmp_path: Path
) -> None:
    text = (HERE / "loses_on_reconnect.py").read_text()
    (tmp_path / "less.py").write_text(
        text.replace(
            "class Forgetful:", 'class Forgetful:\n    promises = "rabbitmq-transient"\n'
        )
    )
    run = play("absent-member", f"{tmp_path}/less.py:Forgetful")
    assert run.outcome == "not promised", repr(run.verdict)
    assert run.verdict.lost == 12


def test_a_kept_run_of_a_client_says_whose_it_is_and_can_be_read_again(
    play: Play, tmp_path: Path
) -> None:
    run = play("absent-member", GROUP).save(tmp_path)
    again = Run.load(run.folder)
    assert (again.pattern, again.outcome) == ("group", "kept")
    assert again.journal.header["promises"] == "rabbitmq-durable"
    assert "outside:" in (run.folder / "summary.html").read_text()


@SOAK
def test_clients_are_rows_of_a_grid(lease: Lease, lab_settings: Settings) -> None:
    grid = experiments.matrix(
        ["absent-member"],
        ["rabbitmq"],
        clients=[INSULTS],
        messages=12,
        settings=lab_settings,
        report=lambda _: None,
    )
    assert [grid.cell(row, "absent-member") for row in grid.backends] == ["✓", "✓"]


# -- what a file does wrong


def written(folder: Path, text: str, name: str = "Mine") -> str:
    (folder / "mine.py").write_text(text)
    return f"{folder}/mine.py:{name}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Mine:\n    def send(self, text): pass\n", "it has no listen.\n"),
        ("import chatlab.nothing\n", "line 1: ModuleNotFoundError"),
        ("class Mine(:\n", "line 1: SyntaxError"),
        ("x = 1\n", "AttributeError"),
        ("class Mine:\n broker = 'kafka'\n def send(s, t): 0\n def listen(s, h): 0", "kafka"),
        ("class Mine:\n promises = 'much'\n def send(s, t): 0\n def listen(s, h): 0", "much"),
        ("import os\nos._exit(3)\n", "did not come to an end"),
    ],
)
def test_a_file_that_is_no_client_is_refused_with_where_and_what_to_do(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        find_client(written(tmp_path, text))
    assert words in str(caught.value)
    assert caught.value.todo
    assert len(str(caught.value).splitlines()) == 3


def test_what_a_file_prints_is_not_printed_here(
    play,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    noisy = (HERE / "insults.py").read_text().replace("import time", "import time\nprint('HA')")
    noisy = noisy.replace(
        "        self.url = url", "        self.url = url\n        print('HO')"
    )
    assert play("absent-member", written(tmp_path, noisy, "Insults")).outcome == "kept"
    shown = capfd.readouterr()
    assert "HA" not in shown.out + shown.err
    assert "HO" not in shown.out + shown.err


RAISES = """
class Mine:
    def __init__(self, url, name): pass
    def send(self, text):
        raise RuntimeError("no idea")
    def listen(self, handle):
        1 / 0
"""


def test_a_client_that_raises_is_told_where_and_the_run_goes_on(
    play: Play, tmp_path: Path
) -> None:
    run = play(
        Scenario("raises", "ana bob", patterns="insults").join("ana", "bob").send("ana", 3),
        written(tmp_path, RAISES),
    )
    counts = run.journal.counts()
    assert counts["Uncertain"] == 3  # nobody knows what such an exception means
    assert counts["Drained"] == 1  # looked for once: what has ended is not waited for
    assert run.outcome == "cannot tell"
    assert "Mine.listen() ended: ZeroDivisionError: division by zero (line 7 of mine.py)." in (
        told(run)
    )


@SOAK
def test_a_client_whose_process_ends_is_told_and_not_waited_for(
    play: Play, tmp_path: Path
) -> None:
    text = RAISES.replace('raise RuntimeError("no idea")', "pass")
    text = text.replace("1 / 0", "__import__('os')._exit(3)")
    run = play(
        Scenario("ends", "ana bob", patterns="insults").join("ana", "bob").send("ana", 3),
        written(tmp_path, text),
    )
    gone = [row for row in run.journal.rows if row[0] == "Disconnected" and row[4]]
    assert {(row[2], row[5]) for row in gone} == {
        ("ana", "its process has ended"),
        ("bob", "its process has ended"),
    }
    assert run.journal.counts()["Drained"] == 1
    assert "The process of Mine has ended." in told(run)


def test_an_exception_that_the_class_calls_a_refusal_is_a_failure(
    play: Play, tmp_path: Path
) -> None:
    text = RAISES.replace("class Mine:", "class Mine:\n    refusals = (RuntimeError,)")
    run = play(
        Scenario("refuses", "ana", patterns="insults")
        .join("ana", role="producer")
        .send("ana", 3),
        written(tmp_path, text),
    )
    assert run.journal.counts()["Failed"] == 3


HANGS = """
import threading
class Mine:
    def __init__(self, url, name): pass
    def send(self, text):
        threading.Event().wait()
    def listen(self, handle):
        threading.Event().wait()
"""


def test_a_client_that_hangs_is_ended_and_its_line_is_named(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_process, "HANG_SECONDS", 1.0)
    run = play(
        Scenario("hangs", "ana bob", patterns="insults").join("ana", "bob").send("ana", 3),
        written(tmp_path, HANGS),
    )
    assert run.outcome == "cannot tell"
    (check,) = run.verdict.checks
    assert "Mine.send() has not returned for 1 s (it is in line 6 of mine.py)" in check.why


@SOAK
def test_a_listener_that_swallows_ctrl_c_is_killed_and_told(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_process, "GOODBYE_SECONDS", 1.0)
    text = (HERE / "insults.py").read_text().replace("except Exception", "except BaseException")
    run = play("absent-member", written(tmp_path, text, "Insults"))
    assert "did not end by KeyboardInterrupt" in told(run)
    assert run.outcome == "kept"


def test_a_client_on_redis_has_to_take_a_prefix(play: Play, tmp_path: Path) -> None:
    text = (HERE / "mailbox.py").read_text().replace(", name, prefix)", ', name, other="")')
    with pytest.raises(InvalidInput, match="prefix"):
        play("absent-member", written(tmp_path, text, "Mailbox"))
