"""``chatlab doctor --class``: red says what to mend first, and not who sends it."""

from __future__ import annotations

import getpass
import platform
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from chatlab import cli, doctor, readiness
from chatlab.errors import ServiceUnavailable, WaitTimeout
from chatlab.settings import Settings

BEGINS = "chatlab doctor: NOT READY | "


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


def finds(monkeypatch: pytest.MonkeyPatch, *findings: doctor.Finding) -> None:
    monkeypatch.setattr(readiness, "examine", lambda settings: iter(findings))


def plays(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    def play(settings: Settings) -> readiness.Trial:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    monkeypatch.setattr(readiness, "play", play)


WELL = readiness.Trial("RabbitMQ 4.3.4", "Redis 8.0.1", start=6.2, play=0.41)


def test_a_machine_where_all_is_well_and_all_was_played_is_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, doctor.Finding("Python", "3.11.7 in /somewhere"))
    plays(monkeypatch, WELL)
    found = readiness.of_machine(settings)
    assert found.ready
    assert found.line.startswith("chatlab doctor: READY | chatlab ")
    for part in ("RabbitMQ 4.3.4 | Redis 8.0.1", platform.python_version(), " cores | "):
        assert part in found.line
    assert found.line.endswith("started in 6 s, two messages in 0.4 s")
    assert "/somewhere" not in found.line


def test_the_first_thing_to_mend_is_said_and_nothing_is_tried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(
        monkeypatch,
        doctor.Finding("Python", "3.11.7"),
        doctor.Finding("RabbitMQ", "is not here yet", ok=False, todo="Type: this"),
        doctor.Finding("disk", "full", ok=False, todo="Type: that"),
    )
    plays(monkeypatch, AssertionError("was tried"))
    found = readiness.of_machine(settings)
    assert (found.ready, found.line) == (
        False,
        BEGINS + "RabbitMQ: is not here yet -> Type: this",
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ServiceUnavailable("RabbitMQ does not start:\n  =BOOT FAILED=", todo="Look."),
            "trial: RabbitMQ does not start: -> Look.",
        ),
        (WaitTimeout("The message has not come."), "trial: The message has not come. -> "),
        (RuntimeError("surprise"), "trial: failed: RuntimeError: surprise -> Type: chatlab"),
    ],
)
def test_a_trial_that_fails_is_red_though_the_examination_was_well(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    finds(monkeypatch, doctor.Finding("Python", "3.11.7"))
    plays(monkeypatch, error)
    found = readiness.of_machine(settings)
    assert not found.ready
    assert found.line.startswith(BEGINS + said)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IDLE_SECONDS", "soon", "settings: The setting idle_seconds must be a number"),
        ("CONFIG", "/nowhere.toml", "settings: CHATLAB_CONFIG names /nowhere.toml"),
        ("RABBITMQ_URL", "http://x", "rabbitmq: The setting rabbitmq_url is not a URL"),
        ("REDIS_URL", "redis://:hush@127.0.0.1:{closed}", "Redis: nothing answers at HOST:"),
        ("FOLDER", "/proc/nowhere", "folder: CHATLAB_FOLDER: No such file"),
    ],
)
def test_settings_that_cannot_work_are_one_red_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    checks = (doctor.rabbitmq, doctor.redis, doctor.folder)
    if name == "FOLDER":
        checks = (doctor.folder,)  # the programs are in the folder
    monkeypatch.setattr(doctor, "CHECKS", checks)
    plays(monkeypatch, WELL)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(
            f"CHATLAB_{name}", value.replace("{closed}", str(closed.getsockname()[1]))
        )
        assert cli.main(["doctor", "--class"]) == 1
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    assert line.startswith(BEGINS + said)
    assert "hush" not in line
    assert shown.err == ""


def test_nothing_in_the_line_tells_who_sends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home" / "ana.perez"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(sys, "prefix", f"{home}/work/.venv")
    monkeypatch.setattr(platform, "node", lambda: "perez-laptop")
    monkeypatch.setattr(getpass, "getuser", lambda: "ana.perez")
    monkeypatch.chdir(home / "work")
    own = Settings(
        folder=home / ".cache/chatlab",
        lab_secret="open-sesame",
        rabbitmq_url="amqp://ana:p%40ss@rabbit.perez.example/x",
    )
    todo = f"Type: {home}/work/.venv/bin/python -m x; ls {home}/work/y {home}/z /data/ana.perez"
    secrets = f"open-sesame, p@ss, {own.rabbitmq_url}, rabbit.perez.example"
    text = f"{own.folder}: perez-laptop, {secrets}"
    line = readiness.not_ready(doctor.Finding("folder", text, ok=False, todo=todo), own).line
    assert line == BEGINS + (
        "folder: CHATLAB_FOLDER: HOST, SECRET, SECRET, URL, HOST -> "
        "Type: .venv/bin/python -m x; ls ./y ~/z /data/$USER"
    )


def test_the_line_survives_a_mail(settings: Settings) -> None:
    text = "’ñ’ … – →\tx " + "word " * 100 + "\n  of a log"
    line = readiness.not_ready(doctor.Finding("a", text, ok=False), settings).line
    assert line.startswith(BEGINS + "a: '?' ... - -> x word")
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= readiness.LINE_CHARACTERS
    assert line.endswith(" ...")


@pytest.mark.parametrize(
    ("environ", "terminal", "coloured"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    terminal: bool,
    coloured: bool,
    ready: bool,
) -> None:
    finds(monkeypatch, doctor.Finding("x", "y", ok=ready))
    plays(monkeypatch, WELL)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert cli.main(["doctor", "--class"]) == (0 if ready else 1)
    line = capsys.readouterr().out
    colour = "\x1b[1;32m" if ready else "\x1b[1;31m"
    assert line.startswith(colour) is coloured
    assert line.endswith("\x1b[0m\n") is coloured
    assert ("\x1b" in line) is coloured
