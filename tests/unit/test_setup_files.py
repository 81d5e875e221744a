"""The files that set the lab up: Makefile, environment.yml, the top level."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FOLDERS = {"chatlab", "docker", "notebooks", "protos", "tests"}
FILES = {"LICENSE", "Makefile", "README.md", "environment.yml", "pyproject.toml"}


def make(*words: str, folder: Path = ROOT) -> str:
    """What make would do, without doing it; continued lines joined."""
    environ = {**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0"}
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", *words],
        cwd=folder,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.replace("\\\n", " ")


@pytest.fixture
def set_up(tmp_path: Path) -> Path:
    """A folder in which set-up has been done, as far as make can tell."""
    folder = tmp_path / "my lab"
    (folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv/where").write_text(f"{folder}\n")
    for name in ("pyproject.toml", ".venv/bin/python", ".venv/has-lab", ".venv/has-test"):
        (folder / name).touch()
    return folder


def test_the_top_level_holds_what_was_agreed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    top = {name.partition("/")[0] for name in tracked if name and not name.startswith(".")}
    assert top <= FOLDERS | FILES


def test_lab_passes_its_arguments_on() -> None:
    said = make("lab", "ARGS=--no-browser --port 8890")
    assert re.search(r"-m jupyterlab .*/00_tour.ipynb --no-browser --port 8890\n$", said)


def test_test_ends_with_pytest_and_does_each_thing_once() -> None:
    said = make("test")
    assert [said.count(f"-m {tool}") for tool in ("ruff check", "mypy", "pytest")] == [1, 1, 1]
    assert said.count(".ci/tools") == 1
    assert "-m pytest" in said.strip().splitlines()[-1]


def test_what_is_installed_is_not_installed_again(set_up: Path) -> None:
    assert "pip" not in make("lab", "test", folder=set_up)


def test_other_dependencies_are_installed(set_up: Path) -> None:
    later = (set_up / ".venv/has-test").stat().st_mtime + 10
    os.utime(set_up / "pyproject.toml", (later, later))
    assert make("test", folder=set_up).count("-m pip") == 2


def test_in_a_folder_that_was_moved_everything_is_installed_again(set_up: Path) -> None:
    moved = set_up.rename(set_up.with_name("elsewhere"))
    assert make("test", folder=moved).count("-m pip") == 2


def test_a_python_that_is_gone_is_replaced(set_up: Path) -> None:
    (set_up / ".venv/bin/python").unlink()
    (set_up / ".venv/bin/python").symlink_to("/nowhere/python3")
    said = make("lab", folder=set_up)
    assert ".ci/venv .venv" in said
    assert said.count("-m pip") == 1


def test_the_build_server_types_what_a_person_types() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert script.startswith("#!/usr/bin/env bash\n")
    assert script.splitlines()[-1] == "exec make test"
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^\.PHONY: (.*)$", text, re.M)[0].split()
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert re.findall(r"^  make (\w+)", shown, re.M) == targets


def test_conda_gets_the_same_lab() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert {"pip", "rabbitmq-server", "redis-server"} < set(conda)
    # Not --editable: Jupyter would not find what switches chatlab's part of it on.
    assert pip == {"pip": [".[lab]"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(word for word in conda if word.startswith("python "))
    assert (
        Requirement(wanted).specifier == Requirement(f"p{project['requires-python']}").specifier
    )


def test_the_licences_are_named() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License")
    assert "the chatlab authors" in text
    assert "Creative Commons Attribution 4.0" in text
