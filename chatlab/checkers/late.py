"""Late joiners: what a group's new member is shown of what was sent before it came.

Nobody owes it that, so this is a figure unless the run is about it (``expect=["late eva"]``).
A log may be read from its first message; every other backend begins with the subscription.
"""

from __future__ import annotations

from collections.abc import Collection

from chatlab.checkers.fates import Case
from chatlab.checkers.verdict import BROKEN, CANNOT_TELL, KEPT, NOT_PROMISED, Check, Outcome


def check(case: Case, expected: Collection[str]) -> Check:
    """Judge one group.

    Args:
        expected: the members whose coming late the run is about.
    """
    talk = case.talk
    before = {
        member: [
            send
            for send in talk.sends.values()
            if send.line < spans[0].began and case.owed(send)
        ]
        for member, spans in talk.members.items()
    }
    late = {member: sends for member, sends in before.items() if sends}
    missed = {
        member: [send for send in sends if (send.key, member) not in talk.first_sights]
        for member, sends in late.items()
    }
    counts = {
        "late": len(late),
        "sent_before": sum(map(len, late.values())),
        "lost": sum(map(len, missed.values())),
    }
    outcome, why = _judged(counts, kept=not case.promise.excuses("late"))
    counted = bool(set(expected) & talk.members.keys())
    if counted and not set(expected) <= late.keys():
        outcome, why = CANNOT_TELL, "Nothing had been sent when it came."
    return Check("late", talk.chat, case.promise.backend, outcome, why, counts, counted=counted)


def _judged(counts: dict[str, int], kept: bool) -> tuple[Outcome, str]:
    if not counts["late"]:
        return CANNOT_TELL, "Nobody came late."
    if not counts["lost"]:
        return KEPT, f"Who came late was shown all {counts['sent_before']} from before."
    why = f"{counts['lost']} of {counts['sent_before']} from before it came were never shown."
    return (BROKEN, why) if kept else (NOT_PROMISED, why)
