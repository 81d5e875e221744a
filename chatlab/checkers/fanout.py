"""Fan-out: every subscriber of a group gets everything sent between its subscription and its
leaving, as far as its backend promises; and nobody else gets anything.

Where :mod:`chatlab.checkers.delivery` counts copies, this asks member by member: a queue that
is shared by mistake shows as members with a part each, a name compared by its beginning as a
member who sees nothing, a queue declared after the first publish as a member who missed the
beginning.
"""

from __future__ import annotations

from collections import Counter

from chatlab.checkers.conversation import Sight
from chatlab.checkers.delivery import LOOKED_AT
from chatlab.checkers.fates import Case, smallest
from chatlab.checkers.verdict import (
    BROKEN,
    CANNOT_TELL,
    KEPT,
    NOT_PROMISED,
    Check,
    Outcome,
)


def check(case: Case) -> Check:
    """Judge one group."""
    receivers = sorted(case.receivers.items())
    owed = {user: sum(case.owed(send) for send, _ in meant) for user, meant in receivers}
    strangers = [sight for sight in case.talk.sights if not _member(case, sight)]
    open_ = [entry for entry in case.missing if not entry.lost]
    missed = Counter(entry.receiver for entry in case.missing if entry.lost)
    broken = [entry for entry in case.missing if entry.fate == BROKEN]
    counts = {
        "members": len(owed),
        "owed": sum(owed.values()),
        "missed": sum(missed.values()),
        "members_short": len(missed),
        "strangers": len(strangers),
        "open": len(open_),
    }
    examples = [case.explain(entry) for entry in broken[:LOOKED_AT]]
    for sight in strangers[:1]:
        text = f"{sight.user} is no member and was to be shown nothing."
        examples.append(case.history.example(text, [sight.message.id], sight.line))
    outcome, why = _judged(counts, owed, missed, bool(examples))
    return Check(
        "fan-out", case.talk.chat, case.promise.backend, outcome, why, counts,
        smallest(iter(examples)),
        counted=len(owed) > 1 or outcome == BROKEN,
    )  # fmt: skip


def _member(case: Case, sight: Sight) -> bool:
    """Facts of one user are in order; what it is shown, it is shown as a member."""
    return any(span.covers(sight.line) for span in case.talk.members.get(sight.user, ()))


def _judged(
    counts: dict[str, int], owed: dict[str, int], missed: Counter[str], wrong: bool
) -> tuple[Outcome, str]:
    short = ", ".join(f"{user} {n} of {owed[user]}" for user, n in sorted(missed.items()))
    if wrong:
        strangers = f"{counts['strangers']} shown to who is no member"
        parts = [f"missed: {short}"] if short else []
        return BROKEN, "; ".join([*parts, *([strangers] if counts["strangers"] else [])]) + "."
    if counts["members"] < 2:
        return CANNOT_TELL, "There were not two members: nothing fans out."
    if not counts["owed"]:
        return CANNOT_TELL, "No member was owed anything."
    if counts["open"]:
        return CANNOT_TELL, f"{counts['open']} copies wait or are under way."
    if missed:
        return NOT_PROMISED, f"missed: {short}; nothing else was promised."
    return KEPT, f"Each of {len(owed)} members was shown all that was meant for it."
