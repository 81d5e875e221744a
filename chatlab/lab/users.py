"""User: the face of one simulated person. One line per verb; the real code is in ``seat``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from chatlab import messages as m
from chatlab.backends import PRIVATE
from chatlab.discovery import WAYS, Presences
from chatlab.errors import ChatClosed, InvalidInput, NotPossible
from chatlab.groups import guarantees as of_groups
from chatlab.insults import guarantees as of_insults
from chatlab.lab.chats import GroupChat, InsultChannel, PrivateChat, check_options
from chatlab.lab.seat import Membership, Seat, member_chat
from chatlab.tables import card

if TYPE_CHECKING:
    from chatlab.lab.lab import Lab

#: The private backends there are, the default first.
PRIVATE_BACKENDS = tuple(PRIVATE)


class User:
    """A simulated person in a lab. Made by ``lab.user(name)``; online at first."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        #: The account's name.
        self.name = name

    @property
    def _seat(self) -> Seat:
        """The user's place in the current scene."""
        return self.lab._seats[self.name]

    @property
    def where(self) -> str:
        """``online``, ``offline``, ``crashed`` or ``frozen``."""
        return self._seat.where

    @property
    def incarnation(self) -> int:
        """Which life of its client this is, from 1."""
        return self._seat.incarnation

    @property
    def conversations(self) -> list[str]:
        """What the user has open in this scene, or was written to, the newest last; as the
        journal names them."""
        return list(self._seat.inboxes)

    # -- coming and going

    def online(self) -> User:
        """Come (back) online; what was open is opened again. Idempotent."""
        self.lab._call(self._seat.online())
        return self

    def offline(self) -> User:
        """Go offline with a goodbye. Idempotent."""
        self.lab._call(self._seat.offline())
        return self

    def crash(self) -> User:
        """End without a goodbye; :meth:`online` begins a new incarnation."""
        self.lab._call(self._seat.crash())
        return self

    def freeze(self) -> User:
        """Stop without ending, as a hung process does."""
        self.lab._call(self._seat.freeze())
        return self

    def thaw(self) -> User:
        """Go on after :meth:`freeze`."""
        self.lab._call(self._seat.thaw())
        return self

    def second_window(self) -> User:
        """Open a second client with the account's secret while the first is there: it takes
        the name over, and the first one ends when it is told."""
        self.lab._call(self._seat.second_window())
        return self

    @contextmanager
    def away(self) -> Iterator[User]:
        """``with bob.away():`` offline inside, online again after."""
        self.offline()
        try:
            yield self
        finally:
            self.online()

    @contextmanager
    def frozen(self) -> Iterator[User]:
        """``with bob.frozen():`` frozen inside, going on after."""
        self.freeze()
        try:
            yield self
        finally:
            self.thaw()

    def refuse_chats(self, why: str) -> User:
        """Refuse direct chats from now on; callers are told why. Idempotent."""
        return self._refuse(m.check_body(why))

    def accept_chats(self) -> User:
        """Accept direct chats again (as at first). Idempotent."""
        return self._refuse("")

    def _refuse(self, why: str) -> User:
        self.lab._call(self._seat.do("refuse", why=why))
        self._seat.refusal = why
        return self

    # -- conversations

    def private_chat(self, peer: str | User, backend: str = PRIVATE_BACKENDS[0]) -> PrivateChat:
        """A handle on the conversation with ``peer``.

        Raises:
            InvalidInput: an unknown backend, a name that cannot be, or oneself.
        """
        name = m.check_name(peer.name if isinstance(peer, User) else peer)
        if name == self.name:
            raise InvalidInput("A private chat has two ends; this is the same user twice.")
        if backend not in PRIVATE_BACKENDS:
            raise InvalidInput(
                f"There is no private backend {backend!r}.",
                todo=f"There are: {', '.join(PRIVATE_BACKENDS)}.",
            )
        self.lab._open_mailboxes(backend)
        return PrivateChat(self, m.private(self.name, name), name, backend)

    def subscribe(self, group: str, backend: str | None = None) -> GroupChat:
        """Subscribe to a group: queue and binding exist from now on, nothing is read yet.
        The first subscription creates the group with its backend.

        Raises:
            BackendMismatch: it exists with another backend.
            InvalidInput: an unknown backend or a name that cannot be.
        """
        return self._group(group, backend).subscribe()

    def join(self, group: str, backend: str | None = None) -> GroupChat:
        """:meth:`subscribe` and connect: messages are read as they come."""
        return self.subscribe(group, backend).connect()

    def group(self, group: str) -> GroupChat:
        """The handle on a group that exists; without a subscription it can only send.

        Raises:
            ChatClosed: there is no such group.
        """
        name = m.check_name(group, "group name")
        if name not in self._seat.groups and not self.lab._call(self.lab._has_group(name)):
            raise ChatClosed(
                f"There is no group {name}.", todo=f'{self.name}.join("{name}") creates it.'
            )
        return self._group(name, None)

    def _group(self, group: str, backend: str | None) -> GroupChat:
        chat = member_chat(group)
        name = chat.partition(":")[2]
        if self._seat.process:
            self._refuse_memory(name, backend)
        found = self.lab._call(self._seat.do("group", name=name, backend=backend))
        if of_groups(found).tier == "stand-in":
            self.lab.current.journal.header["tier"] = "stand-in"
        if name not in self._seat.groups:
            self._seat.groups[name] = Membership(found)
            self._seat.inbox(chat).resume()
        return GroupChat(self, chat, name, found)

    def _refuse_memory(self, group: str, backend: str | None) -> None:
        """A process of its own cannot take part in what is in this one's memory."""
        found = backend or self.lab._call(self.lab._group_backend(group)) or ""
        if found.partition(":")[0] == "memory":
            raise NotPossible(
                f"{self.name} is a process of its own; the group {group} ({found}) is in "
                "the memory of this one.",
                todo="Use a backend with a broker, redis-stream for instance.",
            )

    def insults(
        self,
        role: Literal["both", "producer", "consumer"] = "both",
        *,
        backend: str | None = None,
        prefetch: int | None = None,
        ack: Literal["manual", "auto"] | None = None,
        work: float | None = None,
        fails_on: str | None = None,
    ) -> InsultChannel:
        """Take part in the insult channel; calling it again changes role and options.

        Args:
            role: sends, listens or both.
            backend: ``rabbitmq`` (of a new channel when left out), ``rabbitmq-not-me``,
                ``redis-list``, ``redis-stream``, ``memory`` or ``as-reported``, with
                options: ``rabbitmq:prefetch=10,ack=auto,work=0.05``. All of a scene's
                channel have one backend, that of its first member.
            prefetch: unacknowledged insults that are handed out at once (1); 0: no limit.
            ack: ``manual`` (the default) acknowledges after the work; ``auto`` on arrival.
            work: seconds of work per insult (0).
            fails_on: the work on an insult with this word in it fails; after five
                deliveries it is a dead letter.

        Raises:
            InvalidInput: an unknown backend, an option it does not have, or a wrong value.
            BackendMismatch: the scene's channel has another backend; both are named.
            NotPossible: the backend takes no more members.
        """
        options = check_options(role, prefetch, ack, work) | {"fails_on": fails_on}
        found = self.lab._call(self._seat.do("insults", backend=backend, **options))
        if of_insults(found).tier != "real":
            self.lab.journal.header["tier"] = of_insults(found).tier
        self._seat.insults = {"role": role, "backend": found}
        self._seat.inbox(m.INSULTS).resume()
        return InsultChannel(self, m.INSULTS, m.INSULTS, found)

    # -- who is there

    def discover(self, via: str = WAYS[0], timeout: float | None = None) -> Presences:
        """Who and what is there, asked by this user: as :meth:`Lab.discover`, by its own
        links."""
        work = self._seat.do("discover", via=via, **timed(timeout))
        return Presences.unpacked(self.lab._call(work))

    # -- looks

    def __repr__(self) -> str:
        return f"<User {self.name}: {self.where}>"

    def _repr_html_(self) -> str:
        seat = self._seat
        return card(
            f"user {self.name}",
            {
                "where": self.where,
                "incarnation": self.incarnation,
                "process of its own": "yes" if seat.process else None,
                "conversations": [m.title(chat) for chat in seat.inboxes],
            },
        )


def timed(timeout: float | None) -> dict[str, float]:
    """The option of a way of asking, where one was given."""
    return {} if timeout is None else {"timeout": timeout}
