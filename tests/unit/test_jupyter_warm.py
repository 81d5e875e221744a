"""Brokers are started in the background with Jupyter, and nothing of it hurts Jupyter."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatlab import jupyter
from chatlab.jupyter import warm
from chatlab.settings import Settings

ROOT = Path(__file__).parents[2]
SWITCH = ROOT / "chatlab/jupyter/look/chatlab.json"


@pytest.fixture
def terminal() -> Iterator[None]:
    """Standard input that stays silent and never ends, as Jupyter's terminal is."""
    kept, (read, write) = os.dup(0), os.pipe()
    os.dup2(read, 0)
    yield
    os.dup2(kept, 0)
    for number in (kept, read, write):
        os.close(number)


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that writes down how it was started, and sleeps; the file it writes."""
    script, said = tmp_path / "python", tmp_path / "said"
    script.write_text(
        f"#!/bin/sh\necho starting\n"
        f'echo "$* $(ps -o sid= -p $$)" >{said}.new\nmv {said}.new {said}\nread answer\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("CHATLAB_FOLDER", str(tmp_path / "folder"))
    return said


class App:
    log = logging.getLogger("jupyter")


def test_jupyter_starts_the_services_detached_and_in_a_log(
    python: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    start = warm.start
    monkeypatch.setattr(warm, "start", lambda settings: begun.append(start(settings)))
    began = time.monotonic()
    jupyter._load_jupyter_server_extension(App())
    (process,) = begun
    while not python.exists():
        assert time.monotonic() - began < 30
        time.sleep(0.01)
    *words, session = python.read_text().split()
    assert words == ["-m", "chatlab", "up"]
    assert int(session) == process.pid  # a session of its own
    assert process.wait(30) == 1  # it could read nothing from Jupyter's terminal
    assert (python.parent / "folder/warm.log").read_text() == "starting\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"warm": False},
        {"rabbitmq_url": "amqp://x"},
        {"invited": True, "rabbitmq_url": "amqp://x"},
    ],
)
def test_nothing_is_started_where_it_is_not_wanted(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert warm.wanted(Settings())
    assert not warm.wanted(Settings(**changes))


def test_the_setting_is_read_as_a_person_writes_it() -> None:
    assert Settings.load({}).warm
    assert not Settings.load({"CHATLAB_WARM": "no"}).warm


@pytest.mark.parametrize("trouble", ["folder", "python", "settings"])
def test_trouble_is_one_line_in_jupyters_log(
    trouble: str,
    python: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if trouble == "folder":
        monkeypatch.setenv("CHATLAB_FOLDER", "/proc/nowhere")
    elif trouble == "python":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    else:
        monkeypatch.setenv("CHATLAB_IDLE_SECONDS", "soon")
    jupyter._load_jupyter_server_extension(App())
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "chatlab could not start its brokers in the background"
    )
    assert record.exc_info is None


def test_every_way_to_install_switches_it_on() -> None:
    """A wheel brings the switch; `pip install --editable` does not, so `make` copies it."""
    (name,) = json.loads(SWITCH.read_text())["ServerApp"]["jpserver_extensions"]
    (point,) = importlib.import_module(name)._jupyter_server_extension_points()
    assert callable(importlib.import_module(point["module"])._load_jupyter_server_extension)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    place = "etc/jupyter/jupyter_server_config.d"
    assert tools["data-files"] == {place: [str(SWITCH.relative_to(ROOT))]}
    copies = f"@cp {SWITCH.relative_to(ROOT)} $(VENV)/{place}"
    assert copies in (ROOT / "Makefile").read_text()


def test_the_launchers_entry_is_found_and_is_as_the_proxy_wants_it() -> None:
    from jupyter_server_proxy.config import ServerProcess

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = project["entry-points"]["jupyter_serverproxy_servers"]
    (name, place) = entries.popitem()
    module, _, function = place.partition(":")
    entry = getattr(importlib.import_module(module), function)()
    process = ServerProcess(name=name, **entry)
    assert process.launcher_entry.path_info.startswith(f"{name}/")
    assert Path(process.launcher_entry.icon_path).read_text().startswith("<svg")
    assert process.unix_socket is True
    assert process.command[-1] == "{unix_socket}"


def test_jupyter_itself_loads_next_to_nothing() -> None:
    """It is in every server's start; drivers and the lab are not its business."""
    code = (
        "import sys; from chatlab.jupyter import rabbitmq_page; import chatlab.jupyter.warm; "
        "rabbitmq_page(); print(*(n for n in ('grpc', 'pika', 'redis', 'tornado', 'asyncio', "
        "'chatlab.lab', 'chatlab.services') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
