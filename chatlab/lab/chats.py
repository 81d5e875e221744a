"""Chats: a user's handles on conversations, as a cell uses them.

Synchronous and thread-safe: sending goes through the background loop, reading looks at the
inbox that the journal feeds. A handle belongs to one scene; when the next begins, it still
shows what it received and refuses to send.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from chatlab import errors
from chatlab import messages as m
from chatlab.errors import (
    ChatClosed,
    InvalidInput,
    SendFailed,
    SendUncertain,
    UnknownAccount,
    WaitTimeout,
)
from chatlab.messages import Message, Receipt
from chatlab.tables import Table, card, html

if TYPE_CHECKING:
    from chatlab.lab.users import User

#: Default of every waiting call, in seconds.
WAIT_SECONDS = 5.0
#: A notebook shows so many of a chat's newest messages.
SHOWN_MESSAGES = 8


class Chat:
    """A user's handle on one conversation. Made by the verbs of :class:`User`."""

    def __init__(self, user: User, chat: str, to: str, backend: str) -> None:
        self.user = user
        #: The conversation as the journal names it.
        self.chat = chat
        #: The other user, or the group.
        self.to = to
        self.backend = backend
        self._scene = user.lab.current
        self._seat = user._seat
        self._inbox = self._seat.inbox(chat)
        self._next = 0

    # -- sending

    def send(self, body: str, *, id: str | None = None) -> Receipt:
        """Send one message and wait until server or broker answered for it.

        Args:
            body: 1 byte to 64 KiB of text.
            id: that of a message of unknown outcome: the same message again.

        Raises:
            InvalidInput: a body that cannot be sent.
            SendFailed: it was definitely not accepted; the subclass says why.
            SendUncertain: nobody knows; ``error.receipt.id`` may be sent again.
        """
        (receipt,) = self._send([m.check_body(body)], [id] if id else [])
        return _definite(receipt)

    def send_many(self, bodies: Iterable[str]) -> list[Receipt]:
        """Send in order, pipelined. One receipt a message, failed and uncertain included.

        Raises:
            InvalidInput: a body that cannot be sent; then none was.
            SendFailed: the handle is closed or the user not online; then none was sent.
        """
        return self._send([m.check_body(body) for body in bodies])

    def _send(
        self, bodies: Sequence[str], ids: Sequence[str] = (), **how: Any
    ) -> list[Receipt]:
        self._open()
        work = self._seat.do(
            "send",
            chat=self.chat,
            to=self.to,
            backend=self.backend,
            bodies=list(bodies),
            ids=list(ids),
            **how,
        )
        receipts: list[Receipt] = self.user.lab._call(work)
        return receipts

    def _open(self) -> None:
        if self._scene is not self.user.lab.current:
            raise ChatClosed(
                f"This handle belongs to the scene {self._scene.name!r}, which is over.",
                "Nothing was sent.",
            )
        if (ended := self._inbox.ended) is not None:
            raise type(ended)(ended.what, "Nothing was sent.", ended.todo)

    # -- reading

    @property
    def received(self) -> list[Message]:
        """What the user was shown in this scene, oldest first (in a group: its own too)."""
        return self._inbox.received[:]

    @property
    def messages(self) -> list[Message]:
        """Both directions, in the order in which this user saw them."""
        return self._inbox.messages[:]

    def __len__(self) -> int:
        return len(self._inbox.received)

    def __bool__(self) -> bool:
        return True  # an empty chat is still a chat

    def __iter__(self) -> Iterator[Message]:
        return iter(self.received)

    def next(self, timeout: float = WAIT_SECONDS) -> Message:
        """The next unread message of this handle.

        Raises:
            WaitTimeout: none came within ``timeout`` seconds.
        """
        index = self._next
        received = self._inbox.received
        found = self._inbox.wait(
            lambda: received[index] if len(received) > index else None, timeout
        )
        if found is None:
            raise WaitTimeout(f"No unread message for {self.user.name} in {timeout:g} s.")
        self._next = index + 1
        return found

    def wait(self, n: int, timeout: float = WAIT_SECONDS) -> list[Message]:
        """The first ``n`` messages of this scene, as soon as there are so many.

        Raises:
            WaitTimeout: says how many there are after ``timeout`` seconds.
        """
        received = self._inbox.received
        found = self._inbox.wait(lambda: received[:n] if len(received) >= n else None, timeout)
        if found is None:
            raise WaitTimeout(
                f"{self.user.name} has {len(received)} of {n} messages after {timeout:g} s."
            )
        return found

    def wait_for(self, what: Receipt | Message | str, timeout: float = WAIT_SECONDS) -> Message:
        """The message of this receipt (or with this id), as soon as the user sees it.

        Raises:
            WaitTimeout: after ``timeout`` seconds; says where the message is.
        """
        id = what if isinstance(what, str) else what.id
        seen = 0

        def look() -> Message | None:
            nonlocal seen
            received = self._inbox.received
            while seen < len(received):
                if received[seen].id == id:
                    return received[seen]
                seen += 1
            return None

        found = self._inbox.wait(look, timeout)
        if found is None:
            where = self.user.lab._whereabouts(id, self.user.name)
            raise WaitTimeout(
                f"{self.user.name} has not seen message {id} after {timeout:g} s: {where}."
            )
        return found

    def follow(self, seconds: float = WAIT_SECONDS) -> Iterator[Message]:
        """Unread messages as they come, for so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                yield self.next(timeout=left)
            except WaitTimeout:
                return

    # -- looks

    def table(self) -> Table:
        """Both directions as rows: from, body, time."""
        rows = (
            {"from": x.sender, "body": x.body, "at": time.strftime("%H:%M:%S", _local(x))}
            for x in self.messages
        )
        return Table(rows, f"{self.user.name} in {m.title(self.chat)}")

    def __repr__(self) -> str:
        count = len(self._inbox.received)
        return f"<{self.user.name} in {m.title(self.chat)} ({self.backend}): {count} received>"

    def _repr_html_(self) -> str:
        newest = [{"from": x.sender, "message": x.body} for x in self.messages][
            -SHOWN_MESSAGES:
        ]
        more = len(self._inbox.messages) - len(newest)
        older = f", {more} older not shown" if more else ""
        return html(newest, f"{self.user.name} in {m.title(self.chat)} · {self.backend}{older}")


class PrivateChat(Chat):
    """The conversation of two users."""

    @property
    def delivered(self) -> list[Message]:
        """Own messages of this scene that the peer's client has acknowledged, as far as this
        user was told: the receipt of a send says less, that the server has the message."""
        return self._inbox.delivered()

    def wait_delivered(
        self, what: Receipt | Message | str, timeout: float = WAIT_SECONDS
    ) -> Message:
        """The own message of this receipt (or with this id), as soon as the peer's client has
        acknowledged it.

        Raises:
            WaitTimeout: after ``timeout`` seconds; says where the message is.
        """
        id = what if isinstance(what, str) else what.id
        found = self._inbox.wait(
            lambda: next((x for x in self._inbox.delivered() if x.id == id), None), timeout
        )
        if found is None:
            where = self.user.lab._whereabouts(id, self.to)
            raise WaitTimeout(
                f"{self.to} has not acknowledged message {id} after {timeout:g} s: {where}."
            )
        return found

    def history(self, limit: int = 100) -> list[Message]:
        """The conversation so far as the chat server remembers it, oldest first: what this
        user sent, and what it was shown and has acknowledged, in earlier lives of its client
        too; with ``mailbox-redis`` also after a restart of the server.

        Args:
            limit: the newest so many, 1 to 1,000.

        Raises:
            InvalidInput: a limit out of its range.
            NotPossible: nobody remembers it (``direct``, ``as-reported``).
            ServiceUnavailable: the chat server does not answer now.
        """
        found = self._ask("history", peer=self.to, limit=_whole(limit))
        return [Message(*fields) for fields in found]

    def presence(self) -> Whereabouts:
        """Whether the peer receives now, and when it last did, by the chat server's word
        (``direct``: by the name server's).

        Raises:
            UnknownAccount: there is no such user.
            NotPossible, ServiceUnavailable: as :meth:`history`.
        """
        found = self._ask("presence", names=[self.to])
        if not found:
            raise UnknownAccount(f"There is no account {self.to}.", "Nothing was sent.")
        return Whereabouts(*found[0])

    def _ask(self, verb: str, **args: Any) -> Any:
        self._open()
        return self.user.lab._call(self._seat.do(verb, backend=self.backend, **args))


class Whereabouts(NamedTuple):
    """Whether a user receives."""

    name: str
    online: bool
    #: When it last did: seconds since the epoch, by the clock of whoever says so; 0: never.
    last_seen: float

    def __repr__(self) -> str:
        return f"<{self.name}: {self._words()}>"

    def _words(self) -> str:
        if self.online:
            return "online"
        if not self.last_seen:
            return "never seen"
        return f"last seen {time.strftime('%H:%M:%S', time.localtime(self.last_seen))}"

    def _repr_html_(self) -> str:
        return card(f"user {self.name}", {"receives": self._words()})


def _whole(limit: int) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 1_000:
        raise InvalidInput(f"limit is 1 to 1,000, not {limit!r}.")
    return limit


class GroupChat(Chat):
    """A user's handle on a group; a member or, without membership, a sender only."""

    @property
    def subscribed(self) -> bool:
        """Whether the group's messages are meant for this user."""
        return self._seat.groups[self.to].subscribed

    @property
    def connected(self) -> bool:
        """Whether the user receives now."""
        return self._seat.groups[self.to].connected

    def members(self) -> dict[str, bool]:
        """Who is subscribed, by name, and whether each receives now: by the name server, the
        same with every backend. A member that crashed is connected until its lease ends.

        Raises:
            ServiceUnavailable: the name server does not answer now.
        """
        found = self.user.lab._call(self.user.lab._members_of(self.to))
        return dict(sorted(found.items()))

    def subscribe(self) -> GroupChat:
        """Queue and binding exist from now on; nothing is read yet. Idempotent."""
        self._do("subscribe", subscribed=True)
        return self

    def connect(self) -> GroupChat:
        """Read what waits and what comes. Idempotent."""
        if not self.subscribed:
            raise ChatClosed(
                f"{self.user.name} is not subscribed to {self.to}.", todo="subscribe() first."
            )
        self._do("connect", connected=True)
        return self

    def disconnect(self) -> GroupChat:
        """Stop reading. A durable queue stays and collects. Idempotent."""
        if self.connected:
            self._do("disconnect", connected=False)
        return self

    def unsubscribe(self) -> None:
        """Leave for good: queue and binding are deleted. Idempotent."""
        if self.subscribed:
            self._do("unsubscribe", connected=False, subscribed=False)

    def _do(self, verb: str, **after: bool) -> None:
        self._open()
        self.user.lab._call(self._seat.do(verb, name=self.to))
        vars(self._seat.groups[self.to]).update(after)


class InsultChannel(Chat):
    """A user's part in the insult channel."""

    @property
    def role(self) -> str:
        """``both``, ``producer`` or ``consumer``; empty after :meth:`leave`."""
        return str((self._seat.insults or {}).get("role", ""))

    def send(
        self, body: str, *, id: str | None = None, require_listener: bool = False
    ) -> Receipt:
        """Send one insult; without a listener it waits.

        Args:
            body, id: as for every chat.
            require_listener: the receiver must be connected: nobody is, nothing is sent.

        Raises:
            PeerAway: ``require_listener``, and nobody listens.
            InvalidInput, SendFailed, SendUncertain: as for every chat.
        """
        ids = [id] if id else []
        (receipt,) = self._send([m.check_body(body)], ids, require_listener=require_listener)
        if require_listener and receipt.outcome == "unroutable":
            todo = "Send it when somebody listens, or without require_listener: it waits."
            raise _with(errors.PeerAway("Nobody listens to insults now.", "", todo), receipt)
        return _definite(receipt)

    def send_many(
        self, bodies: Iterable[str], *, require_listener: bool = False
    ) -> list[Receipt]:
        """Send in order, pipelined; one receipt each. With ``require_listener`` those that
        nobody is connected for are ``unroutable``."""
        checked = [m.check_body(body) for body in bodies]
        return self._send(checked, require_listener=require_listener)

    def dead_letters(self) -> list[Message]:
        """The insults whose work failed at all of five deliveries, oldest first.

        Raises:
            NotPossible: this backend keeps none.
            ServiceUnavailable: the broker does not answer now.
        """
        self._open()
        found = self.user.lab._call(self._seat.do("dead_letters"))
        return [Message(*fields) for fields in found]

    def _send(
        self, bodies: Sequence[str], ids: Sequence[str] = (), **how: Any
    ) -> list[Receipt]:
        if self.role == "consumer":
            raise errors.NotPossible(
                f"{self.user.name} only listens to insults.",
                todo=f'{self.user.name}.insults(role="both") changes that.',
            )
        return super()._send(bodies, ids, **how)

    def leave(self) -> None:
        """Take part no more. Idempotent."""
        if self._seat.insults is not None:
            self._open()
            self.user.lab._call(self._seat.do("leave_insults"))
            self._seat.insults = None


def check_options(
    role: str, prefetch: int | None, ack: str | None, work: float | None
) -> dict[str, Any]:
    """The options of ``user.insults``; ``None``: as the backend says.

    Raises:
        InvalidInput: an option out of its range, which is named.
    """
    if role not in ("both", "producer", "consumer"):
        raise InvalidInput(f"role {role!r} is none of both, producer, consumer.")
    if ack not in (None, "manual", "auto"):
        raise InvalidInput(f"ack {ack!r} is none of manual, auto.")
    if prefetch is not None and not (isinstance(prefetch, int) and 0 <= prefetch <= 65_535):
        raise InvalidInput(f"prefetch is 0 (no limit) to 65,535, not {prefetch!r}.")
    if work is not None and not (isinstance(work, int | float) and 0 <= work <= 60):
        raise InvalidInput(f"work is 0 to 60 seconds, not {work!r}.")
    return {"role": role, "prefetch": prefetch, "ack": ack, "work": work}


def _definite(receipt: Receipt) -> Receipt:
    """The receipt, or what it says as an error."""
    if receipt.outcome == "failed":
        kind: type[SendFailed] = getattr(errors, receipt.error, SendFailed)
        raise _with(kind(receipt.reason, SendFailed.effect), receipt)
    if receipt.outcome == "uncertain":
        raise _with(SendUncertain(receipt.reason), receipt)
    return receipt


def _with(error: SendFailed | SendUncertain, receipt: Receipt) -> Exception:
    error.receipt = receipt
    return error


def _local(message: Message) -> time.struct_time:
    return time.localtime(message.sent_at)
