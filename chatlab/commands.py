"""The commands that run experiments: ``run``, ``matrix``, ``replay``, ``rerun``, ``list``.

Exit status: 0 kept or not promised, 1 broken (or less than ``--require`` asks for), 2 the run
tells nothing, 3 it could not be run. The room of experiments is loaded when a command needs
it, so that ``chatlab --help`` is quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import xml.etree.ElementTree as xml
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatlab.errors import ChatlabError
from chatlab.settings import Settings

if TYPE_CHECKING:
    from chatlab.experiments import Matrix, Run

KEPT, BROKEN, CANNOT_TELL, COULD_NOT_RUN = range(4)
#: As in :mod:`chatlab.experiments.steps`, which is loaded when it is needed.
PATTERNS = ("group", "private", "insults")
_STATUS = {
    "kept": KEPT,
    "not promised": KEPT,
    "broken": BROKEN,
    "cannot tell": CANNOT_TELL,
}

Work = Callable[[Settings, argparse.Namespace], int]


def _could_not_run(work: Work) -> Work:
    """An error means that nothing was run, which is not the same as a broken promise."""

    def run(settings: Settings, options: argparse.Namespace) -> int:
        try:
            return work(settings, options)
        except ChatlabError as error:
            print(error, file=sys.stderr)
            return COULD_NOT_RUN

    return run


@_could_not_run
def run(settings: Settings, options: argparse.Namespace) -> int:
    """Play one scenario on one backend."""
    from chatlab import experiments

    settings = _with_urls(settings, options)
    if options.dry_run:
        backends, clients = _given(options.backend), _given(options.client)
        print(
            experiments.declares(
                [options.scenario], backends, clients=clients, settings=settings
            )
        )
        return KEPT
    found = experiments.run(
        options.scenario,
        options.backend,
        client=options.client,
        repeat=options.repeat,
        messages=options.messages,
        seed=options.seed,
        folder=options.folder,
        settings=settings,
        fault=options.fault,
        heal=options.heal,
    )
    return _show_runs([found], options, lambda: _summary(found))


@_could_not_run
def matrix(settings: Settings, options: argparse.Namespace) -> int:
    """Play several scenarios on several backends."""
    from chatlab import experiments

    settings = _with_urls(settings, options)
    if options.dry_run:
        backends, clients = options.backend or (), options.client or ()
        print(
            experiments.declares(
                options.scenarios,
                backends,
                pattern=options.pattern,
                clients=clients,
                settings=settings,
            )
        )
        return KEPT
    found = experiments.matrix(
        options.scenarios,
        options.backend or (),
        pattern=options.pattern,
        clients=options.client or (),
        repeat=options.repeat,
        messages=options.messages,
        seed=options.seed,
        folder=options.folder,
        settings=settings,
        fault=options.fault,
        heal=options.heal,
    )
    if options.picture:
        _draw(found, options.picture)
    return _show_runs(list(found.runs.values()), options, lambda: _grid(found, options))


@_could_not_run
def replay(settings: Settings, options: argparse.Namespace) -> int:
    """Show a run that was kept, judged anew; no broker is needed. The exit status is that of
    the new verdict."""
    from chatlab.experiments import Run

    found = Run.load(options.run)
    return _show_runs([found], options, lambda: _summary(found))


@_could_not_run
def rerun(settings: Settings, options: argparse.Namespace) -> int:
    """Play the scenario of a kept run again; 1 when the verdict is another one."""
    from chatlab import experiments

    old = experiments.Run.load(options.run)
    new = experiments.run(
        old.scenario, old.full_backend, folder=options.folder, settings=settings
    )
    same = old.outcome == new.outcome
    print(_summary(new))
    print(f"\nThen: {old.outcome}. Now: {new.outcome}.{'' if same else ' It does not repeat.'}")
    if not same:
        return BROKEN
    return CANNOT_TELL if new.outcome == "cannot tell" else KEPT


def shipped(settings: Settings, options: argparse.Namespace) -> int:
    """List the scenarios."""
    from chatlab.experiments import scenarios

    print(scenarios())
    return 0


def _given(text: str) -> list[str]:
    return [text] if text else []


def _with_urls(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings, and on top of them what the command line says."""
    names = ("rabbitmq_url", "management_url", "redis_url")
    given = {name: getattr(options, name) for name in names if getattr(options, name)}
    return replace(settings, **given)


# -- what is printed


def _show_runs(
    runs: Sequence[Run], options: argparse.Namespace, readable: Callable[[], str]
) -> int:
    if options.junit:
        Path(options.junit).write_bytes(_junit(runs))
    print(json.dumps(list(map(_plain, runs)), indent=1) if options.json else readable())
    missing = [words for run in runs for words in _lacking(run, options.require)]
    for words in missing:
        print(f"Required and not so: {words}", file=sys.stderr)
    statuses = {_STATUS[run.outcome] for run in runs}
    if missing or BROKEN in statuses:
        return BROKEN
    return CANNOT_TELL if CANNOT_TELL in statuses else KEPT


def _summary(run: Run) -> str:
    from chatlab.experiments.run import NOTES

    figures = run.figures
    lines = [
        f"{run.scenario.name} on {run.backend}: {run.outcome}",
        f"{figures.sent} sent, {figures.delivered} delivered, {run.verdict.lost} lost; "
        f"{figures.throughput:.0f} a second, "
        f"{figures.messages_per_operation:.1f} messages an operation",
    ]
    if figures.latency:
        spread = ", ".join(f"{k} {v * 1e3:.1f}" for k, v in figures.latency.items())
        lines.append(f"latency in ms: {spread}")
    if len(run.repeats) > 1:
        lines.append(f"the worst of {len(run.repeats)} runs")
    if run.folder:
        lines.append(f"kept in {run.folder}")
    # The table may cut off what its reader needs.
    notes = [c.why for c in run.verdict.checks if c.checker in NOTES]
    notes += [f"The stored verdict differs: {each}." for each in run.differences]
    return "\n".join([*lines, "", repr(run.verdict), *notes])


def _grid(found: Matrix, options: argparse.Namespace) -> str:
    if options.csv:
        return found.to_csv().rstrip()
    return found.to_markdown() if options.markdown else repr(found)


def _draw(found: Matrix, path: Path) -> None:
    from chatlab import plots

    plots.grid(found).save(path)  # type: ignore[attr-defined]


def _plain(run: Run) -> dict[str, Any]:
    return {
        "scenario": run.scenario.name,
        "pattern": run.pattern,
        "backend": run.backend,
        "outcome": run.outcome,
        "lost": run.verdict.lost,
        "repeats": [one.outcome for one in run.repeats],
        "figures": run.figures.to_dict(),
        "folder": str(run.folder) if run.folder else None,
        "verdict": run.verdict.to_dict(),
        "stored": run.stored.outcome if run.stored else None,
        "differences": list(run.differences),
    }


def _junit(runs: Sequence[Run]) -> bytes:
    """A test case a run, as CI servers read it."""
    count = {word: sum(run.outcome == word for run in runs) for word in _STATUS}
    suite = xml.Element(
        "testsuite",
        name="chatlab",
        tests=str(len(runs)),
        failures=str(count["broken"]),
        skipped=str(count["cannot tell"]),
    )
    for run in runs:
        case = xml.SubElement(
            suite,
            "testcase",
            classname=run.scenario.name,
            name=run.backend,
            time=f"{run.figures.seconds:.3f}",
        )
        if run.outcome == "broken":
            failure = xml.SubElement(case, "failure", message=f"{run.verdict.lost} lost")
            failure.text = repr(run.verdict)
        elif run.outcome == "cannot tell":
            xml.SubElement(case, "skipped", message=repr(run.verdict).partition("\n")[0])
    return bytes(xml.tostring(suite, encoding="utf-8", xml_declaration=True))


def _no_loss(run: Run) -> bool:
    return run.verdict.lost == 0


def _order(run: Run) -> bool:
    return all(check.outcome == "kept" for check in run.verdict.of("order"))


def _no_duplicates(run: Run) -> bool:
    return not any(c.counts.get("duplicated", 0) for c in run.verdict.of("delivery"))


#: What ``--require`` may ask for, promised or not.
REQUIRE: dict[str, Callable[[Run], bool]] = {
    "no-loss": _no_loss,
    "order": _order,
    "no-duplicates": _no_duplicates,
}


def _lacking(run: Run, required: Sequence[str]) -> list[str]:
    where = f"{run.scenario.name} on {run.backend}"
    return [f"{name} ({where})" for name in required if not REQUIRE[name](run)]


# -- arguments


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """``chatlab run SCENARIO --backend BACKEND …``"""
    parser.add_argument("scenario", help="a shipped one (`chatlab list`), or a TOML file")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--backend", default="", help="rabbitmq-durable, private/direct, …")
    which.add_argument(
        "--client", default="", metavar="FILE:CLASS", help="code that is not ours, in its place"
    )
    _playing(parser, "runs")


def matrix_arguments(parser: argparse.ArgumentParser) -> None:
    """``chatlab matrix SCENARIO … --backend BACKEND … --pattern PATTERN``"""
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help="see `chatlab list`; default, with --pattern: all that are for it",
    )
    parser.add_argument("--backend", action="append", help="may be repeated; default: all")
    parser.add_argument(
        "--pattern", choices=PATTERNS, help="default: the first that the scenarios are for"
    )
    parser.add_argument(
        "--client",
        action="append",
        metavar="FILE:CLASS",
        help="code that is not ours, a row more; may be repeated",
    )
    parser.add_argument("--csv", action="store_true", help="print the grid as CSV")
    parser.add_argument("--markdown", action="store_true", help="print the grid as Markdown")
    parser.add_argument(
        "--picture", type=_picture, metavar="FILE", help="also draw the grid: .png or .svg"
    )
    _playing(parser, None)


def replay_arguments(parser: argparse.ArgumentParser) -> None:
    """``chatlab replay FOLDER``"""
    parser.add_argument("run", metavar="FOLDER", type=Path, help="the folder of a run")
    _showing(parser)


def rerun_arguments(parser: argparse.ArgumentParser) -> None:
    """``chatlab rerun FOLDER``"""
    parser.add_argument("run", metavar="FOLDER", type=Path, help="the folder of a run")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where to keep it")


def _playing(parser: argparse.ArgumentParser, folder: str | None) -> None:
    parser.add_argument("--messages", type=int, default=40, help="sent in all (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--repeat", type=int, default=1, help="the worst of so many runs")
    parser.add_argument(
        "--folder", type=Path, default=folder and Path(folder), help="where runs are kept"
    )
    own = parser.add_argument_group(
        "brokers of your own",
        "The URLs may as well be CHATLAB_RABBITMQ_URL, … or in chatlab.toml, where nobody on "
        "the machine sees their passwords. All names begin with a prefix; all is removed.",
    )
    own.add_argument("--rabbitmq-url", default="", metavar="URL", help="amqps://…")
    own.add_argument("--redis-url", default="", metavar="URL", help="rediss://…")
    own.add_argument(
        "--management-url", default="", metavar="URL", help="then a virtual host is made"
    )
    own.add_argument(
        "--fault", default="", metavar="COMMAND", help="kills the service: 'docker kill rmq'"
    )
    own.add_argument(
        "--heal", default="", metavar="COMMAND", help="starts it again: 'docker start rmq'"
    )
    own.add_argument(
        "--dry-run", action="store_true", help="list what would be declared; connect to nothing"
    )
    _showing(parser)


def _showing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it for machines")
    parser.add_argument("--junit", metavar="FILE", help="also write it as JUnit XML")
    parser.add_argument(
        "--require",
        type=_requirements,
        default=[],
        metavar="WHAT",
        help=f"exit 1 without it, promised or not: {', '.join(REQUIRE)} (joined by commas)",
    )


def _picture(text: str) -> Path:
    """Checked before a minute of runs, not after it."""
    path = Path(text)
    if path.suffix.lower() not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png or .svg")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def _requirements(text: str) -> list[str]:
    found = text.split(",")
    if unknown := [name for name in found if name not in REQUIRE]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(REQUIRE)}")
    return found
