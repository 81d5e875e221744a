"""Limits: what no message shows, and every client keeps to.

A client may deliver everything and still be wrong: one that never acknowledges makes its store
grow without end, and one that connects anew for each message is a hundred times slower than it
could be. Both are in the journal: what was shown and is not acknowledged long after, and
connections that carried one message each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from chatlab.checkers.fates import QUIET_SECONDS, Case
from chatlab.checkers.verdict import BROKEN, KEPT, Check, Example

#: So many messages of one life may be shown and not acknowledged: about one batch.
UNACKNOWLEDGED = 100
#: So many connections of one user may have carried one message each.
SINGLE_USE = 20


def check(case: Case) -> Check:
    """Judge one conversation."""
    unacked, unacked_example = _unacknowledged(case)
    single, single_example = _single_use(case)
    counts = {"unacknowledged": unacked, "single_use_connections": single}
    if unacked > UNACKNOWLEDGED:
        why = f"{unacked} messages were shown to one life and never acknowledged."
        outcome, example = BROKEN, unacked_example
    elif single > SINGLE_USE:
        why = f"{single} connections of one user carried one message each."
        outcome, example = BROKEN, single_example
    else:
        outcome, example = KEPT, Example()
        why = "What was shown was acknowledged, and connections were used more than once."
        if not case.promise.acknowledged:
            why = "Nobody acknowledges here; connections were used more than once."
    return Check("limits", case.talk.chat, case.promise.backend, outcome, why, counts, example)


def _unacknowledged(case: Case) -> tuple[int, Example]:
    """The most that one life, still there at the end, was shown and did not acknowledge."""
    history, talk = case.history, case.talk
    if not case.promise.acknowledged:
        return 0, Example()
    latest = history.at(history.closing) - QUIET_SECONDS
    open_: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for sight in talk.sights:
        if sight.at <= latest and sight.message.id not in talk.acked[sight.user, sight.life]:
            open_[sight.user, sight.life].append(sight.line)
    for user, life in list(open_):
        if history.crashed(user, open_[user, life][0], history.closing):
            del open_[user, life]
    if not open_:
        return 0, Example()
    (user, _), lines = max(open_.items(), key=lambda entry: len(entry[1]))
    oldest = next(sight for sight in talk.sights if sight.line == lines[0])
    text = f"{user} was to acknowledge {oldest.message.id}, the oldest of {len(lines)}."
    return len(lines), history.example(text, [oldest.message.id], lines[0])


def _single_use(case: Case) -> tuple[int, Example]:
    """The most connections of one user that it opened, sent one message on and closed."""
    sends: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for send in case.talk.sends.values():
        sends[send.user, send.life].append(send.line)
    opened: dict[tuple[str, int], int] = {}
    found: defaultdict[tuple[str, int], list[tuple[int, int, int]]] = defaultdict(list)
    for line, user, life, what in case.talk.visits:
        if what == "Connected":
            opened[user, life] = line
        elif (user, life) in opened:
            began = opened.pop((user, life))
            mine = sends[user, life]
            first = bisect_right(mine, began)
            if bisect_right(mine, line) - first == 1:
                found[user, life].append((began, mine[first], line))
    if not found:
        return 0, Example()
    (user, _), uses = max(found.items(), key=lambda entry: len(entry[1]))
    text = f"{user} was to send on a connection that it had; {len(uses)} were opened for one."
    return len(uses), case.history.example(text, [], *uses[0])
