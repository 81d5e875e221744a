"""Accuracy: what several ways of asking said of who is there, beside what was true. Pure.

A run (:func:`chatlab.experiments.discovery`) does known things to known users and asks every
way over and over. Its record is an :class:`Accuracy`: the changes, the answers, nothing
computed. Everything else here is a function of it, so a run that was saved can be drawn and
judged again without any broker.

*Truth.* A user is there while its client runs and its network is whole. Each change has a
moment before and one after it was made; in between nobody can tell, and nothing is held
against an answer.

*Wrong.* An answer may speak of any moment between the question and the answer. It shows a
*ghost* when it lists somebody who was away all that time, and has *missed* somebody who was
there all that time and is not listed. A wrong answer weighs as long as it stands: until the
same way answers, or refuses to, again.

*Right after.* The seconds from a change to the first answer from which on the way says what
has become of that user, until it changes again; ``inf`` when it never does.
"""

from __future__ import annotations

import json
import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from chatlab.errors import InvalidInput
from chatlab.tables import Table, Tabular

FORMAT = 1

#: What an answer says of one user, beside the truth.
Judgement = Literal["listed", "absent", "ghost", "missed"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Something done to one user. Times are seconds since the run began."""

    user: str
    #: ``killed``, ``frozen``, ``thawed``, ``left``, ``cut`` or ``healed``.
    fault: str
    #: The last moment before it, and the first moment after it.
    before: float
    after: float
    #: Whether the user is there from then on.
    there: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One question and its answer, or why there was none."""

    way: str
    asked_at: float
    answered_at: float
    #: The users that were listed.
    names: frozenset[str] = frozenset()
    #: Requests and answers together.
    messages: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Seconds in which it is certain whether a user was there."""

    since: float
    until: float
    there: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with the verdict on it. Errors are no answers."""

    sample: Sample
    #: When the same way said something else, or the run ended.
    until: float
    ghosts: frozenset[str]
    missed: frozenset[str]

    @property
    def seconds(self) -> float:
        """How long it stood."""
        return self.until - self.sample.answered_at


@dataclass(frozen=True, repr=False)
class Accuracy(Tabular):
    """The record of a run. ``right_after``, ``ghosts``, ``missed`` … judge it."""

    #: Everybody there at the beginning, those with a change first.
    users: tuple[str, ...]
    changes: tuple[Turn, ...]
    samples: tuple[Sample, ...]
    #: How long the run took.
    seconds: float
    tier: str = "real"
    versions: Mapping[str, str] = field(default_factory=dict)
    #: What the figures depend on: ``lease_seconds``, ``heartbeat_seconds``, ``timeout``.
    settings: Mapping[str, float] = field(default_factory=dict)

    # -- the truth

    @cached_property
    def stretches(self) -> dict[str, tuple[Stretch, ...]]:
        """What is certain of each user, in order; between two stretches nothing is."""
        found: dict[str, tuple[Stretch, ...]] = {}
        for user in self.users:
            since, there, known = 0.0, True, []
            for change in self._changes_of(user):
                known.append(Stretch(since, change.before, there))
                since, there = change.after, change.there
            found[user] = (*known, Stretch(since, self.seconds, there))
        return found

    @property
    def truth(self) -> dict[str, tuple[tuple[float, float], ...]]:
        """The intervals in which each user was there for certain."""
        return {
            user: tuple((known.since, known.until) for known in stretches if known.there)
            for user, stretches in self.stretches.items()
        }

    @property
    def staying(self) -> tuple[str, ...]:
        """The users to whom nothing was done."""
        changed = {change.user for change in self.changes}
        return tuple(user for user in self.users if user not in changed)

    @property
    def changing(self) -> tuple[str, ...]:
        """The users to whom something was done, in the order in which it was."""
        return tuple(dict.fromkeys(change.user for change in self.changes))

    @property
    def faults(self) -> tuple[str, ...]:
        """The kinds of change, in the order in which they were made."""
        return tuple(dict.fromkeys(change.fault for change in self.changes))

    def _changes_of(self, user: str) -> list[Turn]:
        return [change for change in self.changes if change.user == user]

    # -- the answers

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that were asked, in the order of their first answers' questions."""
        return tuple(dict.fromkeys(sample.way for sample in self.samples))

    @cached_property
    def answers(self) -> dict[str, tuple[Answer, ...]]:
        """Every answer of each way, in order, judged."""
        return {way: tuple(self._judged(way)) for way in self.ways}

    def _of(self, way: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.way == way]

    def _judged(self, way: str) -> Iterator[Answer]:
        samples = self._of(way)
        ends = [*(later.answered_at for later in samples[1:]), self.seconds]
        everybody, staying = frozenset(self.users), frozenset(self.staying)
        for sample, until in zip(samples, ends, strict=True):
            if sample.error:
                continue
            certain = {user: self._certain(user, sample) for user in self.changing}
            ghosts = {user for user in certain if certain[user] is False} & sample.names
            missed = {user for user in certain if certain[user] is True} - sample.names
            strangers = sample.names - everybody
            yield Answer(
                sample,
                max(until, sample.answered_at),
                frozenset(ghosts | strangers),
                frozenset(missed | (staying - sample.names)),
            )

    def _certain(self, user: str, sample: Sample) -> bool | None:
        """Whether the user was there all the time of a question; ``None``: it changed."""
        stretches = self.stretches[user]
        at = bisect_right(stretches, sample.asked_at, key=lambda known: known.since) - 1
        known = stretches[at] if at >= 0 else stretches[0]
        if known.since <= sample.asked_at and sample.answered_at <= known.until:
            return known.there
        return None

    def judgements(self, way: str) -> Iterator[tuple[str, float, float, Judgement]]:
        """What each answer says: user (``""`` for all who stay, and for strangers), from
        when until when it stood, and how right that was."""
        staying = frozenset(self.staying)
        everybody = frozenset(self.users)
        for answer in self.answers.get(way, ()):
            began, ended = answer.sample.answered_at, answer.until
            for user in self.changing:
                listed: Judgement = "listed" if user in answer.sample.names else "absent"
                if user in answer.ghosts:
                    listed = "ghost"
                elif user in answer.missed:
                    listed = "missed"
                yield user, began, ended, listed
            if answer.ghosts - everybody:
                yield "", began, ended, "ghost"
            elif staying:
                yield "", began, ended, "missed" if answer.missed & staying else "listed"

    # -- the figures

    @property
    def ghosts(self) -> dict[str, dict[str, float]]:
        """Per way: who was listed while away, and for how many seconds."""
        return self._person_seconds("ghosts")

    @property
    def missed(self) -> dict[str, dict[str, float]]:
        """Per way: who was there and not listed, and for how many seconds."""
        return self._person_seconds("missed")

    def _person_seconds(self, kind: Literal["ghosts", "missed"]) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for way, answers in self.answers.items():
            seconds: dict[str, float] = {}
            for answer in answers:
                for user in getattr(answer, kind):
                    seconds[user] = seconds.get(user, 0.0) + answer.seconds
            found[way] = dict(sorted(seconds.items()))
        return found

    @cached_property
    def right_after(self) -> dict[str, dict[str, float]]:
        """Per way and fault: seconds until right; ``inf``: never within the run. Of several
        users with the same fault the worst."""
        found: dict[str, dict[str, float]] = {way: {} for way in self.ways}
        for way, change, seconds in self._waits():
            found[way][change.fault] = max(found[way].get(change.fault, 0.0), seconds)
        return found

    def worst(self, way: str) -> float:
        """Seconds until right after the change that this way learned last."""
        return max(self.right_after[way].values(), default=0.0)

    def never(self, way: str) -> tuple[Turn, ...]:
        """The changes about which this way was never right."""
        return tuple(c for w, c, seconds in self._waits() if w == way and seconds == math.inf)

    def _waits(self) -> Iterator[tuple[str, Turn, float]]:
        ends = self._ends()
        for way in self.ways:
            samples = [answer.sample for answer in self.answers[way]]
            for change, end in zip(self.changes, ends, strict=True):
                yield way, change, _right_after(samples, change, end)

    def _ends(self) -> list[float]:
        """Until when each change holds: the next one of the same user, or the end."""
        ends = dict.fromkeys(self.changes, math.inf)
        for user in self.changing:
            for earlier, later in pairwise(self._changes_of(user)):
                ends[earlier] = later.before
        return [ends[change] for change in self.changes]

    @property
    def messages(self) -> dict[str, float]:
        """Per way: messages a question, the median."""
        return self._median(lambda sample: sample.messages)

    @property
    def question_seconds(self) -> dict[str, float]:
        """Per way: seconds a question, the median."""
        return self._median(lambda sample: sample.answered_at - sample.asked_at)

    def _median(self, of: Any) -> dict[str, float]:
        return {
            way: statistics.median(of(answer.sample) for answer in answers)
            for way, answers in self.answers.items()
            if answers
        }

    @property
    def errors(self) -> dict[str, tuple[str, ...]]:
        """Per way: what was said instead of an answer, each text once."""
        return {
            way: tuple(dict.fromkeys(s.error for s in self._of(way) if s.error))
            for way in self.ways
        }

    # -- how it leaves

    def table(self) -> list[dict[str, Any]]:
        """One plain dictionary a way, for pandas and the like; seconds, ``inf`` = never."""
        return [dict(row) for row in self._rows()]

    def _rows(self) -> Iterator[dict[str, Any]]:
        for way in self.ways:
            yield {
                "way": way,
                **{fault: self.right_after[way][fault] for fault in self.faults},
                "ghost s": sum(self.ghosts[way].values()),
                "missed s": sum(self.missed[way].values()),
                "messages": self.messages.get(way),
                "ms": _times(1000, self.question_seconds.get(way)),
                "questions": len(self._of(way)),
                "errors": sum(bool(sample.error) for sample in self._of(way)),
            }

    def _table(self) -> Table:
        caption = (
            f"{len(self.users)} users: seconds until right after each change, person-seconds "
            "of ghosts and missed, messages and ms a question"
        )
        return Table((_with_never(row) for row in self._rows()), caption)

    def save(self, path: Path | str) -> Path:
        """Write as JSON. Returns the path."""
        path = Path(path)
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        rows = {
            "changes": [asdict(change) for change in self.changes],
            "samples": [{**asdict(s), "names": sorted(s.names)} for s in self.samples],
        }
        text = json.dumps({"chatlab-accuracy": FORMAT, **known, **rows}, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path | str) -> Accuracy:
        """Read what :meth:`save` wrote.

        Raises:
            InvalidInput: not the record of such a run, or of another format.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values.pop("chatlab-accuracy")
            if version != FORMAT:
                raise InvalidInput(f"{path} has format {version}, not {FORMAT}.")
            values["users"] = tuple(values["users"])
            values["changes"] = tuple(Turn(**row) for row in values["changes"])
            values["samples"] = tuple(_sample(row) for row in values["samples"])
            return cls(**values)
        except InvalidInput:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"{path} is no record of a discovery run.") from error


def _right_after(samples: Iterable[Sample], change: Turn, end: float) -> float:
    """Seconds from ``change`` to the first of the answers that end its time rightly."""
    since = math.inf
    for sample in samples:
        if change.before <= sample.answered_at < end:
            right = (change.user in sample.names) == change.there
            since = (min(since, sample.answered_at)) if right else math.inf
    return max(since - change.after, 0.0)


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(**{**row, "names": frozenset(row["names"])})


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _with_never(row: dict[str, Any]) -> dict[str, Any]:
    return {key: shown_seconds(value) for key, value in row.items()}


def shown_seconds(value: Any) -> Any:
    """A value as a table shows it: ``never`` for infinitely many seconds."""
    return "never" if value == math.inf else value
