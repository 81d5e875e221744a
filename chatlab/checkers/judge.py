"""From a journal to a verdict: every check of every conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chatlab.checkers import (
    causal,
    delivery,
    fairness,
    fanout,
    insults,
    late,
    limits,
    listed,
    order,
    reconnect,
)
from chatlab.checkers.fates import Case
from chatlab.checkers.history import History
from chatlab.checkers.promises import promise_of, stand_ins
from chatlab.checkers.verdict import CANNOT_TELL, KEPT, Check, Verdict
from chatlab.errors import InvalidInput
from chatlab.journal import Journal

#: What an expected event may be called; those of users, then those of services and links.
EVENTS = (
    "crash",
    "freeze",
    "away",
    "kill",
    "restart",
    "pause",
    "memory_alarm",
    "cut",
    "slow",
    "late",
)

_CHECKERS: dict[str, tuple[Callable[[Case], Check], ...]] = {
    "private": (delivery.check, reconnect.check, order.check, limits.check),
    "group": (
        *(delivery.check, fanout.check, reconnect.check, order.check, order.agreement),
        limits.check,
    ),
    "insults": (delivery.check, insults.check, fairness.check, limits.check),
}


def judge(journal: Journal, *, expect: Iterable[str] = ()) -> Verdict:
    """What can be said of a run, from its journal and what its backends promise.

    Args:
        journal: of a scene or a run, live or loaded.
        expect: what had to happen for the run to prove anything: ``kill rabbitmq``,
            ``restart redis``, ``cut bob-rabbitmq``, ``crash bob``, ``freeze bob``,
            ``away bob``, ``late bob`` (subscribed when something had been sent: then what
            it is not shown of that counts). One that did not happen, or only after the
            last message, makes the verdict *cannot tell*.

    Raises:
        InvalidInput: an expectation that cannot be read.
    """
    expected = [_parsed(each) for each in expect]
    history = History(journal)
    talks = [talk for talk in history.conversations.values() if talk.sends or talk.sights]
    cases = [Case(history, talk, promise_of(talk)) for talk in talks]
    stamps = causal.stamps(history)
    comers = [whom for what, whom in expected if what == "late"]
    checks = [check for case in cases for check in _judged(case, stamps, comers)]
    checks += listed.checks(history)
    checks += [_expected(history, cases, *each) for each in expected if each[0] != "late"]
    if not cases:
        checks.append(Check("delivery", "", "", CANNOT_TELL, "Nothing was sent or shown."))
    return Verdict(
        tuple(checks),
        str(journal.header.get("tier", "")),
        stand_ins(case.promise for case in cases),
    )


def _judged(
    case: Case, stamps: dict[tuple[str, str], causal.Stamp], comers: list[str]
) -> Iterator[Check]:
    for check in _CHECKERS[case.talk.pattern]:
        yield check(case)
    if case.talk.pattern == "group":
        yield causal.check(case, stamps)
        yield late.check(case, comers)


def _parsed(text: str) -> tuple[str, str]:
    what, _, whom = text.partition(" ")
    if what not in EVENTS or not whom.strip():
        raise InvalidInput(
            f"Nothing that is called {text!r} can be expected.",
            todo=f"Say what and whom: 'kill rabbitmq', 'crash bob'; there are: "
            f"{', '.join(EVENTS)}.",
        )
    return what, whom.strip()


def _expected(history: History, cases: list[Case], what: str, whom: str) -> Check:
    """Whether it happened, and while it could matter."""
    faults = [f.began for f in history.faults if (f.fault, f.target) == (what, whom)]
    blows = [line for blow, user, line in history.blows if (blow, user) == (what, whom)]
    lines = faults + blows
    name = f"{what} {whom}"
    counts = {"times": len(lines)}
    if not lines:
        return Check("expected", "", "", CANNOT_TELL, f"no {name}: it never happened.", counts)
    first = min(lines)
    later = history.last_event > first
    missing = any(entry.lost for case in cases for entry in case.missing)
    if not (later or missing):
        why = f"{name} came too late: everything was over."
        return Check("expected", "", "", CANNOT_TELL, why, counts)
    return Check("expected", "", "", KEPT, f"{name}: it happened.", counts)
