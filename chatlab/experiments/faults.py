"""Faults on services: done by the laboratory where they are its own, by the reader's commands
where they are not, and refused where there is neither.

``--fault 'docker kill rmq' --heal 'docker start rmq'``: the first is run in place of SIGKILL,
the second in place of the start; both in place of a restart. What a command does is not taken
on trust: after the first the service must not answer, after the second the laboratory waits
until it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from chatlab.amqp.wire import Wire
from chatlab.errors import ChatlabError, InvalidInput, NotPossible
from chatlab.journal import now
from chatlab.lab import Lab
from chatlab.resp import Redis, mapped
from chatlab.services.urls import is_ours
from chatlab.settings import Settings

#: A command that has not ended by then is ended.
COMMAND_SECONDS = 120.0
#: A service that still answers so long after it was killed was not killed.
GONE_SECONDS = 10.0
#: Asked whether it is there, a service has so long to answer; and is asked again so often.
ANSWER_SECONDS, LOOK_SECONDS = 2.0, 0.2


_SERVICES = ("rabbitmq", "redis")


class CannotPlay(NotPossible):
    """A step cannot be done to this backend; the run tells nothing."""


@dataclass(frozen=True)
class Commands:
    """Shell commands that break, and mend, the service under test."""

    fault: str = ""
    heal: str = ""

    def check(self, settings: Settings) -> Commands:
        """These, if they have something to break.

        Raises:
            InvalidInput: every service is the laboratory's own, or only a heal was given.
        """
        if (self.fault or self.heal) and all(is_ours(settings, name) for name in _SERVICES):
            raise InvalidInput(
                "A fault command is for a service of one's own; all of these are chatlab's.",
                todo="Give its URL (--rabbitmq-url, --redis-url), or leave the command out.",
            )
        if self.heal and not self.fault:
            raise InvalidInput(
                "A heal command needs a fault command.", todo="Say --fault, too."
            )
        return self


class Faults:
    """What is done to the services of one lab."""

    def __init__(self, lab: Lab, commands: Commands = Commands()) -> None:
        self._lab, self._commands = lab, commands

    def do(self, verb: str, service: str) -> None:
        """``kill``, ``start``, ``restart``, … of ``rabbitmq``, ``redis`` or ``server``.

        Raises:
            CannotPlay: it is not ours and no command breaks it, or the command failed.
        """
        if is_ours(self._lab.settings, service):
            getattr(getattr(self._lab, service), verb)()
        elif verb == "kill":
            self._break("kill", service)
        elif verb == "start":
            self._mend("kill", service)
        elif verb == "restart":
            self._break("restart", service)
            self._mend("restart", service)
        else:
            raise CannotPlay(f"not ours to {verb}: {service} was given by its URL.")

    def _break(self, fault: str, service: str) -> None:
        if not self._commands.fault:
            raise CannotPlay(
                f"not ours to break: {service} was given by its URL.",
                todo="Say how: --fault 'docker kill rmq' --heal 'docker start rmq'.",
            )
        self._fact("FaultBegan", fault, service)
        run_command(self._commands.fault)
        if not self._until(lambda: not self._answers(service), GONE_SECONDS):
            raise CannotPlay(
                f"no fault: {service} still answers after {self._commands.fault!r}."
            )

    def _mend(self, fault: str, service: str) -> None:
        if self._commands.heal:  # without one, it comes back by itself
            run_command(self._commands.heal)
        seconds = self._lab.settings.start_seconds
        if not self._until(lambda: self._answers(service), seconds):
            raise CannotPlay(f"not healed: {service} has not answered for {seconds:g} s.")
        self._fact("FaultEnded", fault, service)

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _answers(self, service: str) -> bool:
        ask = self._rabbitmq if service == "rabbitmq" else self._redis
        try:
            self._lab.wait_for(ask())
        except ChatlabError:
            return False
        return True

    async def _rabbitmq(self) -> None:
        wire = await Wire.open(
            self._lab.lease.rabbitmq,
            {"connection_name": "chatlab: is it there?"},
            heartbeat=0,
            timeout=ANSWER_SECONDS,
            on_lost=lambda _: None,
        )
        await wire.close()

    async def _redis(self) -> None:
        redis = Redis(self._lab.lease.redis, deadline=ANSWER_SECONDS)
        try:
            with mapped(redis.address):
                await cast("Awaitable[object]", redis.driver.ping())
        finally:
            await redis.close()

    def _fact(self, kind: str, fault: str, service: str) -> None:
        self._lab.record((kind, now(), "", 0, "", fault, service))


def run_command(command: str) -> None:
    """Run a shell command to its end; what it prints is not shown.

    Raises:
        CannotPlay: it did not end with 0, or not at all; quotes its first line.
    """
    # A file, not a pipe: what it leaves running in the background may hold it open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CannotPlay(
                f"command: {command!r} has not ended within {COMMAND_SECONDS:g} s."
            ) from None
        output.seek(0)
        said = output.read(4096).decode("utf-8", "replace").strip().partition("\n")[0]
    if code:
        words = f", and said: {said}" if said else " without a word"
        raise CannotPlay(f"command: {command!r} ended with {code}{words}.")
