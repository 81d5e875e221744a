"""What each insult backend promises, as data that checkers, notebooks and tests read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from chatlab.backends import INSULTS, parse_backend

#: ``kept``: it reaches a member, none is lost. ``lost``: it may be, and that is no fault.
#: ``no broker``: this cannot happen to the backend; it ends with its process.
Promise = Literal["kept", "lost", "no broker"]


@dataclass(frozen=True, slots=True)
class Guarantees:
    """The promises of one backend with its options. Each insult is worked on to its end by at
    most one member, unless it is handed out again because of what befell the first."""

    #: Sent while nobody listens.
    nobody_listens: Promise
    #: In the hands of a member that crashes: to another, marked redelivered, or gone.
    member_killed: Promise
    #: Confirmed, and then the broker restarts in order, or is killed.
    broker_restart: Promise
    broker_killed: Promise
    #: The link of a member is cut and healed: what it held, and what was under way to it.
    link_cut: Promise
    #: Its handler always fails: a dead letter after 5 deliveries, or gone.
    poison: Promise
    #: Who gets the next of a sender: ``strict``: idle members in turn; ``about``: nearly so;
    #: ``greedy``: a backlog goes whole to whoever attaches first.
    turn: Literal["strict", "about", "greedy"]
    #: A producer that also listens may draw its own.
    own: bool = True
    #: Most members; 0: no limit.
    members: int = 0
    #: Where the result comes from.
    tier: Literal["real", "stand-in"] = "real"


_KEPT = Guarantees("kept", "kept", "kept", "kept", "kept", "kept", "strict")

_BACKENDS = {
    "rabbitmq": _KEPT,
    "rabbitmq-not-me": replace(_KEPT, own=False, members=32),
    "redis-list": replace(
        _KEPT, member_killed="lost", link_cut="lost", poison="lost", turn="about"
    ),
    # The lab's Redis writes an append-only file before it answers: what it has confirmed
    # outlives its own end; a power cut may take the last seconds.
    "redis-stream": replace(_KEPT, turn="about"),
    "memory": replace(
        _KEPT,
        broker_restart="no broker",
        broker_killed="no broker",
        link_cut="no broker",
        tier="stand-in",
    ),
    "as-reported": Guarantees("kept", "lost", "lost", "lost", "lost", "lost", "greedy"),
}


def guarantees(backend: str) -> Guarantees:
    """The promises of a backend; options that change them count.

    Raises:
        InvalidInput: no such backend or option.
    """
    name, options = parse_backend(backend, INSULTS)
    return _with(_BACKENDS[name], options)


def _with(promised: Guarantees, options: dict[str, Any]) -> Guarantees:
    if options.get("ack") == "auto":
        link_cut: Promise = "lost" if promised.link_cut == "kept" else promised.link_cut
        return replace(
            promised, member_killed="lost", link_cut=link_cut, poison="lost", turn="greedy"
        )
    if options.get("prefetch", 1) == 0:
        return replace(promised, turn="greedy")
    return promised
