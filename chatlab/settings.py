"""Settings: one frozen value, from defaults, a TOML file and the environment.

Order, later wins: the defaults below; a TOML file (``CHATLAB_CONFIG``, else
``chatlab.toml`` in the working directory, else in the user's configuration folder);
environment variables ``CHATLAB_<NAME>``, for instance ``CHATLAB_REDIS_URL``. This is the
only module that reads the environment. Secrets (the URLs may hold passwords, too) are kept
out of ``repr``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from chatlab.errors import InvalidInput

PREFIX = "CHATLAB_"


def _default_folder() -> Path:
    return Path(platformdirs.user_cache_dir("chatlab", appauthor=False))


def _my_folder() -> Path:
    """``my`` beside the notebooks, whose folder a kernel works in."""
    beside = Path("notebooks")
    return ((beside if beside.is_dir() else Path()) / "my").absolute()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that can be set from outside. Times are in seconds."""

    #: AMQP URL of a RabbitMQ of one's own; empty: a private one is started.
    rabbitmq_url: str = field(default="", repr=False)
    #: Management API of that RabbitMQ, for instance ``http://user:secret@host:15672``.
    management_url: str = field(default="", repr=False)
    #: URL of a Redis of one's own; empty: a private one is started.
    redis_url: str = field(default="", repr=False)
    #: Shared by all who use a lab's chat servers; empty: none, which only loopback allows.
    lab_secret: str = field(default="", repr=False)
    #: The only root (PEM) that connections to these brokers trust; empty: the system's.
    authority: str = ""
    #: The lab that ``chatlab server`` and ``chatlab client`` share.
    lab: str = "chat"
    #: These settings came from a server elsewhere (``chatlab server --invite``): the URLs lead
    #: into the namespace of its lab, and nothing is started here.
    invited: bool = False
    #: Where ``chatlab server`` listens: an address of this computer …
    server_host: str = "127.0.0.1"
    #: … and a port, the next three for the doors to the brokers if it is open to other
    #: computers; 0: any free ones.
    server_port: int = 0
    #: Where a client of ``chatlab client`` takes direct calls: an address of this computer.
    client_host: str = "127.0.0.1"
    #: What the log says at least: debug, info, warning, error.
    log_level: str = "warning"
    #: Folder of private brokers, downloaded programs and logs.
    folder: Path = field(default_factory=_default_folder)
    #: What a reader of the course makes: guesses, answers, runs, the report.
    my_folder: Path = field(default_factory=_my_folder)
    #: Whether they are started in the background when Jupyter starts.
    warm: bool = True
    #: The private brokers stop when nobody has held a lease for so long.
    idle_seconds: float = 300.0
    #: A broker that has not started by then has failed.
    start_seconds: float = 90.0
    #: Deadline of a send, a claim, a look-up.
    send_seconds: float = 5.0
    #: A presence that is not renewed disappears after so long.
    lease_seconds: float = 3.0
    #: AMQP heartbeat; a long C call that holds the GIL must fit in (FACTS of the broker).
    heartbeat_seconds: int = 30
    #: gRPC keepalive: ping an idle peer after so long (pings are all that 1,000 idle users cost
    #: a chat server: at 10 s they took over 1 % of a core, at 30 s half a percent) …
    keepalive_seconds: float = 30.0
    #: … and give it up when it has not answered after so long.
    keepalive_timeout_seconds: float = 5.0

    @classmethod
    def load(
        cls, environ: Mapping[str, str] | None = None, file: Path | None = None
    ) -> Settings:
        """Read the TOML file and the environment.

        Raises:
            InvalidInput: a value of the wrong type or not greater than 0, or a file that
                cannot be read or sets what chatlab does not know.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        path = file or _find_file(environ)
        if path is not None:
            values |= _read_file(path)
        for entry in fields(cls):
            text = environ.get(PREFIX + entry.name.upper())
            if text:
                values[entry.name] = text
        return cls.of(values)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """From names and values, texts converted.

        Raises:
            InvalidInput: a value of the wrong type.
        """
        return cls(**{name: _convert(name, value) for name, value in values.items()})

    def as_environ(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        return {PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self)}


def child_environ(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of this process's environment with ``extra`` on top."""
    return {**os.environ, **(extra or {})}


def one_time_token() -> str:
    """The token with which a process that we spawned proves itself; read once."""
    return os.environ.pop(PREFIX + "TOKEN", "")


def default_environ(name: str, value: str) -> None:
    """Set an environment variable of this process unless the user already did."""
    os.environ.setdefault(name, value)


def _find_file(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(PREFIX + "CONFIG")
    if named:
        if not Path(named).is_file():
            raise InvalidInput(f"{PREFIX}CONFIG names {named}, which is no file.")
        return Path(named)
    folder = Path(platformdirs.user_config_dir("chatlab", appauthor=False))
    for path in (Path("chatlab.toml"), folder / "chatlab.toml"):
        if path.is_file():
            return path
    return None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    known = {f.name for f in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InvalidInput(
            f"{path} sets {', '.join(unknown)}, which chatlab does not know.",
            todo=f"Known are: {', '.join(sorted(known))}.",
        )
    return values


def _convert(name: str, value: Any) -> Any:
    """The value as the field's type. The environment has text only, TOML has types."""
    kind = _KINDS[str(next(f for f in fields(Settings) if f.name == name).type)]
    if kind in (str, Path):
        if not isinstance(value, str):  # not shown: it may hold a secret
            raise InvalidInput(f"The setting {name} must be text.")
        return value if kind is str else Path(value).expanduser().absolute()
    if kind is bool:
        return _convert_flag(name, value)
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError("TOML has a type for it")
        number = kind(value)
    except (TypeError, ValueError) as error:
        what = "a whole number" if kind is int else "a number"
        raise InvalidInput(f"The setting {name} must be {what}, not {value!r}.") from error
    if not number > 0 and (number or name not in _MAY_BE_0):
        raise InvalidInput(f"The setting {name} must be greater than 0, not {value!r}.")
    return number


def _convert_flag(name: str, value: Any) -> bool:
    flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = flags.get(str(value).lower())
    if found is None:
        raise InvalidInput(f"The setting {name} must be true or false, not {value!r}.")
    return found


_KINDS: dict[str, type] = {
    "str": str,
    "Path": Path,
    "float": float,
    "int": int,
    "bool": bool,
}
_MAY_BE_0 = ("server_port",)
