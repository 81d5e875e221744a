"""Notebooks as kernels see them: twice in a row, two at once, interrupted, killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest

from chatlab import services
from chatlab.loop import BackgroundLoop
from chatlab.settings import Settings

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

#: Several executions of one notebook are costly: all but the tour are for ``make soak``.
SOME = [
    pytest.param(path, marks=[pytest.mark.soak] * (path.stem != "00_tour"), id=path.stem)
    for path in NOTEBOOKS
]
#: The longest notebook, each section twice, in two kernels at once on two cores.
DRIVE_SECONDS = 900

pytestmark = pytest.mark.usefixtures("lease")  # the brokers stay up between two kernels


def drive(*words: str) -> Any:
    """What a function of kernel_driver gives, in a process of its own."""
    argv = [sys.executable, str(Path(__file__).with_name("kernel_driver.py")), *words]
    with TemporaryDirectory(prefix="k-") as folder:  # a short path, for unix sockets
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            timeout=DRIVE_SECONDS,
            check=True,
            env={**os.environ, "TMPDIR": folder},
        )
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", SOME)
def test_a_notebook_gives_the_same_from_two_kernels_at_once_and_again(path: Path) -> None:
    results: list[list[str]] = []

    def run() -> None:
        results.append(drive("checked_outputs", str(path)))

    both = [threading.Thread(target=run) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    run()
    assert len(results) == 3
    assert results[0] and results[0] == results[1] == results[2]


@pytest.mark.parametrize("path", SOME)
def test_every_section_of_a_notebook_may_be_run_twice(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    number = sum(cell.cell_type == "code" for cell in book.cells)
    assert drive("sections_twice", str(path)) == 2 * number


def open_labs(settings: Settings) -> list[str]:
    with BackgroundLoop("look") as loop:
        status = loop.call(services.status(settings))
    assert status is not None
    return [entry["lab"] for entry in status["leases"]]


def test_a_killed_kernel_leaves_no_lab_behind(lab_settings: Settings) -> None:
    lab = drive("killed")
    assert lab.startswith("kernel-")
    deadline = time.monotonic() + 15
    while lab in open_labs(lab_settings):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_interrupting_a_cell_cancels_what_it_waits_for_and_the_lab_goes_on() -> None:
    found = drive("interrupted")
    assert (found["first"]["status"], found["first"]["ename"]) == ("error", "KeyboardInterrupt")
    assert found["seconds"] < 30
    assert found["after"]["status"] == "ok"


def test_an_error_in_a_cell_is_three_lines() -> None:
    reply = drive("refused")
    assert reply["ename"] == "UnknownAccount"
    assert len(reply["traceback"]) == 3
    assert "nobody" in reply["traceback"][0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_executed_normalised_and_within_its_bounds(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in book.metadata
    text = path.read_text()
    assert str(Path.home()) not in text and "/tmp/" not in text
    words = sum(len(c.source.split()) for c in book.cells if c.cell_type == "markdown")
    pictures = sum("image/png" in o.get("data", {}) for c in code for o in c.outputs)
    assert len(code) <= 24 and words <= 1700 and pictures <= 4


#: The course of one evening; 04 is optional.
CORE = [path for path in NOTEBOOKS if not path.stem.startswith("04")]


def cells(path: Path, kind: str) -> list[str]:
    book = nbformat.read(path, as_version=4)
    return [cell.source for cell in book.cells if cell.cell_type == kind]


def test_the_core_asks_for_twelve_guesses_at_most_and_holds_each_against_a_run() -> None:
    asked, held = (
        [
            name
            for path in CORE
            for source in cells(path, "code")
            for name in re.findall(rf'course\.{verb}\(\s*"([^"]+)"', source)
        ]
        for verb in ("predict", "reveal")
    )
    assert 0 < len(asked) <= 12
    assert sorted(asked) == sorted(held)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_its_minutes_and_what_to_change(path: Path) -> None:
    prose = cells(path, "markdown")
    assert re.search(r"\*\*\d+ minutes", prose[0])
    assert sum("**Change one thing:**" in text for text in prose) >= 4


def test_there_are_notebooks_to_test() -> None:
    names = ["tour", "private_chats", "insult_channel", "group_chats", "discovery"]
    names += ["stateful_patterns", "redis_or_rabbitmq"]
    assert [path.stem for path in NOTEBOOKS] == [f"{n:02}_{x}" for n, x in enumerate(names)]
