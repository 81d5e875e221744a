"""Scenario: users, who does what when, faults and a seed, as a value.

Built with short calls, each of which gives a new scenario with one step more::

    Scenario("bob is away", "ana bob eva")
        .join("ana", "bob", "eva")
        .send("ana", 3)
        .offline("bob")
        .send("ana", 4)
        .online("bob")

or read from TOML, where ``[[step]]`` tables say the same. A scenario names no backend: the
same one is run on any of the patterns that it is made for, and on any of their backends.
Steps happen one after the other; one with ``wait=False`` goes on while the next ones happen.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatlab import messages as m
from chatlab.errors import InvalidInput
from chatlab.experiments.steps import ALL, VERBS, Pattern, Step
from chatlab.tables import Table

#: Most messages of one step: all of them are kept in memory.
COUNT_LIMIT = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """One experiment, before it is run.

    Args:
        name: shown everywhere; also the name of its group.
        users: their names; a text is split at its spaces.
        about: one sentence, what it is to show.
        processes: those of the users that are processes of their own: their crash is a
            SIGKILL, their freeze a SIGSTOP.
        patterns: what it can be run on; the first is meant where a backend's name alone
            (``memory``) does not tell.
        seed: of everything random.

    Raises:
        InvalidInput: a name that cannot be, a step of somebody who is no user of it, or one
            that its patterns do not have.
    """

    name: str
    users: tuple[str, ...]
    about: str = ""
    steps: tuple[Step, ...] = ()
    processes: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ALL
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("users", "processes", "patterns"):
            value = getattr(self, name)
            found = value.split() if isinstance(value, str) else value
            object.__setattr__(self, name, tuple(found))
        m.check_name(self.name, "scenario's name")
        for user in self.users:
            m.check_name(user)
        if not self.users or len(set(self.users)) < len(self.users):
            raise InvalidInput(f"The scenario {self.name} needs users, each named once.")
        if not self.patterns or not set(self.patterns) <= set(ALL):
            raise InvalidInput(f"The patterns are some of {', '.join(ALL)}.")
        self._check_known(self.processes)
        for step in self.steps:
            self._check(step)

    def _check(self, step: Step) -> None:
        self._check_known((*step.who, *([step.to] if step.to else [])))
        if unknown := set(step.only) - set(self.patterns):
            raise InvalidInput(
                f"The step {step.do!r} is only for {', '.join(sorted(unknown))}, and the "
                f"scenario {self.name} is not.",
                todo=f"It is for: {', '.join(self.patterns)}.",
            )
        if not set(step.only or self.patterns) <= set(VERBS[step.do].patterns):
            allowed = " or ".join(VERBS[step.do].patterns)
            raise InvalidInput(
                f"The step {step.do!r} is for a {allowed}.",
                todo=f'Say patterns=["{allowed}"], or leave the step out.',
            )
        if step.count > COUNT_LIMIT:
            raise InvalidInput(f"A step sends at most {COUNT_LIMIT:,} messages.")

    def _check_known(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.users:
                raise InvalidInput(
                    f"{name!r} is no user of the scenario {self.name}.",
                    todo=f"There are: {', '.join(self.users)}.",
                )

    # -- building

    def then(self, do: str, *who: str, **fields: Any) -> Scenario:
        """The scenario with this step at its end; ``do`` is one of
        :data:`~chatlab.experiments.steps.VERBS`. ``only=("insults",)``: done on that pattern
        and left out on the others."""
        options = tuple(fields.pop("options", {}).items())
        return replace(self, steps=(*self.steps, Step(do, who, options=options, **fields)))

    def join(self, *who: str, **options: Any) -> Scenario:
        """They take part: subscribe and connect, open the chat, or listen to insults.
        ``options`` as of :meth:`chatlab.lab.User.insults`."""
        return self.then("join", *who, options=options)

    def subscribe(self, *who: str) -> Scenario:
        """Queue and binding exist; nothing is read yet. (Groups.)"""
        return self.then("subscribe", *who)

    def connect(self, *who: str) -> Scenario:
        """They read what waits and what comes. (Groups.)"""
        return self.then("connect", *who)

    def disconnect(self, *who: str) -> Scenario:
        """They stop reading. (Groups.)"""
        return self.then("disconnect", *who)

    def unsubscribe(self, *who: str) -> Scenario:
        """They leave for good. (Groups.)"""
        return self.then("unsubscribe", *who)

    def send(
        self,
        who: str,
        count: int = 1,
        *,
        to: str = "",
        rate: float = 0.0,
        text: str = "",
        wait: bool = True,
    ) -> Scenario:
        """``who`` sends ``count`` messages, ``rate`` a second (0: as fast as it goes)."""
        return self.then("send", who, count=count, to=to, rate=rate, text=text, wait=wait)

    def sent(self) -> Scenario:
        """Until everything that is sent meanwhile has been sent."""
        return self.then("sent")

    def offline(self, *who: str) -> Scenario:
        """They go offline with a goodbye."""
        return self.then("offline", *who)

    def online(self, *who: str) -> Scenario:
        """They come (back) online."""
        return self.then("online", *who)

    def crash(self, *who: str) -> Scenario:
        """They end without a goodbye."""
        return self.then("crash", *who)

    def freeze(self, *who: str) -> Scenario:
        """They stop without ending."""
        return self.then("freeze", *who)

    def thaw(self, *who: str) -> Scenario:
        """They go on after :meth:`freeze`."""
        return self.then("thaw", *who)

    def second_window(self, *who: str) -> Scenario:
        """A second client claims the same name; the first one is still there."""
        return self.then("second_window", *who)

    def cut(self, who: str, service: str = "broker") -> Scenario:
        """Cut the link of one user to a service."""
        return self.then("cut", who, service=service)

    def slow(self, who: str, seconds: float, service: str = "broker") -> Scenario:
        """Delay everything on a link by ``seconds`` each way."""
        return self.then("slow", who, service=service, seconds=seconds)

    def freeze_link(self, who: str, service: str = "broker") -> Scenario:
        """Forward nothing on a link; the connections stay open."""
        return self.then("freeze_link", who, service=service)

    def heal(self, *who: str) -> Scenario:
        """All links of these users are whole again."""
        return self.then("heal", *who)

    def kill(self, service: str = "broker") -> Scenario:
        """SIGKILL a service."""
        return self.then("kill", service=service)

    def start(self, service: str = "broker") -> Scenario:
        """Start a killed service again; until it answers."""
        return self.then("start", service=service)

    def restart(self, service: str = "broker") -> Scenario:
        """Stop a service in order and start it again; until it answers."""
        return self.then("restart", service=service)

    def pause(self, service: str = "broker") -> Scenario:
        """SIGSTOP a service."""
        return self.then("pause", service=service)

    def resume(self, service: str = "broker") -> Scenario:
        """A paused service goes on."""
        return self.then("resume", service=service)

    def memory_alarm(self, service: str = "broker") -> Scenario:
        """The service behaves as one whose memory is full."""
        return self.then("memory_alarm", service=service)

    def calm(self, service: str = "broker") -> Scenario:
        """The memory alarm is over."""
        return self.then("calm", service=service)

    def ask(self, seconds: float = 0.0) -> Scenario:
        """Ask the registry who is there: once, or over and over for so long. The judges
        compare the answers with who was."""
        return self.then("ask", seconds=seconds)

    def wait(self, seconds: float) -> Scenario:
        """So much time passes."""
        return self.then("wait", seconds=seconds)

    def settle(self, seconds: float = 0.0) -> Scenario:
        """Until nothing deliverable is left, at most so long (0: as long as a run waits)."""
        return self.then("settle", seconds=seconds)

    # -- reading

    @property
    def breaks(self) -> frozenset[str]:
        """The services that it breaks: then it needs a lab of its own services."""
        return frozenset(step.service for step in self.steps if step.breaks == "service")

    @property
    def messages(self) -> int:
        """How many messages its steps send (a private one to several counts once)."""
        return sum(step.count for step in self.steps)

    def table(self) -> Table:
        """Its steps as rows."""
        rows = ({"step": n, "what": str(step)} for n, step in enumerate(self.steps, 1))
        return Table(rows, f"{self.name}: {self.about}" if self.about else self.name)

    def timeline(self) -> Table:
        """A column a step, a row a user, and a row for the services: who does what when."""
        services = [s for s in dict.fromkeys(step.service for step in self.steps) if s]
        lanes = {name: [""] * len(self.steps) for name in (*self.users, *services)}
        for column, step in enumerate(self.steps):
            mark = _MARKS.get(step.do, step.do) + (f" {step.count}" if step.count else "")
            if not step.wait:
                mark += " …"
            if step.only:
                mark += f" ({', '.join(step.only)})"
            for name in step.who or ([step.service] if step.service else list(lanes)):
                lanes[name][column] = mark
        rows = (
            {"": name, **{str(n): mark for n, mark in enumerate(marks, 1)}}
            for name, marks in lanes.items()
        )
        return Table(rows, f"{self.name}, step by step")

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_() + self.timeline()._repr_html_()

    # -- files

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and TOML."""
        return {
            "name": self.name,
            "about": self.about,
            "users": list(self.users),
            "processes": list(self.processes),
            "patterns": list(self.patterns),
            "seed": self.seed,
            "step": [step.to_dict() for step in self.steps],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scenario:
        """What :meth:`to_dict` gave, or a reader's TOML says.

        Raises:
            InvalidInput: says which part cannot be so.
        """
        found = dict(values)
        steps = found.pop("step", [])
        if unknown := found.keys() - {
            "name",
            "about",
            "users",
            "processes",
            "patterns",
            "seed",
        }:
            raise InvalidInput(
                f"A scenario has no {', '.join(sorted(unknown))}.",
                todo="It has: name, about, users, processes, patterns, seed and [[step]].",
            )
        if not isinstance(steps, list) or not all(isinstance(s, Mapping) for s in steps):
            raise InvalidInput("The steps of a scenario are [[step]] tables.")
        try:
            return cls(steps=tuple(map(Step.from_dict, steps)), **found)
        except (TypeError, AttributeError) as error:
            raise InvalidInput("A scenario needs a name and users.") from error

    @classmethod
    def load(cls, path: Path | str) -> Scenario:
        """Read a TOML file.

        Raises:
            InvalidInput: it cannot be read, or is no scenario; names the file.
        """
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"{path} cannot be read as TOML: {error}.") from error
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error.what}", todo=error.todo) from error

    def to_toml(self) -> str:
        """The text of a TOML file that :meth:`load` reads."""
        values = self.to_dict()
        steps = values.pop("step")
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        for step in steps:
            lines += ["", "[[step]]", *(f"{key} = {_toml(v)}" for key, v in step.items())]
        return "\n".join(lines) + "\n"


#: How the timeline shortens a verb.
_MARKS = {
    "send": "sends",
    "join": "joins",
    "freeze_link": "link freezes",
    "sent": "·",
    "ask": "who?",
}


def _toml(value: Any) -> str:
    """A TOML value; JSON writes texts, numbers and lists the same way."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
