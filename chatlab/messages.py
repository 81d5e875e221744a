"""Messages, receipts, conversations, and what names and bodies may be.

Values only, no I/O. Everything that comes from a person or from the wire passes
:func:`check_name` and :func:`check_body` at the border; inside, values are right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

from chatlab.errors import InvalidInput
from chatlab.tables import card, shown

#: Longest name: 64 characters, and 96 bytes of UTF-8 (AMQP names end at 255 bytes).
NAME_CHARACTERS = 64
NAME_BYTES = 96
#: Longest body: 64 KiB of UTF-8.
BODY_BYTES = 64 * 1024
#: Most messages, and bytes of bodies, in one frame of a stream.
BATCH_MESSAGES = 100
BATCH_BYTES = 512 * 1024

#: A character takes at most so many bytes of UTF-8 (RFC 3629).
CHARACTER_BYTES = 4

_NAME = re.compile(r"[\w.-]+\Z")

#: ``sent``: handed to the connection, and by choice of the backend nobody was asked what
#: became of it. The journal has no fact of that: the sender learned nothing.
Outcome = Literal["confirmed", "sent", "unroutable", "failed", "uncertain"]


class Message(NamedTuple):
    """One message. The sender chooses ``id`` (``sender:incarnation:number``)."""

    id: str
    sender: str
    #: The life of the sender's client that sent it; sequence numbers count within it.
    incarnation: int
    #: The receiver's name, the group's name, or ``insults``.
    to: str
    body: str
    #: 1, 2, 3 … per sender, incarnation and conversation; 0 from an outsider.
    seq: int
    #: Seconds since the epoch, by the sender's clock.
    sent_at: float
    #: The sender's Lamport clock; 0 from an outsider.
    clock: int

    def __repr__(self) -> str:
        return f"<Message {self.id} from {self.sender} to {self.to}: {shown(self.body)!r}>"

    def _repr_html_(self) -> str:
        return card(
            f"message {self.id}", {"from": self.sender, "to": self.to, "body": self.body}
        )


class Receipt(NamedTuple):
    """What the sender learned about one message."""

    id: str
    outcome: Outcome
    #: Messages that now wait where nobody is reading: in the receiver's mailbox, in the
    #: queues of absent members, in the insult queue. ``None``: not known.
    waiting: int | None = None
    #: Receivers connected now, the sender not counted. ``None``: not known.
    listeners: int | None = None
    #: Why, when the outcome is not ``confirmed``.
    reason: str = ""
    #: The class of :mod:`chatlab.errors` that says the same, where there is one.
    error: str = ""

    def _repr_html_(self) -> str:
        facts = {"outcome": self.outcome, "waiting": self.waiting, "listeners": self.listeners}
        return card(
            f"receipt {self.id}", facts | ({"reason": self.reason} if self.reason else {})
        )


#: A message, a receipt from all its fields in order: what a frame of many is made with.
new_message: Callable[[Iterable[Any]], Message] = partial(tuple.__new__, Message)
new_receipt: Callable[[Iterable[Any]], Receipt] = partial(tuple.__new__, Receipt)


class Clock:
    """A Lamport clock: one per client, shared by all its conversations."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def tick(self, count: int = 1) -> int:
        """Advance for so many sends; the value goes with the last of the messages."""
        self.value += count
        return self.value

    def see(self, *others: int) -> None:
        """Advance past the clock of each message that arrived."""
        value = self.value
        for other in others:
            value = (other if other > value else value) + 1
        self.value = value


INSULTS = "insults"


def private(one: str, other: str) -> str:
    """The conversation of two users, the same from both ends."""
    first, second = sorted((one, other))
    return f"private:{first}:{second}"


def group(name: str) -> str:
    """The conversation of a group."""
    return f"group:{name}"


def title(chat: str) -> str:
    """A conversation as people say it: ``ana + bob``, ``sd``, ``insults``."""
    kind, _, rest = chat.partition(":")
    return rest.replace(":", " + ") if kind in ("private", "group") else chat


def check_name(name: str, what: str = "name") -> str:
    """Return ``name`` in NFC.

    Raises:
        InvalidInput: not text, empty, over 64 characters or 96 bytes, characters other
            than letters, digits, ``_ . -``, nothing but dots (a folder to every file
            system and URL), or a start of ``amq.`` (reserved by AMQP 0-9-1, section
            3.1.3.1 and queue.declare).
    """
    if not isinstance(name, str):
        raise InvalidInput(f"A {what} is text, not {type(name).__name__}.")
    return _checked_name(name, what)


@lru_cache(maxsize=4096)
def _checked_name(name: str, what: str) -> str:
    clean = unicodedata.normalize("NFC", name)
    shown = repr(clean if len(clean) <= 80 else clean[:77] + "...")
    if not clean:
        raise InvalidInput(f"The {what} is empty.", todo="Give it 1 to 64 characters.")
    if len(clean) > NAME_CHARACTERS or len(clean.encode("utf-8", "replace")) > NAME_BYTES:
        raise InvalidInput(
            f"The {what} {shown} has {len(clean)} characters.",
            todo=f"At most {NAME_CHARACTERS} characters and {NAME_BYTES} bytes of UTF-8.",
        )
    if not _NAME.match(clean):
        raise InvalidInput(
            f"The {what} {shown} holds a character that is not allowed.",
            todo="Letters, digits, '_', '.' and '-' are.",
        )
    if not clean.strip("."):
        raise InvalidInput(
            f"The {what} {shown} is nothing but dots.", todo="Add a letter or a digit."
        )
    if clean.startswith("amq."):
        raise InvalidInput(
            f"The {what} {shown} begins with 'amq.', which RabbitMQ keeps for itself.",
            todo="Choose another beginning.",
        )
    return clean


def check_body(body: str) -> str:
    """Return ``body``.

    Raises:
        InvalidInput: not text, empty, over 64 KiB of UTF-8, or not encodable (a lone
            surrogate).
    """
    if not isinstance(body, str):
        raise InvalidInput(f"A message is text, not {type(body).__name__}.")
    if not body:
        raise InvalidInput("The message is empty.", todo="Write at least one character.")
    try:
        size = len(body.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"The message is not valid Unicode text: {error.reason}.") from error
    if size > BODY_BYTES:
        raise InvalidInput(
            f"The message has {size:,} bytes.",
            todo=f"At most {BODY_BYTES:,} bytes (64 KiB) fit; send it in parts.",
        )
    return body


def size_of(text: str) -> int:
    """Bytes of UTF-8; without encoding when it is plain ASCII."""
    return len(text) if text.isascii() else len(text.encode())


def batches(messages: Iterable[Message]) -> Iterable[list[Message]]:
    """Cut into frames of at most 100 messages and 512 KiB of bodies, order kept."""
    frame: list[Message] = []
    size = 0
    for message in messages:
        length = size_of(message.body)
        if frame and (len(frame) == BATCH_MESSAGES or size + length > BATCH_BYTES):
            yield frame
            frame, size = [], 0
        frame.append(message)
        size += length
    if frame:
        yield frame
