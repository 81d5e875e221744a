"""Imports only point down the list of rooms, and each driver has one home.

Read from the syntax tree, so that imports inside functions and for type checkers count, too.
``bench`` may hold bare-library baselines and ``v1`` is generated: drivers are free there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatlab

PACKAGE = Path(chatlab.__file__).parent

#: Top to bottom. A module belongs to its longest entry; rooms of one line are neighbours
#: and do not import each other. Addresses and the HTTP client of the management API are
#: what the drivers need of ``services``; the rest of it needs the drivers.
ROOMS = [
    "__main__",
    "cli",
    "commands",
    "readiness",
    "doctor jupyter lecture serving terminal",
    "bench",
    "course",
    "panels",
    "experiments",
    "lab",
    "checkers plots",
    "insults hosting",
    "private groups",
    "discovery",
    "client",
    "services",
    "amqp resp",
    "services.management services.links",
    "loop",
    "journal",
    "logs",
    "messages settings backends backoff",
    "tables services.addresses",
    "errors",
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms.split()}

#: Outside ones of these are used in these rooms only.
HOMES = {
    "pika": ["amqp"],
    "redis": ["resp"],
    "grpc": ["private"],
    "grpc_health": ["private"],
    "grpc_reflection": ["private"],
    "trustme": ["private"],
    "anywidget": ["panels"],
    "ipywidgets": ["panels"],
    "matplotlib": ["plots"],
    "tornado": ["jupyter"],
    "prompt_toolkit": ["terminal"],
}
FREE = ("bench", "v1")


def modules() -> Iterator[tuple[str, str]]:
    """Dotted name below ``chatlab`` and source of each module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path.read_text()


def imports(source: str) -> Iterator[str]:
    """Every name that is imported anywhere in ``source``, ``from a import b`` as a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The longest room that ``module`` (below ``chatlab``) is in."""
    parts = module.split(".")
    while parts:
        if ".".join(parts) in LEVEL:
            return ".".join(parts)
        parts.pop()
    return None


def is_in(name: str, packages: str | list[str] | tuple[str, ...]) -> bool:
    """Whether ``name`` is one of ``packages`` or inside it."""
    packages = [packages] if isinstance(packages, str) else packages
    return any(name == package or name.startswith(package + ".") for package in packages)


def wrong_ways(module: str, source: str) -> list[str]:
    """The imports of ``module`` that do not point down. The package itself only names
    others, lazily; generated code imports nothing of ours."""
    here = room_of(module)
    if module == "" or is_in(module, "v1"):
        return []
    if here is None:
        return [f"{module} is in no room"]
    wrong = []
    for name in imports(source):
        there = room_of(name.removeprefix("chatlab."))
        if not name.startswith("chatlab.") or there in (None, here):
            continue
        if LEVEL[there] <= LEVEL[here]:
            wrong.append(f"{module} ({here}) imports {name} ({there})")
    return wrong


def strays(module: str, source: str) -> list[str]:
    """The drivers that ``module`` imports without being their home."""
    if is_in(module, FREE):
        return []
    return [
        f"{module} imports {name}"
        for name in imports(source)
        for driver, homes in HOMES.items()
        if is_in(name, driver) and not is_in(module, homes)
    ]


def reads_environment(module: str, source: str) -> bool:
    """Whether it uses ``os.environ`` or ``os.getenv``, outside ``settings``."""
    names = ("environ", "environb", "getenv", "putenv", "unsetenv")
    nodes = list(ast.walk(ast.parse(source)))
    used = any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", name) for name in names}
        for node in nodes
    )
    named = any(is_in(name, [f"os.{n}" for n in names]) for name in imports(source))
    return module != "settings" and (used or named)


@pytest.mark.parametrize(
    ("module", "source"), list(modules()), ids=[name for name, _ in modules()]
)
def test_imports_point_down_and_drivers_stay_at_home(module: str, source: str) -> None:
    assert wrong_ways(module, source) == []
    assert strays(module, source) == []
    assert not reads_environment(module, source)


def test_every_home_of_a_driver_really_uses_it() -> None:
    """A home without its driver is a list that nobody kept."""
    used = {
        (driver, home)
        for module, source in modules()
        for name in imports(source)
        for driver, homes in HOMES.items()
        for home in homes
        if is_in(name, driver) and is_in(module, home)
    }
    listed = {(driver, home) for driver, homes in HOMES.items() for home in homes}
    assert {driver for driver, _ in listed - used} <= {"ipywidgets"}  # the panels' own issue


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("groups.x", "from chatlab.lab import Lab"),
        ("groups.x", "import chatlab.private.client"),
        ("amqp.wire", "from chatlab.services import Lease"),
        ("errors", "def f():\n    from chatlab import messages"),
        ("journal", "if TYPE_CHECKING:\n    import chatlab.plots as p"),
        ("nowhere", ""),
    ],
)
def test_the_walker_sees_an_import_that_does_not_point_down(module: str, source: str) -> None:
    assert wrong_ways(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lab.users", "from chatlab.groups.rabbitmq import x\nfrom chatlab.lab.seat import y"),
        ("resp", "from chatlab.services.addresses import RedisAddress"),
        ("services.lease", "from chatlab.resp import Redis\nimport chatlab.services.links"),
        ("groups.x", "from chatlab import __version__\nimport json"),
    ],
)
def test_the_walker_lets_good_imports_pass(module: str, source: str) -> None:
    assert wrong_ways(module, source) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lab.users", "import pika.exceptions"),
        ("discovery.redis", "def f():\n    from redis.asyncio import Redis"),
        ("private", "import matplotlib as mpl"),
        ("lab.users", "from matplotlib import pyplot"),
        ("amqpx", "import pika"),
    ],
)
def test_the_walker_sees_a_driver_outside_its_home(module: str, source: str) -> None:
    assert strays(module, source)
    assert strays("bench.x", source) == []


@pytest.mark.parametrize(
    "source",
    ["import os\nos.environ['X']", "from os import environ", "import os\nos.getenv('X')"],
)
def test_the_walker_sees_who_reads_the_environment(source: str) -> None:
    assert reads_environment("lab.users", source)
    assert not reads_environment("settings", source)
