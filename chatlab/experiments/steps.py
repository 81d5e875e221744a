"""What can happen in a scenario: a table of verbs, and a step as a value.

A step is one line of a script: who does what. Its verb decides which fields it may have;
:data:`VERBS` is the whole language, for Python, for TOML and for the table that shows a
scenario before it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from chatlab.errors import InvalidInput

Pattern = Literal["group", "private", "insults"]
ALL: tuple[Pattern, ...] = ("group", "private", "insults")

#: The services that can be broken. ``broker`` is the one that the backend under test relies
#: on: RabbitMQ, Redis or the chat server.
SERVICES = ("broker", "rabbitmq", "redis", "server")


@dataclass(frozen=True)
class Verb:
    """One thing that can be done."""

    #: As the table says it; ``{who}`` and the fields of the step fill it in.
    words: str
    #: The fields of the step that it needs …
    needs: frozenset[str] = frozenset()
    #: … and those that it may have.
    takes: frozenset[str] = frozenset()
    #: Patterns of which it makes sense.
    patterns: tuple[Pattern, ...] = ALL
    #: What it breaks: ``service``, ``user``, ``link`` or nothing.
    breaks: str = ""


def _verb(words: str, needs: str = "", takes: str = "", **more: Any) -> Verb:
    return Verb(words, frozenset(needs.split()), frozenset(takes.split()), **more)


_GROUP: tuple[Pattern, ...] = ("group",)

VERBS: dict[str, Verb] = {
    "join": _verb("{who}: take part", "who", "options"),
    "subscribe": _verb("{who}: subscribe", "who", patterns=_GROUP),
    "connect": _verb("{who}: connect", "who", patterns=_GROUP),
    "disconnect": _verb("{who}: disconnect", "who", patterns=_GROUP),
    "unsubscribe": _verb("{who}: leave for good", "who", patterns=_GROUP),
    "send": _verb("{who}: send {count}", "who count", "to rate text wait"),
    "sent": _verb("until all of that is sent"),
    "offline": _verb("{who}: go offline", "who", breaks="absence"),
    "online": _verb("{who}: come online", "who"),
    "crash": _verb("{who}: crash", "who", breaks="user"),
    "freeze": _verb("{who}: freeze", "who", breaks="user"),
    "thaw": _verb("{who}: thaw", "who"),
    "second_window": _verb("{who}: open a second window", "who", breaks="user"),
    "cut": _verb("{who}: link to {service} cut", "who service", breaks="link"),
    "slow": _verb(
        "{who}: link to {service} slow by {seconds:g} s", "who service seconds", breaks="link"
    ),
    "freeze_link": _verb("{who}: link to {service} frozen", "who service", breaks="link"),
    "heal": _verb("{who}: links whole", "who"),
    "kill": _verb("{service}: SIGKILL", "service", breaks="service"),
    "start": _verb("{service}: start", "service"),
    "restart": _verb("{service}: restart", "service", breaks="service"),
    "pause": _verb("{service}: pause", "service", breaks="service"),
    "resume": _verb("{service}: go on", "service"),
    "memory_alarm": _verb("{service}: memory alarm", "service", breaks="service"),
    "calm": _verb("{service}: memory alarm over", "service"),
    "ask": _verb("ask who is there", takes="seconds"),
    "wait": _verb("{seconds:g} s pass", "seconds"),
    "settle": _verb("until nothing deliverable is left", takes="seconds"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a scenario. Fields that its verb does not use keep their defaults.

    Raises:
        InvalidInput: an unknown verb, a field that it does not have, or one that it needs
            and is not there.
    """

    do: str
    who: tuple[str, ...] = ()
    count: int = 0
    #: The receiver, in private chats; left out: every other one who takes part.
    to: str = ""
    #: Messages a second; 0: as fast as it goes.
    rate: float = 0.0
    #: The text of each message; empty: numbered ones.
    text: str = ""
    #: Whether the next step waits until this one is done.
    wait: bool = True
    service: str = ""
    seconds: float = 0.0
    #: How someone takes part: ``work``, ``prefetch``, ``ack``, ``role``, ``fails_on``.
    options: tuple[tuple[str, Any], ...] = ()
    #: The patterns on which it is done, a part of the scenario's; empty: on all of them.
    only: tuple[Pattern, ...] = ()

    def __post_init__(self) -> None:
        verb = VERBS.get(self.do)
        if verb is None:
            raise InvalidInput(
                f"A scenario has no step {self.do!r}.", todo=f"There are: {', '.join(VERBS)}."
            )
        given = {f.name for f in fields(self) if getattr(self, f.name) != f.default}
        if wrong := given - verb.needs - verb.takes - {"do", "only"}:
            raise InvalidInput(f"The step {self.do!r} has no {_listed(wrong)}.")
        if missing := verb.needs - given:
            raise InvalidInput(f"The step {self.do!r} needs {_listed(missing)}.")
        if self.service and self.breaks == "service" and self.service not in SERVICES:
            raise InvalidInput(
                f"There is no service {self.service!r} to break.",
                todo=f"There are: {', '.join(SERVICES)}.",
            )
        if self.count < 0 or self.rate < 0 or self.seconds < 0:
            raise InvalidInput(f"The step {self.do!r} has a number below 0.")

    def done_on(self, pattern: Pattern) -> bool:
        """Whether it is done where that pattern is played."""
        return not self.only or pattern in self.only

    @property
    def breaks(self) -> str:
        """What it breaks: ``service``, ``link``, ``user``, ``absence`` or nothing."""
        return VERBS[self.do].breaks

    def __str__(self) -> str:
        """The step as a sentence."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        words = VERBS[self.do].words.format(**values | {"who": ", ".join(self.who)})
        if self.to:
            words += f" to {self.to}"
        if self.rate:
            words += f" at {self.rate:g} a second"
        if self.options:
            words += f" ({', '.join(f'{key} {value}' for key, value in self.options)})"
        if self.only:
            words += f" ({' and '.join(self.only)} only)"
        return words if self.wait else f"{words}, and meanwhile"

    def to_dict(self) -> dict[str, Any]:
        """The fields that it has, for TOML and JSON."""
        found = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }
        for name in ("who", "only"):
            if name in found:
                found[name] = list(found[name])
        if self.options:
            found["options"] = dict(self.options)
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Step:
        """What :meth:`to_dict` gave, or a reader's TOML says.

        Raises:
            InvalidInput: a field that steps do not have, or a value of another type.
        """
        known = {f.name: type(f.default) for f in fields(cls) if f.name != "do"}
        found = dict(values)
        if unknown := found.keys() - known.keys() - {"do"}:
            raise InvalidInput(
                f"A step has no {_listed(unknown)}.", todo=f"It has: do, {', '.join(known)}."
            )
        for name in ("who", "only"):
            names = found.get(name, ())
            found[name] = (names,) if isinstance(names, str) else tuple(names)
        found["options"] = tuple(dict(found.get("options", {})).items())
        for name, kind in known.items():
            if name in found and not isinstance(found[name], _ALLOWED.get(kind, kind)):
                raise InvalidInput(f"The {name} of a step cannot be {found[name]!r}.")
        if not isinstance(found.get("do"), str):
            raise InvalidInput('A step says what to do: do = "send".')
        return cls(**found)


#: TOML writes 1 for 1.0.
_ALLOWED: dict[type, tuple[type, ...]] = {float: (float, int)}


def _listed(names: Any) -> str:
    found = sorted(names) if isinstance(names, set | frozenset) else list(names)
    if len(found) < 2:
        return "".join(found)
    return f"{', '.join(found[:-1])} and {found[-1]}"
