"""The process behind the launcher's RabbitMQ page, on the real RabbitMQ of the session."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from chatlab import Lab
from chatlab.errors import ServiceUnavailable
from chatlab.loop import BackgroundLoop
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management

#: A process starts, and takes a lease, within this on a busy machine.
SECONDS = 60


class Page:
    """Asks over the socket, as jupyter-server-proxy does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.path))
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, *path: str) -> Any:
        """From the API; encoded once more than it need, as the page's script does it."""
        target = "/api/" + "/".join(quote(quote(part, safe="")) for part in path)
        status, body = self.ask(target)
        return json.loads(body) if status == 200 else status


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def started(argv: list[str], path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv)
    until(lambda: path.exists() or process.poll() is not None)
    return process


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="page-") as folder:  # short, as a socket needs it
        yield Path(folder) / "socket"


@pytest.fixture
def api(endpoints: tuple[RabbitAddress, object]) -> Iterator[Callable[..., Any]]:
    """The management API, as its administrator."""
    with BackgroundLoop("administrator") as loop:
        yield lambda *words: loop.call(Management(endpoints[0]).get(*words))


def command(path: Path) -> list[str]:
    return [sys.executable, "-m", "chatlab.jupyter.page", str(path)]


def test_the_page_shows_the_queues_of_every_lab_and_may_change_nothing(
    path: Path, api: Callable[..., Any]
) -> None:
    process = started(command(path), path)
    try:
        page = Page(path)
        assert path.stat().st_mode & 0o777 == 0o600
        until(lambda: b"chatlab.js" in page.ask("/")[1])
        who = page.get("whoami")
        assert who["tags"] == ["monitoring"]
        with Lab.start("looked-at", fresh=True) as lab:  # opened after the page
            ana, bob = lab.users("ana", "bob")
            group = ana.join("sd")
            bob.join("sd")
            bob.offline()
            group.send("hola")
            vhost = lab.rabbitmq.facts()["virtual host"]
            until(lambda: any(q["vhost"] == vhost for q in page.get("queues")))
            until(lambda: page.get("queues", vhost, "chatlab/sd/bob").get("messages") == 1)
            lab.scene("the next")  # a new virtual host of the same name
            ana.join("news")
            until(lambda: isinstance(page.get("queues", vhost, "chatlab/news/ana"), dict))
            assert page.get("users") == 401
            assert page.ask(f"/api/vhosts/{vhost}", "DELETE")[0] == 403
            assert api("vhosts", vhost)["name"] == vhost
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert words[1:-1] == [b"-m", b"chatlab.jupyter.page", str(path).encode()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert api("users", who["name"]) is None
        assert api("vhosts", who["name"].rpartition("-monitor-")[0]) is None
    finally:
        process.kill()
        process.wait()


def test_the_account_itself_may_change_nothing(
    path: Path, endpoints: tuple[RabbitAddress, object]
) -> None:
    """Also without the process in between: what it refuses, RabbitMQ refuses as well."""
    with Lab.start("looked-at", fresh=True) as lab, BackgroundLoop("looks") as loop:
        ana = lab.user("ana")
        ana.join("sd")
        rabbitmq = lab._lease.rabbitmq.watched()
        management = Management(rabbitmq)
        for words in (
            ("queues", rabbitmq.vhost, "chatlab/sd/ana"),
            ("vhosts", rabbitmq.vhost),
            ("users", endpoints[0].user),
        ):
            with pytest.raises(
                ServiceUnavailable, match=r"refuses our credentials|answered 40\d"
            ):
                loop.call(management.delete(*words))


def test_when_jupyter_is_killed_the_process_ends(path: Path) -> None:
    child = f"import subprocess, time; p = subprocess.Popen({command(path)!r}); "
    child += "print(p.pid, flush=True); time.sleep(600)"
    jupyter = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
    assert jupyter.stdout is not None
    pid = int(jupyter.stdout.readline())
    jupyter.stdout.close()
    try:
        until(path.exists)
        jupyter.kill()
        jupyter.wait()
        until(lambda: not _runs(pid))
    finally:
        jupyter.kill()
        jupyter.wait()
        if _runs(pid):
            os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
