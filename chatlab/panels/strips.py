"""Strips: who got which insult under which setting, from the journal. Pure.

It reads each fact once, so it can be asked many times a second. A *strip* is what was sent
under one setting: who took part, and each one's prefetch, acks and work. The next insult that
is sent under another one begins the next strip. Two things make it what a reader expects:

- what waits belongs to those who then come: joining amends the strip, so a backlog and its
  takers are one strip;
- what still waits when its takers change their options is theirs under the new ones: it moves
  to the newest strip as it is handed out.

Insults are numbered within their strip, as they came into the channel.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from chatlab.backends import INSULTS, parse_backend
from chatlab.insults import guarantees
from chatlab.journal import Journal, Row
from chatlab.messages import INSULTS as CHAT
from chatlab.messages import Message
from chatlab.plots.shares import Setting, jain
from chatlab.plots.words import counted
from chatlab.tables import Table

#: So many of the newest strips are kept; the journal has them all.
KEPT_STRIPS = 40

#: Where an insult is: with nobody yet (or given back); in a member's hands; worked on to its
#: end; its work failed at every delivery; gone with the member that had it.
Where = Literal["waiting", "in work", "handled", "failed", "lost"]


@lru_cache(maxsize=256)
def options_of(backend: str) -> dict[str, Any]:
    """The options in a backend's text."""
    return parse_backend(backend, INSULTS)[1]


@dataclass(slots=True)
class Insult:
    """One insult, and who has or had it."""

    where: Where = "waiting"
    member: str = ""
    #: Handed out before, to whoever did not finish it.
    again: bool = False


@dataclass
class Strip:
    """What was sent under one setting."""

    number: int
    #: Member -> backend with all options, in the order in which they came.
    setting: dict[str, str]
    #: By id, in the order in which they came into the channel.
    insults: dict[str, Insult] = field(default_factory=dict)
    #: How many were sent while nobody took part.
    backlog: int = 0
    #: Whether somebody was handed one: from then on the setting is fact.
    begun: bool = False
    #: Rises with every change of what is shown.
    version: int = 0
    _where: Counter[str] = field(default_factory=Counter)
    _got: Counter[str] = field(default_factory=Counter)
    _again: Counter[str] = field(default_factory=Counter)

    # -- what it says

    def counts(self) -> dict[str, int]:
        """How many each member got, those who got none included."""
        return {member: self._got[member] for member in self.setting}

    def redelivered(self, member: str) -> int:
        """How many of these had been handed out before."""
        return self._again[member]

    def how_many(self, where: Where) -> int:
        """How many are there now."""
        return self._where[where]

    @property
    def fairness(self) -> float | None:
        """Jain's index; ``None``: there is nothing to compare yet."""
        counts = list(self.counts().values())
        return jain(counts) if len(counts) > 1 and any(counts) else None

    def title(self) -> str:
        """The setting in words: ``prefetch 1, 50 ms of work each``."""
        words = setting_words(self.setting)
        if self.backlog and self.setting:
            came = counted(len(self.setting), "member")
            return f"{words}: {self.backlog:,} waiting, then {came} joined"
        return words

    # -- what the channel tells it

    def add(self, id: str, insult: Insult) -> None:
        self.insults[id] = insult
        self._count(insult, 1)

    def remove(self, id: str) -> Insult:
        insult = self.insults.pop(id)
        self._count(insult, -1)
        return insult

    def change(self, id: str, where: Where, member: str = "", again: bool = False) -> None:
        """It is there now; ``member``: with somebody else than before."""
        insult = self.insults[id]
        self._count(insult, -1)
        insult.where, insult.again = where, insult.again or again
        insult.member = member or insult.member
        self._count(insult, 1)

    def _count(self, insult: Insult, by: int) -> None:
        self.version += 1
        self._where[insult.where] += by
        if insult.where in ("in work", "handled"):
            self._got[insult.member] += by
            self._again[insult.member] += by * insult.again


def setting_words(setting: dict[str, str]) -> str:
    """A setting as a figure would say it."""
    if not setting:
        return "nobody takes part"
    options = {user: options_of(text) for user, text in setting.items()}
    prefetch = {o.get("prefetch") for o in options.values()}
    acks = {o.get("ack") for o in options.values()}
    work = {user: float(o["work"]) for user, o in options.items()}
    names = {text.partition(":")[0] for text in setting.values()}
    plain = "" if prefetch | acks != {None} else ", ".join(sorted(names))
    same = len(prefetch) == len(acks) == 1
    found = Setting(*(prefetch.pop(), acks.pop()) if same else (None, None), work, plain)
    return f"{found.words()}, {found.work_words() or 'no work'}"


class Channel:
    """The insult channel of one scene: fed with the rows of its journal, in order."""

    def __init__(self) -> None:
        self.strips: deque[Strip] = deque(maxlen=KEPT_STRIPS)
        #: Who takes part now -> its backend with options. Mere senders do not.
        self.now: dict[str, str] = {}
        #: A backend that somebody has used in this scene; empty: nobody took part yet.
        self.backend = ""
        #: A member went that takes along more than what it was seen working on.
        self.hole = False
        self._strip_of: dict[str, Strip] = {}
        #: Member -> the id it works on: one at a time.
        self._hands: dict[str, str] = {}
        self._begun = self._read = 0

    @property
    def waiting(self) -> int:
        """How many were sent that nobody works on yet."""
        return sum(strip.how_many("waiting") for strip in self.strips)

    @property
    def busy(self) -> bool:
        """Whether anybody works on one."""
        return bool(self._hands)

    def read(self, rows: list[Row]) -> None:
        """Take the rows that were appended since the last call."""
        new = rows[self._read :]
        self._read += len(new)
        for row in new:
            if row[4] == CHAT and row[0] in _ACTS:
                _ACTS[row[0]](self, row[2], *row[5:])
            elif row[0] == "Crashed":
                self._crashed(row[2])
            elif row[0] == "FaultBegan":
                self._fault(*row[5:])

    def lose_waiting(self) -> None:
        """The broker has nothing and nobody works: what the journal thinks waits is gone."""
        for strip in self.strips:
            for id in [id for id, x in strip.insults.items() if x.where == "waiting"]:
                strip.change(id, "lost")
        self.hole = False

    # -- messages

    def _sent(self, _user: str, message: Message) -> None:
        if message.id in self._strip_of:  # the same one may be sent again
            return
        strip = self.strips[-1] if self.strips else self._begin()
        if not strip.begun:
            strip.setting = dict(self.now)
        elif strip.setting != self.now:
            strip = self._begin()
        strip.backlog += not self.now
        self._put(message.id, strip)

    def _begin(self) -> Strip:
        self._begun += 1
        strip = Strip(self._begun, dict(self.now))
        if len(self.strips) == KEPT_STRIPS:
            for id in self.strips[0].insults:
                del self._strip_of[id]
        self.strips.append(strip)
        return strip

    def _put(self, id: str, strip: Strip) -> None:
        older = self._strip_of.get(id)
        strip.add(id, older.remove(id) if older is not None else Insult())
        self._strip_of[id] = strip

    def _refused(self, _user: str, id: str, _reason: str) -> None:
        """It never came into the channel."""
        strip = self._strip_of.get(id)
        if strip is not None and strip.insults[id].where == "waiting":
            strip.remove(id)
            del self._strip_of[id]

    def _delivered(self, user: str, message: Message, redelivered: bool) -> None:
        strip = self._place(user, message.id)
        before = strip.insults[message.id].member
        strip.begun = True
        strip.change(message.id, "in work", user, redelivered or before not in ("", user))
        self._hands[user] = message.id

    def _place(self, user: str, id: str) -> Strip:
        """The strip whose setting is that under which ``user`` is handed this one."""
        if id not in self._strip_of:  # sent from another kernel of a shared lab
            self._put(id, self.strips[-1] if self.strips else self._begin())
        strip = self._strip_of[id]
        # Facts of several processes may come in another order: it takes part, though.
        options = self.now.get(user, strip.setting.get(user, self.backend))
        if not self._fits(strip, user, options):
            strip = self.strips[-1]
            if not self._fits(strip, user, options):
                strip = self._begin()
            self._put(id, strip)
        strip.setting[user] = options
        return strip

    def _fits(self, strip: Strip, user: str, options: str) -> bool:
        if not strip.begun:
            strip.setting = dict(self.now)
        if strip.setting.get(user, options) == options:
            return True
        return strip is self.strips[-1] and not strip.counts()[user]

    def _handled(self, user: str, id: str) -> None:
        self._free(user, id)
        strip = self._strip_of.get(id)
        if strip is not None and strip.insults[id].member == user:
            strip.change(id, "handled")

    def _rejected(self, user: str, id: str, dead: bool) -> None:
        self._free(user, id)
        if id in self._strip_of:
            self._strip_of[id].change(id, "failed" if dead else "waiting")

    def _free(self, user: str, id: str) -> None:
        if self._hands.get(user) == id:
            del self._hands[user]

    # -- members

    def _connected(self, user: str, backend: str, role: str) -> None:
        self.backend = backend
        if role == "producer":
            self.now.pop(user, None)
            return
        self.now[user] = backend
        if self.strips and self.strips[-1].how_many("waiting"):
            strip = self.strips[-1]  # what waits is for those who come
            if strip.begun:
                strip.setting.setdefault(user, backend)
            else:
                strip.setting = dict(self.now)
            strip.version += 1

    def _disconnected(self, user: str, reason: str) -> None:
        backend = self.now.pop(user, "")
        if reason and backend and guarantees(backend).link_cut == "lost":
            self.hole = True

    def _crashed(self, user: str) -> None:
        """What it worked on goes to another, or is gone, as its backend has declared."""
        backend = self.now.pop(user, "")
        id = self._hands.pop(user, "")
        gone = bool(backend) and guarantees(backend).member_killed == "lost"
        self.hole = self.hole or gone
        if id in self._strip_of:
            self._strip_of[id].change(id, "lost" if gone else "waiting")

    def _fault(self, fault: str, target: str) -> None:
        """A broker that is killed takes along what its queue does not keep."""
        if target == "rabbitmq" and fault in ("kill", "restart") and self.backend:
            self.hole = self.hole or guarantees(self.backend).broker_killed == "lost"


def strips_of(journal: Journal) -> Table:
    """A row a strip and member: setting, insults, redelivered, fairness, and how many insults
    of the strip wait, failed or were lost."""
    channel = Channel()
    channel.read(journal.rows[:])
    return table_of(channel)


def table_of(channel: Channel) -> Table:
    """The same of what has been read."""
    rows: list[dict[str, Any]] = []
    for strip in channel.strips:
        fairness = strip.fairness
        rest = {w: strip.how_many(w) for w in ("waiting", "failed", "lost")}
        rows += (
            {
                "strip": strip.number,
                "setting": strip.title(),
                "member": member,
                "insults": count,
                "redelivered": strip.redelivered(member),
                "fairness": None if fairness is None else round(fairness, 3),
                **rest,
            }
            for member, count in (strip.counts() or {"": 0}).items()
        )
    return Table(rows, "who got how many insults")


#: What a fact about the channel does.
_ACTS: dict[str, Callable[..., None]] = {
    "Sent": Channel._sent,
    "Failed": Channel._refused,
    "Returned": Channel._refused,
    "Delivered": Channel._delivered,
    "Handled": Channel._handled,
    "Rejected": Channel._rejected,
    "Connected": Channel._connected,
    "Disconnected": Channel._disconnected,
}
