"""Delivery: what was lost, unexpected, duplicated, recovered.

Counted as multisets, by the definitions that Jepsen's checker of a total queue uses:
*attempts* are the messages that were sent, *acknowledged* those that were confirmed.

- delivered: shown copies of a message that was attempted;
- unexpected: shown, and never attempted; ``outsiders`` are messages without a number and a
  life, as those of clients have that write no journal;
- duplicated: further copies within one life of a receiver that are not marked redelivered;
  ``marked`` counts those that are, and copies shown to a later life (``repeated``) are what
  a crash may cost;
- lost: confirmed, meant for a receiver and never shown to it (:mod:`chatlab.checkers.fates`);
  ``not_promised`` of them were promised away;
- astray: a private message shown to somebody else;
- doubled: shown twice under two ids, because what was uncertain was sent again under a new one
  (the same text by the same sender, every earlier copy of it uncertain);
- recovered: shown, although the sender was told that nobody knows; ``denied`` of them it had
  been told had failed, which is broken: a failure is definite.

What is sent with an unknown outcome is uncertain: its absence is no loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chatlab.checkers.conversation import Send, Sight
from chatlab.checkers.fates import Case, Missing, smallest
from chatlab.checkers.promises import SITUATIONS
from chatlab.checkers.verdict import (
    BROKEN,
    CANNOT_TELL,
    KEPT,
    NOT_PROMISED,
    Check,
    Example,
    Outcome,
)

#: What breaks a promise besides a loss.
_WRONG = ("unexpected", "astray", "duplicated", "doubled", "denied")
#: So many losses are looked at for the smallest example.
LOOKED_AT = 100


def check(case: Case) -> Check:
    """Judge one conversation."""
    copies = Copies(case)
    lost = [entry for entry in case.missing if entry.lost]
    counts = {**_outcomes(case), **copies.counts, **_fates(case.missing)}
    broken = [entry for entry in lost if entry.fate == BROKEN]
    examples = [case.explain(entry) for entry in broken[:LOOKED_AT]]
    examples += copies.examples()
    outcome, why = _judged(case, counts, len(broken), bool(examples), lost)
    return Check(
        "delivery", case.talk.chat, case.promise.backend, outcome, why, counts,
        smallest(iter(examples)),
    )  # fmt: skip


class Copies:
    """What was shown, compared with what was sent."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.unexpected: list[Sight] = []
        self.astray: list[Sight] = []
        self.denied: list[Sight] = []
        self.duplicated: list[tuple[Sight, Sight]] = []
        self.doubled = list(_doubled(case))
        self._found: Counter[str] = Counter()
        self._last: dict[tuple[str, str, int], Sight] = {}
        self._users: set[tuple[str, str]] = set()
        for sight in case.talk.sights:
            send = case.talk.sends.get(sight.key)
            if send is not None:
                self._take(sight, send)
            elif sight.message.seq or sight.message.incarnation:
                self.unexpected.append(sight)
            else:
                self._found["outsiders"] += 1

    @property
    def counts(self) -> dict[str, int]:
        """By the names of the module's text."""
        names = ("delivered", "outsiders", "duplicated", "marked", "repeated", "recovered")
        listed = ("unexpected", "astray", "doubled", "denied")
        counted = {name: self._found[name] for name in names}
        return counted | {name: len(getattr(self, name)) for name in listed}

    def _take(self, sight: Sight, send: Send) -> None:
        """Count one copy of what was attempted."""
        self._found["delivered"] += 1
        if self._case.talk.pattern == "private" and sight.user != send.message.to:
            self.astray.append(sight)
        life, user = (sight.key, sight.user, sight.life), (sight.key, sight.user)
        before = self._last.get(life)
        if before is not None and not self._given_back(sight, before):
            self._found["marked" if sight.redelivered else "duplicated"] += 1
            self.duplicated.append((before, sight))
        elif user in self._users:
            self._found["repeated"] += 1
        elif send.outcome in ("uncertain", "failed") or not (
            send.outcome or self._case.promise.unconfirmed
        ):
            self._found["recovered"] += 1
            if send.outcome == "failed":
                self.denied.append(sight)
        self._last[life] = sight
        self._users.add(user)

    def _given_back(self, sight: Sight, before: Sight) -> bool:
        """An insult whose handler failed comes again, also to the same member."""
        lines = self._case.talk.rejected.get(sight.key, ())
        return any(before.line < line < sight.line for line in lines)

    def examples(self) -> list[Example]:
        """One of each kind that breaks a promise."""
        talk, example = self._case.talk, self._case.history.example
        found = []
        for sight in self.unexpected[:1]:
            text = f"{sight.message.id} was shown to {sight.user}; nobody ever sent it."
            found.append(example(text, [sight.message.id], sight.line))
        for sight in self.denied[:1]:
            send = talk.sends[sight.key]
            text = f"{sight.message.id} was called failed; {sight.user} was shown it."
            found.append(example(text, [sight.message.id], send.line, send.told, sight.line))
        for sight in self.astray[:1]:
            send = talk.sends[sight.key]
            text = f"{sight.message.id} was meant for {send.message.to}, not for {sight.user}."
            found.append(example(text, [sight.message.id], send.line, sight.line))
        for one, other in self.doubled[:1]:
            lines = (talk.sends[one.key].line, talk.sends[other.key].line, one.line, other.line)
            text = f"{one.user} was to be shown one of them: they are one message, sent twice."
            found.append(example(text, [one.message.id, other.message.id], *lines))
        for one, other in self.duplicated[:1] if not self._case.promise.duplicates else ():
            text = f"{one.message.id} was to be shown to one life of {one.user} once."
            found.append(example(text, [one.message.id], one.line, other.line))
        return found


def _doubled(case: Case) -> Iterator[tuple[Sight, Sight]]:
    """What one user was shown twice under two ids of one sender."""
    sends = case.talk.sends.values()
    doubtful: dict[tuple[str, str, str], list[Send]] = {}
    if not any(send.outcome == "uncertain" for send in sends):
        return
    for send in sends:
        told = doubtful.setdefault((send.user, send.message.to, send.message.body), [])
        told.append(send)
    for copies in doubtful.values():
        if len(copies) < 2 or any(send.outcome != "uncertain" for send in copies[:-1]):
            continue
        first: dict[str, Sight] = {}
        for send in copies:
            for sight in case.talk.by_key.get(send.key, ()):
                before = first.setdefault(sight.user, sight)
                if before.key != sight.key:
                    yield before, sight


def _outcomes(case: Case) -> dict[str, int]:
    found = Counter(send.outcome for send in case.talk.sends.values())
    unknown = 0 if case.promise.unconfirmed else found[""]
    return {
        "sent": len(case.talk.sends),
        "confirmed": found["confirmed"],
        "returned": found["returned"],
        "failed": found["failed"],
        "uncertain": found["uncertain"] + unknown,
    }


def _fates(missing: list[Missing]) -> dict[str, int]:
    found = Counter(entry.fate for entry in missing)
    return {
        "lost": found["broken"] + found["not promised"],
        "not_promised": found["not promised"],
        "waiting": found["waiting"],
        "under_way": found["under way"],
    }


def _judged(
    case: Case, counts: dict[str, int], broken: int, wrong: bool, lost: list[Missing]
) -> tuple[Outcome, str]:
    if wrong:
        parts = {
            "lost": broken,
            **{name: counts[name] for name in _WRONG},
        }
        if case.promise.duplicates:
            parts["duplicated"] = 0
        elif counts["marked"]:
            parts["shown twice, marked"] = counts["marked"]
        text = ", ".join(f"{number} {name}" for name, number in parts.items() if number)
        return BROKEN, f"{text} of {counts['sent']} messages, against the promise."
    if counts["under_way"]:
        return CANNOT_TELL, f"{counts['under_way']} were still under way at the end."
    if counts["waiting"]:
        return CANNOT_TELL, f"{counts['waiting']} still wait for who is absent."
    if lost:
        met = dict.fromkeys(_reasons(case, lost))
        return NOT_PROMISED, f"{len(lost)} lost: {', '.join(met)}; nobody promised otherwise."
    if not counts["delivered"]:
        return CANNOT_TELL, "Nothing was shown to anybody."
    return KEPT, f"All that was confirmed was shown: {counts['delivered']} copies."


def _reasons(case: Case, lost: list[Missing]) -> Iterator[str]:
    for entry in lost:
        for situation in entry.met:
            if case.promise.excuses(situation):
                yield SITUATIONS[situation]
