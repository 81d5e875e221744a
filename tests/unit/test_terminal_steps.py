"""What the terminal client leads its user through, on a scripted screen; no services."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from chatlab import cli, logs
from chatlab.discovery import Presences
from chatlab.errors import (
    ChatClosed,
    ChatlabError,
    InvalidInput,
    NotAdmitted,
    NotPossible,
    ServiceUnavailable,
    UnknownAccount,
)
from chatlab.messages import BODY_BYTES, Message, Receipt
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.place import Place
from chatlab.settings import Settings
from chatlab.terminal import command
from chatlab.terminal import commands as c
from chatlab.terminal.conversation import Conversation
from chatlab.terminal.desk import Desk
from chatlab.terminal.program import Program
from chatlab.terminal.screen import Left, View
from chatlab.terminal.session import Session, Straight
from chatlab.terminal.steps import FOR_GOOD, Steps
from chatlab.terminal.words import said

T = TypeVar("T")

CTRL_C = "\x03"


class Script:
    """A screen whose user types these lines; ``CTRL_C`` leaves. What stood in the line when
    each was asked is kept with the prompt."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)
        self.asked: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.offered: list[str] = []
        self.draft = ""

    def show(self, view: View) -> None: ...

    def changed(self) -> None: ...

    def say(self, *lines: str) -> None:
        self.said += lines

    async def ask(
        self,
        prompt: str,
        default: str = "",
        words: Callable[[], Iterable[str]] = tuple,
        remember: bool = False,
    ) -> str:
        await asyncio.sleep(0)  # what is sent gets its turn
        self.asked.append((prompt, default))
        self.offered = list(words())
        line = self._lines.pop(0)
        if line.endswith(CTRL_C):
            self.draft = line.removesuffix(CTRL_C)
            raise Left
        return line

    async def during(self, text: str, work: Awaitable[T]) -> T:
        return await work

    def take(self) -> str:
        return self.draft


class Fake(Session):
    """A session whose client is one of these tests."""

    def __init__(self, **groups: str) -> None:
        here = Place(
            lab="chat",
            rabbitmq=RabbitAddress(host="h", port=1, user="u", password="p"),
            redis=RedisAddress(host="h", port=2),
        )
        super().__init__(Settings(), here, Desk("ana"), lambda error: None)
        self.groups = groups
        self.did: list[Any] = []
        self.errors: list[ChatlabError] = []
        self.receipts: list[Receipt] = []
        self._client = cast(Any, self)
        self.desk.service("chat server", True)

    async def open_private(self, peer: str, backend: str) -> Conversation:
        if self.errors:
            raise self.errors.pop(0)
        chat = self.desk.private(peer)
        chat.backend = backend
        return chat

    async def group_backend(self, name: str) -> str | None:
        return self.groups.get(name)

    async def join(self, name: str, backend: str | None) -> Conversation:
        self.did.append(("join", name, backend))
        chat = self.desk.group(name)
        chat.backend = self.groups.setdefault(name, backend or "")
        return chat

    async def leave(self, chat: Conversation) -> None:
        self.did.append(("leave", chat.name))
        self.desk.drop(chat)

    async def discover(self, via: str) -> Presences:
        self.did.append(("discover", via))
        return Presences([], via=via)

    async def insults(self, role: str) -> Conversation:
        self.did.append(("insults", role))
        chat = self.desk.insults()
        chat.backend, chat.sends = "rabbitmq", role == "both"
        return chat

    async def leave_insults(self) -> None:
        self.did.append("leave insults")

    # As the client:

    async def _client_send(
        self, chat: str, to: str, backend: str, bodies: list[str], ids: tuple[str, ...]
    ) -> list[Receipt]:
        if self.errors:
            raise self.errors.pop(0)
        self.did.append(("send", to, backend, *bodies, *ids))
        id = ids[0] if ids else f"ana:1:{len(self.did)}"
        sent = Message(id, "ana", 1, to, bodies[0], 1, 1.0, 1)
        self.desk.record(("Sent", 1.0, "ana", 1, chat, sent))
        return [self.receipts.pop(0)._replace(id=id)] if self.receipts else []

    @property
    def client(self) -> Any:
        return argparse.Namespace(send=self._client_send)


async def go(session: Fake, screen: Script, text: str) -> None:
    await Steps(session, screen).choose(text, c.choice(text))


async def test_a_private_chat_sends_what_is_typed_and_leaves_without_a_question() -> None:
    session, screen = Fake(), Script("bob", "hola", "//slash", "draft" + CTRL_C)
    await go(session, screen, "1")
    assert [prompt for prompt, _ in screen.asked] == ["with whom> ", *["ana> "] * 3]
    assert session.did == [
        ("send", "bob", "mailbox-redis", "hola"),
        ("send", "bob", "mailbox-redis", "/slash"),
    ]
    assert session.desk.private("bob").draft == "draft"
    again = Script(CTRL_C)
    await go(session, again, "bob")
    assert again.asked == [("ana> ", "draft")]


async def test_who_is_unknown_is_said_and_another_name_asked_for() -> None:
    session, screen = Fake(), Script("bob", CTRL_C)
    session.errors.append(UnknownAccount("There is no account nobody."))
    await go(session, screen, "1 nobody")
    assert screen.said[0] == "There is no account nobody."
    assert [prompt for prompt, _ in screen.asked] == ["with whom> ", "ana> "]


@pytest.mark.parametrize("typed", ["", "   ", "x" * (BODY_BYTES + 1), "/nonsense"])
async def test_what_cannot_be_sent_is_said_and_stands_there_again(typed: str) -> None:
    session, screen = Fake(), Script(typed, CTRL_C)
    await go(session, screen, "1 bob")
    assert screen.asked[-1] == ("ana> ", typed)
    assert screen.said and session.did == []
    if len(typed) > BODY_BYTES:
        assert "At most 65,536 bytes (64 KiB) fit; send it in parts." in screen.said


async def test_without_a_chat_server_nothing_is_sent_unless_straight_to_their_client() -> None:
    session, screen = Fake(), Script("hola", "/direct", "hola", "/mailbox", CTRL_C)
    session.desk.no_server()
    await go(session, screen, "1 bob")
    assert "There is no chat server." in screen.said
    assert session.did == [("send", "bob", "direct", "hola")]
    assert session.desk.private("bob").backend == "mailbox-redis"


async def test_why_a_chat_server_refuses_us_is_said_again_at_a_send() -> None:
    session, screen = Fake(), Script("hola", CTRL_C)
    session.desk.refuse(NotAdmitted("It asks for the lab's secret."))
    await go(session, screen, "1 bob")
    assert screen.said[0] == "It asks for the lab's secret." and session.did == []
    assert screen.asked[-1] == ("ana> ", "hola")


async def test_a_send_that_raises_is_a_note_with_the_text_and_no_end() -> None:
    session, screen = Fake(), Script("precious", CTRL_C)
    chat = session.desk.private("bob")
    session.errors += [ChatClosed("The handle is gone.")]
    opened = Fake.open_private

    async def open_private(self: Fake, peer: str, backend: str) -> Conversation:
        held, self.errors = self.errors, []
        try:
            return await opened(self, peer, backend)
        finally:
            self.errors = held

    session.open_private = open_private.__get__(session)  # type: ignore[method-assign]
    await go(session, screen, "1 bob")
    (line,) = chat.lines
    assert "precious" in line.text and "The handle is gone." in line.text


async def test_again_sends_the_unknown_under_its_id_and_the_refused_anew() -> None:
    session, screen = Fake(), Script("one", "two", "/again", "/again", CTRL_C)
    session.receipts += [
        Receipt("", "uncertain", reason="no answer"),
        Receipt("", "failed", reason="full", error="MailboxFull"),
        Receipt("", "confirmed", 0, 1),
        Receipt("", "confirmed", 0, 1),
    ]
    await go(session, screen, "1 bob")
    bodies = [(*sent[3:],) for sent in session.did]
    assert bodies == [("one",), ("two",), ("one", "ana:1:1"), ("two",)]
    lines = list(session.desk.private("bob").lines)
    assert [line.text for line in lines] == ["one", "two"]
    assert "2 sent again." in screen.said and "Nothing to send again." in screen.said


@pytest.mark.parametrize(
    ("backend", "answers", "left"),
    [
        ("rabbitmq-transient", [], True),
        ("redis-pubsub", [], True),
        ("rabbitmq-durable", [""], False),
        ("rabbitmq-durable", ["n"], False),
        ("rabbitmq-durable", [CTRL_C], False),
        ("rabbitmq-durable", ["y"], True),
        ("rabbitmq-log", ["Yes"], True),
        ("redis-stream", ["no"], False),
    ],
)
async def test_leaving_for_good_is_asked_where_messages_would_be_lost(
    backend: str, answers: list[str], left: bool
) -> None:
    session, screen = Fake(sd=backend), Script(CTRL_C, *answers)
    await go(session, screen, "2 sd")
    assert [prompt for prompt, _ in screen.asked[1:]] == [FOR_GOOD] * len(answers)
    assert (("leave", "sd") in session.did) is left
    assert bool(session.desk.open) is not left


async def test_a_group_that_is_not_there_is_made_by_subscribing_only() -> None:
    session, screen = Fake(), Script(CTRL_C)
    with pytest.raises(Left):
        await go(session, screen, "2 sd")
    assert "There is no group sd." in screen.said and session.did == []
    screen = Script("sd", "transient")
    await go(session, screen, "3")
    assert session.did == [("join", "sd", "rabbitmq-transient")]
    assert {"transient", "durable", "redis-stream"} <= set(screen.offered)
    assert "memory" not in screen.offered
    await go(session, Script(), "3 other redis-stream:maxlen=5")
    await go(session, Script(""), "3 third")
    await go(session, Script(), "3 sd")  # it is there: its own backend, no question
    assert session.did[1:] == [
        ("join", "other", "redis-stream:maxlen=5"),
        ("join", "third", "rabbitmq-durable"),
        ("join", "sd", "rabbitmq-transient"),
    ]


async def test_a_broker_that_is_away_is_three_lines_and_the_program_goes_on() -> None:
    session, screen = Fake(sd="rabbitmq-durable"), Script(CTRL_C)

    async def join(name: str, backend: str | None) -> Conversation:
        raise ServiceUnavailable("RabbitMQ at h:1 does not answer.")

    session.join = join  # type: ignore[method-assign]
    with pytest.raises(Left):
        await go(session, screen, "2 sd")
    assert len(screen.said) == 3 and screen.said[0] == "RabbitMQ at h:1 does not answer."


async def test_who_only_listens_in_the_insult_channel_sends_nothing_until_both() -> None:
    session = Fake()
    screen = Script("neither", "listen", "toad", "/both", "toad", "/listen", CTRL_C)
    await go(session, screen, "5")
    assert session.did == [
        ("insults", "consumer"),
        ("insults", "both"),
        ("send", "insults", "rabbitmq", "toad"),
        ("insults", "consumer"),
        "leave insults",
    ]
    assert screen.asked[3] == ("ana> ", "toad")


async def test_each_way_of_asking_can_follow_another_and_enter_goes_back() -> None:
    session, screen = Fake(), Script("", "events", "")
    await go(session, screen, "4")
    assert session.did == [("discover", "registry"), ("discover", "events")]
    session.did.clear()
    await go(session, Script("/leave"), "4 management")
    assert session.did == [("discover", "management")]


async def test_what_is_no_choice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is no choice"):
        await go(Fake(), Script(), "9")


async def test_the_ways_of_a_terminal_are_straight() -> None:
    assert await Straight("10.0.0.7").expose(4000) == "10.0.0.7:4000"
    assert await Straight("fe80::1").expose(4000) == "[fe80::1]:4000"


async def test_a_group_in_memory_and_a_reserved_name_are_refused() -> None:
    session = Fake()
    with pytest.raises(InvalidInput, match="one process"):
        await Session.join(session, "sd", "memory")
    with pytest.raises(InvalidInput, match="kept"):
        await Session.group_backend(session, "insults")


@pytest.mark.parametrize(("url", "ends"), [("", True), ("redis://h:2", False)])
def test_lost_brokers_end_only_who_used_their_redis(url: str, ends: bool) -> None:
    session, over = Fake(), []
    session._settings = Settings(redis_url=url)
    session._over = over.append
    session._event("rabbitmq", "down")
    assert over == []
    session._event("supervisor", "down")
    assert [len(said(error)) for error in over] == [3] * ends


# -- the command


async def test_a_defect_is_three_lines_and_its_traceback_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Program, name: str) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Program, "run", broken)
    log = tmp_path / "client.log"
    settings = Settings(folder=tmp_path)
    logs.begin_file(settings, log)
    try:
        with create_pipe_input() as keys, create_app_session(keys, DummyOutput()):
            run = command._Run(settings, "ana", log)
            await run._talk(Fake()._here)
    finally:
        logs.end()
    assert run._why is not None
    lines = said(run._why)
    assert len(lines) == 3 and str(log) in lines[2]
    assert "RuntimeError: a defect" in log.read_text()


def options(**values: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"name": "", "config": None, "lab": None, **values})


def test_a_pipe_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotPossible, match="needs a terminal"):
        command.client(Settings(folder=tmp_path), options(name="ana"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"name": "not a name"}, {"lab": "no lab"}])
def test_what_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        command.client(Settings(folder=tmp_path), options(**wrong))


def test_the_command_takes_its_settings_from_the_file_it_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chat.toml"
    file.write_text("nonsense = 1\n")
    assert cli.main(["client", "ana", "--config", str(file)]) == 1
    assert "sets nonsense" in capsys.readouterr().err
    assert cli.main(["client", "ana", "--config", str(tmp_path / "none.toml")]) == 1
    assert "none.toml cannot be read" in capsys.readouterr().err
