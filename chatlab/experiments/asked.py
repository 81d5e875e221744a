"""What is asked for: scenarios and backends as they are named, found, and matched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from chatlab.errors import InvalidInput
from chatlab.experiments.lanes import KNOWN, pattern_of
from chatlab.experiments.outside import PREFIX, is_outside
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.shipped import MESSAGES, names, shipped
from chatlab.experiments.steps import Pattern


def find_scenario(
    scenario: Scenario | str, messages: int = MESSAGES, seed: int = 0
) -> Scenario:
    """The scenario itself, a shipped one by its name, or one from a TOML file."""
    if isinstance(scenario, Scenario):
        return scenario
    if scenario.endswith(".toml"):
        return Scenario.load(scenario)
    return shipped(scenario, messages, seed)


def asked(
    scenarios: Iterable[Scenario | str],
    backends: Sequence[str],
    clients: Sequence[str],
    pattern: Pattern | None,
    messages: int = MESSAGES,
    seed: int = 0,
) -> tuple[list[Scenario], list[str]]:
    """The scenarios of a grid, and what it is played on, each once and with its pattern."""
    if pattern is not None and pattern not in KNOWN:
        raise InvalidInput(
            f"There is no pattern {pattern!r}.", todo=f"There are: {', '.join(KNOWN)}."
        )
    scripts = [find_scenario(scenario, messages, seed) for scenario in scenarios]
    if pattern and not scripts:
        scripts = [shipped(name, messages, seed) for name in names()]
        scripts = [script for script in scripts if pattern in script.patterns]
    if not scripts:
        raise InvalidInput(
            "A grid needs a scenario.",
            todo="Name some, or a pattern: then all that are for it.",
        )
    patterns = [pattern] if pattern else _common(scripts)
    if not patterns:
        raise InvalidInput("No pattern is one of all these scenarios.", todo="Make two grids.")
    wanted = wanted_of(backends, clients)
    if not wanted:
        wanted = _all_backends(patterns[0])
    meant = [_meant(backend, patterns) for backend in wanted]
    for script in scripts:
        for backend in meant:
            found, _ = pattern_of(script, backend)
            if pattern and found != pattern:
                raise InvalidInput(f"{backend} is no backend of the pattern {pattern}.")
    return scripts, list(dict.fromkeys(meant))


def _common(scripts: Sequence[Scenario]) -> list[Pattern]:
    """The patterns that all of them are made for, in the order of the first."""
    return [p for p in scripts[0].patterns if all(p in script.patterns for script in scripts)]


def _meant(backend: str, patterns: Sequence[Pattern]) -> str:
    """The backend with the pattern that is meant in all scenarios of the grid."""
    if is_outside(backend) or "/" in backend:
        return backend
    name = backend.partition(":")[0]
    found = next((pattern for pattern in patterns if name in KNOWN[pattern]), None)
    return f"{found}/{backend}" if found else backend


def rows_of(script: Scenario, backends: Sequence[str]) -> dict[str, str]:
    """Each backend with its pattern -> its row's name: without it, where that is clear."""
    found = [pattern_of(script, backend) for backend in backends]
    count = Counter(text for _, text in found)
    return {
        backend: text if count[text] == 1 else backend
        for backend, (_, text) in zip(backends, found, strict=True)
    }


def wanted_of(backends: Sequence[str], clients: Sequence[str]) -> list[str]:
    """What is played on, outside clients by their names as backends."""
    return [*backends, *(PREFIX + client.removeprefix(PREFIX) for client in clients)]


def _all_backends(pattern: Pattern) -> list[str]:
    """As-reported first, as everywhere."""
    return sorted(KNOWN[pattern], key=lambda name: name != "as-reported")
