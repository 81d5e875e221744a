"""What ``chatlab doctor`` examines: each check is a function that yields findings.

A finding says what was looked at, whether it is well, and otherwise what to type. Checks
change nothing on the machine and start nothing; each is independent of the others, so that
one broken thing does not hide the next.
"""

from __future__ import annotations

import asyncio
import importlib
import platform
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from urllib.parse import urlsplit

from chatlab.errors import ChatlabError, ServiceMissing
from chatlab.settings import Settings

#: Private brokers, their logs and a mailbox or two; RabbitMQ stops accepting below its limit.
DISK_BYTES = 500 * 2**20
#: RabbitMQ takes 150 MB, a kernel as much again.
MEMORY_BYTES = 500 * 2**20
#: A lab of a hundred users holds three connections each, through links that double them.
OPEN_FILES = 1024
#: A service of one's own has to answer within this, in seconds.
ANSWER_SECONDS = 3.0

#: Import names that differ from the package's name.
_MODULES = {
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health.v1",
    "grpcio-reflection": "grpc_reflection.v1alpha",
    "protobuf": "google.protobuf",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``todo`` is what to type when it is not well."""

    about: str
    text: str
    ok: bool = True
    todo: str = ""

    def __str__(self) -> str:
        line = f"{'ok ' if self.ok else '!! '} {self.about:<12} {self.text}"
        return f"{line}\n{'':17}{self.todo}" if self.todo and not self.ok else line


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order in which one would mend them."""
    for check in CHECKS:
        try:
            yield from check(settings)
        except ChatlabError as error:
            yield Finding(check.__name__, error.what, ok=False, todo=error.todo)


def python(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(
        "Python",
        f"{version} in {sys.prefix}",
        ok=sys.version_info >= (3, 11),
        todo="Type: make clean && make setup PYTHON=python3.11",
    )


def packages(settings: Settings) -> Iterator[Finding]:
    """Each package that chatlab asks for: there, new enough, and importable."""
    from packaging.requirements import Requirement

    todo = "Type: make clean && make setup"
    try:
        wanted = metadata.requires("chatlab") or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", "chatlab itself is not installed here", ok=False, todo=todo)
        return
    good = []
    for requirement in map(Requirement, wanted):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": e}) for e in ("", "lab")):
            continue
        trouble = _trouble(requirement.name, requirement.specifier.contains)
        if trouble:
            yield Finding("packages", f"{requirement.name} {trouble}", ok=False, todo=todo)
        else:
            good.append(f"{requirement.name} {metadata.version(requirement.name)}")
    yield Finding("packages", ", ".join(good))


def _trouble(name: str, fits: Callable[[str], bool]) -> str:
    """What is wrong with an installed package, empty when nothing is."""
    try:
        version = metadata.version(name)
        if not fits(version):
            return f"{version} is not the version that chatlab needs"
        importlib.import_module(_MODULES.get(name, name.replace("-", "_")))
    except metadata.PackageNotFoundError:
        return "is not installed"
    except Exception as error:  # whatever a broken wheel raises is the finding
        return f"cannot be imported: {type(error).__name__}: {error}"
    return ""


def rabbitmq(settings: Settings) -> Iterator[Finding]:
    from chatlab.services import urls
    from chatlab.services.find import find_rabbitmq
    from chatlab.services.packages import can_fetch

    if urls.rabbitmq_address(settings) is not None:
        yield _answers("RabbitMQ", settings.rabbitmq_url, 5672, "CHATLAB_RABBITMQ_URL")
        if not settings.management_url:
            yield Finding(
                "RabbitMQ",
                "its management API is not known; discovery and clean-up need it",
                ok=False,
                todo="Type: export CHATLAB_MANAGEMENT_URL=http://user:password@host:15672",
            )
        else:
            yield _answers("RabbitMQ", settings.management_url, 15672, "CHATLAB_MANAGEMENT_URL")
        return
    try:
        program = find_rabbitmq(settings)
    except ServiceMissing as error:
        fetch = f"Type: {sys.executable} -m chatlab.services.packages"
        todo = fetch if can_fetch() else error.todo
        yield Finding("RabbitMQ", "is not here yet", ok=False, todo=todo)
        return
    yield Finding("RabbitMQ", f"{program.version}, {program.origin}")


def redis(settings: Settings) -> Iterator[Finding]:
    from chatlab.services import urls
    from chatlab.services.find import find_redis

    if urls.redis_address(settings) is not None:
        yield _answers("Redis", settings.redis_url, 6379, "CHATLAB_REDIS_URL")
        return
    program = find_redis()
    yield Finding("Redis", f"{program.product} {program.version}, {program.origin}")


def _answers(about: str, url: str, port: int, variable: str) -> Finding:
    """Whether something listens where a URL points; the URL's secret is never shown."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or port
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except OSError as error:
        text = f"nothing answers at {host}:{port} ({error.strerror or error})"
        return Finding(about, text, ok=False, todo=f"Start it, or type: unset {variable}")
    return Finding(about, f"answers at {host}:{port}, from {variable}")


def ports(settings: Settings) -> Iterator[Finding]:
    """Private brokers listen on loopback, and Erlang looks up ``localhost``."""
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            socket.create_connection(server.getsockname(), ANSWER_SECONDS).close()
        yield Finding("ports", "programs can talk on 127.0.0.1")
    except OSError as error:
        yield Finding(
            "ports",
            f"127.0.0.1 does not work: {error}",
            ok=False,
            todo="Look at this machine's firewall or sandbox.",
        )
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", None)}
    except OSError:
        found = set()
    if "127.0.0.1" not in found:
        yield Finding(
            "ports",
            "the name localhost is not 127.0.0.1",
            ok=False,
            todo="Type: echo 127.0.0.1 localhost | sudo tee -a /etc/hosts",
        )


def folder(settings: Settings) -> Iterator[Finding]:
    """The folder of private brokers: writable, on a disk with room."""
    path = settings.folder.expanduser().absolute()
    elsewhere = "Type: export CHATLAB_FOLDER=/tmp/chatlab-$USER"
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix="chatlab-doctor-"):
            yield Finding("folder", str(path))
    except OSError as error:
        yield Finding("folder", f"{path}: {error.strerror}", ok=False, todo=elsewhere)
        return
    free = shutil.disk_usage(there).free
    yield Finding(
        "disk",
        f"{free / 2**30:.1f} GiB free",
        ok=free >= DISK_BYTES,
        todo=f"Free {DISK_BYTES // 2**20} MiB, or name another disk: {elsewhere}",
    )


def limits(settings: Settings) -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    yield Finding(
        "memory",
        f"{free / 2**30:.1f} GiB available",
        ok=free >= MEMORY_BYTES,
        todo="Close other programs; a lab needs half a GiB.",
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = hard == resource.RLIM_INFINITY
    yield Finding(
        "open files",
        "no limit" if many else f"up to {hard}",
        ok=many or hard >= OPEN_FILES,
        todo=f"Type: ulimit -n {4 * OPEN_FILES}",
    )


def supervisor(settings: Settings) -> Iterator[Finding]:
    from chatlab import services

    running = asyncio.run(services.status(settings))
    yield Finding("running", "a supervisor" if running else "nothing")


CHECKS = (python, packages, rabbitmq, redis, ports, folder, limits, supervisor)
