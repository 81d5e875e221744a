"""Groups in the memory of one process (``memory``): a stand-in for a durable broker.

The log and cursors of :mod:`chatlab.groups.log` in plain Python: for unit tests, and as the
baseline that shows what a broker costs. All clients of one event loop and lab meet in one
:class:`Hub`; who runs in another process cannot, and is refused by name. It has the fate of
its process: faults on links and brokers do not touch it, and when the kernel ends, all is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from chatlab.client import Life
from chatlab.errors import ChatClosed, NotPossible, Taken
from chatlab.groups.handle import Answer
from chatlab.groups.log import Limits, LogMember, Page, full_reason
from chatlab.messages import Message, size_of


class _Subscriber:
    """One user in one group."""

    def __init__(self, cursor: int) -> None:
        self.cursor = self.handed = cursor
        self.again = 0
        self.life = 0
        self.hold: MemoryLog | None = None


class _Group:
    """The log of one group; ``log[0]`` has the number ``first``."""

    def __init__(self) -> None:
        self.log: list[Message] = []
        self.first = 1
        self.bytes = 0
        self.ids: set[str] = set()
        self.subscribers: dict[str, _Subscriber] = {}

    @property
    def last(self) -> int:
        return self.first + len(self.log) - 1

    @property
    def lowest(self) -> tuple[int, str]:
        """The lowest cursor, and whose it is."""
        return min((one.cursor, name) for name, one in self.subscribers.items())

    def trim(self, limits: Limits, drop: int = 0) -> None:
        """Forget ``drop`` messages, and of what all have acknowledged what is too much."""
        behind = self.lowest[0] - self.first + 1
        gone = 0
        while gone < drop or (
            gone < behind
            and (behind - gone > limits.history_messages or self.bytes > limits.history_bytes)
        ):
            message = self.log[gone]
            self.ids.discard(_key(message))
            self.bytes -= size_of(message.body)
            gone += 1
        if gone:
            del self.log[:gone]
            self.first += gone


def _key(message: Message) -> str:
    return f"{message.sender}/{message.id}"


class Hub:
    """The groups of one lab on one event loop."""

    def __init__(self) -> None:
        self.groups: dict[str, _Group] = {}

    def members(self, group: str) -> set[str]:
        """Its subscribers."""
        return set(self.groups[group].subscribers) if group in self.groups else set()

    def forget(self) -> None:
        """Forget all groups; who still receives is told that they are gone."""
        groups, self.groups = self.groups, {}
        for group in groups.values():
            for one in group.subscribers.values():
                if one.hold is not None:
                    one.hold.wake()


_HUBS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hub]] = WeakKeyDictionary()


def hub(lab: str) -> Hub:
    """The hub of this lab on the running loop."""
    return _HUBS.setdefault(asyncio.get_running_loop(), {}).setdefault(lab, Hub())


class MemoryLog:
    """The log of one group, as one life of a user works with it."""

    def __init__(self, life: Life, group: str, maxlen: int = 0) -> None:
        self.limits = Limits()
        self.hub = hub(life.lab)
        self._life = life
        self._group = group
        self._maxlen = maxlen
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something new."""
        self._news.set()

    def _mine(self) -> _Subscriber | None:
        group = self.hub.groups.get(self._group)
        one = group.subscribers.get(self._life.user) if group else None
        if one is not None and one.life > self._life.incarnation:
            raise Taken(f"A newer client of {self._life.user} took over.")
        return one

    async def subscribe(self) -> None:
        one = self._mine()
        if one is None:
            group = self.hub.groups.setdefault(self._group, _Group())
            if len(group.subscribers) >= self.limits.members:
                raise NotPossible(
                    f"The group {self._group} has {self.limits.members:,} members, "
                    "which is the limit."
                )
            one = group.subscribers[self._life.user] = _Subscriber(group.last)
        one.life = self._life.incarnation

    async def attach(self) -> int | None:
        one = self._mine()
        if one is None:
            return None
        old, one.hold = one.hold, self
        one.life, one.again = self._life.incarnation, one.handed
        if old is not None:
            old.wake()
        return one.cursor

    async def take(self, shown: int, count: int) -> Page:
        self._news.clear()
        one = self._mine()
        if one is None:
            raise ChatClosed(f"The messages of {self._group} were deleted.")
        if one.hold is not self:
            raise Taken(f"A newer client of {self._life.user} took over.")
        group = self.hub.groups[self._group]
        one.cursor = max(one.cursor, shown)
        group.trim(self.limits)
        if not count:
            return Page([], shown)
        start = max(shown, group.first - 1)
        one.cursor = max(one.cursor, start)
        begin = start - group.first + 1
        messages = group.log[begin : begin + count]
        last = start + len(messages)
        one.handed = max(one.handed, last)
        return Page(messages, last, max(0, min(last, one.again) - start), start - shown)

    async def wait(self) -> None:
        await self._news.wait()

    def stop(self) -> None:
        self.wake()

    async def detach(self) -> None:
        self.drop()

    async def leave(self) -> None:
        if self._mine() is not None:
            group = self.hub.groups[self._group]
            del group.subscribers[self._life.user]
            if group.subscribers:
                group.trim(self.limits)
            else:
                del self.hub.groups[self._group]

    async def append(self, batch: Sequence[Message]) -> Answer:
        group = self.hub.groups.get(self._group)
        if group is None:
            return Answer(0, 0, nobody=True)
        refused = {}
        for index, message in enumerate(batch):
            if _key(message) not in group.ids and (why := self._add(group, message)):
                refused[index] = why
        listeners = waiting = others = 0
        for name, one in group.subscribers.items():
            if one.hold is not None:
                one.hold.wake()
            if name != self._life.user:
                others += 1
                if one.hold is not None:
                    listeners += 1
                else:
                    waiting += group.last - max(one.cursor, group.first - 1)
        return Answer(listeners, waiting, nobody=not others, refused=refused)

    def _add(self, group: _Group, message: Message) -> str:
        """Append if there is room; otherwise why not."""
        size, (cursor, behind) = size_of(message.body), group.lowest
        full = not self._maxlen and group.last - cursor >= self.limits.messages
        if full or group.bytes + size > self.limits.bytes:
            return full_reason(self._group, self.limits, behind, by_bytes=not full)
        group.log.append(message)
        group.ids.add(_key(message))
        group.bytes += size
        group.trim(self.limits, len(group.log) - self._maxlen if self._maxlen else 0)
        return ""

    def drop(self) -> None:
        """As a broker sees a lost connection: it holds nothing any more."""
        group = self.hub.groups.get(self._group)
        one = group.subscribers.get(self._life.user) if group else None
        if one is not None and one.hold is self:
            one.hold = None


class MemoryMember(LogMember):
    """One user's handle on a group in memory."""

    _open = MemoryLog
    _log: MemoryLog

    async def _enrol(self) -> None:
        await self._meet()
        await super()._enrol()

    async def _post(self, batch: Sequence[Message]) -> Answer:
        if not self._log.hub.members(self.group):
            await self._meet()
        return await super()._post(batch)

    async def _meet(self) -> None:
        """Are all its members in this process?

        Raises:
            NotPossible: some are not; they are named.
        """
        known = {*self._log.hub.members(self.group), self._life.user}
        strangers = (await self._registry.group_members(self.group)).keys() - known
        if strangers:
            raise NotPossible(
                f"The group {self.group} is in the memory of another process, with "
                f"{', '.join(sorted(strangers)[:5])}; {self._life.user} cannot reach it.",
                todo="Use a backend with a broker, redis-stream for instance.",
            )
