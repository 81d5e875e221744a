"""The command ``chatlab server``: a chat server in its own process, until it is told to stop.

It enters the place of the lab (:mod:`chatlab.services.place`: its brokers are started when
they are not running), serves, and lists itself in the name server, where the clients find it.
Of ``mailbox-redis`` any number may serve one lab, each at a port of its own: the clients of
one that ends go to another. What is stored is in Redis, and outlives all of them.

At an address of this computer that is not loopback it opens the lab to other computers
(:mod:`chatlab.hosting`), and ``--invite FILE`` writes what a client there needs.

It goes on while Redis is away; its clients are told so and come back by themselves. It ends

- when it is told to, by SIGTERM, SIGINT or SIGHUP: it drains, see
  :mod:`chatlab.private.server`; status 0;
- when another one with mailboxes in memory has taken its place, because nobody would find it
  any more; status 1;
- when the supervisor that runs its Redis is gone, and so its Redis; status 1. With a Redis of
  the user's own it goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial

from chatlab import logs
from chatlab.backends import IN_MEMORY
from chatlab.errors import ChatlabError, InvalidInput, ServiceUnavailable, Taken
from chatlab.hosting import Hosted, hosted, nobody_to_invite
from chatlab.private.security import check_host
from chatlab.private.server import Ending, Plan, either, serve, until_signalled
from chatlab.services import place, urls
from chatlab.services.addresses import ServerAddress
from chatlab.services.machine import is_loopback
from chatlab.services.progress import Progress, ProgressLine
from chatlab.settings import Settings

log = logs.of(__name__)


def server(settings: Settings, options: argparse.Namespace) -> int:
    """Serve until told to stop.

    Args:
        options: host, port, lab (None: as the settings say), store, tls, drain in seconds,
            invite: the file of the invitation, or None.

    Raises:
        InvalidInput: a port or a time that cannot be.
        NotPossible: an address that cannot be, or brokers that others must not reach.
        ServiceUnavailable: the port is taken, or a broker cannot be had.
        Taken: another server has taken the place of this one.
    """
    settings = _chosen(settings, options)
    # Before brokers are started. A lab's secret is made when there is none.
    check_host(settings.server_host, settings.lab_secret or "to be made")
    if options.invite is not None and is_loopback(settings.server_host):
        raise nobody_to_invite()
    until_signalled(options.drain, partial(_serve, settings, options))
    return 0


def _chosen(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings with what the command line says instead."""
    if not math.isfinite(options.drain) or options.drain < 0:
        raise InvalidInput(f"A drain takes 0 seconds or more, not {options.drain:g}.")
    said = {"server_host": options.host, "server_port": options.port, "lab": options.lab}
    found = replace(settings, **{k: value for k, value in said.items() if value is not None})
    if not 0 <= found.server_port <= 65535:
        raise InvalidInput(
            f"There is no port {found.server_port}.", todo="Choose one up to 65535, or 0."
        )
    return found


@asynccontextmanager
async def _failure_in_log() -> AsyncIterator[None]:
    """Who reads the log does not read the three lines of an error."""
    try:
        yield
    except ChatlabError as error:
        if logs.is_json():
            log.error("failed", what=error.what, effect=error.effect, todo=error.todo)
        raise


@_failure_in_log()
async def _serve(settings: Settings, options: argparse.Namespace, ending: Ending) -> None:
    async with AsyncExitStack() as stack:
        with _progress() as progress:
            entering = asyncio.create_task(
                stack.enter_async_context(place.enter(settings, progress))
            )
            await either(entering, ending.asked)
        if not entering.done():
            entering.cancel()
            await asyncio.wait([entering])
            return
        here = entering.result()
        logs.hide(here.redis.password, here.rabbitmq.password, here.rabbitmq.monitor_password)
        if here.lease is not None:
            here.lease.on_event = partial(_on_event, settings, ending)
        hosting = hosted(settings, here, settings.server_host, settings.server_port)
        opened = await stack.enter_async_context(hosting)
        logs.hide(*opened.secrets)
        if options.invite is not None:
            opened.write_invitation(options.invite)
        plan = Plan(
            backend=options.store,
            redis=here.redis,
            host=settings.server_host,
            port=settings.server_port,
            tls=options.tls,
            drain_seconds=options.drain,
            lab=here.lab,
        )
        try:
            say = partial(_say, options, plan, opened)
            await serve(opened.settings, plan, ending, say)
        except Taken as error:
            raise _replaced(here.lab) from error


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Says what a start waits for, as the log is written."""
    if not logs.is_json():
        with ProgressLine(sys.stderr) as line:
            yield line
        return
    shown = ""

    def say(progress: Progress) -> None:
        nonlocal shown
        if progress.text != shown:
            log.info("waiting", service=progress.service, why=progress.text)
        shown = progress.text

    yield say


def _on_event(settings: Settings, ending: Ending, service: str, state: str) -> None:
    """A broker of ours, or the supervisor, has changed."""
    log.info("service", service=service, state=state)
    if (service, state) != ("supervisor", "down"):
        return
    if urls.is_ours(settings, "redis"):
        ending.fail(_abandoned())
    else:
        log.warning("supervisor gone", why="this Redis is not its own: going on")


def _say(
    options: argparse.Namespace, plan: Plan, opened: Hosted, address: ServerAddress
) -> None:
    """Where it serves, and what to type."""
    how = "with TLS" if address.certificate else "without TLS"
    client = ["chatlab", "client"]
    if options.config is not None:
        client += ["--config", str(options.config)]
    if options.lab is not None:
        client += ["--lab", options.lab]
    lines = [
        f"The chat server of the lab {plan.lab} serves at {address} ({plan.backend}, {how}).",
        f"On this computer, type in another terminal:  {shlex.join(client)}",
        f'or in a notebook:  Lab.join("{plan.lab}")',
    ]
    if opened.doors:
        ports = ", ".join(f"{what} at {port}" for what, port in opened.doors.items())
        lines.append(f"Other computers reach, by TLS at {plan.host}: {ports}.")
    if options.invite is not None:
        lines += [
            f"They are invited by the file {options.invite}, which is a secret. There, type:",
            f"  chatlab client --config {options.invite.name}",
        ]
    if plan.backend in IN_MEMORY:
        lines.append("What waits in its memory is gone when it ends.")
    lines.append("Ctrl-C stops it.")
    with suppress(OSError):  # nobody reads
        print("\n".join(lines), flush=True)


def _replaced(lab: str) -> ChatlabError:
    return Taken(
        f"Another chat server with mailboxes in memory has taken over the lab {lab}.",
        "This one has ended, and what waited in its memory is gone.",
        "For several servers at once: chatlab server --store mailbox-redis.",
    )


def _abandoned() -> ChatlabError:
    return ServiceUnavailable(
        "The supervisor of the private brokers is gone, and its Redis with it.",
        "This chat server has ended, and what waited in that Redis is lost.",
        "Start it again: chatlab server.",
    )
