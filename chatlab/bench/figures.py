"""What is measured, one function a figure, each with its goal.

==================  ====================================================  =========
figure              against                                               goal
==================  ====================================================  =========
import              0.3 s                                                 ratio 1
cold start          RabbitMQ's own boot, taken from its log, same start   1.2
warm start          1 s                                                   ratio 1
==================  ====================================================  =========

Those of the private chats are in ``private`` and ``idle``, those of the groups in ``groups``,
those of discovery in ``discovery``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from chatlab.bench.discovery import discovery
from chatlab.bench.groups import group_messages
from chatlab.bench.idle import idle_users
from chatlab.bench.private import private_messages
from chatlab.bench.report import Figure
from chatlab.lab import Lab
from chatlab.settings import Settings, child_environ


def importing(rounds: int) -> Iterator[Figure]:
    """``import chatlab`` in a fresh interpreter, the interpreter's own start taken off."""
    ours = []
    for _ in range(rounds):
        with_it, without = (_interpreter(code) for code in ("import chatlab", "pass"))
        ours.append(max(with_it - without, 0.0))
    yield Figure("import chatlab", ours, [0.3], "0.3 s", at_most=1.0)


def _interpreter(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environ())
    return time.perf_counter() - began


def cold_start(_rounds: int) -> Iterator[Figure]:
    """A first ``Lab.start`` with nothing running, against the boot of its RabbitMQ alone."""
    with tempfile.TemporaryDirectory(prefix="chatlab-") as folder:
        found = Settings.load()
        settings = replace(found, folder=Path(folder), idle_seconds=0.5)
        (settings.folder / "programs").symlink_to(found.folder / "programs")
        began = time.perf_counter()
        with Lab.start("bench-cold", settings=settings, fresh=True) as lab:
            cold = time.perf_counter() - began
            boot = lab.rabbitmq.boot_seconds
            lab.close()
    yield Figure("cold start", [cold], [boot], "RabbitMQ's own boot", at_most=1.2)


def warm_start(rounds: int) -> Iterator[Figure]:
    """``Lab.start`` while the brokers run."""
    ours = []
    with Lab.start("bench-keeper"):
        for _ in range(rounds):
            began = time.perf_counter()
            Lab.start("bench-warm", fresh=True).close()
            ours.append(time.perf_counter() - began)
    yield Figure("warm start and close", ours, [1.0], "1 s", at_most=1.0)


#: Name on the command line -> function.
FIGURES: dict[str, Callable[[int], Iterator[Figure]]] = {
    "import": importing,
    "cold": cold_start,
    "warm": warm_start,
    "private": private_messages,
    "groups": group_messages,
    "discovery": discovery,
    "idle": idle_users,
}
