"""The process in which code that is not ours runs: one object, one role, one user.

Started by its path, not as a module: the package around it takes seconds to load, and nothing
of it is needed here. Two ways to run it:

- ``outside_child.py describe FILE CLASS`` prints what the class is, as JSON, and ends;
- ``outside_child.py PORT`` connects to the laboratory, proves itself with the one-time token,
  and obeys it: JSON Lines, ``{"call": n, "verb": …, "args": {…}}`` in, ``{"reply": n, …}`` and
  ``{"fact": […]}`` out. A fact is written with a blocking ``sendall`` before the child goes
  on, so what it did before a SIGKILL is known; and all goes over one socket, so an answer is
  never ahead of its facts.

The object lives in the main thread, as in a script of its own: its methods are called there,
one after the other, and ``listen`` ends as such scripts do, by Ctrl-C. A second thread reads
the socket.

A text that travels carries a *label* in front of its body, put there and taken off again here:
a JSON array that says which message it is. To the code in between it is text.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from chatlab.journal import encode, now
from chatlab.messages import Message
from chatlab.settings import one_time_token

#: A class that is being looked at has so long, in seconds; then the process ends itself.
DESCRIBE_SECONDS = 20
#: Pause between two looks into a mailbox, and after one that failed.
POLL_SECONDS, PAUSE_SECONDS = 0.02, 0.2
#: The conversation under which a mailbox is attached.
MAILBOX = "mailbox"


class WorkFailed(RuntimeError):
    """What ``handle`` raises when the work on a message fails."""


# -- the label


def labelled(message: Message) -> str:
    """The message as the text that travels."""
    id, sender, incarnation, to, body, seq, sent_at, clock = message
    label = [id, sender, incarnation, to, seq, sent_at, clock]
    return f"{json.dumps(label)} {body}"


def unlabelled(text: Any) -> Message:
    """The message that arrived; one that carries no label of ours is nobody's."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        (id, sender, incarnation, to, seq, sent_at, clock), end = json.JSONDecoder().raw_decode(
            text
        )
        return Message(id, sender, incarnation, to, text[end + 1 :], seq, sent_at, clock)
    except (ValueError, TypeError):
        return Message(f"unlabelled:{time.monotonic_ns()}", "", 0, "", str(text), 0, now(), 0)


# -- the code that is not ours


def load(file: str, name: str) -> type:
    """The class, its file run as a module; its neighbours can be imported."""
    path = Path(file)
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    found = getattr(module, name)
    if not isinstance(found, type):
        raise TypeError(f"{name} is no class")
    return found


def describe(file: str, name: str) -> dict[str, Any]:
    """What the laboratory needs to know of a class before it plays with it."""
    found = load(file, name)
    return {
        "methods": [name for name, value in inspect.getmembers(found) if callable(value)],
        "parameters": list(inspect.signature(found).parameters),
        "broker": getattr(found, "broker", "rabbitmq"),
        "promises": getattr(found, "promises", ""),
    }


def explained(error: BaseException, file: str) -> dict[str, Any]:
    """An error as what, and the innermost line of the file in which it arose."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    text = str(error).partition("\n")[0]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return {"what": what, "line": lines[-1] if lines else None}


# -- obeying


class Recorder:
    """Writes facts and answers to the laboratory, one whole line at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        #: The thread that writes just now: it must not be interrupted in mid-line.
        self.writer: int | None = None
        self.interrupted = False

    def write(self, frame: dict[str, Any]) -> None:
        with self._lock:
            self.writer = threading.get_ident()
            try:
                self._connection.sendall(json.dumps(frame).encode() + b"\n")
            finally:
                self.writer = None
        if self.interrupted and threading.current_thread() is threading.main_thread():
            self.interrupted = False
            raise KeyboardInterrupt


class Child:
    """One object and what is done with it."""

    def __init__(self, connection: socket.socket) -> None:
        self._recorder = Recorder(connection)
        self._calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = connection.makefile("rb")
        self._leaving = False
        self._told: set[str] = set()
        #: Set by ``build``.
        self._object: Any = None
        self._about: dict[str, Any] = {}

    def run(self) -> None:
        """Until the laboratory says ``end``."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        threading.Thread(target=self._read, daemon=True).start()
        verb = ""
        while verb != "end":
            try:
                call = self._calls.get()
                verb = call["verb"]
                self._recorder.write({"reply": call["call"], **self._done(call)})
                if verb == "listen":  # answered: it listens from now on
                    self._recorder.write({"ended": self._listen_on()})
            except KeyboardInterrupt:
                pass  # it came when there was nothing left to interrupt

    def _done(self, call: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"value": getattr(self, f"_{call['verb']}")(**call["args"])}
        except BaseException as error:
            return {"error": explained(error, self._about.get("file", ""))}

    # -- the second thread

    def _read(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        for line in self._reader:
            call = json.loads(line)
            if call["verb"] == "interrupt":
                self._leaving = True
                signal.pthread_kill(main, signal.SIGINT)
            elif call["verb"] == "where":
                self._recorder.write({"reply": call["call"], "value": self._where(main)})
            else:
                self._calls.put(call)
        os._exit(1)  # the laboratory is gone

    def _where(self, thread: int) -> int | None:
        """The line of the file in which the main thread is now."""
        frame = sys._current_frames().get(thread)
        while frame is not None:
            if frame.f_code.co_filename == self._about.get("file"):
                return frame.f_lineno
            frame = frame.f_back
        return None

    def _on_interrupt(self, *_: object) -> None:
        if self._recorder.writer == threading.get_ident():
            self._recorder.interrupted = True
        else:
            raise KeyboardInterrupt

    # -- verbs

    def _build(self, **about: Any) -> None:
        """Make the object. ``about``: file, class, url, user, prefix, incarnation, chat,
        backend, role, work, fails_on."""
        self._about = about
        given = {"prefix": about["prefix"]} if about["prefix"] is not None else {}
        made = load(about["file"], about["class"])
        self._object = made(about["url"], about["user"], **given)

    def _subscribe(self) -> None:
        self._object.subscribe()
        self._fact("Subscribed", self._about["chat"], self._about["backend"])

    def _unsubscribe(self) -> None:
        self._object.unsubscribe()
        self._fact("Left", self._about["chat"])

    def _remove(self) -> None:
        self._object.remove()

    def _listen(self) -> None:
        about = self._about
        self._fact("Connected", about["chat"], about["backend"], about["role"])

    def _listen_on(self) -> dict[str, Any] | None:
        """Until interrupted (then ``None``); says why it ended otherwise."""
        chat = self._about["chat"]
        ended: dict[str, Any] = {"what": "it returned", "line": None}
        try:
            self._poll() if chat == MAILBOX else self._object.listen(self.handle)
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            ended = explained(error, self._about["file"])
        self._fact("Disconnected", chat, "" if self._leaving else ended["what"])
        return None if self._leaving else ended

    def _poll(self) -> None:
        """What a mailbox's reader does: look, show, acknowledge. What fails is tried again,
        with the same object."""
        while True:
            try:
                for id, text in self._object.pending():
                    message = self._shown(text, None)
                    self._object.ack(id)
                    self._fact("Acked", conversation(message), message.id)
                time.sleep(POLL_SECONDS)
            except Exception as error:
                self._complain(error)
                time.sleep(PAUSE_SECONDS)

    def _complain(self, error: Exception) -> None:
        """Tell what goes wrong, once."""
        found = explained(error, self._about["file"])
        if found["what"] not in self._told:
            self._told.add(found["what"])
            self._recorder.write({"trouble": found})

    def handle(self, text: Any, redelivered: bool | None = None) -> None:
        """What ``listen`` is handed: show the message and do the work.

        Args:
            redelivered: whether the broker says that it was handed out before; ``None``: the
                client does not tell.

        Raises:
            WorkFailed: the work failed.
        """
        self._shown(text, redelivered)

    def _shown(self, text: Any, redelivered: bool | None) -> Message:
        message = unlabelled(text)
        chat = self._about["chat"]
        chat = conversation(message) if chat == MAILBOX else chat
        self._fact("Delivered", chat, message, redelivered)
        if self._about["work"]:
            time.sleep(self._about["work"])
        if self._about["fails_on"] and self._about["fails_on"] in message.body:
            self._fact("Rejected", chat, message.id, None)
            raise WorkFailed(f"the work on {message.id} failed")
        if chat == "insults":
            self._fact("Handled", chat, message.id)
        elif chat.startswith("group:"):
            # Seen from outside: from here on the store may be told.
            self._fact("Acked", chat, message.id)
        return message

    def _send(self, messages: list[list[Any]], put: bool) -> list[list[str]]:
        """Send in order: for each its id, what became of it, and why."""
        return [self._send_one(Message(*message), put) for message in messages]

    def _send_one(self, message: Message, put: bool) -> list[str]:
        chat = conversation(message) if put else self._about["chat"]
        self._fact("Sent", chat, message)
        try:
            if put:
                self._object.put(message.to, labelled(message))
            else:
                self._object.send(labelled(message))
        except Exception as error:
            definite = isinstance(error, tuple(getattr(self._object, "refusals", ())))
            kind = "Failed" if definite else "Uncertain"
            found = explained(error, self._about["file"])
            line = f" (line {found['line']})" if found["line"] else ""
            self._fact(kind, chat, message.id, found["what"] + line)
            return [message.id, kind.lower(), found["what"]]
        self._fact("Confirmed", chat, message.id, None, None)
        return [message.id, "confirmed", ""]

    def _end(self) -> None:
        """A goodbye, if the class has one."""
        if hasattr(self._object, "close"):
            self._object.close()

    def _fact(self, kind: str, chat: str, *rest: Any) -> None:
        user, incarnation = self._about["user"], self._about["incarnation"]
        row = (kind, now(), user, incarnation, chat, *rest)
        self._recorder.write({"fact": json.loads(encode(row))})


def conversation(message: Message) -> str:
    """The private chat that a message belongs to."""
    first, second = sorted((message.sender, message.to))
    return f"private:{first}:{second}"


def _describe(file: str, name: str) -> None:
    """Print nothing but the answer: what the file prints is nobody's business here."""
    out = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.alarm(DESCRIBE_SECONDS)
    try:
        answer = describe(file, name)
    except BaseException as error:
        answer = {"error": explained(error, file)}
    os.write(out, json.dumps(answer).encode())
    os._exit(0)  # whatever threads the file has started


def main() -> None:
    """See the top of the file."""
    if sys.argv[1] == "describe":
        _describe(*sys.argv[2:4])
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    connection.sendall(one_time_token().encode() + b"\n")
    Child(connection).run()
    os._exit(0)


if __name__ == "__main__":
    main()
