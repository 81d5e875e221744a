"""Logs: one record a line, for programs or for people, and no secret in any.

A module that logs says what happened as an event, and each fact about it as a field::

    log = logs.of(__name__)
    log.info("claim", user="ana", incarnation=7)

:func:`begin` sends what is logged to standard error, :func:`begin_file` to a file. A program
that reads gets JSON (time in UTC, level, logger, event, the fields, and the traceback as
``exception``), people get words. Either way whatever could end a line or hide text is escaped,
so that no name of a user can forge a record.

Secrets stay out in three ways: fields are numbers and texts that a caller chose, never whole
objects (of another type only its name is written); the secrets of the settings, and those
given to :func:`hide`, are replaced wherever they appear, also in texts of exceptions; so is
what looks like one, because nobody here knows those of the users: the password in a URL, a
session, a random secret of 128 bits or more. Bodies of messages are not logged.

Without :func:`begin` nothing is shown: in a notebook the errors that are raised say it all.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO
from urllib.parse import quote, unquote, urlsplit

from chatlab.errors import InvalidInput
from chatlab.settings import Settings

#: What a field may be.
Field = str | int | float | bool | None
Format = Literal["auto", "json", "text"]

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "text")
#: The libraries below say at least this before it is shown, whatever the level is.
OTHERS_LEVEL = logging.WARNING
#: Longer texts are cut off: in a field, and of a traceback.
FIELD_CHARACTERS = 1_000
EXCEPTION_CHARACTERS = 20_000
HIDDEN = "***"

#: The root of all loggers of chatlab. It is never without a handler: Python would print
#: warnings to whatever cell of a notebook is newest.
_CHATLAB = logging.getLogger("chatlab")
_CHATLAB.addHandler(logging.NullHandler())


class Log:
    """Says what happens in one module. Made by :func:`of`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Field) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Field) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Field) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Field) -> None:
        self._log(logging.ERROR, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, Field]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})


def of(name: str) -> Log:
    """The log of a module: ``logs.of(__name__)``."""
    return Log(name)


def begin(settings: Settings, format: Format = "auto") -> None:
    """Send what is logged to standard error, instead of where it went before.

    Args:
        settings: the level, and secrets to hide.
        format: ``auto`` is words in a terminal, else JSON.

    Raises:
        InvalidInput: no such level or format.
    """
    if format not in FORMATS:
        raise InvalidInput(f"There is no log format {format!r}: {', '.join(FORMATS)}.")
    words = format == "text" or (format == "auto" and sys.stderr.isatty())
    _install(_Lines(lambda: sys.stderr, _in_words if words else _as_json), settings)


def begin_file(settings: Settings, path: Path) -> None:
    """Append what is logged to a file (mode 0600) as JSON, instead of where it went before.

    For a program whose terminal shows something else.

    Raises:
        InvalidInput: no such level, or a file that cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        number = os.open(path, flags, 0o600)
        os.fchmod(number, 0o600)  # one that was there already
        file = os.fdopen(number, "a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InvalidInput(
            f"The log file {path} cannot be written: {error.strerror}.",
            todo="Choose another one.",
        ) from error
    _install(_Lines(lambda: file, _as_json, file), settings)


def end() -> None:
    """Show nothing any more."""
    root = logging.getLogger()
    for handler in _ours():
        root.removeHandler(handler)
        handler.close()


def hide(*secrets: str) -> None:
    """Replace these wherever they would appear from now on."""
    for handler in _ours():
        handler.redaction.add(secrets)


def secrets_of(settings: Settings) -> list[str]:
    """The lab's secret and the passwords in the URLs."""
    found = [settings.lab_secret]
    for url in (settings.rabbitmq_url, settings.management_url, settings.redis_url):
        with suppress(ValueError):  # no URL: said where it is used
            password = urlsplit(url).password or ""
            found += [password, unquote(password)]
    return [secret for secret in found if secret]


def is_json() -> bool:
    """Whether what goes to standard error is read by a program."""
    return any(handler.render is _as_json for handler in _ours())


def _install(handler: _Lines, settings: Settings) -> None:
    if settings.log_level not in LEVELS:
        handler.close()
        raise InvalidInput(
            f"There is no log level {settings.log_level!r}.",
            todo=f"There are: {', '.join(LEVELS)}.",
        )
    handler.redaction.add(secrets_of(settings))
    end()
    level = getattr(logging, settings.log_level.upper())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(max(level, OTHERS_LEVEL))
    _CHATLAB.setLevel(level)


def _ours() -> list[_Lines]:
    return [one for one in logging.getLogger().handlers if isinstance(one, _Lines)]


# -- what must not be seen


class Redaction:
    """Replaces secrets in texts."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def add(self, secrets: Iterable[str]) -> None:
        """These, too, in all forms in which a text may hold them."""
        for secret in filter(None, secrets):
            self._forms |= _forms(secret)
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._known = (
            re.compile("|".join(map(re.escape, longest_first))) if self._forms else None
        )

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        text = _LAB_URL.sub(rf"\1{HIDDEN}", text)
        text = _PASSWORD.sub(rf"\1{HIDDEN}@", text)
        return _RANDOM.sub(HIDDEN, _SESSION.sub(HIDDEN, text))


#: A lab's URL holds other URLs.
_LAB_URL = re.compile(r"(chatlab://[^\s?]*\?)\S+")
#: The password in a URL, up to the last ``@`` of the word: it may not be quoted.
_PASSWORD = re.compile(r"(\w://[^\s:/@]*:)\S+@")
#: A token of ``chatlab.private.session``.
_SESSION = re.compile(r"\b\d+\.[\w=-]+\.[0-9a-f]{64}\b")
#: A random secret of ours, or of somebody who makes them alike.
_RANDOM = re.compile(r"\b[0-9a-fA-F]{32,}\b")


def _forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode()
    return {
        secret,
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        encoded,
        encoded.rstrip("="),
    }


# -- a record as a line


class _Lines(logging.Handler):
    """Writes records, one a line; never raises."""

    def __init__(
        self,
        out: Callable[[], TextIO],
        render: Callable[[dict[str, Field]], str],
        file: TextIO | None = None,
    ) -> None:
        super().__init__()
        self.redaction = Redaction()
        self.render = render
        self._out = out
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        # Python would print what it cannot format, secrets and all; and when the terminal is
        # gone, there is nobody to tell.
        with suppress(Exception):
            line = self.render(_facts(record, self.redaction))
            out = self._out()
            out.write(line + "\n")
            out.flush()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        super().close()


def _facts(record: logging.LogRecord, clean: Redaction) -> dict[str, Field]:
    """What a record says, secrets replaced."""
    facts: dict[str, Field] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": _field(record.getMessage(), clean),
    }
    for name, value in getattr(record, "fields", {}).items():
        facts.setdefault(name, _field(value, clean))
    if record.exc_info:
        text = clean(logging.Formatter().formatException(record.exc_info))
        facts["exception"] = _cut(text, EXCEPTION_CHARACTERS)
    return facts


def _field(value: object, clean: Redaction) -> Field:
    match value:
        case bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _cut(clean(value), FIELD_CHARACTERS)
        case _:
            return f"<{type(value).__name__}>"


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def _as_json(facts: dict[str, Field]) -> str:
    return json.dumps(facts)  # ASCII only: every control character is escaped


def _in_words(facts: dict[str, Field]) -> str:
    rest = dict(facts)
    head = [str(rest.pop(name)) for name in ("time", "level", "logger", "event")]
    words = [f"{name}={_word(value)}" for name, value in rest.items()]
    return " ".join([*map(_visible, head), *words])


def _word(value: Field) -> str:
    """A value as one word, or in quotation marks."""
    text = value if isinstance(value, str) else json.dumps(value)
    if not _PLAIN.fullmatch(text):
        text = json.dumps(text, ensure_ascii=False)
    return _visible(text)


_PLAIN = re.compile(r"[\w.:/@+*<>()\[\]%-]+")


def _visible(text: str) -> str:
    """With everything escaped that is not to be seen, line ends and directions included."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
