"""The numbers of the insult distribution: who got which, in which setting. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatlab.messages import INSULTS
from chatlab.plots.events import read
from chatlab.plots.story import Flight, Send, Story
from chatlab.plots.words import counted, named, sentence

#: What became of an insult that never came into the queue.
NEVER_IN = ("refused", "returned")


@dataclass(frozen=True, slots=True)
class Setting:
    """How the members took insults; ``None``: not the same for all, or not recorded."""

    prefetch: int | None
    ack: str | None
    #: Member -> seconds of work per insult.
    work: dict[str, float]
    #: The backend's name, when it has neither prefetch nor acks.
    plain: str = ""

    def words(self) -> str:
        """``no prefetch``, ``prefetch 1``, ``auto-ack (prefetch ignored)``."""
        if self.ack == "auto":
            return "auto-ack (prefetch ignored)"
        if self.plain:
            return self.plain
        if self.prefetch is None:
            return "mixed settings" if self.ack is None and self.work else "insults"
        return f"prefetch {self.prefetch}" if self.prefetch else "no prefetch"

    def work_words(self) -> str:
        """``50 ms of work each``, ``bob works 100 ms, others 10 ms``; empty without work."""
        times = list(self.work.values())
        if not times or not any(times):
            return ""
        if len(set(times)) == 1:
            return f"{times[0] * 1000:g} ms of work each"
        usual = max(set(times), key=times.count)
        odd = [user for user, seconds in self.work.items() if seconds != usual]
        if len(odd) == 1 and len(times) > 2:
            slow = self.work[odd[0]]
            return f"{odd[0]} works {slow * 1000:g} ms, others {usual * 1000:g} ms"
        return f"{min(times) * 1000:g} to {max(times) * 1000:g} ms of work"


@dataclass(frozen=True)
class Shares:
    """Who got which insult; insults are numbered from 1 in the order of sending."""

    name: str
    #: In the order in which they attached.
    members: tuple[str, ...]
    got: dict[str, tuple[int, ...]]
    taken_back: dict[str, tuple[int, ...]]
    waiting: tuple[int, ...]
    lost: tuple[int, ...]
    #: Their work failed whoever had them: dead letters, or lost where there are none.
    dead: tuple[int, ...]
    total: int
    #: How many were waiting when the first member attached.
    backlog: int
    setting: Setting

    @property
    def counts(self) -> list[int]:
        return [len(self.got[member]) for member in self.members]

    @property
    def fairness(self) -> float:
        """Jain's index; 1 when nobody got anything."""
        return jain(self.counts)

    def table(self) -> list[dict[str, Any]]:
        """One dictionary a member."""
        return [
            {
                "scene": self.name,
                "setting": self.setting.words(),
                "member": member,
                "insults": len(self.got[member]),
                "taken back": len(self.taken_back[member]),
                "of": self.total,
                "fairness": round(self.fairness, 3),
            }
            for member in self.members
        ]


def jain(counts: Sequence[int]) -> float:
    """Jain's fairness index of ``counts``."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def shares(scene: object) -> Shares:
    """The numbers of one strip.

    Raises:
        InvalidInput: no scene, run or journal.
    """
    story = read(scene)
    flights = [flight for flight in story.flights if flight.send.chat == INSULTS]
    numbers: dict[str, int] = {}
    for send in _accepted(story):
        numbers[send.id] = len(numbers) + 1
    holders: dict[str, list[Flight]] = {}
    for flight in flights:
        if flight.seen is not None:
            holders.setdefault(flight.send.id, []).append(flight)
    attached = [(when, fact) for when, fact in story.attachments if fact.role != "producer"]
    members = tuple(
        dict.fromkeys(
            [fact.user for _, fact in attached]
            + [flight.receiver for held in holders.values() for flight in held]
        )
    )
    got: dict[str, list[int]] = {member: [] for member in members}
    back: dict[str, list[int]] = {member: [] for member in members}
    undone = story.dead | {flight.send.id for flight in flights if flight.seen is None}
    for id, held in holders.items():
        held.sort(
            key=lambda flight: flight.again[-1] if flight.again else flight.seen or (0, 0.0)
        )
        failed = id in undone
        for flight in held if failed else held[:-1]:
            back[flight.receiver].append(numbers[id])
        if not failed:
            got[held[-1].receiver].append(numbers[id])
    return Shares(
        name=story.name,
        members=members,
        got={member: tuple(sorted(which)) for member, which in got.items()},
        taken_back={member: tuple(sorted(which)) for member, which in back.items()},
        waiting=_numbers(flights, numbers, "waiting", "under way", "unknown"),
        lost=_numbers(flights, numbers, "lost"),
        dead=tuple(sorted(numbers[id] for id in story.dead if id in numbers)),
        total=len(numbers),
        backlog=_backlog(story, attached),
        setting=_setting(attached, flights),
    )


def _numbers(
    flights: Sequence[Flight], numbers: dict[str, int], *fates: str
) -> tuple[int, ...]:
    return tuple(numbers[flight.send.id] for flight in flights if flight.fate in fates)


def _backlog(story: Story, attached: Sequence[tuple[Any, Any]]) -> int:
    first = attached[0][0].step if attached else float("inf")
    return sum(send.when.step < first for send in _accepted(story))


def _accepted(story: Story) -> list[Send]:
    return [s for s in story.sends if s.chat == INSULTS and s.outcome not in NEVER_IN]


def _setting(attached: Sequence[tuple[Any, Any]], flights: Sequence[Flight]) -> Setting:
    """What held when the first insult was seen; later changes only of those not there yet."""
    first = min((flight.seen.step for flight in flights if flight.seen), default=float("inf"))
    options: dict[str, dict[str, str]] = {}
    for when, fact in attached:
        if when.step < first or fact.user not in options:
            text = fact.backend.partition(":")[2]
            pairs = (part.partition("=") for part in text.split(",") if part)
            options[fact.user] = {key: value for key, _, value in pairs}
    prefetch = {o["prefetch"] for o in options.values() if o.get("prefetch", "").isdigit()}
    acks = {o["ack"] for o in options.values() if "ack" in o}
    work = {user: _seconds(o.get("work", "")) for user, o in options.items()}
    told = any({"prefetch", "ack"} & o.keys() for o in options.values())
    names = {fact.backend.partition(":")[0] for _, fact in attached}
    plain = names.pop() if len(names) == 1 and not told else ""
    return Setting(
        int(prefetch.pop()) if len(prefetch) == 1 else None,
        acks.pop() if len(acks) == 1 else None,
        work,
        plain,
    )


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def insults_finding(strips: Sequence[Shares]) -> list[str]:
    """``Whoever comes first takes all, unless prefetch is 1``."""
    if len(strips) == 1:
        return _one(strips[0])
    if not any(strip.total for strip in strips):
        return ["No insults were sent"]
    if len(strips) == 2:
        greedy, fair = strips
        unless = _unless(greedy.setting, fair.setting)
        evenly = fair.fairness >= 0.99 and not (fair.lost or fair.waiting)
        if _taker(greedy) and evenly and unless and greedy.total == fair.total:
            first = _taker(greedy) == greedy.members[0] and greedy.backlog == greedy.total
            start = "Whoever comes first takes all" if first else "One member takes all"
            return [f"{start}, unless {unless}", f"{start}, or all get the same"]
    if any(strip.lost for strip in strips):
        return [_losses(strips), "Some of the insults were lost"]
    if len({_counts(strip) for strip in strips}) == 1:
        same = "both" if len(strips) == 2 else f"all {len(strips)}"
        return [sentence(f"{_counts(strips[0])} in {same}")]
    parts = [f"{_counts(strip)} with {strip.setting.words()}" for strip in strips]
    parts = [part.replace("with no prefetch", "without prefetch") for part in parts]
    fair_words = ", ".join(f"{strip.fairness:.2f}" for strip in strips)
    return [", ".join(parts), ", or ".join(map(_counts, strips)), f"Fairness {fair_words}"]


def _unless(before: Setting, after: Setting) -> str:
    """What differs, when it is one thing."""
    differs = []
    if before.ack != after.ack:
        differs.append(f"acks are {after.ack}")
    if before.prefetch != after.prefetch and after.prefetch is not None:
        differs.append(f"prefetch is {after.prefetch}" if after.prefetch else "prefetch is off")
    if set(before.work.values()) != set(after.work.values()):
        differs.append(after.work_words())
    return " and ".join(differs) if all(differs) else ""


def _taker(strip: Shares) -> str:
    """The member that got all, when there are others."""
    full = [member for member in strip.members if len(strip.got[member]) == strip.total]
    return full[0] if full and strip.total > 1 and len(strip.members) > 1 else ""


def _losses(strips: Sequence[Shares]) -> str:
    """``9 of 20 lost with auto-ack, 0 of 20 with prefetch 1``."""
    parts: list[str] = []
    for strip in strips:
        words = strip.setting.words().partition(" (")[0]
        lost = f"{len(strip.lost)} of {strip.total}{'' if parts else ' lost'}"
        parts.append(f"{lost} with {words}".replace("with no prefetch", "without prefetch"))
    return ", ".join(parts)


def _counts(strip: Shares) -> str:
    counts = strip.counts
    if len(counts) > 4:
        return (
            f"{min(counts)} to {max(counts)} each"
            if min(counts) < max(counts)
            else f"{counts[0]} each"
        )
    return " / ".join(map(str, counts)) or "nobody"


def _one(strip: Shares) -> list[str]:
    insults, counts = counted(strip.total, "insult"), strip.counts
    if not strip.total:
        return ["No insults were sent"]
    if strip.lost:
        verb = "was" if len(strip.lost) == 1 else "were"
        return [f"{len(strip.lost):,} of {insults} {verb} lost"]
    if strip.dead:
        verb = "was" if len(strip.dead) == 1 else "were"
        return [f"{len(strip.dead):,} of {insults} {verb} given up: the work failed each time"]
    if not sum(counts):
        return [f"{insults} {'waits' if strip.total == 1 else 'wait'}: nobody takes them"]
    if strip.waiting:
        return [f"{sum(counts):,} of {insults} taken, {len(strip.waiting):,} still waiting"]
    if _taker(strip):
        who = named([_taker(strip)])
        first = strip.backlog == strip.total and _taker(strip) == strip.members[0]
        words = f"{who} takes all {insults}"
        return [sentence(f"{words}: it came first" if first else words), sentence(words)]
    if len(counts) == 1:
        return [sentence(f"{insults} for {named(strip.members)}: nobody else was there")]
    low, high = min(counts), max(counts)
    if high - low <= 1:
        each = f"{low}" if low == high else f"{low} or {high}"
        return [f"{insults}, {each} each: fair"]
    return [f"{insults}: {_counts(strip)}, fairness {strip.fairness:.2f}"]
