"""Terminals of a test's own (tmux), and the chat system that clients in them are part of."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from chatlab import services
from chatlab.loop import BackgroundLoop
from chatlab.services.lease import Lease
from chatlab.settings import Settings, child_environ

ROOT = Path(__file__).parents[2]
#: What is waited for has come by then, in seconds.
PATIENCE_SECONDS = 20.0
#: A screen is looked at so often, in seconds.
LOOK_SECONDS = 0.05
SIZE = ("-x", "100", "-y", "30")
#: What tmux itself says of a program's end comes too late, at times not at all.
_SHELL = '"$@"; echo "[exit status $?]"; exec sleep 1000'


class Tmux:
    """A tmux server at a socket of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chatlab-tmux-"))
        self._socket = str(self._folder / "socket")

    def run(self, *words: str, **environ: str) -> str:
        """A command of tmux; what it printed."""
        ran = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", "-u", *words],
            env=child_environ({"LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT), **environ}),
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout

    def open(self, name: str, *words: str, **environ: str) -> Window:
        """A window that runs a Python module; when that has ended, its exit status is shown."""
        extra = [f"-e{key}={value}" for key, value in environ.items()]
        command = shlex.join(["sh", "-c", _SHELL, "sh", sys.executable, "-m", *words])
        self.run("new-session", "-d", *SIZE, *extra, "-s", name, command)
        return Window(self, name, command)

    def close(self) -> None:
        """End it with all windows; fine when there is none."""
        subprocess.run(
            ["tmux", "-S", self._socket, "kill-server"],
            capture_output=True,
            check=False,
        )
        shutil.rmtree(self._folder)


class Window:
    """One terminal."""

    def __init__(self, tmux: Tmux, name: str, command: str) -> None:
        self._tmux, self._name, self._command = tmux, name, command

    def __repr__(self) -> str:
        return f"the terminal of {self._name}:\n{self.screen}"

    @property
    def _target(self) -> str:
        return f"={self._name}:"

    @property
    def screen(self) -> str:
        """What is on it."""
        return self._tmux.run("capture-pane", "-p", "-t", self._target)

    @property
    def raw(self) -> str:
        """The same with its colours, and the window's title before it."""
        title = self._tmux.run("display", "-p", "-t", self._target, "#{pane_title}")
        return title + self._tmux.run("capture-pane", "-e", "-p", "-t", self._target)

    @property
    def typed(self) -> str:
        """The line above the bar."""
        return self.screen.rstrip("\n").splitlines()[-2]

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self._tmux.run("send-keys", "-t", self._target, *keys)

    def enter(self, text: str) -> None:
        """Type a line."""
        self._tmux.run("send-keys", "-t", self._target, "-l", text)
        self.type("Enter")

    def paste(self, text: str) -> None:
        """Paste, as a terminal does it (bracketed)."""
        self._tmux.run("set-buffer", "-b", self._name, "--", text)
        self._tmux.run("paste-buffer", "-p", "-b", self._name, "-t", self._target)

    def wait(self, *wanted: str, without: str = "") -> str:
        """The screen, as soon as all of ``wanted`` are on it, and ``without`` is not."""
        self.until(
            lambda: (
                all(text in self.screen for text in wanted)
                and not (without and without in self.screen)
            ),
            f"{wanted} without {without!r}",
        )
        return self.screen

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"{what} has not come on {self!r}"
            time.sleep(LOOK_SECONDS)

    @property
    def pid(self) -> int:
        """The program in it."""
        shell = int(self._tmux.run("display", "-p", "-t", self._target, "#{pane_pid}"))
        return psutil.Process(shell).children()[0].pid

    def ended(self) -> int:
        """The exit status, when it has ended; -9 for SIGKILL, and so on."""
        status = re.compile(r"\[exit status (\d+)\]")
        self.until(lambda: bool(status.search(self.screen)), "the end")
        found = int(status.findall(self.screen)[-1])
        return found if found < 128 else 128 - found

    def again(self) -> None:
        """Run the same command once more."""
        self._tmux.run("respawn-pane", "-k", "-t", self._target, self._command)

    def close(self) -> None:
        """Close the window, whatever runs in it."""
        self._tmux.run("kill-session", "-t", f"={self._name}")

    def menu(self) -> None:
        """Back to the menu, from wherever it is."""
        if "choose>" not in self.screen:
            self.enter("/leave")
        self.until(lambda: "choose>" in self.typed or "for good?" in self.typed, "the menu")
        if "for good?" in self.typed:
            self.enter("n")
        self.wait("choose>")


class World:
    """A lab with brokers, terminals, and at most one chat server."""

    def __init__(self, settings: Settings) -> None:
        self.lab = f"terminal-{secrets.token_hex(3)}"
        self.tmux = Tmux()
        self._loop = BackgroundLoop("terminal tests")
        self.lease: Lease = self._loop.call(
            services.join(settings, lab=self.lab, shared=True, kept=True)
        )
        self._server: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        """Start a chat server."""
        self._server = subprocess.Popen(
            [sys.executable, "-m", "chatlab", "server", "--lab", self.lab],
            env=child_environ({"PYTHONPATH": str(ROOT)}),
            stdout=subprocess.DEVNULL,
        )

    def kill_server(self) -> None:
        """SIGKILL."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def client(self, name: str, *words: str, **environ: str) -> Window:
        """A client in a terminal of its own."""
        arguments = ("client", *(words or (name,)), "--lab", self.lab)
        return self.tmux.open(name, "chatlab", *arguments, **environ)

    def call(self, work: object) -> object:
        """Await something on the loop of the lease."""
        return self._loop.call(work)  # type: ignore[arg-type]

    def close(self) -> None:
        """End everything."""
        self.tmux.close()
        self.kill_server()
        self._loop.call(self.lease.close())
        self._loop.close()
