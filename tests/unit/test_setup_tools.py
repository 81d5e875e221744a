"""``.ci/tools``: what a machine that lacks a program some tests drive gets, or gets to read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "tools"


class Machine:
    """A folder of programs: those that are there, and an apt that brings others."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder
        self.calls = folder / "calls"
        self.calls.touch()

    def put(self, name: str, script: str = "") -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def has_apt(self, brings: dict[str, str]) -> None:
        cases = "\n".join(
            f"*install*{package}) /bin/cp '{self.programs}/apt-get' '{self.programs}/{name}' ;;"
            for package, name in brings.items()
        )
        self.put("apt-get", f'echo "$*" >>\'{self.calls}\'\ncase "$*" in\n{cases}\nesac')

    def run(self, user: int) -> subprocess.CompletedProcess[str]:
        self.put("id", f"echo {user}")
        return subprocess.run(
            ["/bin/sh", str(SCRIPT)],
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            timeout=20,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_root_gets_what_is_missing_and_reads_nothing(machine: Machine) -> None:
    machine.put("tmux")
    machine.has_apt({"iproute2": "ip"})
    done = machine.run(user=0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (machine.programs / "ip").exists()
    assert machine.calls.read_text().splitlines() == [
        "-qq update",
        "-qq install --no-install-recommends iproute2",
    ]


def test_where_nothing_is_missing_nothing_is_done(machine: Machine) -> None:
    for name in ("tmux", "ip"):
        machine.put(name)
    machine.has_apt({})
    done = machine.run(user=0)
    assert (done.returncode, done.stderr, machine.calls.read_text()) == (0, "", "")


def test_what_apt_has_not_is_named_and_the_rest_is_fetched(machine: Machine) -> None:
    machine.has_apt({"iproute2": "ip"})
    done = machine.run(user=0)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Some tests need more: type: sudo apt-get install tmux\n"
    assert (machine.programs / "ip").exists()


def test_another_user_reads_what_to_type(machine: Machine) -> None:
    machine.has_apt({"iproute2": "ip", "tmux": "tmux"})
    done = machine.run(user=1000)
    assert (done.returncode, machine.calls.read_text()) == (0, "")
    assert done.stderr == "Some tests need more: type: sudo apt-get install tmux iproute2\n"


def test_the_script_is_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)
