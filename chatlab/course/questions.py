"""The four questions of the assignment, and what may be said to each, as data.

A *stance* is a sentence to take, with *claims* that its own evidence is held against: that so
much survives in this cell of the grid, that the same call ended differently, that one backend
is faster than another. Some stances are what many believe; their evidence says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatlab.errors import InvalidInput

Kind = Literal["survives", "loses", "same", "differs", "faster"]


@dataclass(frozen=True)
class Claim:
    """One thing that a stance says of the evidence.

    ``survives`` and ``loses``: of a backend (``of``) in a scenario (``where``), whether every
    message was seen at last. ``same`` and ``differs``: how the same call, made twice on the
    pattern ``of``, ended. ``faster``: ``of`` delivers more a second than ``than`` in ``where``.
    """

    kind: Kind
    of: str
    where: str = ""
    than: str = ""

    def __str__(self) -> str:
        if self.kind in ("same", "differs"):
            return f"{self.of}: the same call, made twice, ends {_ENDS[self.kind]}"
        if self.kind == "faster":
            return f"{self.of} is faster than {self.than} ({self.where})"
        what = "loses nothing" if self.kind == "survives" else "loses messages"
        return f"{self.of} {what} ({self.where})"


_ENDS = {"same": "the same way", "differs": "differently"}


@dataclass(frozen=True)
class Stance:
    """A sentence to take."""

    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Question:
    """One question, in the three languages of the course."""

    id: str
    english: str
    spanish: str
    catalan: str
    stances: tuple[Stance, ...]


def _survives(of: str, where: str) -> Claim:
    return Claim("survives", of, where)


def _loses(of: str, where: str) -> Claim:
    return Claim("loses", of, where)


QUESTIONS: dict[str, Question] = {
    question.id: question
    for question in (
        Question(
            "q1",
            "Are private chats persistent? If not, how could they be made so?",
            "¿Son persistentes los chats privados? Si no lo son, ¿cómo se podría conseguir?",
            "Són persistents els xats privats? Si no ho són, com es podria aconseguir?",
            (
                Stance(
                    "Private chats kept in the server's dictionary are persistent.",
                    (_survives("as-reported", "server-kill"),),
                ),
                Stance(
                    "They are persistent as soon as messages wait for an absent receiver.",
                    (_survives("mailbox-memory", "server-kill"),),
                ),
                Stance(
                    "They are as persistent as the store behind the server: kept outside of it "
                    "and removed only when the receiver has acknowledged, they survive.",
                    (
                        _survives("mailbox-redis", "server-kill"),
                        _survives("mailbox-redis", "redis-kill"),
                        _loses("mailbox-memory", "server-kill"),
                    ),
                ),
            ),
        ),
        Question(
            "q2",
            "Are there stateful communication patterns?",
            "¿Hay patrones de comunicación con estado?",
            "Hi ha patrons de comunicació amb estat?",
            (
                Stance(
                    "gRPC is stateless, so our private chat is.",
                    (Claim("same", "private chat"),),
                ),
                Stance(
                    "The insult queue is stateless: it only passes on.",
                    (Claim("same", "insult channel"),),
                ),
                Stance(
                    "Yes: where the same call can end differently, somebody has remembered; "
                    "here a mailbox, a queue, a registry.",
                    (
                        Claim("differs", "private chat"),
                        Claim("differs", "group"),
                        Claim("differs", "insult channel"),
                        Claim("differs", "discovery"),
                    ),
                ),
            ),
        ),
        Question(
            "q3",
            "Which communication pattern do group chats rely on? Compare transient and "
            "persistent communication in RabbitMQ.",
            "¿En qué patrón de comunicación se basan los chats de grupo? Compara la "
            "comunicación transitoria y la persistente en RabbitMQ.",
            "En quin patró de comunicació es basen els xats de grup? Compara la comunicació "
            "transitòria i la persistent a RabbitMQ.",
            (
                Stance(
                    "Publish/subscribe; a durable queue is enough for persistence.",
                    (_survives("rabbitmq-durable:persistent=no", "broker-kill"),),
                ),
                Stance(
                    "Publish/subscribe; marking messages persistent is enough.",
                    (_survives("rabbitmq-transient:persistent=yes", "absent-member"),),
                ),
                Stance(
                    "Publish/subscribe: an exchange and a queue per member. Persistent only "
                    "when exchange, queue and message are, and the send was confirmed.",
                    (
                        _survives("rabbitmq-durable", "absent-member"),
                        _survives("rabbitmq-durable", "broker-kill"),
                        _loses("rabbitmq-transient", "absent-member"),
                        _loses("rabbitmq-durable:persistent=no", "broker-kill"),
                    ),
                ),
            ),
        ),
        Question(
            "q4",
            "Redis also has queues and publish/subscribe: would you prefer it to RabbitMQ for "
            "events, and for transient and persistent groups?",
            "Redis también tiene colas y publicación/suscripción: ¿lo preferirías a RabbitMQ "
            "para los eventos, y para grupos transitorios y persistentes?",
            "Redis també té cues i publicació/subscripció: el preferiries a RabbitMQ per als "
            "esdeveniments, i per a grups transitoris i persistents?",
            (
                Stance(
                    "Redis is for low volume.",
                    (Claim("faster", "rabbitmq-durable", "burst", "redis-stream"),),
                ),
                Stance(
                    "Redis publish/subscribe can take the place of a durable group.",
                    (_survives("redis-pubsub", "absent-member"),),
                ),
                Stance(
                    "For events either: Redis where it runs already. A persistent group needs "
                    "a stream in Redis or a durable queue in RabbitMQ, and both keep it.",
                    (
                        _survives("redis-stream", "absent-member"),
                        _survives("redis-stream", "broker-kill"),
                        _survives("rabbitmq-durable", "broker-kill"),
                        _loses("redis-pubsub", "absent-member"),
                    ),
                ),
                Stance(
                    "RabbitMQ: only it keeps what was confirmed when it is killed.",
                    (_loses("redis-stream", "broker-kill"),),
                ),
                # Two opposite preferences, each with evidence: it is a matter of judgement.
                Stance(
                    "Redis for both: its stream keeps what a durable queue keeps, and carries "
                    "more a second.",
                    (
                        _survives("redis-stream", "broker-kill"),
                        _survives("redis-stream", "link-cut"),
                        Claim("faster", "redis-stream", "burst", "rabbitmq-durable"),
                    ),
                ),
                Stance(
                    "RabbitMQ for groups: it keeps what Redis keeps, and its log also shows a "
                    "late member what was said before.",
                    (
                        _survives("rabbitmq-durable", "broker-kill"),
                        _survives("rabbitmq-log", "broker-kill"),
                        _survives("rabbitmq-log", "late-joiner"),
                    ),
                ),
            ),
        ),
    )
}


def question(id: str) -> Question:
    """The question of this name.

    Raises:
        InvalidInput: there is none.
    """
    if id not in QUESTIONS:
        raise InvalidInput(
            f"There is no question {id!r}.", todo=f"There are: {', '.join(QUESTIONS)}."
        )
    return QUESTIONS[id]
