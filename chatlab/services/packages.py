"""A private, rootless copy of RabbitMQ from the packages of the system at hand.

Nothing is installed: the distribution's own packages are fetched with its own tools and
configuration (sources, signatures, proxies) and unpacked below ``programs/`` of chatlab's
folder, about 40 MB to download and 60 MB on disk. No system service starts, no root is
needed, and removing the folder undoes it. Where there is no apt but conda, a conda
environment in the same place serves as well.

How the apt copy is made: ``apt-get update`` and ``apt-get download`` with lists and caches in
a temporary folder; the packages are what ``apt-cache depends`` reaches from
``rabbitmq-server`` through Erlang's packages, and those of their libraries that the system
lacks; ``dpkg-deb -x`` lays them into one tree; Erlang's start scripts, which Debian ties to
``/usr/lib/erlang``, are untied; Erlang has to start once; then the tree is renamed into its
place, so that a copy which exists is complete. A lock keeps two set-ups from doing it twice.

``python -m chatlab.services.packages`` is the set-up step: it says which RabbitMQ will be
used, after fetching one if there is none.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatlab.errors import ChatlabError, ServiceMissing
from chatlab.settings import Settings, child_environ

if TYPE_CHECKING:
    from chatlab.services.find import RabbitProgram

#: Debian, Ubuntu and conda-forge call it the same.
PACKAGE = "rabbitmq-server"

#: One command (a download, an unpacking) may take so long, in seconds.
COMMAND_SECONDS = 900.0

#: Lists that apt fetches on a desktop and that say nothing about dependencies.
_UNUSED_LISTS = (
    "Contents-deb",
    "CNF",
    "DEP-11",
    "DEP-11-icons",
    "DEP-11-icons-small",
    "DEP-11-icons-hidpi",
)

_APT_TOOLS = ("apt-get", "apt-cache", "dpkg-query", "dpkg-deb")
_CONDA_TOOLS = ("micromamba", "mamba", "conda")

#: Starts Erlang with the library that most often cannot be loaded, and ends it.
_ERLANG_STARTS = "{ok, _} = application:ensure_all_started(crypto), halt(0)."

#: The lines by which Debian's ``erl`` forgets where it lies, even with ERL_ROOTDIR set.
_TIED_ROOT = re.compile(r'^(\s*ROOTDIR=)"?/usr/lib/erlang"?$', re.MULTILINE)

#: RabbitMQ's own scripts break at spaces, and Erlang takes brackets for patterns.
_PLAIN_PATH = re.compile(r"[\w/.+@-]+")

Report = Callable[[str], None]


def advice() -> str:
    """One sentence with the line to type on this system to get RabbitMQ."""
    if child_environ().get("CONDA_PREFIX"):
        return "Type: conda install -c conda-forge rabbitmq-server"
    for tool, line in (
        ("brew", "brew install rabbitmq"),
        ("apt-get", "sudo apt-get install rabbitmq-server"),
        ("dnf", "sudo dnf install rabbitmq-server"),
        ("pacman", "sudo pacman -S rabbitmq"),
        ("zypper", "sudo zypper install rabbitmq-server"),
        ("apk", "sudo apk add rabbitmq-server"),
    ):
        if shutil.which(tool):
            return f"Type: {line}"
    return (
        "Install RabbitMQ with your system's package manager, or start docker/compose.yaml "
        "and set the CHATLAB_… variables that it names."
    )


def can_fetch() -> bool:
    """Whether :func:`install` has the tools it needs: apt's, or conda."""
    return all(map(shutil.which, _APT_TOOLS)) or any(map(shutil.which, _CONDA_TOOLS))


def installed(folder: Path) -> RabbitProgram | None:
    """The private copy below ``folder`` (``settings.folder``); None when there is none."""
    place = _place(folder)
    if (place / "usr/lib/erlang").is_dir():
        return _apt_program(place)
    if (place / ".complete").is_file():
        return _conda_program(place)
    return None


def install(folder: Path, report: Report) -> RabbitProgram:
    """Make the private copy below ``folder``, unless it is there already.

    Args:
        folder: ``settings.folder``.
        report: told, in a few words each, what is being done now.

    Raises:
        ServiceMissing: it cannot be made here; says why, and what to type.
    """
    from filelock import FileLock  # late: a copy is made once, this module is imported often

    place = _place(folder)
    if not _PLAIN_PATH.fullmatch(str(place)):
        raise _missing(
            f"RabbitMQ's scripts cannot run from {place}; letters, digits and /._+@- work.",
            todo="Type: export CHATLAB_FOLDER=/tmp/chatlab-$USER",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f"{place.name}.lock")):
            return installed(folder) or _make(place, report)
    except OSError as error:
        raise _missing(f"{place.parent} cannot be used: {error}.") from error


def _place(folder: Path) -> Path:
    """Where the copy lies: a home folder may be shared by machines, or outlive an upgrade."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    system = release.get("ID", platform.system().lower())
    version = release.get("VERSION_ID", "")
    name = "-".join(filter(None, ("rabbitmq", system, version, platform.machine())))
    return folder.expanduser().absolute() / "programs" / name


def _make(place: Path, report: Report) -> RabbitProgram:
    if all(map(shutil.which, _APT_TOOLS)):
        work = place.with_name(f"{place.name}.new")
        shutil.rmtree(work, ignore_errors=True)  # of a set-up that was killed
        try:
            tree = _apt_tree(work, report)
            _check(_apt_program(tree))
            tree.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return _apt_program(place)
    for tool in filter(shutil.which, _CONDA_TOOLS):
        return _conda_tree(tool, place, report)
    raise _missing("RabbitMQ is not on this machine, and there is neither apt nor conda.")


# --- apt ------------------------------------------------------------------------------------


def _apt_tree(work: Path, report: Report) -> Path:
    """Fetch and unpack the packages into a tree below ``work``."""
    debs, tree = work / "debs", work / "tree"
    for path in (work / "lists/partial", work / "archives/partial", debs, tree):
        path.mkdir(parents=True)
    options = _apt_options(work)
    report("RabbitMQ: fetching the lists of packages")
    # One unreachable source of many is no reason to stop: what is missing shows below.
    complaint = _run(["apt-get", *options, "update"], must=False)
    names = _packages(options)
    if not names:
        raise _missing("This system's package sources have no rabbitmq-server.", complaint)
    report(f"RabbitMQ: downloading {len(names)} packages (about 40 MB)")
    _run(["apt-get", *options, "download", *names], cwd=debs)
    report("RabbitMQ: unpacking")
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(deb), str(tree)])
    for script in tree.glob("usr/lib/erlang/**/bin/erl"):
        text = script.read_text(encoding="utf-8")
        script.write_text(_TIED_ROOT.sub(r'\1"$ERL_ROOTDIR"', text), encoding="utf-8")
    return tree


def _apt_options(work: Path) -> list[str]:
    """The system's configuration, but every file that apt writes lies below ``work``."""
    options = {
        "Dir::State::Lists": str(work / "lists"),
        "Dir::Cache": str(work),
        "Dir::Cache::Archives": str(work / "archives"),
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",  # apt's own user could not write here; nothing runs as it
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    for name in _UNUSED_LISTS:
        options[f"Acquire::IndexTargets::deb::{name}::DefaultEnabled"] = "false"
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _packages(options: Sequence[str]) -> list[str]:
    """RabbitMQ, Erlang, and the libraries they need that this system does not have."""
    skipped = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    only = [f"--no-{kind}" for kind in skipped]
    listing = _run(["apt-cache", *options, "depends", "--recurse", *only, PACKAGE], must=False)
    states = _run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"])
    present = {
        name
        for name, _, state in (s.partition(" ") for s in states.splitlines())
        if state == "installed"
    }
    return reachable(parse_depends(listing), present)


def parse_depends(listing: str) -> dict[str, list[str]]:
    """Read the answer of ``apt-cache depends --recurse``: package -> what it depends on.

    Virtual packages, written ``<name>``, are left out: their providers have entries.
    """
    graph: dict[str, list[str]] = {}
    current: list[str] = []
    for line in listing.splitlines():
        kind, _, name = line.partition(": ")
        if name and kind.endswith("Depends"):
            current += [word for word in name.split()[:1] if not word.startswith("<")]
        elif re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", line):
            current = graph.setdefault(line, [])
    return graph


def reachable(graph: dict[str, list[str]], present: set[str]) -> list[str]:
    """All of Erlang behind ``rabbitmq-server``, and their libraries not in ``present``.

    What only the package's own scripts want (logrotate, socat, adduser) stays out.
    """
    found: set[str] = set()
    waiting = [PACKAGE]
    while waiting:
        name = waiting.pop()
        if name in found or name not in graph:
            continue
        found.add(name)
        waiting += [
            other
            for other in graph[name]
            if other.startswith("erlang-")
            or (other.startswith("lib") and name != PACKAGE and other not in present)
        ]
    return sorted(found)


def _apt_program(tree: Path) -> RabbitProgram:
    from chatlab.services.find import RabbitProgram

    erlang = tree / "usr/lib/erlang"
    script = _only(tree, "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
    epmd = _only(erlang, "erts-*/bin/epmd")
    own = child_environ()
    environ = {
        "ERL_ROOTDIR": str(erlang),
        "ROOTDIR": str(erlang),
        "BINDIR": str(epmd.parent),
        "PATH": f"{erlang}/bin:{epmd.parent}:{own.get('PATH', '/usr/bin:/bin')}",
    }
    libraries = sorted({str(path.parent) for path in tree.glob("**/lib/*-linux-*/lib*.so.*")})
    if libraries:
        libraries += filter(None, [own.get("LD_LIBRARY_PATH")])
        environ["LD_LIBRARY_PATH"] = ":".join(libraries)
    return RabbitProgram(
        script=script,
        environ=environ,
        epmd=epmd,
        version=script.parents[1].name.partition("-")[2],
        origin="private copy of the distribution's packages",
    )


# --- conda ----------------------------------------------------------------------------------


def _conda_tree(tool: str, place: Path, report: Report) -> RabbitProgram:
    """A conda environment of its own; it cannot be moved, so a marker says it is complete."""
    report("RabbitMQ: making a conda environment for it")
    shutil.rmtree(place, ignore_errors=True)
    source = ["--override-channels", "--channel", "conda-forge"]
    _run([tool, "create", "--yes", "--prefix", str(place), *source, PACKAGE])
    program = _conda_program(place)
    _check(program)
    (place / ".complete").touch()
    return program


def _conda_program(place: Path) -> RabbitProgram:
    from chatlab.services.find import RabbitProgram

    record = _only(place, "conda-meta/rabbitmq-server-*.json")
    return RabbitProgram(
        script=_only(place, "lib/rabbitmq/sbin/rabbitmq-server"),
        environ={"PATH": f"{place}/bin:{child_environ().get('PATH', '/usr/bin:/bin')}"},
        epmd=_only(place, "bin/epmd"),
        version=record.name.removeprefix("rabbitmq-server-").partition("-")[0],
        origin="private conda environment",
    )


# --- both -----------------------------------------------------------------------------------


def _only(folder: Path, pattern: str) -> Path:
    for path in sorted(folder.glob(pattern)):
        return path
    raise _missing(
        f"The private copy of RabbitMQ lacks {pattern}.", todo=f"Type: rm -r '{folder}'"
    )


def _check(program: RabbitProgram) -> None:
    """Erlang has to start: a library it lacks, or a foreign processor, shows here."""
    with tempfile.TemporaryDirectory() as home:
        _run(["erl", "-noinput", "-eval", _ERLANG_STARTS], {**program.environ, "HOME": home})


def _run(
    argv: Sequence[str],
    environ: dict[str, str] | None = None,
    *,
    cwd: Path | None = None,
    must: bool = True,
) -> str:
    """Run a command to its end and return what it wrote."""
    every = child_environ({"LC_ALL": "C.UTF-8", **(environ or {})})
    program = shutil.which(argv[0], path=every.get("PATH")) or argv[0]
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            env=every,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise _missing(f"`{argv[0]}` has not ended in {COMMAND_SECONDS:.0f} s.") from error
    if must and done.returncode:
        raise _missing(f"`{argv[0]}` failed while RabbitMQ was fetched.", done.stdout)
    return done.stdout


def _missing(what: str, output: str = "", todo: str = "") -> ServiceMissing:
    """The error, with the complaints in a tool's output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith(("E:", "Err:"))] or lines
    said = "".join(f"\n  {line}" for line in complaints[-3:])
    return ServiceMissing(what + said, "No RabbitMQ was set up.", todo or advice())


def main() -> int:
    """Say which RabbitMQ will be used, after fetching one if there is none."""
    from chatlab.services.find import find_rabbitmq

    try:
        settings = Settings.load()
        if settings.rabbitmq_url:
            print("RabbitMQ: the one that CHATLAB_RABBITMQ_URL names")
            return 0
        try:
            program = find_rabbitmq(settings)
        except ServiceMissing:
            install(settings.folder, report=lambda text: print(text, flush=True))
            program = find_rabbitmq(settings)
    except ChatlabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"RabbitMQ: {program.version}, {program.origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
