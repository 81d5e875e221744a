"""What is asked and answered in discovery by events: two values, and their way over AMQP.

========  ======================================  ========================================
message   body, JSON                              properties
========  ======================================  ========================================
question  when it was asked, for how many         ``reply_to``: where answers go,
          seconds answers are collected           ``correlation_id``: which question it is,
                                                  ``expiration``: those seconds, in ms
answer    who it is, which life, where, since     ``correlation_id``: of the question
          when, and the groups it is in
========  ======================================  ========================================

Anybody on the virtual host can publish to both ends. So what is read is checked to the last
field, ``read`` answers ``None`` for all that is not wholly ours, and an answer only ever goes
to a queue that is named as one for answers is.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from chatlab.amqp import Delivery, Outgoing, Properties
from chatlab.discovery.names import ANSWERS, EXCHANGE
from chatlab.errors import InvalidInput
from chatlab.journal import now
from chatlab.messages import check_name

#: Longest time that answers are collected, in seconds.
MOST_SECONDS = 60.0
#: Most groups that one answer tells of, the first by name.
MOST_GROUPS = 200
#: Longest bodies that are looked at, in bytes.
QUESTION_BYTES = 200
ANSWER_BYTES = 64 * 1024
#: Longest address and backend, in characters.
MOST_CHARACTERS = 300
#: The highest incarnation and the latest time that are believed (AMQP's and JSON's own
#: whole numbers end further up).
MOST_NUMBER = 2**53

_QUEUE = re.compile(re.escape(ANSWERS) + r"[0-9a-f]{16}")
_ID = re.compile(r"[0-9a-f]{16}")


class Told(NamedTuple):
    """A group that a user is in, as that user says it."""

    group: str
    backend: str
    #: Receives now; otherwise only subscribed.
    connected: bool


@dataclass(frozen=True, slots=True)
class Question:
    """Who is there?"""

    #: 16 hexadecimal digits, as in the name of the queue.
    id: str
    reply_to: str
    asked_at: float
    seconds: float

    def outgoing(self) -> Outgoing:
        """The question, to all who are online; forgotten when it is over."""
        return Outgoing(
            EXCHANGE,
            "",
            _packed({"asked_at": self.asked_at, "seconds": self.seconds}),
            Properties(
                content_type="application/json",
                reply_to=self.reply_to,
                correlation_id=self.id,
                message_id=self.id,
                expiration=str(math.ceil(1000 * self.seconds)),
                app_id="chatlab",
            ),
        )

    @classmethod
    def read(cls, delivery: Delivery) -> Question | None:
        """The question that came; ``None``: it is none of ours."""
        properties = delivery.properties
        queue, id = properties.reply_to or "", properties.correlation_id or ""
        if not (_QUEUE.fullmatch(queue) and _ID.fullmatch(id)):
            return None
        body = _unpacked(delivery.body, QUESTION_BYTES)
        asked_at, seconds = body.get("asked_at"), body.get("seconds")
        if not (_is_number(asked_at, MOST_NUMBER) and _is_number(seconds, MOST_SECONDS)):
            return None
        return cls(id, queue, asked_at, seconds)

    @property
    def over(self) -> bool:
        """Whether nobody waits for an answer any more, by our own clock."""
        return now() > self.asked_at + self.seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """I am, and here is how to reach me."""

    name: str
    incarnation: int
    address: str
    #: Seconds since the epoch, by the user's clock.
    since: float
    groups: tuple[Told, ...] = ()

    def outgoing(self, question: Question) -> Outgoing:
        """The answer, straight to who asked; gone when nobody collects it any more."""
        said = {
            "name": self.name,
            "incarnation": self.incarnation,
            "address": self.address,
            "since": self.since,
            "groups": sorted(self.groups)[:MOST_GROUPS],
        }
        properties = Properties(
            content_type="application/json", correlation_id=question.id, app_id="chatlab"
        )
        return Outgoing("", question.reply_to, _packed(said), properties, mandatory=False)

    @classmethod
    def read(cls, delivery: Delivery) -> Answer | None:
        """The answer that came; ``None``: it is none of ours."""
        body = _unpacked(delivery.body, ANSWER_BYTES)
        life, since, groups = (body.get(key) for key in ("incarnation", "since", "groups"))
        if type(life) is not int or not 0 <= life <= MOST_NUMBER:
            return None
        if not (_is_number(since, MOST_NUMBER) and isinstance(groups, list)):
            return None
        try:
            told = tuple(_told(entry) for entry in groups[:MOST_GROUPS])
            return cls(_name(body.get("name")), life, _text(body.get("address")), since, told)
        except ValueError:
            return None


def check_seconds(seconds: float) -> float:
    """How long answers are collected.

    Raises:
        InvalidInput: no number, not above 0, or above :data:`MOST_SECONDS`.
    """
    if not (_is_number(seconds, MOST_SECONDS) and seconds > 0):
        raise InvalidInput(
            f"The timeout {str(seconds)[:40]} is not possible.",
            todo=f"A number of seconds, above 0 and at most {MOST_SECONDS:g}.",
        )
    return float(seconds)


def _told(entry: Any) -> Told:
    if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], bool)):
        raise ValueError("no group")
    return Told(_name(entry[0]), _text(entry[1]), entry[2])


def _name(value: Any) -> str:
    if check_name(value) != value:  # which raises a ValueError for what is no name
        raise ValueError("another spelling of a name")
    return str(value)


def _text(value: Any) -> str:
    if not (isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.isprintable()):
        raise ValueError("no short line of text")
    return value


def _is_number(value: Any, most: float) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 <= value <= most


def _packed(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _unpacked(body: bytes, most: int) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    if len(body) > most:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
