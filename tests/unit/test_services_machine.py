"""Which computer this is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatlab.services import machine


def test_all_processes_of_a_computer_agree_on_it() -> None:
    code = "from chatlab.services.machine import machine_id; print(machine_id())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=True
    )
    assert other.stdout.strip() == machine.machine_id()


def test_another_boot_is_another_computer_and_other_systems_have_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {machine.machine_id.__wrapped__()}
    boot, network = tmp_path / "boot", tmp_path / "net"
    monkeypatch.setattr(machine, "BOOT", boot)
    found.add(machine.machine_id.__wrapped__())
    boot.write_text("a boot\n")
    found.add(machine.machine_id.__wrapped__())
    monkeypatch.setattr(machine, "NETWORK", network)
    network.symlink_to("net:[1]")
    found.add(machine.machine_id.__wrapped__())
    assert len(found) == 4


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("a", False),
    ],
)
def test_loopback_is_told_from_other_hosts(host: str, loopback: bool) -> None:
    assert machine.is_loopback(host) is loopback
