"""JupyterLab as a newcomer starts it, and a headless Chromium in front of it.

One server serves all tests of the session; each has a workspace of its own, so that it opens
nothing that another one left, and the kernels it started are ended after it. The browser is
one a module: Playwright's loop must be gone before other tests begin theirs.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
#: Screenshots are kept here, to be looked at.
ARTIFACTS = Path(__file__).parents[2] / "artifacts"
SETTINGS = {
    # JupyterLab keeps cells that are out of sight out of the page; tests look at all of them.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture(scope="session")
def browser_path() -> str:
    path = os.environ.get("CHATLAB_BROWSER") or shutil.which("chromium") or ""
    if not path:
        assert os.environ.get("CI") != "true", "a build server must have a browser"
        pytest.skip("no Chromium on this machine")
    return path


@pytest.fixture(scope="session")
def artifacts() -> Path:
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


@dataclass
class Server:
    """A JupyterLab on copies of the notebooks."""

    root: Path
    url: str
    token: str

    def lab(self) -> str:
        """The URL of a notebook, to be formatted with its name; with nothing else open."""
        workspace = secrets.token_hex(4)
        return f"{self.url}/lab/workspaces/{workspace}/tree/{{}}?token={self.token}"

    def write(self, name: str, *cells: str) -> str:
        """Make a notebook of these cells."""
        book = {
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell-{number}",
                    "metadata": {},
                    "execution_count": None,
                    "outputs": [],
                    "source": source,
                }
                for number, source in enumerate(cells)
            ],
            "metadata": {"kernelspec": KERNEL},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.root / name).write_text(json.dumps(book), encoding="utf-8")
        return self.lab().format(name)

    def end_kernels(self) -> None:
        for session in json.load(self._ask("sessions")):
            self._ask(f"sessions/{session['id']}", "DELETE").close()

    def _ask(self, what: str, method: str = "GET"):  # type: ignore[no-untyped-def]
        url = f"{self.url}/api/{what}?token={self.token}"
        return urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, lease: object) -> Iterator[Server]:
    """The JupyterLab of the session."""
    folder = tmp_path_factory.mktemp("jupyter")
    root = folder / "notebooks"
    shutil.copytree(NOTEBOOKS, root)
    for name, values in SETTINGS.items():
        file = folder / "settings" / f"{name.replace(':', '/')}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port, token = _free_port(), secrets.token_hex(8)
    argv = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    argv += [f"--port={port}", f"--IdentityProvider.token={token}", f"--notebook-dir={root}"]
    environ = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    with (folder / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environ, cwd=root)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/api?token={token}", process)
        yield Server(root, f"http://127.0.0.1:{port}", token)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def jupyter(server: Server) -> Iterator[str]:
    """The URL of JupyterLab with the path of a notebook left open: ``jupyter.format(name)``."""
    yield server.lab()
    server.end_kernels()


@pytest.fixture(scope="module")
def notebook(server: Server) -> Iterator[Callable[..., str]]:
    """Makes a notebook of cells and returns its URL; its kernel ends with the module."""
    yield server.write
    server.end_kernels()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        assert process.poll() is None, "JupyterLab ended at once"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.1)
