"""What a conversation's backend promises, in one shape for all three patterns.

The rows are those that the backends declare (:mod:`chatlab.groups.guarantees`,
:mod:`chatlab.insults.guarantees`, :mod:`chatlab.private.guarantees`). Two rules on top:

- ``as-reported`` exists to break what a user of a chat is promised, so it is judged by the
  promises of its pattern's default backend: what it loses is *broken*, not *not promised*.
- A backend that declares nothing (your own, a broken one) is judged in the same way, unless
  the journal's header says by whose promises it is to be judged (``promises``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chatlab.backends import (
    GROUPS,
    INSULTS,
    PRIVATE,
    forgets_the_absent,
    parse_backend,
    unconfirmed,
)
from chatlab.checkers.conversation import DIRECT, Conversation
from chatlab.errors import InvalidInput
from chatlab.groups.guarantees import guarantees as of_group
from chatlab.insults.guarantees import guarantees as of_insults
from chatlab.private.guarantees import guarantees as of_private

AS_REPORTED = "as-reported"
#: The backend whose promises stand in for those of ``as-reported`` and of the unknown.
DEFAULTS = {"group": "rabbitmq-durable", "insults": "rabbitmq", "private": "mailbox-redis"}
_KNOWN = {"group": GROUPS, "insults": INSULTS, "private": PRIVATE}

#: How a message's fate is put into words.
SITUATIONS = {
    "away": "its receiver was away",
    "killed": "its receiver was killed or frozen",
    "link_cut": "a connection was lost",
    "broker_restart": "the broker was restarted",
    "broker_killed": "the broker was killed",
    "server_killed": "the chat server went down",
    "redis_killed": "Redis went down",
    "nobody_listens": "nobody listened",
}
#: The fates of a table's row that excuse a loss.
_EXCUSES = frozenset({"lost", "not promised"})


@dataclass(frozen=True)
class Promise:
    """What holds for one conversation."""

    #: As the journal names it; of a stand-in with that word.
    backend: str
    #: Situation -> what the row says: ``kept``, ``lost``, …
    fates: Mapping[str, str]
    #: (fault, service) -> the situation that it makes.
    faults: Mapping[tuple[str, str], str]
    #: Links whose loss is felt: ``rabbitmq`` for ``bob-rabbitmq``.
    links: frozenset[str]
    stand_in: bool = False
    order: bool = True
    #: Members of a group see the same order; effects come after their causes. No backend
    #: promises either, today.
    agreement: bool = False
    causal: bool = False
    duplicates: bool = False
    acknowledged: bool = True
    #: Keeps nothing for who is not there.
    forgets: bool = False
    #: Senders are told nothing: what was sent counts as confirmed.
    unconfirmed: bool = False
    turn: str = ""
    #: A producer may draw its own.
    own: bool = True

    def excuses(self, situation: str) -> bool:
        """Whether what is lost in this situation was not promised."""
        return self.fates.get(situation, "kept") in _EXCUSES


def promise_of(talk: Conversation) -> Promise:
    """The promise that counts for a conversation; of several backends, where the journal
    cannot say which carried a message, the weakest in every point."""
    found = [_one(talk, *each) for each in (talk.backends or {"": ""}).items()]
    promise = found[0]
    for other in found[1:]:
        promise = _weaker(promise, other)
    names = dict.fromkeys(each.backend for each in found)
    return replace(promise, backend=" + ".join(names))


def judged_by(pattern: str, backend: str) -> str:
    """The backend whose promises count."""
    try:
        name, _ = parse_backend(backend, _KNOWN[pattern])
    except InvalidInput:
        return DEFAULTS[pattern]
    return DEFAULTS[pattern] if name == AS_REPORTED else backend


def _one(talk: Conversation, backend: str, promised: str) -> Promise:
    """Of the backend of this name, which is to keep what that one promises."""
    make = {"group": _of_group, "insults": _of_insults, "private": _of_private}
    promise = make[talk.pattern](promised, judged_by(talk.pattern, promised))
    if backend != promised:  # nobody's own promise, whatever the one it is measured by is
        return replace(promise, backend=backend, stand_in=False)
    name = talk.pattern == "insults" and backend.partition(":")[0]
    shown = f"{name or backend} (stand-in)" if promise.stand_in else name or backend
    return replace(promise, backend=shown)


def _of_group(backend: str, judge: str) -> Promise:
    row = of_group(judge)
    broker = row.broker.lower()
    return Promise(
        backend=backend,
        fates={
            name: getattr(row, name)
            for name in (
                "away",
                "killed",
                "broker_restart",
                "broker_killed",
                "link_cut",
                "late",
            )
        },
        faults=_broker_faults(broker),
        links=frozenset({broker}),
        stand_in=row.tier == "stand-in",
        order=row.order,
        duplicates=row.duplicates == "possible",
        acknowledged=_declares(of_group, backend, "acknowledged"),
        forgets=forgets_the_absent(backend),
        unconfirmed=unconfirmed(backend),
    )


def _of_insults(backend: str, judge: str) -> Promise:
    row = of_insults(judge)
    broker = "redis" if judge.startswith("redis") else "rabbitmq"
    return Promise(
        backend=backend,
        fates={
            "nobody_listens": row.nobody_listens,
            "killed": row.member_killed,
            "broker_restart": row.broker_restart,
            "broker_killed": row.broker_killed,
            "link_cut": row.link_cut,
        },
        faults=_broker_faults(broker),
        links=frozenset({broker}),
        stand_in=row.tier == "stand-in",
        order=False,  # a work queue is shared: its members say nothing of an order
        acknowledged="ack=manual" in backend or backend.startswith("redis-stream"),
        turn=row.turn,
        own=row.own,
    )


def _of_private(backend: str, judge: str) -> Promise:
    row = of_private(judge)
    names = ("away", "killed", "server_killed", "redis_killed", "link_cut")
    direct = backend == DIRECT
    return Promise(
        backend=backend,
        fates={name: getattr(row, name) for name in names},
        faults={
            (fault, service): f"{service}_killed"
            for fault in ("kill", "restart")
            for service in ("server", "redis")
        },
        links=frozenset({DIRECT if direct else "server"}),
        stand_in=row.tier == "stand-in",
        order=row.order,
        duplicates=row.duplicates == "possible",
        acknowledged=_declares(of_private, backend, "acknowledged"),
        forgets=direct,
    )


def _broker_faults(broker: str) -> dict[tuple[str, str], str]:
    return {("kill", broker): "broker_killed", ("restart", broker): "broker_restart"}


def _declares(rows: Any, backend: str, name: str) -> bool:
    """What the backend itself says, even when another's promises count."""
    try:
        return bool(getattr(rows(backend), name))
    except InvalidInput:
        return True


def _weaker(one: Promise, other: Promise) -> Promise:
    fates = {
        name: min(one.fates[name], other.fates[name], key=lambda fate: fate not in _EXCUSES)
        for name in one.fates
    }
    turns = ("strict", "about", "greedy", "")
    return replace(
        one,
        fates=fates,
        faults={**one.faults, **other.faults},
        links=one.links | other.links,
        stand_in=one.stand_in or other.stand_in,
        order=one.order and other.order,
        duplicates=one.duplicates or other.duplicates,
        acknowledged=one.acknowledged and other.acknowledged,
        forgets=one.forgets or other.forgets,
        unconfirmed=one.unconfirmed or other.unconfirmed,
        turn=max(one.turn, other.turn, key=turns.index),
        own=one.own and other.own,
    )


def stand_ins(promises: Iterable[Promise]) -> tuple[str, ...]:
    """The backends among them that only stand in for a real service."""
    found = (p.backend.removesuffix(" (stand-in)") for p in promises if p.stand_in)
    return tuple(dict.fromkeys(found))
