"""The words of the pictures: backends, stores, captions, counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chatlab.messages import INSULTS, title
from chatlab.plots.story import Story

#: Backend -> what a reader calls it, and what it does beyond that.
_BACKENDS = {
    "rabbitmq-transient": ("transient (exclusive) queue", "exclusive queue, not persistent"),
    "rabbitmq-durable": ("durable queue", "durable queue, persistent, confirms"),
    "rabbitmq-quorum": ("quorum queue", "quorum queue, persistent, confirms"),
    "rabbitmq-log": ("log (RabbitMQ stream)", "RabbitMQ stream"),
    "rabbitmq": ("one queue", "one durable queue"),
    "redis-pubsub": ("Redis pub/sub", "Redis pub/sub"),
    "redis-stream": ("Redis stream", "Redis stream, consumer group"),
    "memory": ("in memory", "in memory"),
    "mailbox-redis": ("mailbox in Redis", "mailbox in Redis"),
    "mailbox-memory": ("mailbox in memory", "mailbox in the server's memory"),
    "direct": ("direct call", "direct call"),
    "as-reported": ("as reported", "as reported"),
}
#: Beginning of a backend's name -> programs whose versions belong in the caption.
_PROGRAMS = {
    "rabbitmq": ("rabbitmq",),
    "redis": ("redis", "valkey"),
    "mailbox-redis": ("redis", "valkey", "grpc"),
    "mailbox": ("grpc",),
    "direct": ("grpc",),
}
_FAULTS = {
    "kill": "{} killed",
    "stop": "{} stopped",
    "restart": "{} restarted",
    "pause": "{} paused",
    "cut": "{} cut",
    "slow": "{} slow",
    "freeze": "{} frozen",
    "alarm": "{}: memory alarm",
}
_SERVICES = {"rabbitmq": "RabbitMQ", "redis": "Redis", "server": "chat server"}


def counted(number: int, noun: str) -> str:
    """``1 message``, ``3 messages``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def was(number: int) -> str:
    """``was`` or ``were``."""
    return "was" if number == 1 else "were"


def sentence(words: str) -> str:
    """With its first letter upper case."""
    return words[:1].upper() + words[1:]


def phrase(name: str) -> str:
    """The name of a scenario as words: ``broker kill``."""
    return name.replace("-", " ").replace("_", " ").strip() or name


def named(users: Sequence[str], most: int = 2) -> str:
    """``bob``, ``bob and eva``, ``3 users``; long names are cut."""
    short = [name if len(name) <= 16 else name[:15] + "…" for name in users]
    return " and ".join(short) if len(short) <= most else f"{len(short)} users"


def backend_words(backend: str, *, full: bool = False) -> str:
    """``durable queue``; with ``full``, what it does. Options follow in brackets."""
    name, _, options = backend.partition(":")
    words = _BACKENDS.get(name, (name, name))[full]
    return f"{words} ({options.replace(',', ', ')})" if options else words


def store_words(chat: str, backend: str, receiver: str) -> str:
    """What a message waits in: ``queue sd.bob``, ``mailbox of bob``, ``insult queue``."""
    if chat == INSULTS:
        return "insult queue"
    if chat.startswith("private:"):
        return f"mailbox of {receiver}"
    kind = "log" if "log" in backend else "stream" if "stream" in backend else "queue"
    return f"{kind} {title(chat)}.{receiver}"


def fault_words(fault: str, target: str) -> str:
    """``RabbitMQ killed``, ``bob's link cut``."""
    user, _, service = target.rpartition("-")
    thing = f"{user}'s link" if user else _SERVICES.get(service, service)
    return _FAULTS.get(fault, f"{{}}: {fault}").format(thing)


def duration(seconds: float) -> str:
    """``45 ms``, ``2.1 s``, ``3 min``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def tier(stories: Iterable[Story]) -> str:
    """``real`` when all are; otherwise the tier that is not."""
    tiers = {str(story.header.get("tier", "")).lower() for story in stories}
    return next(iter(sorted(tiers - {"real", ""})), "real" if "real" in tiers else "")


def caption(stories: Sequence[Story], *extra: str, backends: bool = True) -> str:
    """The grey line: tier, versions, ``extra`` (the legend), backends (unless each strip
    names its own), settings; what does not fit is cut from the end."""
    used = list(dict.fromkeys(name for s in stories for name in s.backends.values() if name))
    parts = [tier(stories) or "tier not recorded"]
    parts += versions((story.header for story in stories), used)
    parts += [words for words in extra if words]
    if backends:
        parts += [backend_words(name, full=True) for name in used[:2]]
    for story in stories:
        settings = story.header.get("settings")
        if isinstance(settings, Mapping):
            parts += [_setting(str(key), value) for key, value in settings.items()]
        elif settings:
            parts.append(str(settings))
    return " · ".join(dict.fromkeys(parts))


def _setting(name: str, value: object) -> str:
    """``lease 3 s``, ``seed 7``."""
    stem = name.removesuffix("_seconds")
    return (
        f"{stem} {value:g} s"
        if stem != name and isinstance(value, int | float)
        else f"{name} {value}"
    )


def versions(headers: Iterable[Mapping[str, Any]], backends: Iterable[str]) -> list[str]:
    """``RabbitMQ 3.10.8``: of the programs that these backends use; of all, if of none."""
    found = _joined(header.get("versions") for header in headers)
    wanted = tuple({word for name in backends for word in _programs(name)})
    relevant = {name: v for name, v in found.items() if name.lower().startswith(wanted)}
    return [f"{name} {version}" for name, version in (relevant or found).items()]


def _programs(backend: str) -> tuple[str, ...]:
    return next((_PROGRAMS[start] for start in _STARTS if backend.startswith(start)), ())


_STARTS = sorted(_PROGRAMS, key=len, reverse=True)


def _joined(mappings: Iterable[object]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for mapping in mappings:
        if isinstance(mapping, Mapping):
            joined.update({str(key): str(value) for key, value in mapping.items()})
    return joined
