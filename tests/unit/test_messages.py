"""Names, bodies, conversations, clocks and frames."""

from __future__ import annotations

import unicodedata

import pytest

from chatlab import messages
from chatlab.errors import InvalidInput
from chatlab.messages import Clock, Message, batches, check_body, check_name


def message(body: str = "hola", number: int = 1) -> Message:
    return Message(f"ana:1:{number}", "ana", 1, "bob", body, number, 0.0, number)


@pytest.mark.parametrize(
    "name", ["a", "ana", "Ana.B-c_9", "zoë", "李雷", "x" * 64, "-", "...a", "insults", "1"]
)
def test_a_good_name_passes_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        ("x" * 65, "65 characters"),
        ("李" * 33, "96 bytes"),
        ("a/b", "not allowed"),
        ("a b", "not allowed"),
        ("a\n", "not allowed"),
        ("\na", "not allowed"),
        ("a\0", "not allowed"),
        ("a:b", "not allowed"),
        ("a%2Fb", "not allowed"),
        ("<b>", "not allowed"),
        ("\ud800", "not allowed"),
        (".", "nothing but dots"),
        ("..", "nothing but dots"),
        ("amq.x", "amq."),
        ("x" * 10_000, "10000 characters"),
    ],
)
def test_a_bad_name_is_refused_with_the_limit(name: str, words: str) -> None:
    for _ in range(2):  # a cached answer is the same
        with pytest.raises(InvalidInput) as caught:
            check_name(name, "group name")
        assert words in str(caught.value)
        assert "group name" in caught.value.what
        assert len(str(caught.value)) < 300
        assert "\n" not in caught.value.what


@pytest.mark.parametrize("value", [None, 7, b"ana", ["ana"]])
def test_what_is_no_text_is_refused_as_name_and_as_body(value: object) -> None:
    with pytest.raises(InvalidInput, match=type(value).__name__):
        check_name(value)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=type(value).__name__):
        check_body(value)  # type: ignore[arg-type]


def test_two_spellings_of_one_name_are_one_name() -> None:
    composed = "zo\u00eb"
    assert check_name(unicodedata.normalize("NFD", composed)) == composed


def test_a_name_that_is_too_long_only_before_it_is_composed_is_fine() -> None:
    assert len(check_name("e\u0308" * 40)) == 40


@pytest.mark.parametrize("body", ["a", " ", "\0", "<b>$x$</b>", "é" * 32768, "x" * 65536])
def test_a_good_body_passes_unchanged(body: str) -> None:
    assert check_body(body) == body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "empty"),
        ("x" * 65537, "65,537 bytes"),
        ("é" * 32769, "65,538 bytes"),
        ("a\ud800", "Unicode"),
    ],
)
def test_a_bad_body_is_refused_with_the_limit(body: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_body(body)


def test_a_private_conversation_is_the_same_from_both_ends() -> None:
    assert messages.private("bob", "ana") == messages.private("ana", "bob")
    assert messages.title(messages.private("bob", "ana")) == "ana + bob"
    assert messages.title(messages.group("sd")) == "sd"
    assert messages.title(messages.INSULTS) == "insults"


def test_no_two_conversations_share_a_name() -> None:
    names = ["ana", "bob", "insults", "private", "group", "a.b", "a-b"]
    chats = [messages.group(name) for name in names]
    chats += [messages.private(a, b) for a in names for b in names if a <= b]
    chats.append(messages.INSULTS)
    assert len(set(chats)) == len(chats)


def test_a_clock_is_after_all_it_has_seen() -> None:
    clock = Clock()
    assert [clock.tick(), clock.tick()] == [1, 2]
    clock.see(10)
    assert clock.tick() == 12
    clock.see(3)
    assert clock.tick() == 14


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_frames_hold_at_most_a_hundred_messages_in_order(count: int) -> None:
    all_messages = [message(number=n) for n in range(count)]
    frames = list(batches(iter(all_messages)))
    assert [m for frame in frames for m in frame] == all_messages
    assert all(1 <= len(frame) <= 100 for frame in frames)
    assert len(frames) == -(-count // 100)


def test_frames_hold_at_most_512_kib_of_bodies() -> None:
    bodies = ["é" * 32768] * 20 + ["x"]
    frames = list(batches(message(body) for body in bodies))
    sizes = [sum(len(m.body.encode()) for m in frame) for frame in frames]
    assert sizes == [512 * 1024, 512 * 1024, 4 * 65536 + 1]


def test_a_message_reads_as_a_sentence_and_its_body_is_cut() -> None:
    message = Message("ana:1:1", "ana", 1, "bob", "x" * 500, 1, 0.0, 1)
    assert repr(message).startswith("<Message ana:1:1 from ana to bob: 'xxx")
    assert len(repr(message)) < 120
