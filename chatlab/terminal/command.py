"""The command ``chatlab client``: from the settings to the terminal and back.

The place first (brokers may have to start: a progress line), then the screen; at the end all
goodbyes are said, whatever ended it: the menu's ``q``, Ctrl-C twice, SIGTERM, SIGHUP when the
window was closed (exit status 0), a newer window or lost brokers (the error, status 1).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from chatlab import logs
from chatlab.errors import ChatlabError, NotPossible, ServiceUnavailable
from chatlab.messages import check_name
from chatlab.private.keys import with_kept_secret
from chatlab.services import place
from chatlab.services.progress import ProgressLine
from chatlab.settings import Settings
from chatlab.terminal.face import Face
from chatlab.terminal.program import Program
from chatlab.terminal.screen import Ended, Left
from chatlab.terminal.words import said

#: The log begins anew when it is larger.
LOG_BYTES = 1_000_000
#: Signals that end the client in order.
ENDING = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


def client(settings: Settings, options: argparse.Namespace) -> int:
    """Chat in this terminal. Returns the exit status."""
    if options.lab:
        settings = replace(settings, lab=check_name(options.lab, "lab name"))
    settings = with_kept_secret(settings, settings.lab)
    if options.name:
        check_name(options.name)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NotPossible(
            "chatlab client needs a terminal, and this is a pipe or a file.",
            "Nothing was started.",
            'Start it in a terminal; programs chat with Lab.join("chat").',
        )
    with _errors_into(settings.folder / "client.log") as log:
        logs.begin_file(settings, log)
        ended = asyncio.run(_Run(settings, options.name, log).run())
    if ended is not None:
        print("\n".join(said(ended)), file=sys.stderr)
    return 0 if ended is None else 1


class _Run:
    """One run: who ended it, and why."""

    def __init__(self, settings: Settings, name: str, log: Path) -> None:
        self._settings, self._name, self._log = settings, name, log
        self._why: ChatlabError | None = None
        self._program: Program | None = None

    async def run(self) -> ChatlabError | None:
        """Until it ends; the error that ended it."""
        async with contextlib.AsyncExitStack() as stack:
            with ProgressLine(sys.stdout) as progress:
                entering = place.enter(self._settings, progress)
                here = await stack.enter_async_context(entering)
            await self._talk(here)
        return self._why

    async def _talk(self, here: place.Place) -> None:
        face = Face(self._bar, self._title)

        def over(error: ChatlabError) -> None:
            self._why = self._why or error
            face.end()

        program = self._program = Program(self._settings, here, face, over)
        loop = asyncio.get_running_loop()
        for number in ENDING:
            loop.add_signal_handler(number, face.end)
        try:
            await face.run(program.run(self._name))
        except (Left, Ended):
            pass
        except ChatlabError as error:
            self._why = error
        except Exception:
            logging.getLogger(__name__).exception("defect")
            self._why = ServiceUnavailable(
                "chatlab client has a defect and has ended.",
                "What was confirmed is kept.",
                f"What happened is in {self._log}.",
            )
        finally:
            for number in ENDING:
                loop.remove_signal_handler(number)

    def _bar(self) -> str:
        session = self._program.session if self._program is not None else None
        return session.desk.bar() if session is not None else ""

    def _title(self) -> str:
        session = self._program.session if self._program is not None else None
        if session is None:
            return "chatlab"
        return " · ".join(filter(None, ("chatlab", session.desk.user, session.desk.unread)))


@contextlib.contextmanager
def _errors_into(path: Path) -> Iterator[Path]:
    """What libraries write to standard error would stand in the middle of the screen: while
    the body runs it goes into a file, that of the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fstat(log).st_size > LOG_BYTES:
        os.ftruncate(log, 0)
    try:
        os.dup2(log, 2)
        yield path
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(log)
