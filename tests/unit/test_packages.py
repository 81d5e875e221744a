"""The private copy of RabbitMQ, with stand-ins for apt, dpkg, Erlang and conda."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from chatlab.errors import ServiceMissing
from chatlab.services import packages

DEPENDS = """\
rabbitmq-server
  Depends: adduser
 |Depends: erlang-base
  Depends: <erlang-abi-15.0>
    erlang-base
  Depends: erlang-ssl (>= 1:23)
  Depends: logrotate
  Depends: libwanted-by-the-wrapper
adduser
  Depends: passwd
erlang-base
  PreDepends: libc6
  Depends: libnew1
 |Depends: <erlang-base-hipe>
erlang-ssl
  Depends: erlang-base
  Depends: erlang-crypto
erlang-crypto
  Depends: libssl3
libnew1
  Depends: libnewer2
  Depends: perl
libnewer2
libssl3
<erlang-abi-15.0>
libc6
"""

TOOLS = {
    "apt-get": """
        for word in "$@"; do case $word in
        update) echo "E: one source is out of reach"; exit 100 ;;
        download) touch rabbitmq-server.deb erlang-base.deb ;;
        esac; done""",
    "apt-cache": f"cat <<'LISTING'\n{DEPENDS}LISTING",
    "dpkg-query": "echo libc6 installed; echo libssl3 installed; echo libnew1 not-installed",
    "dpkg-deb": r"""
        erlang=$3/usr/lib/erlang
        sbin=$3/usr/lib/rabbitmq/lib/rabbitmq_server-3.99.1/sbin
        mkdir -p "$erlang/bin" "$erlang/erts-13.1/bin" "$sbin" "$3/usr/lib/x86_64-linux-gnu"
        touch "$erlang/erts-13.1/bin/epmd" "$sbin/rabbitmq-server"
        touch "$3/usr/lib/x86_64-linux-gnu/libnew1.so.1"
        printf '#!/bin/sh\nif [ -z "$ERL_ROOTDIR" ]; then\n    ROOTDIR=/usr/lib/erlang\nfi\n' \
            > "$erlang/bin/erl"
        printf 'ROOTDIR="/usr/lib/erlang"\necho "$ROOTDIR" >"$WITNESS"\n' >> "$erlang/bin/erl"
        chmod +x "$erlang/bin/erl" """,
    "conda": r"""
        prefix=$4
        mkdir -p "$prefix/bin" "$prefix/conda-meta" "$prefix/lib/rabbitmq/sbin"
        touch "$prefix/conda-meta/rabbitmq-server-4.1.2-h0_0.json" "$prefix/bin/epmd"
        touch "$prefix/lib/rabbitmq/sbin/rabbitmq-server"
        printf '#!/bin/sh\n' > "$prefix/bin/erl"; chmod +x "$prefix/bin/erl" """,
}


class Machine:
    """A PATH that holds stand-ins only; each notes that it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._calls = folder / "calls"
        self.witness = folder / "witness"
        self.folder = folder / "cache"
        folder.joinpath("bin").mkdir()
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setenv("WITNESS", str(self.witness))
        monkeypatch.delenv("CONDA_PREFIX", raising=False)
        monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)

    def put(self, *names: str, **scripts: str) -> None:
        for name, text in {**{name: TOOLS[name] for name in names}, **scripts}.items():
            path = self._folder / "bin" / name.replace("_", "-")
            note = f"echo {path.name} \"$@\" >>'{self._calls}'"
            path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{note}\n{text}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def left(self) -> list[str]:
        """What lies below ``programs``, the lock aside."""
        names = (path.name for path in (self.folder / "programs").glob("*"))
        return sorted(name for name in names if not name.endswith(".lock"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def debian(machine: Machine) -> Machine:
    machine.put("apt-get", "apt-cache", "dpkg-query", "dpkg-deb")
    return machine


def quiet(text: str) -> None:
    pass


def test_the_packages_are_erlang_and_the_libraries_that_the_system_lacks() -> None:
    names = packages.reachable(packages.parse_depends(DEPENDS), {"libc6", "libssl3"})
    assert names == [
        "erlang-base",
        "erlang-crypto",
        "erlang-ssl",
        "libnew1",
        "libnewer2",
        "rabbitmq-server",
    ]


def test_without_rabbitmq_in_the_sources_nothing_is_wanted() -> None:
    assert packages.reachable(packages.parse_depends("E: No packages found\n"), set()) == []


def test_the_copy_is_made_once_although_one_source_is_out_of_reach(debian: Machine) -> None:
    assert packages.installed(debian.folder) is None
    said: list[str] = []
    program = packages.install(debian.folder, said.append)
    assert program.version == "3.99.1"
    assert program.script.is_file()
    assert program.epmd.is_file()
    assert program == packages.installed(debian.folder)
    assert [line.split()[1] for line in said] == ["fetching", "downloading", "unpacking"]

    before = debian.calls
    assert packages.install(debian.folder, said.append) == program
    assert debian.calls == before


def test_every_file_that_apt_writes_lies_in_our_own_folder(debian: Machine) -> None:
    packages.install(debian.folder, quiet)
    for call in debian.calls:
        if call.startswith("apt-"):
            for option in ("Dir::State::Lists", "Dir::Cache", "Dir::Cache::Archives"):
                assert f"{option}={debian.folder}/programs/" in call
            assert "Debug::NoLocking=1" in call


def test_erlang_starts_from_the_copy_and_not_from_the_system(debian: Machine) -> None:
    program = packages.install(debian.folder, quiet)
    erlang = Path(program.environ["ERL_ROOTDIR"])
    assert erlang.is_relative_to(debian.folder)
    assert "/usr/lib/erlang\n" not in (erlang / "bin/erl").read_text()
    # The check ran it where it was unpacked, before it was moved into place.
    assert debian.witness.read_text().endswith("/tree/usr/lib/erlang\n")
    assert program.environ["PATH"].startswith(f"{erlang}/bin:")
    assert program.environ["LD_LIBRARY_PATH"] == f"{erlang.parent}/x86_64-linux-gnu"


def test_a_failing_download_leaves_nothing_and_shows_the_complaint(debian: Machine) -> None:
    debian.put(apt_get='case "$*" in *download*) echo "E: 404 gone"; exit 100 ;; esac')
    with pytest.raises(ServiceMissing) as caught:
        packages.install(debian.folder, quiet)
    assert "E: 404 gone" in str(caught.value)
    assert "Type: sudo apt-get install rabbitmq-server" in str(caught.value)
    assert debian.left() == []


def test_the_remains_of_a_killed_set_up_are_no_obstacle(debian: Machine) -> None:
    place = packages.install(debian.folder, quiet).script
    finished = debian.folder / "programs" / debian.left()[0]
    half = finished.with_name(f"{finished.name}.new")
    half.mkdir()
    finished.rename(half / "tree")
    assert packages.installed(debian.folder) is None
    assert packages.install(debian.folder, quiet).script == place
    assert debian.left() == [finished.name]


def test_a_copy_whose_erlang_does_not_start_is_not_kept(debian: Machine) -> None:
    debian.put(
        dpkg_deb=TOOLS["dpkg-deb"] + "\necho 'echo no such library; exit 1' >>$erlang/bin/erl"
    )
    with pytest.raises(ServiceMissing, match="no such library"):
        packages.install(debian.folder, quiet)
    assert debian.left() == []
    assert packages.installed(debian.folder) is None


def test_sources_without_rabbitmq_are_said(debian: Machine) -> None:
    debian.put(apt_cache="echo 'E: No packages found'; exit 100")
    with pytest.raises(ServiceMissing, match="no rabbitmq-server"):
        packages.install(debian.folder, quiet)


def test_two_set_ups_at_once_make_one_copy(debian: Machine) -> None:
    threads = [
        threading.Thread(target=packages.install, args=(debian.folder, quiet)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("download" in call for call in debian.calls) == 1
    assert len(debian.left()) == 1


def test_a_folder_that_cannot_be_written_is_said(debian: Machine) -> None:
    debian.folder.write_text("a file, not a folder")
    with pytest.raises(ServiceMissing, match="cannot be used"):
        packages.install(debian.folder, quiet)


def test_a_folder_that_rabbitmq_cannot_run_from_is_refused(debian: Machine) -> None:
    with pytest.raises(ServiceMissing, match="cannot run from") as caught:
        packages.install(debian.folder / "my folder", quiet)
    assert "export CHATLAB_FOLDER=" in caught.value.todo
    assert debian.calls == []


def test_without_apt_a_conda_environment_serves(machine: Machine) -> None:
    machine.put("conda")
    program = packages.install(machine.folder, quiet)
    assert program.version == "4.1.2"
    assert program == packages.installed(machine.folder)
    assert "--channel conda-forge rabbitmq-server" in machine.calls[0]


def test_a_half_made_conda_environment_is_made_anew(machine: Machine) -> None:
    machine.put(conda=TOOLS["conda"] + "\nexit 1")
    with pytest.raises(ServiceMissing):
        packages.install(machine.folder, quiet)
    assert packages.installed(machine.folder) is None
    machine.put("conda")
    assert packages.install(machine.folder, quiet).version == "4.1.2"


def test_without_any_of_them_the_error_says_so(machine: Machine) -> None:
    with pytest.raises(ServiceMissing, match="neither apt nor conda"):
        packages.install(machine.folder, quiet)


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("brew", "brew install rabbitmq"),
        ("dnf", "sudo dnf install rabbitmq-server"),
        ("apt-get", "sudo apt-get install rabbitmq-server"),
    ],
)
def test_the_advice_is_the_line_of_this_system(machine: Machine, tool: str, line: str) -> None:
    machine.put(**{tool: "exit"})
    assert packages.advice() == f"Type: {line}"


def test_inside_conda_the_advice_is_conda(
    debian: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/somewhere")
    assert packages.advice() == "Type: conda install -c conda-forge rabbitmq-server"


def test_the_set_up_step_takes_the_broker_of_the_settings(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHATLAB_RABBITMQ_URL", "amqp://me:hush@host")
    assert packages.main() == 0
    assert "hush" not in capsys.readouterr().out
    assert machine.calls == []


def test_the_set_up_step_fails_with_three_lines(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHATLAB_FOLDER", str(machine.folder))
    monkeypatch.setattr("chatlab.services.find.SYSTEM_SCRIPTS", ())
    monkeypatch.setattr("chatlab.services.find.BREW_PREFIXES", ())
    assert packages.main() == 1
    assert len(capsys.readouterr().err.splitlines()) == 3
