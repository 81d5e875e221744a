"""``chatlab doctor``: every check sees what it is there for."""

from __future__ import annotations

import resource
import socket
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatlab import doctor, services
from chatlab.errors import ServiceMissing
from chatlab.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


def wrong(findings: Any) -> list[doctor.Finding]:
    return [finding for finding in findings if not finding.ok]


def test_a_finding_shows_what_to_type_only_when_something_is_wrong() -> None:
    assert str(doctor.Finding("Redis", "here", todo="Type: x")) == "ok  Redis        here"
    assert str(doctor.Finding("Redis", "gone", ok=False, todo="Type: x")).endswith("Type: x")


def test_one_failing_check_does_not_hide_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(settings: Settings) -> Any:
        raise ServiceMissing("No RabbitMQ.", todo="Type: this")

    monkeypatch.setattr(doctor, "CHECKS", (missing, doctor.ports))
    first, *rest = doctor.examine(settings)
    assert (first.ok, first.text, first.todo) == (False, "No RabbitMQ.", "Type: this")
    assert rest and all(finding.ok for finding in rest)


def test_this_python_is_new_enough(settings: Settings) -> None:
    assert not wrong(doctor.python(settings))


def test_a_package_that_is_missing_old_or_broken_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_one.py").write_text("raise OSError('no libthing.so')")
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = [
        "pytest>=7",
        "pytest-asyncio>=999",
        "nowhere-to-be-found",
        "broken-one",
        "not-for-us; extra == 'test'",
    ]
    versions = {"pytest": "8.0", "pytest-asyncio": "0.25", "broken-one": "1.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.metadata.PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(doctor.metadata, "version", version)
    texts = [finding.text for finding in wrong(doctor.packages(settings))]
    assert texts == [
        "pytest-asyncio 0.25 is not the version that chatlab needs",
        "nowhere-to-be-found is not installed",
        "broken-one cannot be imported: OSError: no libthing.so",
    ]


def test_every_package_that_chatlab_asks_for_is_known_by_its_import_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    wanted = pyproject["project"]["dependencies"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    assert not wrong(doctor.packages(settings))


def test_a_broker_of_ones_own_that_does_not_answer_is_said_without_its_secret(
    settings: Settings,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        own = Settings(
            folder=settings.folder,
            rabbitmq_url=f"amqp://me:hush@127.0.0.1:{port}",
            redis_url=f"redis://:hush@127.0.0.1:{port}",
        )
        found = [*doctor.rabbitmq(own), *doctor.redis(own)]
    assert [finding.ok for finding in found] == [False, False, False]
    assert "CHATLAB_MANAGEMENT_URL" in found[1].todo
    assert not any("hush" in str(finding) for finding in found)


def test_a_broker_of_ones_own_that_answers_is_well(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"127.0.0.1:{server.getsockname()[1]}"
        own = Settings(rabbitmq_url=f"amqp://{url}", management_url=f"http://{url}")
        assert not wrong(doctor.rabbitmq(own))


@pytest.mark.parametrize(
    ("fetchable", "todo"), [(True, "-m chatlab.services.packages"), (False, "brew install")]
)
def test_a_rabbitmq_that_is_missing_is_fetched_or_the_line_to_type_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fetchable: bool, todo: str
) -> None:
    def missing(settings: Settings) -> Any:
        raise ServiceMissing("None here.", todo="Type: brew install rabbitmq")

    monkeypatch.setattr("chatlab.services.find.find_rabbitmq", missing)
    monkeypatch.setattr("chatlab.services.packages.can_fetch", lambda: fetchable)
    (finding,) = wrong(doctor.rabbitmq(settings))
    assert todo in finding.todo


def test_a_localhost_that_is_elsewhere_is_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not wrong(doctor.ports(settings))
    known = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest: known("10.0.0.1" if host == "localhost" else host, *rest),
    )
    (finding,) = wrong(doctor.ports(settings))
    assert "localhost" in finding.text


def test_a_folder_that_does_not_exist_yet_is_well(tmp_path: Path) -> None:
    assert not wrong(doctor.folder(Settings(folder=tmp_path / "a" / "b")))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = wrong(doctor.folder(Settings(folder=tmp_path / "file" / "below")))
    assert "export CHATLAB_FOLDER=" in finding.todo


def test_a_full_disk_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**20))
    (finding,) = wrong(doctor.folder(settings))
    assert finding.about == "disk"


def test_too_few_open_files_are_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    (finding,) = wrong(doctor.limits(settings))
    assert finding.todo == "Type: ulimit -n 4096"


def test_what_runs_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(settings: Settings) -> None:
        return None

    monkeypatch.setattr(services, "status", status, raising=False)
    (finding,) = doctor.supervisor(settings)
    assert finding.text == "nothing"
