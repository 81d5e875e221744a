"""The command ``chatlab stage``: the stage of a breakable lab on a page of its own, by Voilà.

The services are started first, where one can see it; then Voilà, in this process, shows the
notebook ``panels/look/stage.ipynb`` on loopback, behind a token that only the printed URL has.
Each page that is opened has a kernel and a lab of its own, which end with the page or with the
command. What the command started it ends: kernels, labs, and the services, unless they ran
before or others use them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import secrets
import socket
import sys
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Any

from chatlab import services
from chatlab.backends import parse_backend
from chatlab.errors import InvalidInput, NotPossible, ServiceMissing
from chatlab.services.progress import ProgressLine
from chatlab.settings import Settings

HOST, PORT = "127.0.0.1", 8866
_NOTEBOOK = Path(__file__).parent / "panels" / "look" / "stage.ipynb"


def stage(settings: Settings, options: argparse.Namespace) -> int:
    """Show the stage until Ctrl-C."""
    parse_backend(options.backend)
    _refuse_without_voila()
    port = _free(options.port)
    before = asyncio.run(services.status(settings))
    asyncio.run(_warm(settings))
    try:
        with tempfile.TemporaryDirectory(prefix="chatlab-stage-") as folder:
            notebook = Path(folder) / _NOTEBOOK.name
            notebook.write_text(with_parameters(_NOTEBOOK, options.backend), encoding="utf-8")
            _show(notebook, port, browser=options.browser)
    finally:
        if before is None:
            with suppress(NotPossible):  # somebody else uses them by now
                asyncio.run(services.stop(settings))
    return 0


def with_parameters(notebook: Path, backend: str) -> str:
    """The notebook with its cell ``parameters`` replaced: the backend, and the folder of this
    process, where settings may be."""
    found: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    (cell,) = (c for c in found["cells"] if "parameters" in c["metadata"].get("tags", ()))
    cell["source"] = f"backend = {backend!r}\nfolder = {str(Path.cwd())!r}"
    return json.dumps(found)


def _refuse_without_voila() -> None:
    if importlib.util.find_spec("voila") is None:
        raise ServiceMissing(
            "Voilà, which shows the stage, is not installed.",
            todo="Type: pip install 'chatlab[lab]'",
        )


def _free(wanted: int) -> int:
    """The port wanted, or when none is: the usual one or any that is free.

    Raises:
        InvalidInput: it cannot be had.
    """
    for port in (wanted,) if wanted else (PORT, 0):
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError, OverflowError):
                found.bind((HOST, port))
                return int(found.getsockname()[1])
    raise InvalidInput(f"The port {wanted} cannot be had.", todo="Choose another: --port 0.")


async def _warm(settings: Settings) -> None:
    """Start a pair of services that a lab may break, unless it is warm already."""
    lab = f"stage-{secrets.token_hex(3)}"
    with ProgressLine(sys.stderr) as progress:
        lease = await services.join(settings, lab=lab, breakable=True, progress=progress)
    await lease.close()


def _show(notebook: Path, port: int, *, browser: bool) -> None:
    """Run Voilà until SIGINT or SIGTERM; its kernels end with it."""
    from voila.app import Voila

    token = secrets.token_urlsafe(16)
    url = f"http://{HOST}:{port}/?token={token}"

    class Page(Voila):  # type: ignore[misc]
        """Says where it is as soon as it listens."""

        def launch_browser(self) -> None:
            print(f"The stage is at {url}\nCtrl-C ends it.", flush=True)
            if browser:
                webbrowser.open(url)

    Page.launch_instance(
        argv=[str(notebook), "--show_tracebacks=True"],
        ip=HOST,
        port=port,
        port_retries=0,
        token=token,
        open_browser=True,
        log_level="WARN",
    )
