"""The measurement of discovery with small numbers; its times are for ``chatlab bench``."""

from __future__ import annotations

from functools import partial

import pytest

from chatlab.bench import discovery
from chatlab.bench.figures import FIGURES
from chatlab.bench.leases import leases
from chatlab.discovery import Presences
from chatlab.lab import Lab


def test_every_figure_is_measured_with_as_many_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "ENTRIES", 7)
    monkeypatch.setattr(discovery, "CLIENTS", (3, 55))
    monkeypatch.setattr(discovery, "LEASES_SECONDS", 1.0)
    monkeypatch.setattr(discovery, "leases", partial(leases, users=50))
    seen: list[tuple[str, int, int]] = []
    real = Lab.discover

    def discover(lab: Lab, via: str = "registry", timeout: float | None = None) -> Presences:
        found = real(lab, via, timeout)
        seen.append((via, len(found.users), len(found.silent)))
        return found

    monkeypatch.setattr(Lab, "discover", discover)
    figures = list(FIGURES["discovery"](2))
    assert [(figure.name, len(figure.ours), figure.base_name) for figure in figures] == [
        ("50 leases renewed together", 1, "0.1 %"),
        ("registry, 7 entries", 2, "50 ms"),
        ("management, 7 entries", 2, "50 ms"),
        ("events, 3 clients, first round", 1, "15 ms"),
        ("events, 3 clients, later rounds", 2, "15 ms"),
        ("events, 55 clients, first round", 1, "0.275 s"),
        ("events, 55 clients, later rounds", 2, "0.275 s"),
    ]
    assert all(0 < seconds < 10 for figure in figures for seconds in figure.ours)
    assert seen == [
        *[("registry", 7, 0)] * 2,
        *[("management", 7, 0)] * 2,
        *[("events", 3, 0)] * 3,
        *[("events", 55, 0)] * 3,
    ]
