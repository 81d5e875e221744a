"""Outside clients: code that is not ours, a student's file or a company's client, played
through any scenario and judged like any backend: ``--client my/insults.py:Insults``.

The door is a class of at most three methods besides ``__init__``; one object of it is one role
(who sends, or who receives) of one user, in a process of its own. What it has to do depends on
the pattern, and its methods say which pattern it is::

    class Insults:                          # a work queue: send, listen
        def __init__(self, url, name): ...  # the broker's URL, the user's name
        def send(self, text): ...           # returns when the broker has it
        def listen(self, handle): ...       # never returns; handle(text) for each insult

    class Group(Insults):                   # publish/subscribe: besides
        def subscribe(self): ...            # from now on what is sent is meant for this user;
                                            # called on each object before it listens
        def unsubscribe(self): ...          # for good

    class Mailbox:                          # private chats: no listen, the laboratory looks
        def __init__(self, url, name): ...
        def put(self, to, text): ...        # returns when it is kept
        def pending(self): ...              # [(id, text), …], oldest first
        def ack(self, id): ...              # it may be forgotten

``handle`` shows the message and does the work. When it returns, the work is done and the broker
may be told; when it raises, the work failed (five times: a dead letter). With
``handle(text, redelivered=True)`` a client says that the broker has handed it out before; one
that does not say is not blamed for it. ``listen`` ends by KeyboardInterrupt, as a script ends
by Ctrl-C. What ``send`` or ``put`` raises makes the message *uncertain*, unless it is one of
``refusals``: then it was definitely not accepted. What a client does behind the laboratory's
back, an acknowledgement above all, shows in what becomes of its messages.

A class may have, besides:

- ``broker = "redis"`` (default: ``"rabbitmq"``): whose URL it gets;
- ``promises = "rabbitmq-transient"``: the backend of its pattern by whose promises it is judged
  (default: those that keep everything);
- ``refusals = (pika.exceptions.UnroutableError,)``;
- ``__init__(self, url, name, prefix)``: begin the name of all that you declare with it. Needed
  on Redis and on a RabbitMQ that is not the laboratory's own, where others are, too;
- ``close()``: a goodbye; and ``remove()``: delete what you have declared (called once, on a new
  object; needed on a RabbitMQ that is not the laboratory's own).

Short examples, right ones and broken ones, are in ``tests/outside_clients``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from chatlab.backends import GROUPS, INSULTS, PRIVATE, Known, parse_backend
from chatlab.errors import InvalidInput
from chatlab.experiments.steps import Pattern

#: Begins the name of such a backend: ``outside:my/insults.py:Insults``.
PREFIX = "outside:"
#: A class is looked at for at most so long; the child gives up a little earlier.
LOOK_SECONDS = 25.0
CHILD = Path(__file__).with_name("outside_child.py")


class Handle(Protocol):
    """What ``listen`` is handed."""

    def __call__(self, text: str, redelivered: bool | None = None) -> None: ...


class InsultClient(Protocol):
    """A work queue: each text reaches one of those who listen."""

    def __init__(self, url: str, name: str) -> None: ...
    def send(self, text: str) -> None: ...
    def listen(self, handle: Handle) -> None: ...


class GroupClient(InsultClient, Protocol):
    """A group: each text reaches everybody who has subscribed."""

    def subscribe(self) -> None: ...
    def unsubscribe(self) -> None: ...


class MailboxClient(Protocol):
    """Private chats: each text is kept for the one whom it is for."""

    def __init__(self, url: str, name: str) -> None: ...
    def put(self, to: str, text: str) -> None: ...
    def pending(self) -> Iterable[tuple[Any, str]]: ...
    def ack(self, id: Any) -> None: ...


_METHODS: dict[Pattern, tuple[str, ...]] = {
    "private": ("put", "pending", "ack"),
    "group": ("send", "listen", "subscribe", "unsubscribe"),
    "insults": ("send", "listen"),
}
_KNOWN: dict[Pattern, Known] = {"group": GROUPS, "private": PRIVATE, "insults": INSULTS}
#: By what a class is judged that does not say: what keeps everything on its broker.
_PROMISES = {
    ("group", "rabbitmq"): "rabbitmq-durable",
    ("group", "redis"): "redis-stream",
    ("insults", "rabbitmq"): "rabbitmq",
    ("insults", "redis"): "redis-stream",
    ("private", "rabbitmq"): "mailbox-redis",
    ("private", "redis"): "mailbox-redis",
}


@dataclass(frozen=True)
class Outside:
    """One class that is not ours, as far as it could be looked at from outside."""

    #: As its reader wrote it, behind :data:`PREFIX`; the name of the backend.
    backend: str
    file: Path
    #: Of the class.
    name: str
    pattern: Pattern
    #: ``rabbitmq`` or ``redis``.
    broker: str
    #: The backend by whose promises it is judged.
    promises: str
    #: Whether it takes a prefix for its names, and whether it removes what it declared.
    takes_prefix: bool
    removes: bool

    def doing(self, verb: str) -> str:
        """A verb of the child as the reader's own method: ``Insults.send()``."""
        own = {
            "build": "__init__",
            "send": "put" if self.pattern == "private" else "send",
            "listen": "pending" if self.pattern == "private" else "listen",
            "end": "close",
        }
        return f"{self.name}.{own.get(verb, verb)}()"


def is_outside(backend: str) -> bool:
    """Whether this names code that is not ours."""
    return backend.startswith(PREFIX)


def find_client(text: str) -> Outside:
    """Look at a class, in a process of its own.

    Args:
        text: ``my/insults.py:Insults``, with or without ``outside:`` in front.

    Raises:
        InvalidInput: no such file or class, it cannot be loaded, or it is no client; says
            where and what to do.
    """
    short = text.removeprefix(PREFIX)
    file, colon, name = short.rpartition(":")
    path = Path(file).absolute()
    if not colon or not name.isidentifier():
        raise InvalidInput(
            f"{short!r} names no class in a file.", todo="Say it so: my/insults.py:Insults."
        )
    if not path.is_file():
        raise InvalidInput(f"There is no file {file}.", todo="Look at the path before the ':'.")
    return _found(f"{PREFIX}{short}", path, name, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _found(backend: str, path: Path, name: str, _changed: int) -> Outside:
    facts = _look(path, name)
    methods = set(facts["methods"])
    pattern = _pattern(methods, path, name)
    broker = facts["broker"]
    if broker not in ("rabbitmq", "redis"):
        raise InvalidInput(
            f"{name}.broker in {path.name} is {broker!r}.", todo="It is rabbitmq or redis."
        )
    return Outside(
        backend=backend,
        file=path,
        name=name,
        pattern=pattern,
        broker=broker,
        promises=_promises(pattern, broker, facts["promises"], path, name),
        takes_prefix="prefix" in facts["parameters"],
        removes="remove" in methods,
    )


def _look(path: Path, name: str) -> dict[str, Any]:
    """What a child process says of the class."""
    argv = [sys.executable, "-P", str(CHILD), "describe", str(path), name]
    facts: dict[str, Any] = {}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOOK_SECONDS
        )
        facts = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        facts["error"] = {"what": "it did not come to an end", "line": None}
    if "error" in facts:
        line = facts["error"]["line"]
        where = f"{path.name}, line {line}" if line else path.name
        raise InvalidInput(
            f"{name} cannot be loaded from {where}: {facts['error']['what']}.",
            todo=f"Try it: python -c 'import {path.stem}' in its folder.",
        )
    return facts


def _pattern(methods: set[str], path: Path, name: str) -> Pattern:
    for pattern, wanted in _METHODS.items():
        if methods.issuperset(wanted):
            return pattern
    pattern = min(_METHODS, key=lambda pattern: len(set(_METHODS[pattern]) - methods))
    missing = [method for method in _METHODS[pattern] if method not in methods]
    raise InvalidInput(
        f"{name} in {path.name} is no client: it has no {' and no '.join(missing)}.",
        todo="Its methods are: send and listen (insults), with subscribe and unsubscribe "
        "(group), or put, pending and ack (private).",
    )


def _promises(pattern: Pattern, broker: str, said: str, path: Path, name: str) -> str:
    if not said:
        return _PROMISES[pattern, broker]
    try:
        parse_backend(said, _KNOWN[pattern])
    except InvalidInput as error:
        raise InvalidInput(
            f"{name}.promises in {path.name}: {error.what}", todo=error.todo
        ) from error
    return said
