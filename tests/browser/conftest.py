"""JupyterLab as a newcomer starts it, and a headless Chromium in front of it."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

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


@pytest.fixture
def page(browser_path: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(QUIET))
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()


@pytest.fixture
def jupyter(tmp_path: Path, lease: object) -> Iterator[str]:
    """A JupyterLab on copies of the notebooks; its URL up to the path, and its token."""
    root = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, root)
    settings = tmp_path / "settings" / "@jupyterlab"
    for name, values in SETTINGS.items():
        file = tmp_path / "settings" / f"{name.replace(':', '/')}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    assert settings.exists()
    port, token = _free_port(), secrets.token_hex(8)
    argv = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    argv += [f"--port={port}", f"--IdentityProvider.token={token}", f"--notebook-dir={root}"]
    environ = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    with (tmp_path / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environ, cwd=root)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/api?token={token}", process)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}"
    finally:
        process.terminate()
        process.wait(30)


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
