"""``chatlab doctor --class`` on real services: green: messages have really arrived."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from chatlab import doctor, readiness
from chatlab.errors import WaitTimeout
from chatlab.lab.chats import GroupChat, PrivateChat
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


@pytest.mark.parametrize("chat", [PrivateChat, GroupChat])
def test_a_message_that_does_not_arrive_is_red(
    chat: type, lease: object, lab_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_comes(self: object, what: object, timeout: float) -> None:
        raise WaitTimeout("The message has not come.")

    monkeypatch.setattr(doctor, "CHECKS", ())
    monkeypatch.setattr(chat, "wait_for", nothing_comes)
    found = readiness.of_machine(lab_settings)
    assert found.line.startswith("chatlab doctor: NOT READY | trial: The message has not come.")


def test_where_messages_do_not_get_through_the_line_is_red(
    lease: object, lab_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    found = readiness.of_machine(replace(lab_settings, send_seconds=1e-6))
    assert not found.ready
    assert found.line.startswith("chatlab doctor: NOT READY | trial: ")
