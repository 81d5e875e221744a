"""Insults: exactly one member works on each, unless something befell the first.

A second member may be handed an insult only when the first crashed, froze, lost its connection
or gave it back, or its broker failed, and then it is marked redelivered. Where the backend
promises it, nobody draws its own. What was lost is counted by
:mod:`chatlab.checkers.delivery`; how evenly the others went is
:mod:`chatlab.checkers.fairness`'s question.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from chatlab.checkers.conversation import Sight
from chatlab.checkers.fates import Case, smallest
from chatlab.checkers.verdict import BROKEN, CANNOT_TELL, KEPT, Check, Outcome


def check(case: Case) -> Check:
    """Judge the insult channel."""
    talk, promise = case.talk, case.promise
    handed = list(_handed_on(case))
    split = [(one, other) for one, other, befell in handed if not befell]
    unmarked = [(a, b) for a, b, befell in handed if befell and not b.redelivered]
    own = [s for s in talk.sights if s.user == s.message.sender and not promise.own]
    counts = {
        "members": len(talk.consumers),
        "insults": len(talk.by_key),
        "handed_on": len(handed),
        "split": len(split),
        "unmarked": len(unmarked),
        "own": len(own),
    }
    examples = []
    for one, other in split:
        text = f"{one.message.id} was to be {one.user}'s alone: nothing befell {one.user}."
        examples.append(case.history.example(text, [one.message.id], one.line, other.line))
    for one, other in unmarked:
        text = f"{one.message.id} came to {other.user} again and was to be marked redelivered."
        examples.append(case.history.example(text, [one.message.id], one.line, other.line))
    for sight in own:
        text = f"{sight.message.id} was not to come back to its sender {sight.user}."
        line = talk.sends[sight.key].line if sight.key in talk.sends else sight.line
        examples.append(case.history.example(text, [sight.message.id], line, sight.line))
    outcome, why = _judged(counts, bool(examples))
    return Check(
        "insults", talk.chat, promise.backend, outcome, why, counts, smallest(iter(examples))
    )


def _handed_on(case: Case) -> Iterator[tuple[Sight, Sight, bool]]:
    """One life and the next that was handed its insult; whether something befell the first."""
    for sights in case.talk.by_key.values():
        for one, other in pairwise(sights):
            if (one.user, one.life) != (other.user, other.life):
                yield one, other, _befell(case, one, other)


def _befell(case: Case, one: Sight, other: Sight) -> bool:
    history, talk = case.history, case.talk
    if any(one.line < line < other.line for line in talk.rejected.get(one.key, ())):
        return True
    spans = history.away(one.user, talk.store)
    if any(span.overlaps(one.line, other.line) for span in spans):
        return True
    targets = {service for _, service in case.promise.faults}
    targets |= {f"{one.user}-{link}" for link in case.promise.links}
    return any(
        fault.target in targets and fault.began < other.line and one.line < fault.ended
        for fault in history.faults
    )


def _judged(counts: dict[str, int], wrong: bool) -> tuple[Outcome, str]:
    if wrong:
        parts = {
            "handed to a second member without need": counts["split"],
            "handed on without a mark": counts["unmarked"],
            "back to their sender": counts["own"],
        }
        text = ", ".join(f"{number} {name}" for name, number in parts.items() if number)
        return BROKEN, f"{text}, of {counts['insults']} insults."
    if not counts["insults"]:
        return CANNOT_TELL, "No insult was drawn."
    if counts["members"] < 2:
        return (
            CANNOT_TELL,
            "Only one member was there to draw: anybody would have been the one.",
        )
    handed = f"; {counts['handed_on']} were handed on, marked" if counts["handed_on"] else ""
    return KEPT, f"Each of {counts['insults']} insults was one member's{handed}."
