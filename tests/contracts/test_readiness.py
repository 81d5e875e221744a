"""``chatlab doctor --class`` on real services: green: messages have really arrived."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from chatlab import Lab, doctor, readiness
from chatlab.journal import Delivered
from chatlab.settings import Settings


def test_a_machine_that_works_is_ready(lease: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatlab", "doctor", "--class"], capture_output=True, text=True
    )
    line = (
        r"chatlab doctor: READY \| chatlab [\d.]+ \| Python 3\.[\d.]+ \| RabbitMQ [\d.]+ \| "
        r"(Redis|Valkey) [\d.]+ \| \w+ \w+( \(.*\))? \| \d+ cores \| \d+ GiB \| "
        r"started in \d+ s, two messages in \d+\.\d s\n"
    )
    assert re.fullmatch(line, done.stdout), done.stdout + done.stderr
    assert done.returncode == 0


def test_both_chats_are_really_played(
    lease: object, lab_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[str, str]] = set()
    close = Lab.close

    def look_and_close(lab: Lab) -> None:
        facts = lab.journal.facts(Delivered)
        seen.update((fact.user, fact.message.to) for fact in facts)
        close(lab)

    monkeypatch.setattr(Lab, "close", look_and_close)
    readiness.play(lab_settings)
    assert {("bob", "bob"), ("bob", "class")} <= seen


def test_where_messages_do_not_get_through_the_line_is_red(
    lease: object, lab_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    found = readiness.of_machine(replace(lab_settings, send_seconds=1e-6))
    assert not found.ready
    assert found.line.startswith("chatlab doctor: NOT READY | trial: ")
