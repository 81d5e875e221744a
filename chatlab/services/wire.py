"""How clients and the supervisor talk: where they meet, and one JSON object a line.

A request is ``{"id": 1, "do": "join", …}``; its answer ``{"id": 1, "ok": …}`` or
``{"id": 1, "error": [class, what, effect, todo]}``. Without an id comes what nobody asked
for: ``{"progress": […]}`` and ``{"event": [service, state]}``.

They meet in a folder that only its owner can enter, named by the version of this protocol,
so that an older supervisor is never spoken to.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from chatlab import errors
from chatlab.errors import ChatlabError, ServiceUnavailable
from chatlab.settings import Settings

PROTOCOL = 4
#: Longest line, in bytes: an environment and a command line fit in.
LINE_BYTES = 4 * 1024 * 1024
#: Longest path of a Unix socket, its end included, on macOS (Linux: 108).
SOCKET_PATH_BYTES = 104

SOCKET = "socket"
#: Held by the supervisor while it lives.
ALIVE_LOCK = "alive.lock"
#: Held by the client that starts one.
START_LOCK = "start.lock"
LEDGER = "children"
LOG = "supervisor.log"


def run_folder(settings: Settings) -> Path:
    """The folder of the supervisor of these settings; the same for every client.

    It lies in ``settings.folder``, unless that path is too long for a Unix socket or holds
    characters that Erlang or a shell script takes for something else; then it is a short
    one of the user's own.
    """
    name = f"run-v{PROTOCOL}"
    folder = settings.folder.expanduser().absolute() / name
    short = len(os.fsencode(folder / SOCKET)) < SOCKET_PATH_BYTES
    if short and re.fullmatch(r"[\w/.+@-]+", str(folder), re.ASCII):
        return folder
    # Not the temporary folder of the environment: all clients have to agree on it. Whose it
    # is and who may enter is checked in make_private.
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(f"/tmp/chatlab-{os.getuid()}-{key}-{name}")  # noqa: S108


def make_private(folder: Path) -> None:
    """Create the folder, for its owner only.

    Raises:
        ServiceUnavailable: it cannot be made, or it is somebody else's.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ServiceUnavailable(
            f"The folder {folder} cannot be made: {error.strerror}.",
            todo="Set CHATLAB_FOLDER to a folder that you may write to.",
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ServiceUnavailable(
            f"{folder} is not a folder of yours.", todo="Remove it, or set CHATLAB_FOLDER."
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


class Channel:
    """One connection between a client and the supervisor, from either end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def post(self, value: dict[str, Any]) -> None:
        """Send; lines are few and small, so nobody waits for the buffer."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(value).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """The next object; None when the other end is gone or talks nonsense."""
        try:
            line = await self._reader.readline()
            value = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    async def close(self) -> None:
        """Close this end after what was posted has left. Never raises."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # the other end was gone first


async def dial(folder: Path) -> Channel | None:
    """Connect to the supervisor of ``folder``; None when there is none."""
    try:
        reader, writer = await asyncio.open_unix_connection(
            str(folder / SOCKET), limit=LINE_BYTES
        )
    except OSError:
        return None
    return Channel(reader, writer)


def encode_error(error: ChatlabError) -> list[str]:
    """An error as it travels: the nearest class that :mod:`chatlab.errors` has."""
    known = next(c.__name__ for c in type(error).__mro__ if hasattr(errors, c.__name__))
    return [known, error.what, error.effect, error.todo]


def decode_error(values: list[str]) -> ChatlabError:
    """What :func:`encode_error` made."""
    name, what, effect, todo = values
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ChatlabError)):
        kind = ServiceUnavailable
    return kind(what, effect, todo)
