"""The fate of what was never shown: lost, lost and promised away, still waiting, under way.

A delivery is *owed* when its message was confirmed (or sent, where senders are told nothing)
and it was meant for that receiver: the one it names, every subscriber at the time of sending
until it leaves for good, any one member for an insult. A copy that was owed and never shown is

- ``waiting`` when its receiver is absent at the end and the backend keeps it;
- ``under way`` when the run ended too soon to say: a fault goes on, or it was not quiet for
  :data:`QUIET_SECONDS`;
- lost otherwise, and surely lost when a later one of the same life of its sender was shown,
  when ``settle`` found nothing left, or when its backend forgets who is absent.

A loss is *not promised* if the message met a situation, between its sending and the moment it
was passed over, in which its backend keeps nothing or does not say. No situation, or only
those in which it keeps: *broken*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from chatlab.checkers.conversation import NEVER, Conversation, Send, Span
from chatlab.checkers.history import History
from chatlab.checkers.promises import SITUATIONS, Promise
from chatlab.checkers.verdict import BROKEN, NOT_PROMISED, Example

#: What has not come when nothing has come for so long does not come any more.
QUIET_SECONDS = 1.0

Fate = Literal["broken", "not promised", "waiting", "under way"]
#: Stands for "any one member" of the insult channel.
ANYONE = "*"


class Missing(NamedTuple):
    """One delivery that was owed and is not there."""

    send: Send
    receiver: str
    fate: Fate
    #: What the message met on its way, and the line at which that began.
    met: dict[str, int]
    #: The line that shows that it does not come any more.
    proof: int

    @property
    def lost(self) -> bool:
        return self.fate in (BROKEN, NOT_PROMISED)


@dataclass
class Case:
    """One conversation before the judges."""

    history: History
    talk: Conversation
    promise: Promise

    def owed(self, send: Send) -> bool:
        """Whether the store took responsibility for it."""
        silent = self.promise.unconfirmed and not send.outcome
        return silent or send.outcome == "confirmed"

    @cached_property
    def receivers(self) -> dict[str, list[tuple[Send, Span]]]:
        """Group and private: for whom what was meant, and from when to when."""
        sends = self.talk.sends.values()
        found: dict[str, list[tuple[Send, Span]]] = {}
        if self.talk.pattern == "private":
            for send in sends:
                found.setdefault(send.message.to, []).append((send, Span(0)))
        else:
            for member, spans in self.talk.members.items():
                for span in spans:
                    owed = [(s, span) for s in sends if span.covers(s.line)]
                    found.setdefault(member, []).extend(owed)
        return found

    @cached_property
    def missing(self) -> list[Missing]:
        """Every delivery that was owed and is not there, in the order of sending."""
        if self.talk.pattern == "insults":
            found = [self._insult(send) for send in self.talk.sends.values()]
            return [entry for entry in found if entry is not None]
        copies = [entry for user in self.receivers for entry in self._missed_by(user)]
        return sorted(copies, key=lambda entry: entry.send.line)

    def _missed_by(self, receiver: str) -> Iterator[Missing]:
        passed: dict[tuple[str, int], int] = {}
        for send, span in reversed(self.receivers[receiver]):
            seen, life = (
                self.talk.first_sights.get((send.key, receiver)),
                (send.user, send.life),
            )
            if seen is not None:
                passed[life] = min(seen, passed.get(life, NEVER))
            elif self.owed(send):
                ordered = self.promise.order and send.attempts == 1
                skipped = passed.get(life, NEVER) if ordered else NEVER
                if min(skipped, self.history.closing) < span.ended:  # it has not left before
                    yield self._fate(send, receiver, skipped)

    def _fate(self, send: Send, receiver: str, skipped: int) -> Missing:
        history, store = self.history, self.talk.store
        met = self._met(send, receiver, min(skipped, history.closing))
        absent = history.absent(receiver, store, history.closing - 1)
        proof = skipped if skipped < NEVER else self._settled(send)
        if not proof and self.promise.forgets and met.keys() & {"away", "killed", "link_cut"}:
            proof = max(met.values())
        if not proof and absent is not None:
            return Missing(send, receiver, "waiting", met, absent.began)
        if not proof:
            last = self._last_sight.get(receiver, 0)
            present = history.present_since(receiver, store, history.closing - 1)
            proof = self._quiet(max(send.line, present, last), (receiver,))
        return self._judged(send, receiver, met, proof)

    def _judged(self, send: Send, receiver: str, met: dict[str, int], proof: int) -> Missing:
        if not proof:
            return Missing(send, receiver, "under way", met, 0)
        excused = any(self.promise.excuses(situation) for situation in met)
        fate: Fate = "not promised" if excused else "broken"
        return Missing(send, receiver, fate, met, proof)

    def _insult(self, send: Send) -> Missing | None:
        talk, history = self.talk, self.history
        if not self.owed(send) or talk.ends.get(send.key):
            return None
        sights = talk.by_key.get(send.key, [])
        if sights and not talk.ends:
            return None  # this journal does not say when one is done: shown is done
        met = self._met_by_all(send)
        if sights and not talk.rejected.get(send.key):
            last = sights[-1]
            crash = history.crashed(last.user, last.line, history.closing)
            if not crash:
                return Missing(send, last.user, "under way", met, 0)  # in its hand
        proof = self._settled(send)
        there = [
            u for u in talk.consumers if not history.absent(u, talk.store, history.closing - 1)
        ]
        if not proof and not there:
            return Missing(send, ANYONE, "waiting", met, 0)
        if not proof:
            present = min(
                history.present_since(u, talk.store, history.closing - 1) for u in there
            )
            proof = self._quiet(max(send.line, present, self._last_work), tuple(there))
        return self._judged(send, ANYONE, met, proof)

    # -- whether it may still come

    @cached_property
    def _last_sight(self) -> dict[str, int]:
        return {sight.user: sight.line for sight in self.talk.sights}

    @cached_property
    def _last_work(self) -> int:
        ends = [end.line for ends in self.talk.ends.values() for end in ends]
        return max([0, *ends, *self._last_sight.values()])

    def _settled(self, send: Send) -> int:
        """The line at which ``settle`` found nothing left after this was sent; 0: none."""
        told = send.told if send.told < NEVER else send.line
        drains = self.history.drains
        return next((line for line, _, due in drains if due == 0 and line > told), 0)

    def _quiet(self, since: int, users: tuple[str, ...]) -> int:
        """The last line, if it was quiet for long enough before it and no fault goes on."""
        history = self.history
        last = min(history.closing, len(history.rows) + 1)
        going_on = any(
            fault.ended > last and fault.began <= last and self._concerns(fault.target, users)
            for fault in history.faults
        )
        quiet = history.at(last) - history.at(max(since, 2)) >= QUIET_SECONDS
        return last if quiet and not going_on else 0

    def _concerns(self, target: str, users: tuple[str, ...]) -> bool:
        """Whether a fault on ``target`` stands between the store and these users."""
        services = {service for _, service in self.promise.faults} | self.promise.links
        return target in services or any(target == f"{u}-{s}" for u in users for s in services)

    # -- what it met

    def _met(self, send: Send, receiver: str, until: int) -> dict[str, int]:
        """The situations of a message between its sending and ``until``."""
        met: dict[str, int] = {}
        for span in self.history.away(receiver, self.talk.store):
            if span.overlaps(send.line, until):
                self._add(met, self._situation(span, send.line), span.began)
        self._met_services(met, send, receiver, until)
        if self.promise.unconfirmed and send.user != receiver:
            for span in self.history.away(send.user, self.talk.store):
                if span.why == "lost" and span.overlaps(send.line, until):
                    self._add(met, self._cause(span), span.began)
        return met

    def _met_by_all(self, send: Send) -> dict[str, int]:
        """The same for an insult, which any member may have held."""
        met: dict[str, int] = {}
        until, consumers = self.history.closing, self.talk.consumers
        if all(self.history.absent(user, self.talk.store, send.line) for user in consumers):
            met["nobody_listens"] = send.line
        for user in consumers:
            found = self._met(send, user, until)
            found.pop("away", None)  # another may have it
            for situation, line in found.items():
                self._add(met, situation, line)
        return met

    def _situation(self, span: Span, sent: int) -> str:
        if span.why == "lost":
            return self._cause(span)
        held = span.why == "frozen" or (span.why == "crashed" and span.began > sent)
        return "killed" if held else "away"

    def _cause(self, span: Span) -> str:
        """Why a connection was lost: the fault on a service that went on then, if one did."""
        for fault in self.history.faults:
            situation = self.promise.faults.get((fault.fault, fault.target))
            if situation and fault.began <= span.began <= fault.ended:
                return situation
        return "link_cut"

    def _met_services(self, met: dict[str, int], send: Send, receiver: str, until: int) -> None:
        for fault in self.history.faults:
            situation = self.promise.faults.get((fault.fault, fault.target))
            users = (receiver, send.user) if self.promise.unconfirmed else (receiver,)
            if fault.fault in ("cut", "freeze") and any(
                fault.target == f"{user}-{link}"
                for user in users
                for link in self.promise.links
            ):
                situation = "link_cut"
            if situation and self._felt(fault.began, fault.ended, receiver).overlaps(
                send.line, until
            ):
                self._add(met, situation, fault.began)

    def _felt(self, began: int, ended: int, receiver: str) -> Span:
        """A fault is over for a receiver when it is back: only then are its queue and its
        binding there again."""
        absent = self.history.absent(receiver, self.talk.store, ended)
        return Span(began, absent.ended if absent else ended)

    @staticmethod
    def _add(met: dict[str, int], situation: str, line: int) -> None:
        met[situation] = min(line, met.get(situation, NEVER))

    # -- words

    def explain(self, entry: Missing) -> Example:
        """The example of a delivery that was lost."""
        whom = "any member" if entry.receiver == ANYONE else entry.receiver
        met = [SITUATIONS[situation] for situation in entry.met]
        because = f" (although {' and '.join(met)})" if met else ""
        expected = f"{entry.send.message.id} was to be shown to {whom}{because}; it never was."
        joined = 0
        for span in self.talk.members.get(entry.receiver, ()):
            if span.covers(entry.send.line):
                joined = span.began
        lines = (joined, entry.send.line, entry.send.told, *entry.met.values(), entry.proof)
        return self.history.example(expected, [entry.send.message.id], *lines)


def smallest(examples: Iterator[Example]) -> Example:
    """The example with the fewest lines, of those the first."""
    return min(examples, key=lambda example: len(example.lines), default=Example())
