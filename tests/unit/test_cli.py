"""The command line, with the services replaced by stand-ins."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatlab import __version__, cli, services
from chatlab.doctor import Finding
from chatlab.errors import NotPossible, ServiceMissing
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.progress import Progress, ProgressLine
from chatlab.settings import Settings


class Lease:
    rabbitmq = RabbitAddress(
        host="127.0.0.1", port=21001, user="u", password="hush", version="3.10.8"
    )
    redis = RedisAddress(host="127.0.0.1", port=21002, version="9.1.2", product="Valkey")
    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Lease:
    one = Lease()

    async def join(settings: Settings, *, lab: str, progress: Any, **_: Any) -> Lease:
        progress(Progress("rabbitmq", "RabbitMQ starts", 1.2, 9.0))
        progress(Progress("rabbitmq", "RabbitMQ starts", 2.2, 9.0))
        progress(Progress("rabbitmq", "RabbitMQ is ready", 9.1, None))
        return one

    monkeypatch.setattr(services, "join", join, raising=False)
    return one


def answer(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    async def call(settings: Settings, **_: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(services, name, call, raising=False)


def test_up_shows_progress_and_addresses_and_leaves_no_lease(
    lease: Lease, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["up"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["RabbitMQ starts", "RabbitMQ is ready"]
    assert "127.0.0.1:21001" in shown.out
    assert "Valkey" in shown.out
    assert "hush" not in shown.out
    assert lease.closed


def test_in_a_terminal_progress_stays_on_one_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with ProgressLine(out) as line:
        line(Progress("rabbitmq", "RabbitMQ starts", 2.4, 9.0))
        line(Progress("rabbitmq", "RabbitMQ is ready", 9.1, None))
    assert out.getvalue() == (
        "\r\x1b[KRabbitMQ starts (2 of about 9 s)\r\x1b[KRabbitMQ is ready (9 s)\r\x1b[K"
    )


@pytest.mark.parametrize(("stopped", "text"), [(True, "Stopped."), (False, "Nothing was")])
def test_down_says_whether_anything_ran(
    stopped: bool,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(monkeypatch, "stop", stopped)
    assert cli.main(["down"]) == 0
    assert text in capsys.readouterr().out


def test_status_says_that_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, "status", None)
    assert cli.main(["status"]) == 0
    assert "Nothing is running." in capsys.readouterr().out


def test_status_shows_services_and_labs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rabbitmq = {"state": "up", "pid": 41, "ports": [21001, 21002], "version": "3.10.8"}
    redis = {"state": "paused", "pid": 42, "ports": [21003], "product": "Valkey"}
    lease = {"lab": "tour-1", "pair": "shared", "since": 0.0, "processes": {"dan": 43}}
    found = {
        "pid": 40,
        "started": 0.0,
        "idle_seconds": 300.0,
        "folder": "/somewhere",
        "pairs": {"shared": {"rabbitmq": rabbitmq, "redis": redis}},
        "leases": [lease],
    }
    answer(monkeypatch, "status", found)
    assert cli.main(["status"]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["shared", "RabbitMQ", "3.10.8", "up", "41", "21001,", "21002"] in words
    assert ["shared", "Valkey", "paused", "42", "21003"] in words
    assert words[-1][:2] == ["tour-1", "shared"]
    assert words[-1][-1] == "dan"


def test_down_leaves_open_labs_alone_unless_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stop(settings: Settings, *, force: bool) -> bool:
        if not force:
            raise NotPossible("Labs are open: tour-1.", todo="chatlab down --force")
        return True

    monkeypatch.setattr(services, "stop", stop, raising=False)
    assert cli.main(["down"]) == 1
    assert "tour-1" in capsys.readouterr().err
    assert cli.main(["down", "--force"]) == 0


def test_an_error_is_its_three_lines_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, "status", ServiceMissing("No RabbitMQ.", todo="Type: this"))
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err == "No RabbitMQ.\nNothing was changed.\nType: this\n"


def test_wrong_settings_are_an_error_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHATLAB_IDLE_SECONDS", "soon")
    assert cli.main(["status"]) == 1
    assert "idle_seconds must be" in capsys.readouterr().err


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: Settings, options: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "COMMANDS", (cli.Command("wait", "", interrupted),))
    assert cli.main(["wait"]) == 130


@pytest.mark.parametrize(("well", "expected"), [(True, 0), (False, 1)])
def test_doctor_fails_when_one_thing_is_wrong(
    well: bool,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = [Finding("Python", "3.11"), Finding("Redis", "none", ok=well, todo="Type: x")]
    monkeypatch.setattr("chatlab.doctor.examine", lambda settings: iter(findings))
    assert cli.main(["doctor"]) == expected
    assert ("Type: x" in capsys.readouterr().out) is not well


def test_the_command_is_there_as_a_module_and_knows_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatlab", "--version"],
        cwd=Path(cli.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"chatlab {__version__}\n"


def test_every_command_has_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"    {command.name} " in shown
        assert command.help
