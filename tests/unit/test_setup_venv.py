"""``.ci/venv``: what a machine without a usable Python gets to read or gets installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "venv"

#: A Python that knows its version, whether ensurepip is there, and how to make an environment.
PYTHON = """\
case "$*" in
*--version*) echo "Python $VERSION" ;;
*version_info\\ \\<*) [ "$VERSION" != 3.10.12 ] ;;
*'print("python%d'*) echo python3.11-venv ;;
*ensurepip*) [ -e "$ENSUREPIP" ] ;;
*'-m venv'*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
esac
"""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        self.environ = {
            "PATH": f"{folder / 'bin'}:{folder / 'basic'}",
            "ENSUREPIP": str(folder / "ensurepip"),
            "VERSION": "3.11.2",
        }
        (folder / "basic").mkdir()
        for tool in ("sh", "mkdir", "cp", "realpath", "env", "touch"):
            (folder / "basic" / tool).symlink_to(f"/usr/bin/{tool}")

    def put(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def user(self, number: int) -> None:
        self.put("id", f"echo {number}")

    def has_apt(self) -> None:
        self.put(
            "apt-get",
            f"""
            echo "apt-get $*" >>'{self.folder}/calls'
            case "$*" in *install*) : >"$ENSUREPIP" ;; esac""",
        )

    def run(self, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), str(self.folder / "venv")],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=20,
        )

    @property
    def calls(self) -> str:
        path = self.folder / "calls"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.put("python3", PYTHON)
    machine.user(1000)
    return machine


def test_a_complete_python_makes_the_environment(machine: Machine) -> None:
    (machine.folder / "ensurepip").touch()
    assert machine.run().returncode == 0
    assert (machine.folder / "venv/bin/python").exists()


def test_an_environment_that_works_is_left_alone(machine: Machine) -> None:
    (machine.folder / "ensurepip").touch()
    machine.run()
    (machine.folder / "bin/python3").unlink()
    assert machine.run().returncode == 0


def test_root_gets_the_missing_venv_module_by_apt(machine: Machine) -> None:
    machine.user(0)
    machine.has_apt()
    assert machine.run().returncode == 0
    assert "update" in machine.calls
    assert "install --no-install-recommends python3" in machine.calls


def test_a_sudo_that_asks_nothing_is_used(machine: Machine) -> None:
    machine.has_apt()
    machine.put("sudo", f"echo sudo >>'{machine.folder}/calls'; shift; exec \"$@\"")
    machine.put("true", "exit 0")
    assert machine.run().returncode == 0
    assert "sudo\napt-get" in machine.calls


def test_without_root_the_line_to_type_is_shown(machine: Machine) -> None:
    machine.has_apt()
    machine.put("sudo", "exit 1")
    done = machine.run()
    assert done.returncode != 0
    assert "Type: sudo apt-get install python3" in done.stderr
    assert machine.calls == ""


def test_an_old_python_is_named_with_the_line_to_type(machine: Machine) -> None:
    machine.has_apt()
    done = machine.run(VERSION="3.10.12")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer; python3 is Python 3.10.12." in done.stderr
    assert "Type: sudo apt-get install python3.11 python3.11-venv" in done.stderr


def test_beside_an_old_python_a_newer_one_is_found(machine: Machine) -> None:
    (machine.folder / "ensurepip").touch()
    machine.put("python3.12", "VERSION=3.12.1\n" + PYTHON)
    assert machine.run(VERSION="3.10.12").returncode == 0


def test_on_ubuntu_22_04_its_own_python3_11_is_found_and_completed(machine: Machine) -> None:
    """Its python3 is 3.10; universe has a 3.11, whose venv module is a package of its own."""
    machine.has_apt()
    machine.put("python3.11", "VERSION=3.11.0rc1\n" + PYTHON)
    done = machine.run(VERSION="3.10.12")
    assert done.returncode != 0
    assert (
        "Type: sudo apt-get install python3.11-venv   and then the same again." in done.stderr
    )
    (machine.folder / "ensurepip").touch()  # as that package does
    done = machine.run(VERSION="3.10.12")
    assert (done.returncode, done.stderr) == (0, "")
    assert "VERSION=3.11.0rc1" in (machine.folder / "venv/bin/python").read_text()


def test_a_python_that_was_named_is_the_only_one_tried(machine: Machine) -> None:
    (machine.folder / "ensurepip").touch()
    done = machine.run(PYTHON="python3.99")
    assert done.returncode != 0
    assert "python3.99 is not here." in done.stderr


def test_the_script_is_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)
