"""The command ``chatlab server`` up to where processes and brokers begin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatlab import cli, serving
from chatlab.private.server import Ending
from chatlab.settings import Settings


@pytest.fixture(autouse=True)
def no_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("brokers would be started")

    monkeypatch.setattr(serving.place, "enter", never)
    monkeypatch.setattr(cli.logs, "begin", lambda *_: None)
    real = Settings.load

    def load(file: Path | None = None) -> Settings:
        return real({}, file) if file else Settings(server_port=4711)

    monkeypatch.setattr(Settings, "load", load)


@pytest.mark.parametrize(
    ("options", "says", "todo"),
    [
        (["--host", "0.0.0.0"], "does not bind to 0.0.0.0", "one address of this machine"),
        (["--port", "65536"], "no port 65536", "up to 65535"),
        (["--port", "-1"], "no port -1", "up to 65535"),
        (["--drain", "-1"], "not -1", ""),
        (["--drain", "nan"], "not nan", ""),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(
    options: list[str], says: str, todo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["server", *options]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    what, effect, *rest = shown.err.splitlines()
    assert says in what and todo in "".join(rest)
    assert effect.startswith("Nothing was")


def test_the_file_that_is_named_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my chat.toml"
    assert cli.main(["server", "--config", str(file)]) == 1
    assert f"{file} cannot be read" in capsys.readouterr().err
    file.write_text('server_host = "0.0.0.0"\n')
    assert cli.main(["server", "--config", str(file)]) == 1
    assert "does not bind to 0.0.0.0" in capsys.readouterr().err


def options(*words: str) -> Any:
    """As the command line gives them."""
    found: list[Any] = []
    command = next(one for one in cli.COMMANDS if one.name == "server")
    taken = cli.Command("server", "", lambda s, o: found.append(o) or 0, command.arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "COMMANDS", (taken,))
        patch.setattr(Settings, "load", lambda file=None: Settings())
        assert cli.main(["server", *words]) == 0
    return found[0]


def test_options_win_over_settings_and_what_is_not_said_stays() -> None:
    given = Settings(server_host="::1", server_port=4711, lab="here")
    assert serving._chosen(given, options()) == given
    chosen = serving._chosen(
        given, options("--host", "127.0.0.2", "--port", "0", "--lab", "there")
    )
    assert (chosen.server_host, chosen.server_port, chosen.lab) == ("127.0.0.2", 0, "there")


async def test_without_its_supervisor_it_ends_only_if_that_runs_its_redis() -> None:
    own = Settings(redis_url="redis://h:1")
    for settings, ends in ((Settings(), True), (own, False)):
        ending = Ending()
        serving._on_event(settings, ending, "redis", "down")
        assert not ending.asked.is_set()
        serving._on_event(settings, ending, "supervisor", "down")
        assert ending.asked.is_set() is ends
        assert (ending.error is not None) is ends


async def test_asked_to_stop_while_brokers_start_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    class Slow:
        async def __aenter__(self) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(serving.place, "enter", lambda *_: Slow())
    ending = Ending()
    task = asyncio.create_task(serving._serve(Settings(), options(), ending))
    await begun.wait()
    ending.ask()
    async with asyncio.timeout(10):
        await task
    assert left.is_set()
