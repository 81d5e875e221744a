"""The mailbox after a reconnect: nothing skipped, nothing goes backwards but what is marked.

A *session* of a receiver is what it was shown between two returns. Across sessions the
messages of one life of a sender go on where they stopped: what is shown again, or after
something newer, is marked redelivered; what was passed over because the receiver was away,
crashed or cut off is lost, as far as that was promised. A broker that failed in between may
have forgotten what it had handed out, and with it the mark.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from chatlab.checkers.conversation import NEVER, Sight
from chatlab.checkers.fates import Case, smallest
from chatlab.checkers.verdict import (
    BROKEN,
    CANNOT_TELL,
    KEPT,
    NOT_PROMISED,
    Check,
    Outcome,
)

#: The situations that a return ends.
_ENDED_BY_A_RETURN = frozenset({"away", "killed", "link_cut"})


def check(case: Case) -> Check:
    """Judge one private chat or group."""
    returns = {user: _returns(case, user) for user in case.receivers}
    skipped = [
        entry
        for entry in case.missing
        if entry.lost and entry.met.keys() & _ENDED_BY_A_RETURN and returns[entry.receiver]
    ]
    backwards = list(_backwards(case, returns))
    unmarked = [(a, b) for a, b, excused in backwards if not excused]
    broken = [entry for entry in skipped if entry.fate == BROKEN]
    counts = {
        "returns": sum(map(len, returns.values())),
        "skipped": len(skipped),
        "backwards": len(backwards),
        "marked": sum(
            sight.redelivered for sight in case.talk.sights if returns.get(sight.user)
        ),
    }
    examples = [case.explain(entry) for entry in broken[:100]]
    for newer, older in unmarked:
        text = f"{older.message.id} came to {older.user} after {newer.message.id}, unmarked."
        messages = [older.message.id, newer.message.id]
        back = [line for line in returns[older.user] if newer.line < line < older.line]
        examples.append(
            case.history.example(text, messages, newer.line, *back[-1:], older.line)
        )
    outcome, why = _judged(counts, len(broken), len(unmarked), bool(examples))
    return Check(
        "reconnect", case.talk.chat, case.promise.backend, outcome, why, counts,
        smallest(iter(examples)), counted=counts["returns"] > 0,
    )  # fmt: skip


def _returns(case: Case, user: str) -> list[int]:
    """The lines at which a receiver was back, after it had been there."""
    found: list[int] = []
    reached = 0
    for span in sorted(case.history.away(user, case.talk.store), key=lambda span: span.began):
        if found and span.began < reached:  # absent as a whole, and from here as well
            found.pop()
        if span.began > 0 or reached:
            reached = max(reached, span.ended)
            found.append(reached)
    return [line for line in found if line < NEVER]


def _backwards(
    case: Case, returns: dict[str, list[int]]
) -> Iterator[tuple[Sight, Sight, bool]]:
    """What an earlier session was shown, what a later one was shown although it is no newer,
    and whether that is excused."""
    sends = case.talk.sends
    newest: dict[tuple[str, str, int], Sight] = {}
    session: dict[tuple[str, str, int], tuple[int, Sight | None]] = {}
    for sight in case.talk.sights:
        send = sends.get(sight.key)
        if send is None or send.attempts > 1 or not returns.get(sight.user):
            continue
        way = (sight.user, send.user, send.life)
        number = bisect_right(returns[sight.user], sight.line)
        if way in newest and session.get(way, (-1, None))[0] != number:
            session[way] = (number, newest[way])
        before = session.get(way, (number, None))[1]
        if before is not None and sends[before.key].line >= send.line and not sight.redelivered:
            yield before, sight, _broker_failed(case, before.line, sight.line)
        if way not in newest or sends[newest[way].key].line < send.line:
            newest[way] = sight


def _broker_failed(case: Case, since: int, until: int) -> bool:
    return any(
        (fault.fault, fault.target) in case.promise.faults and since < fault.began < until
        for fault in case.history.faults
    )


def _judged(
    counts: dict[str, int], broken: int, unmarked: int, wrong: bool
) -> tuple[Outcome, str]:
    if wrong:
        parts = {"skipped": broken, "backwards without a mark": unmarked}
        text = ", ".join(f"{number} {name}" for name, number in parts.items() if number)
        return BROKEN, f"After {_times(counts)}: {text}."
    if not counts["returns"]:
        return CANNOT_TELL, "Nobody went and came back."
    if counts["skipped"] or counts["backwards"]:
        what = f"{counts['skipped']} skipped, {counts['backwards']} backwards"
        return NOT_PROMISED, f"After {_times(counts)}: {what}; nobody promised more."
    return KEPT, f"After {_times(counts)} it went on where it had stopped."


def _times(counts: dict[str, int]) -> str:
    return f"{counts['returns']} return{'' if counts['returns'] == 1 else 's'}"
