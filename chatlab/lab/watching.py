"""Watch: who comes and leaves, as a cell follows it.

Synchronous and thread-safe. A follower on the background loop feeds it; reading and waiting
need no hop through the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from chatlab.discovery import Change, Changes, Inquirer, Presences
from chatlab.discovery.watching import Follower, What
from chatlab.errors import ChatlabError, InvalidInput, LabClosed, NotPossible, WaitTimeout
from chatlab.lab.chats import WAIT_SECONDS
from chatlab.tables import card

if TYPE_CHECKING:
    from chatlab.lab.lab import Lab

T = TypeVar("T")

#: The newest changes that are kept.
KEPT_CHANGES = 10_000


class Watch:
    """What changes in who is there. Made by :meth:`Lab.watch`; close it, or use ``with``.

    ``next``, ``wait_for`` and ``follow`` share one place in the changes: each goes on after
    what the others gave. Once closed, what is unread can still be read.
    """

    def __init__(
        self, lab: Lab, via: str, on_change: Callable[[Change], object] | None
    ) -> None:
        self.via = via
        self._lab = lab
        self._on_change = on_change
        self._follower: Follower | None = None
        self._now = Presences(via=via)
        self._changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        #: How many there were, and how many of them have been read.
        self._count = self._read = 0
        self._ended: ChatlabError | None = None
        self._condition = threading.Condition()

    # -- reading

    @property
    def now(self) -> Presences:
        """Who is there, as it was learned last."""
        return self._now

    @property
    def changes(self) -> Changes:
        """All changes so far, oldest first; at most the newest 10,000 are kept."""
        with self._condition:
            return Changes(self._changes)

    def next(self, timeout: float = WAIT_SECONDS) -> Change:
        """The next unread change.

        Raises:
            WaitTimeout: none came within ``timeout`` seconds.
            LabClosed, NotPossible: the lab or this watch was closed.
        """
        return self._wait(lambda change: True, timeout, "Nothing changed")

    def wait_for(self, name: str, what: What, timeout: float = WAIT_SECONDS) -> Change:
        """The first unread change of this kind: ``wait_for("bob", "left")``. Those before it
        count as read.

        Args:
            name: the user, or of ``began`` and ``ended`` the group.
            what: ``came``, ``left``, ``joined``, ``parted``, ``began`` or ``ended``.

        Raises:
            InvalidInput: there is no such kind.
            WaitTimeout, LabClosed, NotPossible: as :meth:`next`.
        """
        if what not in get_args(What):
            raise InvalidInput(f"{what!r} is none of {', '.join(get_args(What))}.")
        return self._wait(
            lambda change: (change.name, change.what) == (name, what),
            timeout,
            f"It was not seen that {name} {what}",
        )

    def follow(self, seconds: float = WAIT_SECONDS) -> Iterator[Change]:
        """Unread changes as they come, for so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                yield self.next(timeout=left)
            except WaitTimeout:
                return

    def _wait(self, wanted: Callable[[Change], bool], timeout: float, missing: str) -> Change:
        deadline = time.monotonic() + timeout
        seen = self._read
        with self._condition:
            while True:
                oldest = self._count - len(self._changes)
                seen = max(seen, oldest, self._read)
                for change in islice(self._changes, seen - oldest, None):
                    seen += 1
                    if wanted(change):
                        self._read = seen
                        return change
                if self._ended is not None:
                    raise self._ended
                if (left := deadline - time.monotonic()) <= 0:
                    raise WaitTimeout(
                        f"{missing} within {timeout:g} s, by {self.via}.",
                        todo="Wait longer (timeout=…), or see what came: watch.changes.",
                    )
                self._condition.wait(left)

    # -- beginning and end

    async def _begin(self, inquirer: Inquirer) -> None:
        self._follower = Follower(await inquirer.source(self.via), self._tell)
        await self._follower.open()
        self._lab._watches.append(self)

    def _tell(self, found: Presences, changes: list[Change]) -> None:
        with self._condition:
            self._now = found
            self._changes += changes
            self._count += len(changes)
            self._condition.notify_all()
        if self._on_change is not None:
            for change in changes:  # what goes wrong in it is the loop's to report
                asyncio.get_running_loop().call_soon(self._on_change, change)

    async def _end(self, why: ChatlabError) -> None:
        if self not in self._lab._watches:
            return
        self._lab._watches.remove(self)
        if self._follower is not None:
            await self._follower.close()
        with self._condition:
            self._ended = why
            self._condition.notify_all()

    def close(self) -> None:
        """Watch no more. Idempotent; after the lab's end it does nothing."""
        why = NotPossible("This watch has been closed.", todo="Begin another: lab.watch().")
        with contextlib.suppress(LabClosed):  # then it has ended, too
            self._lab._call(self._end(why))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- looks

    def __repr__(self) -> str:
        return f"<Watch of {self._lab.name} by {self.via}: {self._words()}>"

    def _repr_html_(self) -> str:
        facts: dict[str, Any] = {"by": self.via, "so far": self._words()}
        return card(f"watch of {self._lab.name}", facts) + self.changes._repr_html_()

    def _words(self) -> str:
        closed = ", closed" if self._ended else ""
        return f"{self._count:,} changes{closed}"
