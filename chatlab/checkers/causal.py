"""Causal order: is an answer ever shown before what it answers?

Clocks of our own, built from the journal: what a user sent and was shown, in any conversation
and any life, happened before what it sends next (L. Lamport, 1978; vector clocks: C. Fidge,
F. Mattern, 1988). A message's vector says for each sender how many of its sends come before.
At a receiver, ``b`` shown before ``a`` is a violation when ``a`` happened before ``b`` and
another user than ``a``'s sender wrote ``b`` (the order of one sender has its own check).

No backend promises causal order between senders, so the result is a figure.
"""

from __future__ import annotations

from typing import NamedTuple

from chatlab.checkers.conversation import Sight
from chatlab.checkers.fates import Case, smallest
from chatlab.checkers.history import History
from chatlab.checkers.order import in_order
from chatlab.checkers.verdict import BROKEN, CANNOT_TELL, KEPT, NOT_PROMISED, Check

Vector = dict[str, int]


class Stamp(NamedTuple):
    """A send's place: the number of its sender's sends, and what comes before it."""

    number: int
    vector: Vector


def stamps(history: History) -> dict[tuple[str, str], Stamp]:
    """(conversation, message) -> its stamp.

    A message that the journal shows before it was sent (two processes) teaches nothing.
    """
    clocks: dict[str, Vector] = {}
    found: dict[tuple[str, str], Stamp] = {}
    for row in history.rows:
        if row[0] not in ("Sent", "Delivered"):
            continue
        user, chat, message = row[2], row[4], row[5]
        talk = history.conversations[chat]
        key, own = (chat, talk.key(message)), clocks.setdefault(user, {})
        if row[0] == "Sent":
            if key not in found:
                own[user] = own.get(user, 0) + 1
                found[key] = Stamp(own[user], dict(own))
        elif key in found and found[key].vector is not own:
            for name, number in found[key].vector.items():
                if number > own.get(name, 0):
                    own[name] = number
    return found


def check(case: Case, found: dict[tuple[str, str], Stamp]) -> Check:
    """Judge one private chat or group; ``found``: the :func:`stamps` of the journal."""
    chat, sends = case.talk.chat, case.talk.sends
    known: dict[str, dict[str, tuple[int, Sight]]] = {}
    early: list[tuple[Sight, Sight]] = []
    effects = 0
    for sight in in_order(case):
        send = sends[sight.key]
        stamp = found[chat, sight.key]
        seen = known.setdefault(sight.user, {})
        effects += len(stamp.vector) > 1
        if send.user in seen and seen[send.user][0] >= stamp.number:
            early.append((sight, seen[send.user][1]))
        for name, number in stamp.vector.items():
            if name != send.user and number > seen.get(name, (0,))[0]:
                seen[name] = (number, sight)
    promised = case.promise.causal
    counts = {"effects": effects, "too_early": len(early)}
    if not effects:
        outcome, why = CANNOT_TELL, "Nobody was shown an answer to what it was shown."
    elif not early:
        outcome, why = KEPT, "No effect was shown before its cause."
    else:
        why = f"{len(early)} were shown after an answer to them."
        outcome = BROKEN if promised else NOT_PROMISED
    examples = (
        case.history.example(
            f"{cause.message.id} came before {effect.message.id} and was to be shown first.",
            [cause.message.id, effect.message.id],
            *(sends[cause.key].line, sends[effect.key].line, effect.line, cause.line),
        )
        for cause, effect in early
    )
    example = {"example": smallest(examples)} if outcome == BROKEN else {}
    return Check(
        "causal", chat, case.promise.backend, outcome, why, counts, **example, counted=promised
    )
