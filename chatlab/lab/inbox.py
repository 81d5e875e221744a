"""Inbox: what one user has seen of one conversation, and waiting for more of it.

Fed with facts on the background loop (:meth:`Inbox.feed`); read and waited on from cells.
Waiting needs no hop through the loop. What a cell waits for is looked for where messages
are fed, so that a cell that waits for the last of thousands is woken once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from chatlab.errors import ChatlabError
from chatlab.messages import Message

T = TypeVar("T")

#: Facts that an inbox takes.
FED = frozenset({"Sent", "Failed", "Uncertain", "Delivered", "Reached"})


class Inbox:
    """Messages of one user in one conversation, in the order in which it saw them."""

    def __init__(self, user: str) -> None:
        self.user = user
        #: What was shown to the user, its own copies in a group included.
        self.received: list[Message] = []
        #: Both directions: own messages when sent, others when shown.
        self.messages: list[Message] = []
        #: Why nothing more will come; None while it may.
        self.ended: ChatlabError | None = None
        self._condition = threading.Condition()
        self._waiters: list[_Waiter[Any]] = []
        #: Ids of own messages that were not accepted, or nobody knows.
        self._lost: set[str] = set()
        #: Ids that the receiver has acknowledged; each stands for those before it, too.
        self._reached: set[str] = set()
        #: Id of an own message that was sent again -> where in ``messages`` it would stand now.
        self._again: dict[str, int] = {}

    def feed(self, kind: str, values: list[Any]) -> None:
        """Take facts of one of the kinds :data:`FED`, of this user and conversation.

        Args:
            values: what each is about: the message, or its id.
        """
        if kind == "Delivered":
            self.received += values
            self.messages += [message for message in values if message.sender != self.user]
        elif kind == "Sent":
            # One of unknown outcome may be sent again.
            again = self._lost.intersection(message.id for message in values)
            self._lost -= again
            # What its receiver acknowledged of later ones, it acknowledged without this one.
            self._again.update(dict.fromkeys(again - self._reached, len(self.messages)))
            self.messages += [message for message in values if message.id not in again]
        elif kind == "Reached":
            self._reached.update(values)
        else:
            self._lost.update(values)
        self._wake()

    def delivered(self) -> list[Message]:
        """Own messages that the receiver is known to have acknowledged: up to the last one of
        each life that it named, without those that were not accepted."""
        last: dict[int, int] = {}
        own = [
            (self._again.get(message.id, index), message)
            for index, message in enumerate(self.messages)
            if message.sender == self.user
        ]
        for index, message in own:
            if message.id in self._reached:
                last[message.incarnation] = max(index, last.get(message.incarnation, -1))
        return [
            message
            for index, message in own
            if index <= last.get(message.incarnation, -1)
            and (message.id not in self._lost or message.id in self._reached)
        ]

    def end(self, why: ChatlabError) -> None:
        """Nothing more will come; whoever waits is told."""
        self.ended = why
        self._wake()

    def resume(self) -> None:
        """There may be more again: the user came back or joined anew."""
        self.ended = None

    def _wake(self) -> None:
        if self._waiters:
            with self._condition:
                found = [waiter.look() for waiter in self._waiters]  # each of them
                if any(found) or self.ended:
                    self._condition.notify_all()

    def wait(self, look: Callable[[], T | None], timeout: float) -> T | None:
        """What ``look`` finds, as soon as it finds it; None after ``timeout`` seconds or
        when nothing more will come. Can be interrupted.

        Args:
            look: called in this thread first, then on the loop whenever something was fed.
        """
        waiter = _Waiter(look)
        if waiter.look() or timeout <= 0:
            return waiter.found
        deadline = time.monotonic() + timeout
        with self._condition:
            self._waiters.append(waiter)  # from here on, feed() looks
            try:
                waiter.look()
                while waiter.found is None and not self.ended:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self._condition.wait(left)
            finally:
                self._waiters.remove(waiter)
        return waiter.found


class _Waiter(Generic[T]):
    """One cell that waits, and what for."""

    def __init__(self, what: Callable[[], T | None]) -> None:
        self.found: T | None = None
        self._what = what

    def look(self) -> bool:
        """Whether it is there."""
        if self.found is None:
            self.found = self._what()
        return self.found is not None
