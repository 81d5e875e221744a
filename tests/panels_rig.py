"""A lab without services for the tests of panels: journals are written by hand, verbs of users
are only noted down. What meets real services is tested in ``tests/contracts``."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from plots_script import Script

from chatlab.errors import ChatClosed, LabClosed, SendFailed
from chatlab.loop import BackgroundLoop


class PaperScene:
    def __init__(self, script: Script) -> None:
        self.script, self.journal = script, script.journal
        self.journal.header["users"] = list(script.users)


class PaperChat:
    """A handle: what is sent is noted, or refused."""

    def __init__(self, user: PaperUser, chat: str, backend: str = "rabbitmq-durable") -> None:
        self.user, self.chat, self.backend = user, chat, backend
        self._scene = user.lab.current
        self.refuses = ""

    def send(self, text: str) -> None:
        if self._scene is not self.user.lab.current:
            raise ChatClosed("This handle belongs to a scene that is over.")
        if self.refuses:
            raise SendFailed(self.refuses)
        self.user.did.append(("send", self.chat, text))


class PaperUser:
    def __init__(self, lab: PaperLab, name: str, *conversations: str) -> None:
        self.lab, self.name, self.where = lab, name, "online"
        self.conversations = list(conversations)
        self.did: list[tuple[str, ...]] = []
        self.handles: dict[str, PaperChat] = {}
        self.found: list[Any] = []
        self._seat = self
        self.process = False

    def group(self, name: str) -> PaperChat:
        return self.handles.setdefault(name, PaperChat(self, f"group:{name}"))

    def discover(self) -> list[Any]:
        return self.found

    def __getattr__(self, verb: str) -> Callable[[], None]:
        def do() -> None:
            self.did.append((verb,))
            after = {"crash": "crashed", "freeze": "frozen", "thaw": "online"}
            self.where = after.get(verb, verb)

        if verb not in ("online", "offline", "crash", "freeze", "thaw"):
            raise AttributeError(verb)
        return do


class PaperLab:
    """A name, a journal, a loop."""

    name, shared, links = "paper", False, True

    def __init__(self, script: Script, loop: BackgroundLoop) -> None:
        self.current = PaperScene(script)
        self.loop = loop
        self.closed = False

    @property
    def journal(self) -> Any:
        return self.current.journal

    def user(self, name: str, *conversations: str) -> PaperUser:
        return PaperUser(self, name, *conversations)

    def scene(self, script: Script) -> None:
        self.current = PaperScene(script)

    def background(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        if self.closed:
            work.close()
            raise LabClosed("The lab paper has been closed.")
        return self.loop.start(work)


@contextmanager
def paper_lab(script: Script) -> Iterator[PaperLab]:
    with BackgroundLoop("paper") as loop:
        lab = PaperLab(script, loop)
        yield lab
        lab.closed = True


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until it is, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
