"""Random histories: the checkers count what a slow and obvious reference counts.

The reference goes over all facts again for every question, and knows one group only.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

from checkers_script import SD, Run
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.checkers import Verdict, judge
from chatlab.journal import Fact, Journal, Left, decode, encode
from chatlab.messages import Message

USERS = ("ana", "bob", "eva")
_USER = st.sampled_from(USERS)
_OUTCOME = st.sampled_from(["Confirmed"] * 4 + ["Uncertain", "Failed", "Returned", ""])
_STEP = st.one_of(
    st.tuples(st.just("send"), _USER, _OUTCOME),
    st.tuples(st.just("send and see"), _USER, st.sets(_USER)),
    st.tuples(st.just("again"), st.integers(0, 20), _OUTCOME),
    st.tuples(st.just("see"), _USER, st.integers(0, 20), st.booleans()),
    st.tuples(st.just("invent"), _USER),
    st.tuples(st.just("toggle"), _USER),
    st.tuples(st.just("crash"), _USER),
    st.tuples(st.just("leave for good"), _USER),
    st.tuples(st.just("join"), _USER),
)
HISTORIES = st.lists(_STEP, max_size=40)
BACKENDS = st.sampled_from(["rabbitmq-durable", "rabbitmq-transient", "as-reported"])


class Player:
    """Makes a journal of steps; those that make no sense where they stand are left out."""

    def __init__(self, backend: str, steps: list[tuple[Any, ...]]) -> None:
        self.run = Run(*USERS, backend=backend).join("ana", "bob")
        self.sent: list[Message] = []
        self.away: set[str] = set()
        self.joined = {"ana", "bob"}
        for step, *rest in steps:
            getattr(self, f"_{step.replace(' ', '_')}")(*rest)
        self.run.settle()

    def _send(self, user: str, outcome: str) -> None:
        if user not in self.away:
            self.sent.append(self.run.send(user, outcome=outcome))

    def _send_and_see(self, user: str, users: set[str]) -> None:
        if user not in self.away:
            self.sent.append(self.run.send(user, *sorted(users - self.away)))

    def _again(self, number: int, outcome: str) -> None:
        """Only what is not confirmed is sent again under its id."""
        confirmed = {row[5] for row in self.run.journal.rows if row[0] == "Confirmed"}
        message = self.sent[number % len(self.sent)] if self.sent else None
        if message is not None and message.id not in confirmed:
            self.run.fact("Sent", message.sender, SD, message).result(message, SD, outcome)

    def _see(self, user: str, number: int, again: bool) -> None:
        if self.sent and user not in self.away:
            self.run.see(user, self.sent[number % len(self.sent)], again=again)

    def _invent(self, user: str) -> None:
        if user not in self.away:
            number = len(self.run.journal)
            self.run.see(user, Message(f"x{number}", "zoe", 1, "sd", "boo", 1, 0.0, 1))

    def _toggle(self, user: str) -> None:
        if user in self.away:
            self.away.discard(user)
            self.run.fact("Connected", user, "", "", "")
            self._reach(user)
        else:
            self.away.add(user)
            if user in self.joined:
                self.run.fact("Disconnected", user, SD, "")
            self.run.fact("Disconnected", user, "", "")

    def _reach(self, user: str) -> None:
        if user in self.joined:
            self.run.reach(user)

    def _crash(self, user: str) -> None:
        if user not in self.away:
            self.run.crash(user).revive(user)
            self._reach(user)

    def _leave_for_good(self, user: str) -> None:
        if user not in self.away and user in self.joined:
            self.joined.discard(user)
            self.run.fact("Disconnected", user, SD, "").fact("Left", user, SD)

    def _join(self, user: str) -> None:
        if user not in self.away:
            self.joined.add(user)
            self.run.join(user)


class Reference:
    """The same questions, answered slowly. A moment is the number of facts before it."""

    def __init__(self, journal: Journal, forgets: bool, excuses: bool, silent: bool) -> None:
        self.facts: list[Fact] = list(journal)
        self.forgets, self.excuses, self.silent = forgets, excuses, silent

    def of(self, kind: str) -> list[tuple[int, Any]]:
        return [(n, fact) for n, fact in enumerate(self.facts) if type(fact).__name__ == kind]

    @property
    def ids(self) -> list[str]:
        return list(dict.fromkeys(fact.message.id for _, fact in self.of("Sent")))

    def sent(self, id: str) -> list[int]:
        return [n for n, fact in self.of("Sent") if fact.message.id == id]

    def outcome(self, id: str) -> str:
        for kind in ("Confirmed", "Returned", "Uncertain", "Failed"):
            if any(fact.id == id for _, fact in self.of(kind)):
                return kind
        return ""

    def sights(self, id: str = "", user: str = "") -> list[tuple[int, Any]]:
        return [
            (n, fact)
            for n, fact in self.of("Delivered")
            if id in ("", fact.message.id) and user in ("", fact.user)
        ]

    def member(self, user: str, moment: int) -> bool:
        inside = False
        for fact in self.facts[:moment]:
            if fact.user == user and fact.chat == SD:
                if type(fact).__name__ in ("Subscribed", "Connected"):
                    inside = True
                elif isinstance(fact, Left):
                    inside = False
        return inside

    def there(self, user: str, moment: int) -> bool:
        """Online, and connected to the group."""
        online = connected = False
        for fact in self.facts[:moment]:
            kind = type(fact).__name__
            if fact.user == user and kind in ("Connected", "Disconnected", "Crashed"):
                if kind == "Connected" and fact.chat:
                    connected = True
                elif kind == "Connected":
                    online = True
                else:
                    connected = False
                    online = online and bool(fact.chat)
        return online and connected

    def copies(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for n, fact in self.sights():
            id = fact.message.id
            before = [f for m, f in self.sights(id, fact.user) if m < n]
            if id not in self.ids:
                found["unexpected"] += 1
            elif any(f.incarnation == fact.incarnation for f in before):
                found["marked" if fact.redelivered else "duplicated"] += 1
            elif before:
                found["repeated"] += 1
            elif self.outcome(id) in ("Uncertain", "Failed") or (
                self.outcome(id) == "" and not self.silent
            ):
                found["recovered"] += 1
                found["denied"] += self.outcome(id) == "Failed"
            found["delivered"] += id in self.ids
        return found

    def fates(self) -> Counter[str]:
        return Counter(
            fate for id in self.ids for user in USERS if (fate := self.fate(id, user))
        )

    def fate(self, id: str, user: str) -> str:
        begin = self.sent(id)[0]
        owed = self.outcome(id) == "Confirmed" or (self.silent and not self.outcome(id))
        if not owed or not self.member(user, begin) or self.sights(id, user):
            return ""
        until = min([self.passed(id, user), len(self.facts) - 1])
        if not all(self.member(user, moment) for moment in range(begin, until + 1)):
            return ""  # it has left for good before
        missed = not all(self.there(user, moment) for moment in range(begin, until + 1))
        surely = self.passed(id, user) < len(self.facts) or (self.forgets and missed)
        if not surely and not self.there(user, len(self.facts) - 1):
            return "waiting"
        return "not promised" if missed and self.excuses else "broken"

    def passed(self, id: str, user: str) -> int:
        """When a later one of the same life of the sender was shown instead."""
        (begin, *more) = self.sent(id)
        if more:
            return len(self.facts)
        one = self.facts[begin]
        later = [
            self.sights(other, user)[0][0]
            for other in self.ids
            if self.sent(other)[0] > begin
            and self.facts[self.sent(other)[0]].user == one.user
            and self.facts[self.sent(other)[0]].incarnation == one.incarnation
            and self.sights(other, user)
        ]
        return min([*later, len(self.facts)])

    def ordered(self) -> list[tuple[int, Any]]:
        """Each message once per life of a receiver, without what comes again, marked."""
        found = []
        for n, fact in self.sights():
            id = fact.message.id
            before = [f for m, f in self.sights(id, fact.user) if m < n]
            same = any(f.incarnation == fact.incarnation for f in before)
            again = before and fact.redelivered
            if id in self.ids and len(self.sent(id)) == 1 and not same and not again:
                found.append((n, fact))
        return found

    def backwards(self) -> int:
        def life(fact: Any) -> tuple[Any, ...]:
            sent = self.facts[self.sent(fact.message.id)[0]]
            return fact.user, fact.incarnation, sent.user, sent.incarnation

        seen = self.ordered()
        return sum(
            any(
                m < n
                and life(other) == life(fact)
                and self.sent(other.message.id)[0] > self.sent(fact.message.id)[0]
                for m, other in seen
            )
            for n, fact in seen
        )

    def too_early(self) -> int:
        """Shown after an effect of theirs, by who is not their sender."""
        after = self.effects()
        seen = self.ordered()
        return sum(
            any(
                m < n
                and other.user == fact.user
                and other.message.sender != fact.message.sender
                and self.sent(other.message.id)[0] in after[self.sent(fact.message.id)[0]]
                for m, other in seen
            )
            for n, fact in seen
        )

    def effects(self) -> dict[int, set[int]]:
        """Fact -> all that happened after it because of it: edges, followed to their ends."""
        edges: dict[int, set[int]] = {n: set() for n in range(len(self.facts))}
        for user in USERS:
            mine = [
                n
                for n, fact in enumerate(self.facts)
                if fact.user == user and type(fact).__name__ in ("Sent", "Delivered")
            ]
            for one, other in pairwise(mine):
                edges[one].add(other)
        for n, fact in self.sights():
            if fact.message.id in self.ids and self.sent(fact.message.id)[0] < n:
                edges[self.sent(fact.message.id)[0]].add(n)
        found: dict[int, set[int]] = {}
        for n in sorted(edges, reverse=True):
            found[n] = edges[n].union(*(found[m] for m in edges[n]))
        return found


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(BACKENDS, HISTORIES)
def test_random_histories_are_counted_as_the_reference_counts_them(
    backend: str, steps: list[tuple[Any, ...]]
) -> None:
    journal = Player(backend, steps).run.journal
    slow = Reference(
        journal,
        forgets=backend != "rabbitmq-durable",
        excuses=backend == "rabbitmq-transient",
        silent=backend == "as-reported",
    )
    verdict = judge(journal)
    if not slow.ids and not slow.sights():
        assert verdict.outcome == "cannot tell"
        return
    (delivery,) = verdict.of("delivery")
    copies, fates = slow.copies(), slow.fates()
    names = (
        "delivered",
        "unexpected",
        "duplicated",
        "marked",
        "repeated",
        "recovered",
        "denied",
    )
    assert {name: delivery.counts[name] for name in names} == {n: copies[n] for n in names}
    assert delivery.counts["sent"] == len(slow.ids)
    assert delivery.counts["lost"] == fates["broken"] + fates["not promised"]
    assert delivery.counts["not_promised"] == fates["not promised"]
    assert delivery.counts["waiting"] == fates["waiting"]
    assert verdict.of("order")[0].counts["backwards"] == slow.backwards()
    assert verdict.of("causal")[0].counts["too_early"] == slow.too_early()
    _is_consistent(verdict, journal, wrong=bool(fates["broken"] or _wrong(copies, verdict)))


def _wrong(copies: Counter[str], verdict: Verdict) -> int:
    kinds = ("unexpected", "duplicated", "marked", "denied")
    return sum(copies[kind] for kind in kinds) + verdict.of("delivery")[0].counts["doubled"]


def _is_consistent(verdict: Verdict, journal: Journal, wrong: bool) -> None:
    (delivery,) = verdict.of("delivery")
    assert (delivery.outcome == "broken") == wrong
    for check in verdict.checks:
        assert bool(check.example) == (check.outcome == "broken"), check
        assert all(2 <= number < len(journal) + 2 for number, _ in check.example.lines)


# -- whatever a journal holds

_CHATS = st.sampled_from(["", "mailbox", SD, "private:ana:bob", "insults"])
_TALKS = st.sampled_from([SD, "private:ana:bob", "insults"])
_ID = st.sampled_from(["1", "2", "3"])
_TARGET = st.sampled_from(["rabbitmq", "redis", "server", "bob-rabbitmq", "bob-server"])
_BACKEND = st.sampled_from(["", "redis-pubsub", "rabbitmq:ack=auto", "direct", "my-own"])
_MESSAGE = st.builds(
    Message,
    *(_ID, _USER, st.just(1), st.sampled_from(["bob", "sd", "insults"]), st.just("hola")),
    *(st.just(1), st.just(0.0), st.just(1)),
)


def _row(kind: str, chat: st.SearchStrategy[str], *rest: Any) -> st.SearchStrategy[Any]:
    when, life = st.floats(0, 100), st.integers(1, 2)
    return st.tuples(st.just(kind), when, _USER, life, chat, *rest)


_ROWS = st.lists(
    st.one_of(
        _row("Sent", _TALKS, _MESSAGE),
        _row("Delivered", _TALKS, _MESSAGE, st.booleans()),
        _row("Confirmed", _TALKS, _ID, st.none(), st.none()),
        *(_row(kind, _TALKS, _ID, st.just("why")) for kind in ("Returned", "Failed")),
        *(_row(kind, _TALKS, _ID) for kind in ("Discarded", "Handled", "Acked", "Reached")),
        _row("Uncertain", _TALKS, _ID, st.just("why")),
        _row("Rejected", _TALKS, _ID, st.booleans()),
        _row("Connected", _CHATS, _BACKEND, st.sampled_from(["producer", "both"])),
        _row("Disconnected", _CHATS, st.sampled_from(["", "it broke"])),
        _row("Subscribed", st.just(SD), _BACKEND),
        _row("Left", st.just(SD)),
        *(_row(kind, st.just("")) for kind in ("Crashed", "Frozen", "Thawed")),
        *(
            _row(kind, st.just(""), st.sampled_from(["kill", "cut"]), _TARGET)
            for kind in ("FaultBegan", "FaultEnded")
        ),
        _row("Drained", st.just(""), st.integers(0, 2)),
        _row("Listed", st.just(""), st.sampled_from(["registry", "events"]), st.lists(_USER)),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(_ROWS)
def test_no_journal_however_odd_makes_a_checker_stumble(rows: list[Any]) -> None:
    journal = Journal(rows)
    verdict = judge(journal, expect=("kill rabbitmq", "crash bob"))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
    assert repr(verdict) and verdict._repr_html_() and verdict.to_csv()
    for check in verdict.checks:
        assert bool(check.example) == (check.outcome == "broken"), check
        for number, text in check.example.lines:
            assert decode(text) == decode(encode(rows[number - 2]))
