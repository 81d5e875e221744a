"""What is measured, one function a figure, each with its goal.

==================  ====================================================  =========
figure              against                                               goal
==================  ====================================================  =========
import              0.3 s                                                 ratio 1
cold start          RabbitMQ's own boot, taken from its log, same start   1.2
warm start          1 s                                                   ratio 1
private, memory     a bare grpc.aio unary call of the same size           1.7
private, redis      the same                                              2.5
==================  ====================================================  =========

A private message is measured from before ``send`` to after the receiver's ``next`` returned,
through the synchronous face, with links and journal on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from chatlab.bench import baselines
from chatlab.bench.report import Figure, alternate
from chatlab.lab import Lab
from chatlab.loop import BackgroundLoop
from chatlab.settings import Settings, child_environ

BODY = "x" * 100
CALLS = 200


def importing(rounds: int) -> Iterator[Figure]:
    """``import chatlab`` in a fresh interpreter, the interpreter's own start taken off."""
    ours = []
    for _ in range(rounds):
        with_it, without = (_interpreter(code) for code in ("import chatlab", "pass"))
        ours.append(max(with_it - without, 0.0))
    yield Figure("import chatlab", ours, [0.3], 1.0, "0.3 s")


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
    yield Figure("cold start", [cold], [boot], 1.2, "RabbitMQ's own boot")


def warm_start(rounds: int) -> Iterator[Figure]:
    """``Lab.start`` while the brokers run."""
    ours = []
    with Lab.start("bench-keeper"):
        for _ in range(rounds):
            began = time.perf_counter()
            Lab.start("bench-warm", fresh=True).close()
            ours.append(time.perf_counter() - began)
    yield Figure("warm start and close", ours, [1.0], 1.0, "1 s")


def private_messages(rounds: int) -> Iterator[Figure]:
    """One private message from send to received, against a bare unary call."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.start("bench-private"))
        bare = stack.enter_context(BackgroundLoop("bare"))
        ana, bob = lab.users("ana", "bob")
        context = baselines.grpc_unary()
        call = bare.call(context.__aenter__())
        for store, goal in (("memory", 1.7), ("redis", 2.5)):
            backend = f"mailbox-{store}"
            chat, inbox = (u.private_chat(p, backend) for u, p in ((ana, "bob"), (bob, "ana")))

            def base() -> list[float]:
                return bare.call(baselines.grpc_unary_calls(call, BODY.encode(), CALLS))

            def ours(
                send: Callable[[str], object] = chat.send,
                receive: Callable[[], object] = inbox.next,
            ) -> list[float]:
                seconds = []
                for _ in range(CALLS):
                    began = time.perf_counter()
                    send(BODY)
                    receive()
                    seconds.append(time.perf_counter() - began)
                return seconds

            alternate(base, ours, 1)  # warm both up
            bases, samples = alternate(base, ours, rounds)
            yield Figure(f"private, {store}", samples, bases, goal, "bare unary call")
        bare.call(context.__aexit__(None, None, None))


#: Name on the command line -> function.
FIGURES: dict[str, Callable[[int], Iterator[Figure]]] = {
    "import": importing,
    "cold": cold_start,
    "warm": warm_start,
    "private": private_messages,
}
