"""What each group backend promises, as data.

One row per backend with its options; :func:`guarantees` finds it. A checker compares a run
with the row, notebooks print it, the contract tests are parametrised by it.

- *kept*: every message is shown, sooner or later.
- *lost*: it is not, and that is how the backend works.
- *not promised*: it depends on when it happens.
- *no broker*: it cannot happen.

The broker that counts is named: a kill of Redis loses no message that RabbitMQ holds. Rows of
``redis-stream`` are for a Redis with an append-only file, as the lab's has;
``guarantees(text, aof=False)`` says what holds without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from chatlab.backends import shared_text
from chatlab.tables import Table

Fate = Literal["kept", "lost", "not promised", "no broker"]
KEPT: Fate = "kept"
LOST: Fate = "lost"
OPEN: Fate = "not promised"
NO_BROKER: Fate = "no broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What becomes of a confirmed message, situation by situation."""

    backend: str = ""
    tier: Literal["real", "stand-in"] = "real"
    broker: Literal["RabbitMQ", "Redis", "none"]
    #: Sent while a member is not connected, or offline.
    away: Fate
    #: Handed to a member that is killed before it has shown it.
    killed: Fate
    #: Waiting in the broker when it is stopped and started.
    broker_restart: Fate
    #: The same, by SIGKILL.
    broker_killed: Fate
    #: Sent while a member's connection is cut.
    link_cut: Fate
    #: Sent before a member subscribed.
    late: Fate = LOST
    #: Messages of one sender are shown in its order, reconnects included.
    order: bool = True
    #: Whether one life is shown a message twice.
    duplicates: Literal["never", "possible"] = "never"
    #: The sender is told what became of a message: confirmed, unroutable, …
    confirms: bool = True
    #: Members see who wrote a message.
    names_sender: bool = True
    #: A newer client of a member ends the older one; otherwise messages go to either.
    takes_over: bool = True
    #: Members acknowledge what they were shown.
    acknowledged: bool = True
    #: The receipt says how many wait.
    counts_waiting: bool = True
    #: A member that missed messages is told so, and how many.
    reports_gaps: bool = False
    #: What a killed member held and had not begun to show comes again marked as redelivered.
    marks_held: bool = True
    #: With a member, a message is never unroutable: it is kept for those who read later.
    keeps_for_nobody: bool = False
    #: What a reader should know besides.
    note: str = ""


_ALL_KEPT: dict[str, Any] = dict.fromkeys(
    ("away", "killed", "broker_restart", "broker_killed", "link_cut"), KEPT
)
_ALL_LOST: dict[str, Any] = dict.fromkeys(_ALL_KEPT, LOST)

_DURABLE = Guarantees(broker="RabbitMQ", **_ALL_KEPT)
_STREAM = Guarantees(
    broker="Redis",
    **_ALL_KEPT,
    reports_gaps=True,
    note="Redis with AOF; without it a kill loses all, and members are told",
)
_MEMORY = Guarantees(
    tier="stand-in",
    broker="none",
    **_ALL_KEPT | dict.fromkeys(("broker_restart", "broker_killed", "link_cut"), NO_BROKER),
    reports_gaps=True,
    note="all is lost with the kernel",
)
_REPORTED = Guarantees(
    broker="RabbitMQ",
    **_ALL_LOST,
    confirms=False,
    names_sender=False,
    acknowledged=False,
    counts_waiting=False,
    note="no acknowledgements, confirms or ids",
)

#: Backend -> what it promises; by name alone with its options at their defaults.
_ROWS = {
    "rabbitmq-durable": _DURABLE,
    "rabbitmq-transient": Guarantees(
        broker="RabbitMQ",
        **_ALL_LOST,
        counts_waiting=False,
        note="the queue goes with its member's connection",
    ),
    "rabbitmq-quorum": _DURABLE,
    "rabbitmq-log": replace(
        _DURABLE,
        late=OPEN,
        counts_waiting=False,
        marks_held=False,
        keeps_for_nobody=True,
        note="a late joiner that asks for the first message sees all",
    ),
    "redis-pubsub": Guarantees(
        broker="Redis",
        **_ALL_LOST,
        acknowledged=False,
        reports_gaps=True,
        note="at most once; what a cut made a member miss is counted",
    ),
    "redis-stream": _STREAM,
    "memory": _MEMORY,
    "as-reported": _REPORTED,
    "as-reported:persistent=yes": replace(
        _REPORTED,
        away=KEPT,
        broker_restart=OPEN,
        broker_killed=OPEN,
        link_cut=OPEN,
        takes_over=False,
        note="automatic acknowledgement and a local buffer: a crash loses what is in it",
    ),
}

#: Option -> what is worse with it.
_WORSE_WITH: dict[str, dict[str, Any]] = {
    "persistent=no": {"broker_restart": LOST, "broker_killed": LOST},
    "confirms=no": {
        "confirms": False,
        "counts_waiting": False,
        "broker_killed": OPEN,
        "link_cut": OPEN,
        "note": "sent is not received: nothing says whether the broker has it",
    },
    "exchange=transient": {
        "broker_restart": OPEN,
        "broker_killed": OPEN,
        "note": "a restart forgets the exchange and its bindings",
    },
    "maxlen": {"away": OPEN, "link_cut": OPEN, "note": "the oldest are dropped, also unread"},
}
#: From better to worse: of two options the worse one counts. What cannot happen stays so.
_ORDER = (KEPT, OPEN, LOST, NO_BROKER)


def guarantees(backend: str, *, aof: bool = True) -> Guarantees:
    """What ``backend`` (with its options) promises.

    Args:
        backend: the text that the group was opened with.
        aof: whether the Redis that counts has an append-only file, as the lab's has.

    Raises:
        InvalidInput: there is no such group backend or option.
    """
    text = shared_text(backend)  # without the options that have their defaults
    name, _, options = text.partition(":")
    row = _ROWS.get(text, _ROWS[name])
    for option in options.split(","):
        key = "maxlen" if option.startswith("maxlen=") else option
        row = _worse(row, _WORSE_WITH.get(key, {}))
    if name == "redis-stream" and not aof:
        row = replace(row, broker_restart=LOST, broker_killed=LOST)
    return replace(row, backend=backend)


def _worse(row: Guarantees, changes: dict[str, Any]) -> Guarantees:
    values = {
        key: max(getattr(row, key), value, key=_ORDER.index) if key in _ALL_KEPT else value
        for key, value in changes.items()
    }
    return replace(row, **values)


def table(backends: Iterable[str]) -> Table:
    """The rows of several backends, to compare."""
    return Table((asdict(guarantees(backend)) for backend in backends), "guarantees")
