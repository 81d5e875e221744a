"""Order: what one life of a sender sent is shown in that order to each life of a receiver;
and, as a figure, whether the members of a group saw the same order.

The order of a sender is that of its Sent facts, not of what its messages claim. Left out is
what was sent more than once (an earlier copy has no place of its own), and what is shown to a
new life again, marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from chatlab.checkers.conversation import Sight
from chatlab.checkers.fates import Case, smallest
from chatlab.checkers.verdict import (
    BROKEN,
    CANNOT_TELL,
    KEPT,
    NOT_PROMISED,
    Check,
    Outcome,
)

#: Members compared with each other, at most so many.
COMPARED = 12


def in_order(case: Case) -> Iterator[Sight]:
    """What counts for order: each message once per life of a receiver."""
    lives: set[tuple[str, str, int]] = set()
    users: set[tuple[str, str]] = set()
    for sight in case.talk.sights:
        send = case.talk.sends.get(sight.key)
        life, user = (sight.key, sight.user, sight.life), (sight.key, sight.user)
        again = life in lives or (user in users and sight.redelivered)
        lives.add(life)
        users.add(user)
        if send is not None and send.attempts == 1 and not again:
            yield sight


def check(case: Case) -> Check:
    """Per sender, in one private chat or group."""
    sends = case.talk.sends
    newest: dict[tuple[str, int, str, int], Sight] = {}
    backwards: list[tuple[Sight, Sight]] = []
    pairs = 0
    for sight in in_order(case):
        send = sends[sight.key]
        way = (sight.user, sight.life, send.user, send.life)
        before = newest.setdefault(way, sight)
        if before is sight:
            continue
        pairs += 1
        if sends[before.key].line > send.line:
            backwards.append((before, sight))
        else:
            newest[way] = sight
    examples = (
        case.history.example(
            f"{late.message.id} was sent before {early.message.id} and was to be shown first.",
            [late.message.id, early.message.id],
            *(sends[late.key].line, sends[early.key].line, early.line, late.line),
        )
        for early, late in backwards
    )
    counts = {"shown": len(case.talk.sights), "compared": pairs, "backwards": len(backwards)}
    outcome, why = _judged(case.promise.order, pairs, len(backwards))
    example = {"example": smallest(examples)} if outcome == BROKEN else {}
    return Check(
        "order", case.talk.chat, case.promise.backend, outcome, why, counts, **example,
        counted=case.promise.order and pairs > 0,
    )  # fmt: skip


def _judged(promised: bool, pairs: int, backwards: int) -> tuple[Outcome, str]:
    if backwards:
        text = f"{backwards} were shown after what their sender sent later."
        return (BROKEN, text) if promised else (NOT_PROMISED, f"{text} No order is promised.")
    if not pairs:
        return CANNOT_TELL, "Nobody was shown two messages of one sender."
    return KEPT, "What one sender sent was shown in its order."


def agreement(case: Case) -> Check:
    """Whether the members of a group were shown messages in the same order."""
    orders = _orders(case)
    members = list(orders)[:COMPARED]
    found: list[tuple[str, str, str, str]] = []
    compared = 0
    for number, one in enumerate(members):
        for other in members[:number]:
            common = [key for key in orders[one] if key in orders[other]]
            compared += max(0, len(common) - 1)
            for first, second in pairwise(common):
                if orders[other][first] > orders[other][second]:
                    found.append((one, other, first, second))
    counts = {"members": len(orders), "compared": compared, "disagreements": len(found)}
    promised = case.promise.agreement
    outcome, why = _agreed(promised, counts)
    examples = (
        case.history.example(
            f"{a} and {b} were to be shown in one order to {one} and {other}.",
            [a, b],
            *(orders[user][key] for user in (one, other) for key in (a, b)),
        )
        for one, other, a, b in found
    )
    example = {"example": smallest(examples)} if outcome == BROKEN else {}
    return Check(
        "agreement", case.talk.chat, case.promise.backend, outcome, why, counts, **example,
        counted=promised,
    )  # fmt: skip


def _orders(case: Case) -> dict[str, dict[str, int]]:
    """Member -> message -> the line of its first sight."""
    orders: dict[str, dict[str, int]] = {}
    for (key, user), line in case.talk.first_sights.items():
        orders.setdefault(user, {})[key] = line
    return orders


def _agreed(promised: bool, counts: dict[str, int]) -> tuple[Outcome, str]:
    if not counts["compared"]:
        return CANNOT_TELL, "No two members were shown the same two messages."
    if not counts["disagreements"]:
        return KEPT, f"{counts['members']} members were shown the same order."
    text = f"{counts['disagreements']} pairs of neighbours were shown the other way round"
    if promised:
        return BROKEN, f"{text}."
    return NOT_PROMISED, f"{text}; no backend promises one order to all members."
