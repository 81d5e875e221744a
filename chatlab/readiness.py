"""``chatlab doctor --class``: one line to send in before class, green or red.

Unlike the plain ``doctor``, which only looks, this one tries: after the examination it starts
the services and plays a message through a private chat and one through a group, on the same
brokers and by the same code as a notebook.

The line is made to be copied into a mail: plain ASCII, no colour but on a terminal, and
nothing in it that is a secret or tells who sends it: no host, no user, no path of a home.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chatlab import __version__
from chatlab.doctor import Finding, examine
from chatlab.errors import ChatlabError
from chatlab.settings import Settings, child_environ

#: A message of the trial that has not come by then has failed.
MESSAGE_SECONDS = 10.0
#: Longer lines are cut: a mail breaks them.
LINE_CHARACTERS = 300
GREEN, RED, PLAIN = "\x1b[1;32m", "\x1b[1;31m", "\x1b[0m"
ALL_OF_IT = "Type: chatlab doctor"

_ASCII = str.maketrans({"…": "...", "–": "-", "—": "-", "→": "->", "’": "'"})


@dataclass(frozen=True)
class Readiness:
    """Whether a machine is ready for class, and the line that says so."""

    ready: bool
    line: str

    def coloured(self) -> str:
        """For a terminal."""
        return f"{GREEN if self.ready else RED}{self.line}{PLAIN}"


@dataclass(frozen=True)
class Trial:
    """What was played, and how long it took, in seconds."""

    rabbitmq: str
    redis: str
    start: float
    play: float


def of_machine(settings: Settings) -> Readiness:
    """Examine this machine, then try. The first thing to mend is what the line says."""
    for finding in examine(settings):
        if not finding.ok:
            return not_ready(finding, settings)
    try:
        return _ready(play(settings))
    except ChatlabError as error:
        return not_ready(of_error("trial", error), settings)
    except Exception as error:  # whatever else can go wrong on a machine: it is not ready
        text = f"failed: {type(error).__name__}: {error}"
        return not_ready(Finding("trial", text, ok=False, todo=ALL_OF_IT), settings)


def play(settings: Settings) -> Trial:
    """A lab of two users: a message in a private chat, and one in a group.

    Raises:
        ChatlabError: a service does not start, or a message does not arrive.
    """
    from chatlab.lab import Lab

    began = time.monotonic()
    with Lab.start("doctor", settings=settings, fresh=True) as lab:
        started = time.monotonic()
        ana, bob = lab.users("ana", "bob")
        receipt = ana.private_chat("bob").send("hola")
        bob.private_chat("ana").wait_for(receipt, timeout=MESSAGE_SECONDS)
        group, member = ana.join("class"), bob.join("class")
        receipt = group.send("hola")
        member.wait_for(receipt, timeout=MESSAGE_SECONDS)
        return Trial(
            rabbitmq=lab.rabbitmq.facts()["program"],
            redis=lab.redis.facts()["program"],
            start=started - began,
            play=time.monotonic() - started,
        )


def _ready(trial: Trial) -> Readiness:
    import psutil

    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count()
    facts = (
        f"chatlab {__version__}",
        f"Python {platform.python_version()}",
        *(trial.rabbitmq, trial.redis, system()),
        f"{cores} cores",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"started in {trial.start:.0f} s, two messages in {trial.play:.1f} s",
    )
    return Readiness(True, _line("READY", " | ".join(facts)))


def not_ready(finding: Finding, settings: Settings) -> Readiness:
    """The red line."""
    said = f"{finding.about}: {finding.text.splitlines()[0]}"
    if finding.todo:
        said += f" -> {finding.todo}"
    return Readiness(False, _line("NOT READY", anonymous(said, settings)))


def of_error(about: str, error: ChatlabError) -> Finding:
    """An error's first and last line."""
    return Finding(about, error.what, ok=False, todo=error.todo or ALL_OF_IT)


def system() -> str:
    """``Linux x86_64 (ubuntu 24.04, WSL)``"""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    about = [f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".strip()]
    if "microsoft" in platform.release().lower():
        about.append("WSL")
    said = ", ".join(filter(None, about))
    return f"{platform.system()} {platform.machine()}" + (f" ({said})" if said else "")


def shows_colour() -> bool:
    """Whether standard output is a terminal that is to be coloured (https://no-color.org)."""
    environ = child_environ()
    wanted = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return wanted and sys.stdout.isatty()


def anonymous(text: str, settings: Settings) -> str:
    """The text without what tells who sends it, or lets others in."""
    hidden = sorted(_private(settings), key=lambda pair: -len(pair[0]))
    for name, stand_in in hidden:
        text = text.replace(name, stand_in)
    return re.sub(rf"(?<=/){re.escape(getpass.getuser())}\b", "$USER", text)


def _private(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is hidden, and what stands there instead."""
    for path, stand_in in (
        (Path(sys.prefix), Path(sys.prefix).name),
        (settings.folder, "CHATLAB_FOLDER"),
        (Path.cwd(), "."),
        (Path.home(), "~"),
    ):
        if len(path.parts) > 1:  # all paths begin with /
            yield str(path), stand_in
    if platform.node():
        yield platform.node(), "HOST"
    if settings.lab_secret:
        yield settings.lab_secret, "SECRET"
    for url in (settings.rabbitmq_url, settings.management_url, settings.redis_url):
        if not url:
            continue
        yield url, "URL"
        parts = urlsplit(url)
        for name, stand_in in ((parts.hostname, "HOST"), (parts.password, "SECRET")):
            if name:
                yield name, stand_in
                yield unquote(name), stand_in


def _line(word: str, said: str) -> str:
    text = f"chatlab doctor: {word} | {said}".translate(_ASCII)
    plain = text.encode("ascii", "replace").decode("ascii")
    return textwrap.shorten(plain, LINE_CHARACTERS, placeholder=" ...")
