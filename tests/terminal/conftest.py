"""Two people in two terminals, and a chat server; one set for a module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from tmux_rig import Window, World

from chatlab.services.lease import Lease
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def world(lab_settings: Settings, lease: Lease) -> Iterator[World]:
    if shutil.which("tmux") is None:
        assert os.environ.get("CI") != "true", "a build server must have tmux"
        pytest.skip("no tmux on this machine")
    made = World(lab_settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def people(world: World) -> tuple[Window, Window]:
    world.serve()
    ana, bob = world.client("ana"), world.client("bob")
    for one in (ana, bob):
        one.wait("choose>", "connected")
    return ana, bob


@pytest.fixture
def ana(people: tuple[Window, Window]) -> Window:
    people[0].menu()
    return people[0]


@pytest.fixture
def bob(people: tuple[Window, Window]) -> Window:
    people[1].menu()
    return people[1]
