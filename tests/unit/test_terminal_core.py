"""The terminal client's core: harmless text, conversations, the desk, secrets. No terminal."""

from __future__ import annotations

import json
import stat
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatlab import backends, errors
from chatlab.discovery import Presence, Presences
from chatlab.errors import (
    BackendMismatch,
    NotAdmitted,
    ServiceUnavailable,
    Taken,
    UnknownAccount,
)
from chatlab.journal import now
from chatlab.messages import Message, Receipt, check_name
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.place import Place
from chatlab.settings import Settings
from chatlab.terminal import commands as c
from chatlab.terminal import keyring
from chatlab.terminal.clean import COLOURS, colour_of, harmless, seen
from chatlab.terminal.conversation import KEPT_LINES, Conversation, Line
from chatlab.terminal.desk import RABBITMQ, SERVER, Desk
from chatlab.terminal.steps import KINDS
from chatlab.terminal.views import Menu, Talk, answer, help_of
from chatlab.terminal.words import ADVICE, clock, said, span

AT = 1_700_000_000.0


def message(id: str, sender: str = "bob", to: str = "ana", body: str = "hola") -> Message:
    return Message(id, sender, 1, to, body, 1, AT, 1)


def shown(chat: Conversation) -> list[str]:
    """Each line as it is read, without its time."""
    desk = Desk(chat.user)
    talk = Talk(desk, chat)
    return [
        "".join(text for style, text in talk.pieces(line) if style != "class:time")
        for line in chat.lines
    ]


# -- harmless text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b]0;owned\x07", "␛]0;owned␇"),
        ("\x9b31m", "<U+009B>31m"),
        ("a\u202egpj.exe", "a<U+202E>gpj.exe"),
        ("an\u200ba", "an<U+200B>a"),
        ("ana\u3164", "ana<U+3164>"),
        ("one\ntwo\tthree\r\x7f", "one⏎two⇥three␍␡"),
        ("a\u2028b\u2066c", "a<U+2028>b<U+2066>c"),
        ("漢字 é 🙂 ñ", "漢字 é 🙂 ñ"),
        ("a\u00a0b", "a b"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * 4 + "…"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text: str, expected: str) -> None:
    assert harmless(text) == expected


def test_no_character_at_all_gets_through_that_is_control_or_unseen() -> None:
    planes = range(0x3200), range(0xD7B0, 0x10000), range(0xE0000, 0xE0200)
    everything = "".join(chr(code) for plane in planes for code in plane)
    left = {unicodedata.category(one) for one in set(harmless(everything))}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_what_is_typed_keeps_its_length_and_hides_nothing() -> None:
    typed = "a\u202eb\u200bc 漢\x1b"
    assert seen(typed) == "a␦b␦c 漢\x1b"


def test_a_name_has_one_colour_of_those_that_can_be_read() -> None:
    assert colour_of("ana") == colour_of("ana")
    assert len({colour_of(f"user{n}") for n in range(100)}) == len(COLOURS)


# -- words


def test_an_error_says_what_to_do_in_a_terminal_not_in_a_cell() -> None:
    assert said(UnknownAccount("There is no account bob."))[2] == ADVICE["UnknownAccount"]
    assert said(Taken("A newer client has taken over."))[2] == ADVICE["Taken"]
    own = BackendMismatch("Other.", todo="Do this.\x1b")
    assert said(own) == ["Other.", errors.NO_EFFECT, "Do this.␛"]
    assert all(isinstance(getattr(errors, name), type) for name in ADVICE)


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e30, -1e30])
def test_a_clock_that_says_nonsense_is_shown_as_none(at: float) -> None:
    assert clock(at) == "--:--:--"


def test_times_of_another_day_have_their_date() -> None:
    assert len(clock(now())) == len("12:03:04")
    assert clock(AT).startswith("Nov 1")
    assert [span(3), span(120), span(10_000)] == ["3 s", "2 min", "3 h"]


# -- a conversation


def test_an_own_message_says_how_far_it_has_come() -> None:
    chat = Conversation("ana", "private:ana:bob")
    assert (chat.kind, chat.name) == ("private", "bob")
    for number in (1, 2):
        chat.sent(message(f"ana:1:{number}", "ana", "bob"))
    assert shown(chat) == ["ana  hola  sending …"] * 2
    chat.told(Receipt("ana:1:1", "confirmed", 1, 0))
    chat.told(Receipt("ana:1:2", "confirmed", 2, 0))
    assert shown(chat) == ["ana  hola  ✓ waits for bob", "ana  hola  ✓ waits for bob (2 wait)"]
    chat.reached("ana:1:2")  # and what was sent before it
    assert shown(chat) == ["ana  hola  ✓✓ bob has it"] * 2


def test_what_was_refused_or_nobody_knows_is_not_reached_with_a_later_one() -> None:
    chat = Conversation("ana", "private:ana:bob")
    for number in (1, 2, 3):
        chat.sent(message(f"ana:1:{number}", "ana", "bob"))
    chat.told(Receipt("ana:1:1", "failed", reason="there is no bob", error="UnknownAccount"))
    chat.told(Receipt("ana:1:2", "uncertain", reason="no answer"))
    chat.told(Receipt("ana:1:3", "confirmed", 0, 1))
    chat.reached("ana:1:3")
    first, second, third = shown(chat)
    assert first == f"ana  hola  ✗ not sent: there is no bob. {ADVICE['UnknownAccount']}"
    assert "nobody knows" in second and "/again" in second
    assert third.endswith("✓✓ bob has it")
    assert [line.id for line in chat.unsettled()] == ["ana:1:2"]
    assert [line.id for line in chat.refused()] == ["ana:1:1"]


def test_a_message_sent_again_under_its_id_is_the_same_line() -> None:
    chat = Conversation("ana", "private:ana:bob")
    chat.sent(message("ana:1:1", "ana", "bob"))
    chat.told(Receipt("ana:1:1", "uncertain", reason="no answer"))
    chat.sent(message("ana:1:1", "ana", "bob"))
    assert shown(chat) == ["ana  hola  sending …"]


@pytest.mark.parametrize(
    ("receipt", "expected"),
    [
        (Receipt("i", "confirmed", 1, 2), "✓ confirmed · 2 listen · 1 waits"),
        (Receipt("i", "confirmed", 0, 0), "✓ confirmed · nobody listens"),
        (Receipt("i", "unroutable", 0, 0, "nobody else listens"), "✗ nobody else listens"),
        (Receipt("i", "sent"), "sent; nobody confirms it"),
    ],
)
def test_a_message_to_a_group_says_who_listens(receipt: Receipt, expected: str) -> None:
    chat = Conversation("ana", "group:sd")
    chat.sent(message("i", "ana", "sd"))
    chat.told(receipt)
    assert shown(chat) == [f"ana  hola  {expected}"]


def test_nobody_can_touch_anothers_line_by_choosing_its_id() -> None:
    chat = Conversation("ana", "group:sd")
    chat.sent(message("ana:1:1", "ana", "sd"))
    chat.delivered(AT, message("ana:1:1", "eva", "sd", "forged"), False)
    chat.told(Receipt("ana:1:1", "confirmed", 0, 1))
    assert shown(chat) == ["ana  hola  ✓ confirmed · 1 listens", "eva  forged"]


def test_own_messages_of_a_group_are_shown_once_and_those_of_earlier_lives_too() -> None:
    chat = Conversation("ana", "group:sd")
    chat.sent(message("ana:2:1", "ana", "sd"))
    assert not chat.delivered(AT, message("ana:2:1", "ana", "sd"), False)
    assert not chat.delivered(AT, message("ana:1:9", "ana", "sd", "before"), False)
    assert shown(chat) == ["ana  hola  sending …", "ana  before"]


def test_an_insult_that_comes_back_is_shown() -> None:
    chat = Conversation("ana", "insults")
    chat.sent(message("ana:1:1", "ana", "insults"))
    assert chat.delivered(AT, message("ana:1:1", "ana", "insults"), False)
    assert shown(chat)[1] == "ana  hola  (your own came back to you)"


def test_a_redelivered_message_is_marked_and_a_harmful_one_harmless() -> None:
    chat = Conversation("ana", "private:ana:bob")
    chat.delivered(AT, message("1", body="\x1b[2J"), True)
    chat.note(AT, "\x1b note")
    assert shown(chat) == ["bob  ␛[2J  (redelivered)", "␛ note"]


def test_history_stands_before_what_is_there_and_nothing_twice() -> None:
    chat = Conversation("ana", "private:ana:bob")
    chat.delivered(AT, message("3", body="three"), False)
    chat.recall([message(str(n), body=f"{n}") for n in (1, 2, 3)])
    assert shown(chat) == ["bob  1", "bob  2", "bob  three"]


def test_a_conversation_keeps_its_newest_lines_only() -> None:
    chat = Conversation("ana", "private:ana:bob")
    for number in range(KEPT_LINES + 3):
        chat.sent(message(f"{number}", "ana", "bob", str(number)))
    assert len(list(chat.lines)) == len(chat._known) == len(chat._awaited) == KEPT_LINES
    assert shown(chat)[0].startswith("ana  3 ")
    chat.recall([message("old")])
    assert len(list(chat.lines)) == KEPT_LINES


def test_the_time_of_a_message_is_its_senders_unless_that_lies_ahead() -> None:
    chat = Conversation("ana", "private:ana:bob")
    chat.delivered(AT + 60, message("1"), False)
    chat.delivered(AT - 60, message("2"), False)
    assert [line.at for line in chat.lines] == [AT, AT - 60]


def test_only_a_group_that_keeps_nothing_is_left_without_asking() -> None:
    chat = Conversation("ana", "group:sd")
    kept = {}
    for backend in backends.GROUPS:
        chat.backend = backend
        kept[backend] = not chat.forgets
    assert not kept["rabbitmq-transient"] and not kept["redis-pubsub"]
    assert all(kept[f"{name}"] for name in ("rabbitmq-durable", "rabbitmq-quorum"))
    assert kept["rabbitmq-log"] and kept["redis-stream"]


# -- the desk


def fact(kind: str, chat: str, *rest: Any, at: float = AT) -> tuple[Any, ...]:
    return (kind, at, "ana", 1, chat, *rest)


def test_unread_messages_are_counted_but_for_what_is_looked_at() -> None:
    desk = Desk("ana")
    desk.record(
        fact("Delivered", "group:sd", message("1", to="sd"), False),
        fact("Delivered", "group:sd", message("2", to="sd"), False),
        fact("Delivered", "private:ana:bob", message("3"), False),
    )
    assert desk.unread == "sd 2 · bob 1"
    desk.look_at(desk.group("sd"))
    desk.record(fact("Delivered", "group:sd", message("4", to="sd"), False))
    assert desk.unread == "bob 1"
    assert [chat.name for chat in desk.open] == ["sd", "bob"]
    desk.drop(desk.group("sd"))
    assert [chat.name for chat in desk.open] == ["bob"]


def test_a_lost_connection_and_its_return_are_said_where_they_matter() -> None:
    desk = Desk("ana")
    chat = desk.group("sd")
    desk.record(fact("Connected", "group:sd", "rabbitmq-durable", "member"))
    assert chat.backend == "rabbitmq-durable" and shown(chat) == []
    desk.record(fact("Disconnected", "group:sd", "It broke."))
    desk.record(fact("Connected", "group:sd", "rabbitmq-durable", "member", at=AT + 3))
    assert shown(chat) == ["not connected now: It broke. Trying again …", "back after 3 s"]
    desk.record(fact("Disconnected", "group:sd", ""))  # asked for
    assert len(shown(chat)) == 2


def test_a_chat_server_that_is_away_is_said_in_private_chats_and_what_is_open_offered() -> None:
    desk = Desk("ana")
    chat, direct = desk.private("bob"), desk.private("eva")
    direct.backend = "direct"
    desk.record(fact("Connected", "mailbox", "mailbox-redis", "both"))
    assert desk.bar() == "connected" and not shown(chat)
    desk.record(
        fact("Sent", chat.chat, message("i", "ana", "bob")),
        fact("Sent", chat.chat, message("j", "ana", "bob")),
        fact("Disconnected", "mailbox", "gone"),
    )
    assert "chat server ✗ away" in desk.bar()
    chat.told(Receipt("i", "uncertain"))
    chat.told(Receipt("j", "failed"))
    desk.record(fact("Connected", "mailbox", "mailbox-redis", "both", at=AT + 3))
    assert shown(chat)[2:] == [
        "the chat server is away; trying again …",
        "the chat server is back after 3 s",
        "1 message of unknown outcome: /again is safe, it sends under the same id",
        "1 message not sent: /again sends anew",
    ]
    assert shown(direct) == []


def test_the_bar_says_what_is_away_and_what_to_start() -> None:
    desk = Desk("ana")
    assert desk.bar() == ""
    desk.no_server()
    assert desk.bar() == "chat server ✗ none yet; start one: chatlab server"
    desk.service(SERVER, True)
    desk.service(RABBITMQ, False)
    assert desk.bar() == "RabbitMQ ✗ away 0 s, trying again"


def test_a_server_that_refuses_us_is_explained_in_the_menu() -> None:
    desk = Desk("ana")
    desk.refuse(NotAdmitted("It asks for the lab's secret.\x1b"))
    assert desk.bar() == "chat server ✗ refuses this client; the menu says why"
    last = [line.text for line in Menu(desk, "chat").lines()][-3:]
    assert last == ["It asks for the lab's secret.␛", errors.NO_EFFECT, ADVICE["NotAdmitted"]]


def presences(*members: str, away: tuple[str, ...] = (), users: str = "") -> Presences:
    entries = [Presence(name, "private", "127.0.0.1:1") for name in users.split()]
    group = Presence("sd", "group", "sd", members, away, "rabbitmq-durable")
    return Presences([*entries, group], via="registry")


def test_who_joins_leaves_and_comes_back_is_said_once_in_the_group() -> None:
    desk = Desk("ana")
    chat, bob = desk.group("sd"), desk.private("bob")
    desk.presences(presences("ana", "eva"))
    assert shown(chat) == []
    desk.presences(presences("ana", "eva", away=("bob",), users="bob"))  # subscribes …
    desk.presences(presences("ana", "eva", "bob", users="bob"))  # … and connects
    desk.presences(presences("ana", "bob", away=("eva",), users="bob"))
    desk.presences(presences("ana", "eva", "bob", users="bob"))
    desk.presences(presences("ana", "bob"))
    assert shown(chat) == ["bob joined", "eva is away now", "eva is back", "eva left"]
    assert shown(bob) == ["bob is there", "bob has gone"]
    assert desk.about(chat)[2] == "there: ana, bob"


def test_the_header_and_the_menu_name_people_harmlessly() -> None:
    desk = Desk("ana")
    name = "b\u3164b"
    check_name(name)
    desk.presences(presences(name, users=f"{name} ana"))
    desk.private(name).unread = 2
    text = "\n".join(line.text for line in Menu(desk, "chat").lines())
    header = "".join(t for _, t in Talk(desk, desk.private(name)).header())
    table = "\n".join(answer(desk.there))
    for where in (text, header, table, desk.bar(), desk.unread):
        assert "\u3164" not in where
    assert "b<U+3164>b" in header and "b<U+3164>b" in table and "2 unread" in text


def test_the_answer_says_who_was_silent_and_what_it_cost() -> None:
    found = Presences([], via="events", seconds=0.0123, messages=5, silent=["eva\u200b"])
    assert answer(found)[1:] == [
        "  nobody",
        "",
        "  5 messages, 12 ms; no answer from eva<U+200B>",
    ]


# -- commands


def test_the_menu_is_chosen_by_number_or_word_with_what_follows() -> None:
    assert [entry.key for entry in c.MENU] == [*"12345q"]
    for text, key, rest in (
        ("1", "1", []),
        (" private  bob direct ", "1", ["bob", "direct"]),
        ("/quit", "q", []),
        ("SUBSCRIBE sd", "3", ["sd"]),
    ):
        found = c.choice(text)
        assert found is not None and (found[0].key, found[1]) == (key, rest)
    assert c.choice("") is None and c.choice("sd") is None


def test_commands_belong_to_kinds_and_two_slashes_begin_a_message() -> None:
    assert c.command("/Listen ", "insults") is not None
    assert c.command("/listen", "group") is None
    assert c.is_command("/x") and not c.is_command("//x") and c.message_of("//x") == "/x"
    assert any(line.startswith("/direct") for line in help_of("private"))
    assert set(KINDS.values()) <= set(backends.GROUPS)


def test_a_line_has_its_time_sender_and_status_in_their_styles() -> None:
    line = Line(now(), "hola", "bob", "1")
    styles = [style for style, _ in line.pieces("done")]
    assert styles == [
        "class:time",
        f"bold fg:{colour_of('bob')}",
        "",
        "class:text",
        "class:status",
    ]


# -- secrets


@pytest.fixture
def here() -> Place:
    rabbitmq = RabbitAddress(host="h", port=1, user="u", password="p")
    return Place(lab="chat", rabbitmq=rabbitmq, redis=RedisAddress(host="h", port=2))


def test_a_secret_is_its_owners_only_and_found_again(tmp_path: Path, here: Place) -> None:
    settings = Settings(folder=tmp_path)
    first, again = (keyring.key_of(settings, here, "ana") for _ in range(2))
    assert first.new and not again.new and first.secret == again.secret
    assert first.secret not in repr(first)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_secrets_differ_by_name_lab_and_place(tmp_path: Path, here: Place) -> None:
    settings = Settings(folder=tmp_path)
    moved = replace(here, redis=replace(here.redis, port=3))
    elsewhere = replace(here, redis=replace(here.redis, host="other"))
    own = replace(settings, redis_url="redis://h:2")
    invited = replace(settings, invited=True)
    keys = [
        keyring.key_of(settings, here, "ana"),
        keyring.key_of(settings, here, "Ana"),
        keyring.key_of(settings, replace(here, lab="other"), "ana"),
        keyring.key_of(invited, here, "ana"),
        keyring.key_of(invited, elsewhere, "ana"),
        keyring.key_of(own, here, "ana"),
        keyring.key_of(own, moved, "ana"),
    ]
    assert len({key.secret for key in keys}) == 7
    # Brokers that others run have other ports after each start.
    assert keyring.key_of(settings, moved, "ana").secret == keys[0].secret
    assert keyring.key_of(invited, moved, "ana").secret == keys[3].secret


def test_a_secret_made_for_nothing_is_thrown_away_and_one_in_use_is_not(
    tmp_path: Path, here: Place
) -> None:
    settings = Settings(folder=tmp_path)
    made = keyring.key_of(settings, here, "ana")
    keyring.forget(keyring.key_of(settings, here, "ana"))
    assert made.path.exists()
    keyring.forget(made)
    assert not made.path.exists()


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"secret": ""})])
def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, here: Place, content: str
) -> None:
    settings = Settings(folder=tmp_path)
    made = keyring.key_of(settings, here, "ana")
    made.path.write_text(content)
    with pytest.raises(ServiceUnavailable, match=made.path.name):
        keyring.key_of(settings, here, "ana")
