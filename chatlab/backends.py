"""Backends by name: ``rabbitmq-durable``, ``rabbitmq:prefetch=10,ack=auto,work=0.05``.

One string says which implementation of a pattern is meant and with which options, in Python,
in the shell, in the registry and in the journal. The tables below say what there is; a name
or an option that is not in them is refused, with what exists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chatlab.errors import InvalidInput

_WORD = re.compile(r"[\w.-]{0,64}")


@dataclass(frozen=True)
class Option:
    """One option: its value when left out, and how its text is read and checked."""

    default: Any
    read: Callable[[str], Any]
    #: What is allowed, for the error.
    allowed: str
    #: Each member's own choice: it is no part of what the group is, and no mismatch.
    personal: bool = False


def _yes_no(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:  # basic.qos has 16 bits for it
        raise ValueError
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError
    return text


def word(default: str) -> Option:
    """Letters, digits and ``_ . -``, or nothing."""
    return Option(default, _word, "letters, digits, '_', '.' and '-', at most 64")


def yes_no(default: bool) -> Option:
    """``yes`` or ``no``."""
    return Option(default, _yes_no, "yes or no")


def count(default: int) -> Option:
    """A whole number from 0."""
    return Option(default, _count, "a whole number from 0 to 65535")


def seconds(default: float) -> Option:
    """A time in seconds."""
    return Option(default, _seconds, "seconds, 0 or more")


def choice(default: str, *others: str, personal: bool = False) -> Option:
    """One of some words."""
    words = {word: word for word in (default, *others)}
    return Option(default, words.__getitem__, " or ".join(words), personal)


#: What a pattern offers: backend name -> its options.
Known = Mapping[str, Mapping[str, Option]]

#: The default first.
PRIVATE: Known = {"mailbox-redis": {}, "mailbox-memory": {}, "direct": {}, "as-reported": {}}
#: Those of them that keep messages in their chat server's own memory.
IN_MEMORY = frozenset({"mailbox-memory", "as-reported"})
GROUPS: Known = {
    "rabbitmq-durable": {
        "persistent": yes_no(True),
        "confirms": yes_no(True),
        "exchange": choice("durable", "transient"),
    },
    "rabbitmq-transient": {"persistent": yes_no(False)},
    "rabbitmq-quorum": {},
    "rabbitmq-log": {"from": choice("next", "first", personal=True)},
    "redis-pubsub": {},
    "redis-stream": {"maxlen": count(0)},
    "memory": {"maxlen": count(0)},
    "as-reported": {"persistent": yes_no(False)},
}
#: Those of them that keep nothing for a member that is not connected: their queues go with
#: its connection (but that of ``as-reported:persistent=yes`` stays).
FORGETFUL = frozenset({"rabbitmq-transient", "redis-pubsub", "as-reported"})
#: What a member does with an insult it has drawn.
_HANDLER = {"work": seconds(0.0), "fails_on": word("")}
_WITH_ACKS = {"prefetch": count(1), "ack": choice("manual", "auto"), **_HANDLER}
#: The default first. These options are each member's own; the backend is the channel's.
INSULTS: Known = {
    "rabbitmq": _WITH_ACKS,
    "rabbitmq-not-me": _WITH_ACKS,
    "redis-list": _HANDLER,
    "redis-stream": {"prefetch": count(1), **_HANDLER},
    "memory": _WITH_ACKS,
    "as-reported": _HANDLER,
}


def forgets_the_absent(backend: str) -> bool:
    """Whether this group backend keeps nothing for a member that is not connected."""
    name, _, options = backend.partition(":")
    stays = name == "as-reported" and "persistent=yes" in options.split(",")
    return name in FORGETFUL and not stays


def parse_backend(text: str, known: Known = GROUPS) -> tuple[str, dict[str, Any]]:
    """The name, and every option of that backend with its value.

    Args:
        text: ``name`` or ``name:option=value,option=value``.
        known: what there is, one of the tables of this module.

    Raises:
        InvalidInput: an unknown name or option, or a value that is not allowed; lists
            what is.
    """
    name, colon, rest = text.partition(":")
    if name not in known:
        raise InvalidInput(
            f"There is no backend {name!r} here.", todo=f"There are: {', '.join(known)}."
        )
    options = known[name]
    values = {key: option.default for key, option in options.items()}
    for part in rest.split(",") if colon else []:
        key, equals, value = part.partition("=")
        option = options.get(key)
        if option is None or not equals:
            raise InvalidInput(
                f"The backend {name} has no option {part!r}.",
                todo=f"It has: {', '.join(options) or 'none'}.",
            )
        try:
            values[key] = option.read(value)
        except (KeyError, ValueError):
            raise InvalidInput(
                f"The option {key} of {name} cannot be {value!r}.",
                todo=f"Allowed: {option.allowed}.",
            ) from None
    return name, values


def with_options(text: str, options: Mapping[str, Any]) -> str:
    """The backend ``text`` with further options, which win over those in it; ``None``
    leaves one as it is."""
    given = [f"{key}={_text(value)}" for key, value in options.items() if value is not None]
    if not given:
        return text
    return f"{text}{',' if ':' in text else ':'}{','.join(given)}"


def backend_text(name: str, values: Mapping[str, Any], known: Known = GROUPS) -> str:
    """The string for a name and options: those left out have their defaults, and the same
    backend always gives the same string."""
    changed = [
        f"{key}={_text(values[key])}"
        for key, option in known[name].items()
        if key in values and values[key] != option.default
    ]
    return f"{name}:{','.join(changed)}" if changed else name


def shared_text(text: str, known: Known = GROUPS) -> str:
    """The backend without each member's own choices: what all members must agree on.

    Raises:
        InvalidInput: as :func:`parse_backend`.
    """
    name, values = parse_backend(text, known)
    shared = {key: value for key, value in values.items() if not known[name][key].personal}
    return backend_text(name, shared, known)


def unconfirmed(backend: str) -> bool:
    """Whether the sender to a group of this backend is told nothing of its messages."""
    return backend.startswith("as-reported") or "confirms=no" in backend


def full_text(name: str, values: Mapping[str, Any]) -> str:
    """The same with every option that has a value, for the journal: what it says needs no
    table."""
    options = ",".join(f"{k}={_text(v)}" for k, v in values.items() if v != "")
    return f"{name}:{options}" if options else name


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
