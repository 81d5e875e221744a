"""Several computers on one: network namespaces with addresses of their own on a bridge.

Addresses are of a range for documentation (RFC 5737) and exist in these namespaces only.
Every program runs in one of them by ``ip netns exec``; what is left at the end is an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[1]
#: Everything that is waited for comes sooner, on a slow machine.
PATIENCE_SECONDS = 30.0
#: RabbitMQ's start.
BOOT_SECONDS = 90.0


def ip(*words: str) -> None:
    """``ip`` of iproute2; an error of it is one of the test."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def require_namespaces() -> None:
    """Skip where there are none; on a build server that is a failure."""
    why = ""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        why = "network namespaces need Linux, root and iproute2"
    else:
        name = f"cl-{secrets.token_hex(3)}"
        tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
        if tried.returncode == 0:
            ip("netns", "del", name)
        else:
            why = f"no network namespace can be made here: {tried.stderr.strip()}"
    if why:
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)


class Computer:
    """One namespace with one address."""

    def __init__(self, name: str, namespace: str, bridge: str, address: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._bridge = bridge
        self._port = f"to-{name}"

    def plug_in(self) -> None:
        """Make it, and connect it to the bridge."""
        ip("netns", "add", self.namespace)
        ip(
            *("link", "add", "eth0", "netns", self.namespace, "type", "veth"),
            *("peer", "name", self._port, "netns", self._bridge),
        )
        ip("-n", self._bridge, "link", "set", self._port, "master", "br0", "up")
        ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            ip("-n", self.namespace, "link", "set", interface, "up")

    def cut_off(self) -> None:
        """The cable is out: nobody is told, packets are lost."""
        ip("-n", self._bridge, "link", "set", self._port, "down")

    def connect_again(self) -> None:
        ip("-n", self._bridge, "link", "set", self._port, "up")

    def inside(self, *words: str) -> list[str]:
        """A command that runs there."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def listening(self) -> dict[str, list[tuple[str, int]]]:
        """What listens there, as (address, port): ``tcp`` and ``udp`` (without those of a
        resolver, which are connected to the one whom they ask)."""
        found = {}
        for kind, option in (("tcp", "-ltnH"), ("udp", "-lunH")):
            said = subprocess.run(
                self.inside("ss", option), capture_output=True, text=True, check=True
            )
            local = [line.split()[3].rpartition(":") for line in said.stdout.splitlines()]
            found[kind] = [(_plain(host), int(port)) for host, _, port in local]
        return found

    def processes(self) -> list[int]:
        said = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True
        )
        return list(map(int, said.stdout.split()))


def _plain(host: str) -> str:
    """As it was asked for: gRPC's sockets are of IPv6 (RFC 4291, section 2.5.5.2)."""
    return host.strip("[]").removeprefix("::ffff:")


@contextmanager
def computers(*names: str) -> Iterator[list[Computer]]:
    """Computers that reach each other; the first one is 192.0.2.1."""
    suffix = secrets.token_hex(3)
    bridge = f"cl-{suffix}-net"
    made = [
        Computer(name, f"cl-{suffix}-{name}", bridge, f"192.0.2.{number}")
        for number, name in enumerate(names, 1)
    ]
    try:
        ip("netns", "add", bridge)
        ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", bridge, "link", "set", "br0", "up")
        for computer in made:
            computer.plug_in()
        yield made
        left = {one.name: one.processes() for one in made if one.processes()}
        assert not left, f"still running: {left}"
    finally:
        for namespace in (*(one.namespace for one in made), bridge):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


class Speaker:
    """A process on a computer, and the lines that it prints."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            self.hear(self.lines[-1])
            self._changed.set()
        self._changed.set()

    def hear(self, line: str) -> None:
        """A line was printed."""

    async def until(self, so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not so():
                    assert not self._listening.done(), self.lines[-20:]
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {self.lines[-20:]}") from None

    async def end(self, *, kill: bool = False) -> int:
        """SIGTERM, or SIGKILL; the exit status."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill() if kill else self.process.terminate()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            raise
        await self._listening
        return status


async def start(
    computer: Computer, *words: str, environ: dict[str, str], stdin: int | None = None
) -> Process:
    """A Python program there. ``ip`` becomes the program, so a signal reaches it."""
    return await asyncio.create_subprocess_exec(
        *computer.inside(sys.executable, *words),
        cwd=ROOT,
        env=environ,
        stdin=stdin if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1024 * 1024,
    )


class User(Speaker):
    """``hosts_child`` on a computer."""

    def __init__(self, name: str, computer: Computer, process: Process) -> None:
        self.name = name
        self.computer = computer
        #: (chat, sender, body), as they were shown.
        self.shown: list[tuple[str, str, str]] = []
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        super().__init__(process)

    def hear(self, line: str) -> None:
        try:
            what, *rest = json.loads(line)
        except ValueError:  # an error's traceback: seen in ``lines``
            return
        match what, rest:
            case "shown", [chat, sender, body]:
                self.shown.append((chat, sender, body))
            case "done", [number, value]:
                self._answers.pop(number).set_result(value)
            case "failed", [number, kind, text]:
                self._answers.pop(number).set_exception(Refused(kind, text))

    def ask(self, verb: str, **arguments: Any) -> asyncio.Future[Any]:
        """Have the client do something; what comes back."""
        self._number += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([self._number, verb, arguments]).encode() + b"\n")
        return answer

    async def do(self, verb: str, **arguments: Any) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.ask(verb, **arguments)

    def bodies(self, chat: str) -> list[str]:
        return [body for its, _, body in self.shown if its == chat]

    async def wait_for(self, chat: str, count: int) -> list[str]:
        await self.until(lambda: len(self.bodies(chat)) >= count)
        return self.bodies(chat)

    async def sees(self, name: str, there: bool, via: str = "registry") -> None:
        """Until discovery says so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                entries = (await self.do("discover", via=via))["entries"]
                people = [one["name"] for one in entries if one["kind"] == "private"]
                if (name in people) is there:
                    return
                await asyncio.sleep(0.05)

    async def leave(self) -> None:
        """Goodbye: the end of its input."""
        if self.process.returncode is None and self.process.stdin is not None:
            self.process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self.process.wait()
        await self.end(kill=True)


class Refused(Exception):
    """The client raised an error of chatlab."""


@asynccontextmanager
async def user(
    name: str, computer: Computer, invitation: Path, environ: dict[str, str]
) -> AsyncIterator[User]:
    words = ("-m", "tests.hosts_child", name, str(invitation))
    made = User(name, computer, await start(computer, *words, environ=environ, stdin=PIPE))
    try:
        await made.until(lambda: '["ready"]' in made.lines)
        await made.do("begin")
        yield made
    finally:
        await made.leave()


class Terminal:
    """``chatlab client`` in a terminal (tmux) of its own. Made by :func:`terminal`."""

    def __init__(self, socket: str) -> None:
        self._tmux = ("tmux", "-L", socket, "-f", "/dev/null", "-u")

    def __repr__(self) -> str:
        return f"the terminal:\n{self.screen}"

    def tell(self, *words: str, environ: dict[str, str] | None = None) -> str:
        """A command of tmux; what it printed."""
        done = subprocess.run(
            [*self._tmux, *words], env=environ, capture_output=True, text=True, check=True
        )
        return done.stdout

    @property
    def screen(self) -> str:
        """What is on it."""
        return self.tell("capture-pane", "-p")

    def enter(self, line: str) -> None:
        """Type a line."""
        self.tell("send-keys", "-l", line)
        self.tell("send-keys", "Enter")

    async def wait(self, *texts: str) -> None:
        """Until all of them are on the screen."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not all(text in self.screen for text in texts):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{texts} has not come on {self!r}") from None


@asynccontextmanager
async def terminal(
    name: str, computer: Computer, invitation: Path | None, environ: dict[str, str]
) -> AsyncIterator[Terminal]:
    """What is typed on the other computer, and nothing else; the window is closed at the end,
    and the client has gone then."""
    if shutil.which("tmux") is None:
        assert os.environ.get("CI") != "true", "a build server must have tmux"
        pytest.skip("no tmux on this machine")
    made = Terminal(f"{computer.namespace}-{name}")
    words = ["-m", "chatlab", "client", name]
    words += ["--config", str(invitation)] if invitation is not None else []
    made.tell(
        *("new-session", "-d", "-x", "100", "-y", "30"),
        *computer.inside(sys.executable, *words),
        environ=environ | {"LC_ALL": "C.UTF-8"},
    )
    client = psutil.Process(int(made.tell("display", "-p", "#{pane_pid}")))
    try:
        yield made
    finally:
        made.tell("kill-server")
        await asyncio.to_thread(client.wait, PATIENCE_SECONDS)
