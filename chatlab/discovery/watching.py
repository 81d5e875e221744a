"""Following live who is there: what changes, as the difference of two answers.

A :class:`Source` says when to look again, and what is there then; :func:`differences` is the
same for all of them, so all say the same. Told by the broker's events, a look is one into
memory. The name server only hints that something has changed (``PUBLISH`` in its scripts), and
nobody publishes the end of a lease: so it is asked again on a hint, when the first lease can
end, and at least once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from chatlab.backoff import BACKOFF_SECONDS
from chatlab.discovery.broker_events import BrokerView
from chatlab.discovery.presence import Presence, Presences
from chatlab.discovery.redis import CHANGES, Registry
from chatlab.errors import ChatlabError
from chatlab.journal import now
from chatlab.resp import Listener
from chatlab.tables import SHOWN_ROWS, Table, Tabular, html

#: The name server is asked again after so long, whatever was heard, in seconds.
LOOK_SECONDS = 1.0
#: And after so long at least, if a lease can end: renewals are on their way.
LEAST_SECONDS = 0.02
#: A subscription on which nothing was heard for so long is asked whether it still stands.
QUIET_SECONDS = 5.0

What = Literal["came", "left", "joined", "parted", "began", "ended"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed.

    - A user ``came`` online or ``left``. One who is there in another life, or went and came
      between two looks, ``came`` again, without having left.
    - A user ``joined`` a group as a member or ``parted`` from it. A member who is away stays
      one, as long as its queue waits for it.
    - A group ``began`` or ``ended``.
    """

    #: Seconds since the epoch when it was noticed.
    at: float
    what: What
    #: The user's name; of ``began`` and ``ended``: the group's.
    name: str
    #: The group, where it is about one.
    group: str = ""
    #: The user, or else the group, as it is then; what is gone: as it was.
    presence: Presence | None = None


class Changes(Tabular, list[Change]):
    """Changes, oldest first."""

    def _table(self) -> Table:
        return Table(map(_row, self), "who came and left")

    def _repr_html_(self) -> str:
        older = len(self) - SHOWN_ROWS
        more = f" ({older} older not shown)" if older > 0 else ""
        return html([_row(change) for change in self[-SHOWN_ROWS:]], f"who came and left{more}")


def _row(change: Change) -> dict[str, Any]:
    entry = change.presence
    return {
        "at": time.strftime("%H:%M:%S", time.localtime(change.at)),
        "name": change.name,
        "what": change.what,
        "group": change.group,
        "life": entry.incarnation if entry else None,
    }


def differences(before: Iterable[Presence], after: Iterable[Presence]) -> Iterator[Change]:
    """What leads from one answer to the other: groups begin before somebody joins them, and
    end after all have parted."""
    at = now()
    old, new = _users(before), _users(after)
    was, has = _groups(before), _groups(after)
    gone, begun = was.keys() - has.keys(), has.keys() - was.keys()
    for group in sorted(begun):
        yield Change(at, "began", group, group, has[group])
    for name in sorted(new):
        if name not in old or _coming(old[name]) != _coming(new[name]):
            yield Change(at, "came", name, presence=new[name])
    for group in sorted(was.keys() | has.keys()):
        entry = has.get(group) or was[group]
        members, earlier = _members(has.get(group)), _members(was.get(group))
        for name in sorted(members - earlier):
            yield Change(at, "joined", name, group, entry)
        for name in sorted(earlier - members):
            yield Change(at, "parted", name, group, entry)
    for name in sorted(old.keys() - new.keys()):
        yield Change(at, "left", name, presence=old[name])
    for group in sorted(gone):
        yield Change(at, "ended", group, group, was[group])


def _users(answer: Iterable[Presence]) -> dict[str, Presence]:
    return {entry.name: entry for entry in answer if entry.kind == "private"}


def _groups(answer: Iterable[Presence]) -> dict[str, Presence]:
    return {entry.name: entry for entry in answer if entry.kind == "group"}


def _coming(entry: Presence) -> tuple[int | None, float | None]:
    """Differs between one time somebody came and another."""
    return entry.incarnation, entry.since


def _members(group: Presence | None) -> set[str]:
    return {*group.members, *group.away} if group else set()


class Source(Protocol):
    """A way of knowing who is there, and when to look again."""

    async def look(self) -> Presences:
        """Who is there now; raises ChatlabError when that cannot be known now."""
        ...

    async def news(self, seen: Presences) -> None:
        """Wait until there may be another answer than ``seen``, the last one."""

    async def close(self) -> None:
        """Look no more."""


class BrokerSource:
    """By RabbitMQ's events.

    Args:
        view: an open one; it is not closed here.
    """

    def __init__(self, view: BrokerView) -> None:
        self._view = view
        self._version = 0

    async def look(self) -> Presences:
        """What the view has."""
        self._version = self._view.version
        return self._view.presences()

    async def news(self, seen: Presences) -> None:
        """The next event; with what asking anew told, after a lost connection."""
        await self._view.changed(self._version)

    async def close(self) -> None:
        """The view is the lab's."""


class RegistrySource:
    """By the name server, asked again on a hint and when a lease can end."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._hint = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        #: Whether hints are heard now.
        self.subscribed = False

    async def look(self) -> Presences:
        """Ask."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="registry hints")
        self._hint.clear()
        return await self._registry.discover()

    async def news(self, seen: Presences) -> None:
        """A hint, or that it is time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience(seen)):
                await self._hint.wait()

    def _patience(self, seen: Presences) -> float:
        """How long until the first lease can end, within bounds. How long ago a user was
        heard of is its age."""
        lease = self._registry.lease_seconds
        ends = [lease - entry.age for entry in seen if entry.kind == "private"]
        return max(min([*ends, LOOK_SECONDS]), LEAST_SECONDS)

    async def _listen(self) -> None:
        """Pass on hints; a lost subscription is made again, and is a hint itself."""
        redis = self._registry.redis
        pause, longest = BACKOFF_SECONDS
        while True:
            listener = Listener(redis, QUIET_SECONDS)
            try:
                await listener.open([redis.key(CHANGES)])
                self.subscribed = True
                pause = BACKOFF_SECONDS[0]
                while True:
                    self._hint.set()
                    await listener.take()
            except ChatlabError:  # meanwhile it is asked once a second
                self.subscribed = False
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            finally:
                listener.close()

    async def close(self) -> None:
        """Unsubscribe."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])


class Follower:
    """Looks whenever its source has news, and tells what is different.

    Args:
        source: closed with this.
        tell: called on the loop with each answer and what is new in it (often nothing).
    """

    def __init__(self, source: Source, tell: Callable[[Presences, list[Change]], None]) -> None:
        self._source = source
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Look once; follow from then on.

        Raises:
            ServiceUnavailable: who is there cannot be known now.
        """
        try:
            seen = await self._source.look()
        except BaseException:
            await self._source.close()
            raise
        self._tell(seen, [])
        self._task = asyncio.create_task(self._follow(seen), name="watch")

    async def _follow(self, seen: Presences) -> None:
        while True:
            await self._source.news(seen)
            found = await self._look()
            self._tell(found, list(differences(seen, found)))
            seen = found

    async def _look(self) -> Presences:
        """What is there, once the source can say; meanwhile nothing is known to change."""
        pause = BACKOFF_SECONDS[0]
        while True:
            try:
                return await self._source.look()
            except ChatlabError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LOOK_SECONDS)

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._source.close()
