"""The journal: what happened, recorded once, where it happened.

A fact is appended as a plain tuple ``(kind, at, user, incarnation, chat, …)``: the cheapest
thing on the path of a message. Reading gives frozen values (:class:`Sent`,
:class:`Delivered`, …); counts, plots, verdicts and reports are functions of these. On disk a
journal is JSON Lines: a header, then one array a fact.

The order matters: ``Sent`` is recorded before the message leaves, ``Delivered`` before the
acknowledgement. So a message whose fact is missing was not handled, never the reverse.

Fields common to all facts:

- ``at``: seconds since the epoch, by the clock of the process that recorded it;
- ``user``: the user it happened to; for a fault and a drain ``""``;
- ``incarnation``: the life of that user's client, from 1; 0 when it has none;
- ``chat``: the conversation (``private:ana:bob``, ``group:sd``, ``insults``); ``""`` for what
  concerns the user or the lab as a whole.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from chatlab.errors import InvalidInput
from chatlab.messages import Message
from chatlab.tables import Table, card

FORMAT = 1

Row = tuple[Any, ...]


class Record(Protocol):
    """Takes rows: ``("Sent", now(), "ana", 1, "group:sd", message)``, several at once where
    they happen together."""

    def __call__(self, *rows: Row) -> None: ...


#: The clock of facts: seconds since the epoch, the same for all processes of a machine.
now = time.time


@dataclass(frozen=True, slots=True)
class Fact:
    """What every fact says."""

    at: float
    user: str
    incarnation: int
    chat: str


@dataclass(frozen=True, slots=True)
class Sent(Fact):
    """The user handed this message to its client; recorded before it leaves."""

    message: Message


@dataclass(frozen=True, slots=True)
class Confirmed(Fact):
    """Server or broker took responsibility for it; ``waiting`` and ``listeners`` as in
    :class:`chatlab.messages.Receipt`."""

    id: str
    waiting: int | None
    listeners: int | None


@dataclass(frozen=True, slots=True)
class Returned(Fact):
    """It reached nobody: unroutable, or nobody but the sender listens."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed(Fact):
    """It was definitely not accepted."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Uncertain(Fact):
    """Nobody knows whether it was accepted."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Delivered(Fact):
    """``user`` was shown this message; ``redelivered``: handed out before, never acked."""

    message: Message
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Discarded(Fact):
    """A second copy arrived and was not shown."""

    id: str


@dataclass(frozen=True, slots=True)
class Handled(Fact):
    """The work on an insult is done, whether it took time or none."""

    id: str


@dataclass(frozen=True, slots=True)
class Rejected(Fact):
    """The work on an insult failed. ``dead``: it was put with the dead letters, or lost
    where there are none; otherwise it was given back, for the next."""

    id: str
    dead: bool


@dataclass(frozen=True, slots=True)
class Acked(Fact):
    """Its receiver acknowledged it; the store may forget it."""

    id: str


@dataclass(frozen=True, slots=True)
class Reached(Fact):
    """The sender learned that the receiver's client has acknowledged this message, and all
    that the same life of the sender sent in this conversation before it."""

    id: str


@dataclass(frozen=True, slots=True)
class Connected(Fact):
    """``chat`` empty: the user came online (``backend`` empty). Otherwise it now receives
    from (``role`` producer: sends to) that conversation; ``backend`` with its options."""

    backend: str
    role: str


@dataclass(frozen=True, slots=True)
class Disconnected(Fact):
    """The reverse of :class:`Connected`; ``reason`` empty when asked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed(Fact):
    """From now on the conversation's messages are meant for this user; ``first``: also those
    that its log has already. (Left out in older journals.)"""

    backend: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Left(Fact):
    """Unsubscribed for good."""


@dataclass(frozen=True, slots=True)
class Crashed(Fact):
    """The user's client ended without a goodbye."""


@dataclass(frozen=True, slots=True)
class Frozen(Fact):
    """The user's client stopped without ending."""


@dataclass(frozen=True, slots=True)
class Thawed(Fact):
    """A frozen client goes on."""


@dataclass(frozen=True, slots=True)
class FaultBegan(Fact):
    """A fault on a service or link: ``fault`` kill, pause, cut, slow; ``target`` for
    instance ``rabbitmq`` or ``bob-rabbitmq``."""

    fault: str
    target: str


@dataclass(frozen=True, slots=True)
class FaultEnded(Fact):
    """The same fault is over: the service answers again, the link is whole."""

    fault: str
    target: str


@dataclass(frozen=True, slots=True)
class Drained(Fact):
    """``lab.settle`` looked: so many deliveries were still due, to whoever is there or away
    (0: nothing was left anywhere)."""

    waiting: int


@dataclass(frozen=True, slots=True)
class Listed(Fact):
    """Somebody asked who is there: discovery, by this way, named these users."""

    way: str
    names: list[str]


KINDS: dict[str, type[Fact]] = {
    kind.__name__: kind
    for kind in (
        *(Sent, Confirmed, Returned, Failed, Uncertain),
        *(Delivered, Discarded, Handled, Rejected, Acked, Reached),
        *(Connected, Disconnected, Subscribed, Left, Crashed, Frozen, Thawed),
        *(FaultBegan, FaultEnded, Drained, Listed),
    )
}
_WIDTH = {name: len(fields(kind)) + 1 for name, kind in KINDS.items()}
#: How many of these fields an older journal may lack.
_NEWER = {"Subscribed": 1}

F = TypeVar("F", bound=Fact)


class Journal:
    """An append-only list of facts with a header.

    ``append`` takes any number of rows and may be called from any thread (extending a list by
    a tuple is atomic in CPython); rows of one process are in the order of what happened there.
    """

    def __init__(self, rows: Iterable[Row] = (), **header: Any) -> None:
        self.rows: list[Row] = list(rows)
        #: Free facts about the run: ``tier``, ``versions``, ``lab``, ``scene``, ``settings``.
        self.header: dict[str, Any] = header
        self.append: Record = self._extend

    def _extend(self, *rows: Row) -> None:
        self.rows.extend(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Fact]:
        return self.facts()

    def facts(self, *kinds: type[F]) -> Iterator[F]:
        """The facts in order; with ``kinds``, only these."""
        wanted = {name for name, kind in KINDS.items() if issubclass(kind, kinds or Fact)}
        for row in self.rows[:]:
            if row[0] in wanted:
                yield cast(F, KINDS[row[0]](*row[1:]))

    def counts(self) -> dict[str, int]:
        """How many facts of each kind, in the order of :data:`KINDS`."""
        found = Counter(row[0] for row in self.rows[:])
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def merged(self, *others: Journal) -> Journal:
        """One journal of several processes: by time, each process's own order kept."""
        streams: dict[tuple[Any, ...], list[Row]] = {}
        for number, journal in enumerate((self, *others)):
            for row in journal.rows[:]:
                streams.setdefault((number, row[2], row[3]), []).append(row)
        # A stable sort on a clock that never goes back within a stream keeps its order.
        rows: list[tuple[float, Row]] = []
        for stream in streams.values():
            latest = 0.0
            for row in stream:
                latest = max(latest, row[1])
                rows.append((latest, row))
        rows.sort(key=lambda entry: entry[0])
        return Journal((row for _, row in rows), **self.header)

    def save(self, path: Path | str) -> Path:
        """Write as JSON Lines, a header first. Returns the path."""
        path = Path(path)
        header = {"chatlab-journal": FORMAT, **self.header}
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(header, ensure_ascii=False, default=str) + "\n")
            file.writelines(encode(row) + "\n" for row in self.rows[:])
        return path

    @classmethod
    def load(cls, path: Path | str) -> Journal:
        """Read what :meth:`save` wrote, or a process that was killed while it wrote: a
        last line that is not complete is left out.

        Raises:
            InvalidInput: not a journal, another format, or a damaged line; names the line.
        """
        path = Path(path)
        journal = cls()
        with path.open("rb") as file:
            try:
                journal.header = json.loads(next(file, b""))
                version = journal.header.pop("chatlab-journal")
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise InvalidInput(f"{path} is not a chatlab journal.") from error
            if version != FORMAT:
                raise InvalidInput(f"{path} has journal format {version}, not {FORMAT}.")
            for number, line in enumerate(file, 2):
                try:
                    journal.append(decode(line))
                except InvalidInput as error:
                    if not line.endswith(b"\n"):
                        break
                    raise InvalidInput(f"{path}, line {number}: {error.what}") from error
        return journal

    def table(self) -> Table:
        """One row a fact, in order."""
        rows = ({"kind": type(fact).__name__, **_as_dict(fact)} for fact in self)
        return Table(rows, f"journal of {len(self)} facts")

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {kind}" for kind, number in self.counts().items())
        return f"<Journal of {len(self)} facts: {counts or 'none'}>"

    def _repr_html_(self) -> str:
        return card(f"journal of {len(self)} facts", self.counts())


def encode(row: Row) -> str:
    """One row as a JSON line without its end."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def decode(line: str | bytes) -> Row:
    """The row that :func:`encode` wrote.

    Raises:
        InvalidInput: not JSON, an unknown kind, or the wrong number of fields.
    """
    try:
        row = json.loads(line)
        kind = row[0]
        if not 0 <= _WIDTH[kind] - len(row) <= _NEWER.get(kind, 0):
            raise InvalidInput(f"a {kind} has {_WIDTH[kind]} fields, not {len(row)}.")
        if kind in ("Sent", "Delivered"):
            row[5] = Message(*row[5])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"no fact: {str(line)[:60]!r}.") from error
    return tuple(row)


def _as_dict(fact: Fact) -> dict[str, Any]:
    values = {f.name: getattr(fact, f.name) for f in fields(fact)}
    message = values.pop("message", None)
    if message is None:
        return values
    return {**message._asdict(), "life": message.incarnation, **values}
