"""Fairness: who got how many insults, and whether that was the declared turn.

The figures: Jain's index of the members' shares, ``(sum x)^2 / (n * sum x^2)``, in percent
(100: all the same; 100/n: one took everything; R. Jain, D. Chiu, W. Hawe, DEC TR-301, 1984),
the largest and the smallest share, the longest run to one member, and *passed over*: how often
in a row others were served while one member was there, idle, and might have been.

A turn is a turn of idle members, so a run shows it only in two ways: each insult was sent when
the one before was done (*paced*), or the work takes long enough to see who was idle while
others got the next (:data:`WORK_SECONDS`). Then ``strict`` means that an idle member is passed
over once by each other, if paced; in a burst twice, and by as many as others may hold; with
``about`` twice as often as that. Otherwise the figures are figures.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from statistics import median

from chatlab.checkers.conversation import NEVER, Sight
from chatlab.checkers.fates import Case
from chatlab.checkers.verdict import (
    BROKEN,
    CANNOT_TELL,
    KEPT,
    NOT_PROMISED,
    Check,
    Example,
    Outcome,
)

#: Work that takes less does not show who was idle meanwhile.
WORK_SECONDS = 0.005
#: How much more often than a strict turn's a member may be passed over.
_SLACK = {"strict": 1, "about": 2}


def check(case: Case) -> Check:
    """Judge the insult channel."""
    members = list(case.talk.consumers)
    takers = [sights[0] for sights in case.talk.by_key.values()]
    shares = Counter(dict.fromkeys(members, 0))
    shares.update(sight.user for sight in takers)
    passed, over = _passed_over(case, members)
    counts = {
        "members": len(members),
        "insults": len(takers),
        "jain_percent": round(100 * jain(list(shares.values()))),
        "most": max(shares.values(), default=0),
        "least": min(shares.values(), default=0),
        "longest_run": max(
            [0, *(len(list(run)) for _, run in groupby(s.user for s in takers))]
        ),
        "starved": sum(not number for number in shares.values()),
        "passed_over": len(over),
    }
    paced = _paced(case, takers)
    limit = _limit(case, len(members), paced)
    outcome, why, counted = _judged(case, counts, paced, passed, limit)
    example = Example()
    if outcome == BROKEN:
        shown = over[: limit + 1]
        text = f"{passed} was idle, and one of these was to be its."
        example = case.history.example(
            text, [sight.message.id for sight in shown], *(sight.line for sight in shown)
        )
    return Check(
        "fairness", case.talk.chat, case.promise.backend, outcome, why, counts, example, counted
    )


def jain(shares: list[int]) -> float:
    """Jain's index of fairness: from 1/n to 1; of nothing 1."""
    squares = len(shares) * sum(share * share for share in shares)
    return sum(shares) ** 2 / squares if squares else 1.0


def _limit(case: Case, members: int, paced: bool) -> int:
    """How often in a row an idle member may be passed over."""
    slack = _SLACK.get(case.promise.turn, 0) * (members - 1)
    return slack if paced else 2 * slack * _prefetch(case)


def _prefetch(case: Case) -> int:
    """The most that a member may hold, by its options."""
    texts = case.talk.consumers.values()
    return max([1, *(int(n) for text in texts for n in re.findall(r"prefetch=(\d+)", text))])


def _judged(
    case: Case, counts: dict[str, int], paced: bool, passed: str, limit: int
) -> tuple[Outcome, str, bool]:
    members, insults, times = counts["members"], counts["insults"], counts["passed_over"]
    shares = f"{counts['least']} to {counts['most']} each of {insults}"
    if members < 2:
        return CANNOT_TELL, "Only one member was there to draw.", True
    if insults < 2 * members:
        return CANNOT_TELL, f"{insults} insults are too few to show a turn.", False
    if case.promise.turn not in _SLACK:
        return NOT_PROMISED, f"{shares}; this backend promises no turn.", False
    if not paced and _work(case) < WORK_SECONDS:
        return NOT_PROMISED, f"{shares}; of busy members no turn is promised.", False
    if times > limit:
        what = (
            f"{passed} passed over {times} times in a row: it was idle, and {limit} is the most"
        )
        return BROKEN, f"{what}; {shares}.", True
    return KEPT, f"{shares}; nobody idle was passed over more than {limit} times.", True


def _ended(case: Case, sight: Sight) -> int:
    """The line at which its member had it no longer in its hands: it was done, given back,
    handed to another, or its member crashed. Where a journal does not say when one is done,
    shown is done."""
    talk, key = case.talk, sight.key
    if not talk.ends:
        return sight.line
    mine = (e.line for e in talk.ends[key] if (e.user, e.life) == (sight.user, sight.life))
    others = (other.line for other in talk.by_key[key])
    crash = case.history.crashed(sight.user, sight.line, NEVER)
    ends = (*mine, *talk.rejected[key], *others, crash)
    return min((line for line in ends if line > sight.line), default=NEVER)


def _paced(case: Case, takers: list[Sight]) -> bool:
    """Whether each was sent when those before it were done."""
    done = 0
    for sight in takers:
        send = case.talk.sends.get(sight.key)
        if send is None or send.line < done:
            return False
        done = max(done, _ended(case, sight))
    return True


def _work(case: Case) -> float:
    """How long the work on one insult takes, in seconds."""
    if not case.talk.ends:
        return 0.0
    ended = [(sight, _ended(case, sight)) for sight in case.talk.sights]
    done = [case.history.at(line) - sight.at for sight, line in ended if line < NEVER]
    return median(done) if done else 0.0


def _passed_over(case: Case, members: list[str]) -> tuple[str, list[Sight]]:
    """Who was passed over most often in a row, and by which."""
    worst: tuple[str, list[Sight]] = ("", [])
    runs: dict[str, list[Sight]] = {user: [] for user in members}
    busy: dict[str, int] = {}
    for sight in case.talk.sights:
        for user in members:
            served = user == sight.user or busy.get(user, 0) > sight.line
            if served or _gone(case, user, runs[user], sight):
                runs[user] = []
            elif case.promise.own or sight.message.sender != user:
                runs[user].append(sight)
                if len(runs[user]) > len(worst[1]):
                    worst = (user, runs[user])
        busy[sight.user] = _ended(case, sight)
    return worst


def _gone(case: Case, user: str, run: list[Sight], sight: Sight) -> bool:
    """Whether the user was away in the course of this run."""
    spans = case.history.away(user, case.talk.store)
    since = run[0].line if run else sight.line
    return any(span.began <= sight.line and since < span.ended for span in spans)
