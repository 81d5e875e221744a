"""The command ``chatlab``: start, stop, see and examine the services of this machine.

Each command is one row of :data:`COMMANDS`: a name, a line of help, the function that does it
and, where it takes any, the function that declares its arguments. A command returns its exit
status; a :class:`~chatlab.errors.ChatlabError` is shown as its three lines and means 1.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatlab import __version__, commands, logs
from chatlab.errors import ChatlabError, InvalidInput
from chatlab.services.progress import ProgressLine
from chatlab.settings import Settings, default_environ
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.readiness import Readiness

#: Exit status of a program that the user interrupted: 128 + SIGINT.
INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One subcommand."""

    name: str
    help: str
    run: Callable[[Settings, argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    #: Whether its log goes to standard error.
    logs: bool = True
    #: Shows an error of the settings, or of the command itself.
    fail: Callable[[ChatlabError, argparse.Namespace], None] = lambda error, options: print(
        error, file=sys.stderr
    )


def up(settings: Settings, options: argparse.Namespace) -> int:
    """Start the services, or find them running, and say where they are."""
    from chatlab import services

    async def warm() -> Table:
        lab = f"up-{secrets.token_hex(3)}"
        with ProgressLine(sys.stderr) as progress:
            lease = await services.join(
                settings, lab=lab, breakable=options.breakable, progress=progress
            )
        try:
            return Table(
                {"service": name, "version": address.version, "address": where}
                for name, address, where in (
                    (
                        "RabbitMQ",
                        lease.rabbitmq,
                        f"{lease.rabbitmq.host}:{lease.rabbitmq.port}",
                    ),
                    (
                        lease.redis.product,
                        lease.redis,
                        f"{lease.redis.host}:{lease.redis.port}",
                    ),
                )
            )
        finally:
            await lease.close()

    print(asyncio.run(warm()))
    print(f"They stop by themselves after {settings.idle_seconds:g} s without a lab.")
    return 0


def down(settings: Settings, options: argparse.Namespace) -> int:
    """End the services of this machine."""
    from chatlab import services

    stopped = asyncio.run(services.stop(settings, force=options.force))
    print("Stopped." if stopped else "Nothing was running.")
    return 0


def status(settings: Settings, options: argparse.Namespace) -> int:
    """Show what runs: the supervisor, its brokers, its leases."""
    from chatlab import services

    found = asyncio.run(services.status(settings))
    if found is None:
        print("Nothing is running. A lab, or `chatlab up`, starts the services.")
        return 0
    print("\n\n".join(map(repr, status_tables(found))))
    if not found["leases"]:
        print("\nNo lab is open.")
    return 0


def doctor(settings: Settings, options: argparse.Namespace) -> int:
    """Examine this machine; exit status 1 when something is wrong."""
    from chatlab.doctor import examine

    if options.for_class:
        from chatlab import readiness

        return _say_ready(readiness.of_machine(settings))
    wrong = 0
    for finding in examine(settings):
        print(finding)
        wrong += not finding.ok
    print(f"\n{wrong} to mend." if wrong else "\nAll is well.")
    return 1 if wrong else 0


def server(settings: Settings, options: argparse.Namespace) -> int:
    """Serve the private chats until Ctrl-C."""
    # Said in three lines; gRPC's own are none of a log's, and it looks when it is imported.
    default_environ("GRPC_VERBOSITY", "NONE")
    from chatlab import serving

    return serving.server(settings, options)


def _server_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", metavar="ADDR", help="an address of this computer (127.0.0.1)"
    )
    parser.add_argument("--port", type=int, metavar="N", help="0: any free one (0)")
    parser.add_argument(
        "--store",
        choices=("mailbox-redis", "mailbox-memory"),
        default="mailbox-redis",
        help="where messages wait (mailbox-redis)",
    )
    parser.add_argument("--tls", action="store_true", help="on loopback, too")
    parser.add_argument(
        "--invite", type=Path, metavar="FILE", help="write what a client elsewhere needs"
    )
    parser.add_argument("--lab", metavar="NAME", help="whom it serves (chat)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings, instead of chatlab.toml"
    )
    parser.add_argument(
        "--drain",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="when told to stop, finish what has begun for at most so long (5)",
    )
    _log_arguments(parser)


def _log_arguments(parser: argparse.ArgumentParser) -> None:
    # No defaults: they stand before and after the name of a command.
    missing: Any = argparse.SUPPRESS
    parser.add_argument(
        "--log-level", choices=logs.LEVELS, default=missing, help="say at least this (warning)"
    )
    parser.add_argument(
        "--log-format",
        choices=logs.FORMATS,
        default=missing,
        help="auto: words in a terminal, else JSON",
    )


def _doctor_failed(error: ChatlabError, options: argparse.Namespace) -> None:
    """Settings that cannot be read: still one line, if one line was asked for."""
    from chatlab import readiness

    if options.for_class:
        _say_ready(readiness.not_ready(readiness.of_error("settings", error), Settings()))
    else:
        print(error, file=sys.stderr)


def _say_ready(found: Readiness) -> int:
    from chatlab import readiness

    print(found.coloured() if readiness.shows_colour() else found.line)
    return 0 if found.ready else 1


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class",
        dest="for_class",
        action="store_true",
        help="start and play, too, and print one line to send in before class",
    )


def stage(settings: Settings, options: argparse.Namespace) -> int:
    """Show the stage on a page of its own, until Ctrl-C."""
    from chatlab import lecture

    return lecture.stage(settings, options)


def client(settings: Settings, options: argparse.Namespace) -> int:
    """Chat in this terminal."""
    from chatlab.terminal import command

    return command.client(settings, options)


def _client_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="else it is asked")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the TOML file")
    parser.add_argument("--lab", metavar="NAME", help="the lab to enter (setting: lab)")


def _stage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, help="default: 8866, or a free one")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="only print the URL"
    )
    parser.add_argument(
        "--backend", default="rabbitmq-durable", help="of the group sd (rabbitmq-durable)"
    )


def _up_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--breakable", action="store_true", help="warm a pair that a lab may break, too"
    )


def _down_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="even if labs are open")


def bench(settings: Settings, options: argparse.Namespace) -> int:
    """Measure, print the ratios; 1 when a goal is missed."""
    from chatlab.bench.figures import FIGURES
    from chatlab.bench.report import table

    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        raise InvalidInput(
            f"There is no figure {unknown[0]!r}.", todo=f"There are: {', '.join(FIGURES)}."
        )
    found = [
        figure
        for name in options.figures or FIGURES
        for figure in FIGURES[name](options.rounds)
    ]
    print(table(found))
    return 0 if all(figure.met for figure in found) else 1


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="which; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of base and ours")


COMMANDS = (
    Command("up", "start the services and keep them warm", up, _up_arguments),
    Command("down", "end the services", down, _down_arguments),
    Command("status", "show what runs", status),
    Command(
        "doctor",
        "examine this machine and say what to type",
        doctor,
        _doctor_arguments,
        fail=_doctor_failed,
    ),
    Command("server", "run a chat server", server, _server_arguments),
    Command("client", "chat in this terminal", client, _client_arguments, logs=False),
    Command("run", "play a scenario and judge it", commands.run, commands.run_arguments),
    Command(
        "matrix",
        "play scenarios on backends, as a grid",
        commands.matrix,
        commands.matrix_arguments,
    ),
    Command("replay", "show a kept run", commands.replay, commands.replay_arguments),
    Command("rerun", "does its verdict repeat?", commands.rerun, commands.rerun_arguments),
    Command("list", "list the scenarios", commands.shipped),
    Command(
        "stage",
        "show a lab to a class: chats, queues, faults",
        stage,
        _stage_arguments,
        logs=False,  # Voilà has its own
    ),
    Command("bench", "measure against the bare libraries", bench, _bench_arguments),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="chatlab", description="A laboratory for communication patterns."
    )
    parser.add_argument("--version", action="version", version=f"chatlab {__version__}")
    _log_arguments(parser)
    choice = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = choice.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(one)
        one.set_defaults(command=command)
    options = parser.parse_args(argv)
    chosen: Command = options.command
    try:
        settings = _settings(options)
        if chosen.logs:
            logs.begin(settings, getattr(options, "log_format", "auto"))
        return chosen.run(settings, options)
    except ChatlabError as error:
        chosen.fail(error, options)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        logs.end()


def _settings(options: argparse.Namespace) -> Settings:
    settings = Settings.load(file=getattr(options, "config", None))
    level = getattr(options, "log_level", settings.log_level)
    return replace(settings, log_level=level)


def status_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """What :func:`chatlab.services.status` found, as tables to print."""
    yield Table(
        [
            {
                "supervisor": found["pid"],
                "since": _clock(found["started"]),
                "stops after": f"{found['idle_seconds']:g} s without a lab",
                "folder": found["folder"],
            }
        ]
    )
    yield Table(
        {
            "services": pair,
            "program": broker.get("product", "RabbitMQ" if name == "rabbitmq" else "Redis"),
            "version": broker.get("version"),
            "state": broker["state"],
            "process": broker.get("pid"),
            "ports": broker.get("ports"),
        }
        for pair, brokers in found["pairs"].items()
        for name, broker in brokers.items()
    )
    if found["leases"]:
        yield Table(
            {
                "lab": lease["lab"],
                "services": lease["pair"],
                "since": _clock(lease["since"]),
                "processes": sorted(lease["processes"]),
            }
            for lease in found["leases"]
        )


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
