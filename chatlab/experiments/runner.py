"""Running scenarios: on one backend, or on many as a grid.

Each run has a lab of its own, on services that it may break when the scenario does. Groups on
the same broker are played together, each a lane, so one stop of the broker serves all of
them; private chats and the insult channel one after the other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from chatlab.checkers import Check
from chatlab.errors import InvalidInput
from chatlab.experiments.asked import asked, find_scenario, rows_of, wanted_of
from chatlab.experiments.declared import Thing, dry_run, remove, things
from chatlab.experiments.expected import broker_of
from chatlab.experiments.faults import CannotPlay, Commands, Faults
from chatlab.experiments.lanes import LANES, Lane, pattern_of
from chatlab.experiments.matrix import Matrix
from chatlab.experiments.outside import is_outside
from chatlab.experiments.outside_lane import OutsideLane
from chatlab.experiments.run import Run, judged, not_played, worst
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.script import Report, Script
from chatlab.experiments.shipped import MESSAGES
from chatlab.experiments.steps import Pattern
from chatlab.lab import Lab
from chatlab.lab.progress import screen
from chatlab.settings import Settings
from chatlab.tables import Table

#: Runs are kept here, below the working directory.
RUNS = Path("runs")


def run(
    scenario: Scenario | str,
    backend: str = "",
    *,
    client: str = "",
    repeat: int = 1,
    messages: int = MESSAGES,
    seed: int = 0,
    folder: Path | str | None = RUNS,
    settings: Settings | None = None,
    fault: str = "",
    heal: str = "",
    report: Report | None = None,
) -> Run:
    """Play a scenario on a backend, judge it, and keep it.

    Args:
        scenario: one of one's own, the name of a shipped one, or a TOML file.
        backend: ``rabbitmq-durable``, with options; ``private/as-reported`` where the name
            alone is not clear.
        client: code that is not ours, in its place: ``my/insults.py:Insults``; see
            :mod:`chatlab.experiments.outside`.
        repeat: so many times, each with a fresh scene; the worst one is returned and knows
            the others.
        messages, seed: of a shipped scenario.
        folder: where runs are kept, each in a folder of its own; ``None``: nowhere.
        settings: with the URLs of brokers of one's own, if they are to be used.
        fault, heal: shell commands that kill, and start, a service that is one's own.
        report: called with a sentence before each step; default: shown where the reader is.

    Raises:
        InvalidInput: no such scenario, backend or option.
        ServiceUnavailable: the services cannot be had.
    """
    if repeat < 1:
        raise InvalidInput("A run is repeated at least once.")
    if bool(backend) == bool(client):
        raise InvalidInput("A run is on one backend, or on one client.")
    script = find_scenario(scenario, messages, seed)
    (wanted,) = wanted_of([backend] if backend else [], [client] if client else [])
    pattern, text = pattern_of(script, wanted)
    commands = Commands(fault, heal).check(settings or Settings.load())
    with _reporting(report) as say:
        runs = [
            played
            for number in range(1, repeat + 1)
            for played in _play(
                *(script, pattern, [text], settings, commands),
                _numbered(say, number, repeat),
            )
        ]
    return worst([one.save(folder) if folder is not None else one for one in runs])


def matrix(
    scenarios: Iterable[Scenario | str] = (),
    backends: Sequence[str] = (),
    *,
    pattern: Pattern | None = None,
    clients: Sequence[str] = (),
    repeat: int = 1,
    messages: int = MESSAGES,
    seed: int = 0,
    folder: Path | str | None = None,
    settings: Settings | None = None,
    fault: str = "",
    heal: str = "",
    report: Report | None = None,
) -> Matrix:
    """Play each scenario on each backend: the grid.

    Args:
        scenarios: default, if a pattern is given: all shipped ones that are made for it.
        backends: default: every backend of the pattern, as-reported first.
        pattern: ``group``, ``private`` or ``insults``; default: the first one that all the
            scenarios are made for.
        clients: code that is not ours, each a row more.

    Raises:
        as :func:`run`.
    """
    scripts, wanted = asked(scenarios, backends, clients, pattern, messages, seed)
    commands = Commands(fault, heal).check(settings or Settings.load())
    runs: dict[tuple[str, str], list[Run]] = {}
    with _reporting(report) as say:
        for script in scripts:
            for pattern, texts in _together(script, wanted):
                for number in range(1, repeat + 1):
                    told = _numbered(say, number, repeat, f"{script.name}: ")
                    for one in _play(script, pattern, texts, settings, commands, told):
                        kept = one.save(folder) if folder is not None else one
                        runs.setdefault((one.full_backend, script.name), []).append(kept)
    rows = rows_of(scripts[0], wanted)
    cells = {(rows[backend], script): worst(found) for (backend, script), found in runs.items()}
    return Matrix(list(rows.values()), [script.name for script in scripts], cells)


def declares(
    scenarios: Iterable[Scenario | str] = (),
    backends: Sequence[str] = (),
    *,
    pattern: Pattern | None = None,
    clients: Sequence[str] = (),
    settings: Settings | None = None,
) -> Table:
    """What :func:`matrix` would declare on the services, without connecting to any.

    Raises:
        InvalidInput: as :func:`run`.
    """
    scripts, wanted = asked(scenarios, backends, clients, pattern)
    return dry_run(scripts, wanted, settings or Settings.load())


def _lane(pattern: Pattern, backend: str) -> type[Lane]:
    return OutsideLane if is_outside(backend) else LANES[pattern]


def _together(script: Scenario, backends: Sequence[str]) -> Iterator[tuple[Pattern, list[str]]]:
    """The backends that are played in one scene: groups by broker, all others alone."""
    found = [pattern_of(script, backend) for backend in backends]
    alone = [(p, t) for p, t in found if not _lane(p, t).shares_scene]
    for pattern, text in alone:
        yield pattern, [text]
    shared = [(p, t) for p, t in found if _lane(p, t).shares_scene]

    def broker(entry: tuple[Pattern, str]) -> str:
        return broker_of(*entry)

    for _, group in groupby(sorted(shared, key=broker), broker):
        entries = list(group)
        yield entries[0][0], [text for _, text in entries]


def _play(
    script: Scenario,
    pattern: Pattern,
    backends: Sequence[str],
    settings: Settings | None,
    commands: Commands,
    report: Report,
) -> list[Run]:
    """One scene in a lab of its own; a run for each backend. What it declared is removed."""
    report(f"{script.name}: starting")
    began = time.time()
    make = _lane(pattern, backends[0])
    left: list[str] = []
    with _lab(script, settings, things(script, pattern, backends), left) as lab:
        trouble = ""
        lanes = [make(lab, script, text, number) for number, text in enumerate(backends)]
        # Lanes that share a scene share its users.
        with closing(lanes[0]) as first:
            first.enter()
            try:
                Script(lab, script, lanes, Faults(lab, commands), report).play()
            except CannotPlay as error:
                trouble = f"{error.what} {error.todo}".strip()
            # Before anybody leaves: a goodbye is no part of the scenario.
            runs = [_judged(lane, began, trouble) for lane in lanes]
        left += first.leftovers
    return [_with_leftovers(one, left) for one in runs] if left else runs


@contextmanager
def _lab(
    script: Scenario, settings: Settings | None, declared: Sequence[Thing], left: list[str]
) -> Iterator[Lab]:
    """A lab of its own. Where it has no virtual host, what was declared is removed after it,
    whatever came in between; what could not be is added to ``left``."""
    name = f"run-{secrets.token_hex(3)}"
    lab = Lab.start(name, breakable=bool(script.breaks), settings=settings)
    address = lab.lease.rabbitmq
    try:
        with lab:
            yield lab
    finally:
        if address.prefix:
            left += remove(address, declared)


def _with_leftovers(run: Run, left: Sequence[str]) -> Run:
    """What could not be removed is said where the verdict is read."""
    why = f"Still there, because it could not be removed: {', '.join(left)}."
    check = Check("removal", "", "", "cannot tell", why, counted=False)
    return replace(run, verdict=replace(run.verdict, checks=(*run.verdict.checks, check)))


def _judged(lane: Lane, began: float, trouble: str) -> Run:
    journal = lane.journal()
    notes = [not_played(trouble)] if trouble else lane.notes
    verdict = judged(lane.scenario, lane.pattern, lane.broker, journal, notes)
    return Run(lane.scenario, lane.backend, journal, verdict, began)


def _numbered(say: Report, number: int, repeat: int, start: str = "") -> Report:
    words = f"run {number} of {repeat}: " if repeat > 1 else start
    return lambda text: say(words + text)


@contextmanager
def _reporting(report: Report | None) -> Iterator[Report]:
    """Where progress is shown unless the caller takes it: the cell, or the terminal."""
    if report is not None:
        yield report
        return
    with screen() as draw:
        yield draw
