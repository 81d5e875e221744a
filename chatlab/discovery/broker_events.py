"""Discovery by the broker's own events: RabbitMQ tells what changes, and nobody asks.

The plugin ``rabbitmq_event_exchange`` publishes what happens in all virtual hosts to the
exchange ``amq.rabbitmq.event`` of the default one. A :class:`BrokerView` has there::

    amq.rabbitmq.event ──binding.*, exchange.*──▶ headers exchange ──vhost = the lab's──▶ queue

so RabbitMQ itself leaves out other labs. A user is there while its presence queue is bound,
and a binding goes with its queue, and the queue with its connection: events of bindings and
of exchanges tell all that :mod:`chatlab.discovery.management` lists. Events of connections
are not needed, and those of queues would mislead: when a queue is declared again at once, the
old one's may come last. A binding says in its arguments whose it is.

What was there before a view began, it asks once of the management API, after it has
subscribed; what came meanwhile is applied on top, which does no harm twice. What it cannot
have seen (its connection was lost, or the bounded queue overflowed) makes it begin anew, with
another such question. Queue and exchanges have names of their own for each connection and go
with it, so that nothing is left, whatever becomes of the view.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chatlab.amqp import Delivery
from chatlab.backoff import BACKOFF_SECONDS
from chatlab.discovery.announcement import announced
from chatlab.discovery.event_feed import Feed
from chatlab.discovery.management import is_group, seen, snapshot
from chatlab.discovery.presence import Presences
from chatlab.errors import ChatlabError, LabClosed
from chatlab.journal import now
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management
from chatlab.services.namespaces import EVENTS_VHOST, events_of

SOURCE = "broker-events"
#: So late is an event, at most, in seconds.
AGE = 0.1
#: What the plugin makes of one argument of a binding: an Erlang term as text.
_TERM = re.compile(r'\{<<"(\w+)">>,\w+,(?:<<"(.*)">>|(-?\d+))\}')

Key = tuple[Any, ...]


class Picture:
    """What is there, as far as it was told: groups and bindings of queues."""

    def __init__(self) -> None:
        self.groups: dict[str, None] = {}
        self._bindings: dict[Key, dict[str, Any]] = {}

    async def ask(self, management: Management, vhost: str) -> None:
        """Forget all, and take what the management API lists.

        Raises:
            ServiceUnavailable: the API does not answer.
        """
        groups, bindings = await snapshot(management, vhost)
        self.groups = dict.fromkeys(groups)
        self._bindings = {}
        for row in bindings:
            self._bind(row["source"], row["destination"], row["routing_key"], row["arguments"])

    def apply(self, event: str, headers: Mapping[str, Any]) -> None:
        """Take one event in; again does no harm. What RabbitMQ does not write so is none."""
        match event, headers:
            case "exchange.created", {"name": str(name), "type": str(kind)}:
                if is_group(name, kind):
                    self.groups[name] = None
            case "exchange.deleted", {"name": str(name)}:
                self.groups.pop(name, None)
            case (
                ("binding.created" | "binding.deleted"),
                {
                    "source_name": str(source),
                    "destination_kind": "queue",
                    "destination_name": str(queue),
                    "routing_key": str(key),
                },
            ):
                binding = source, queue, key, _arguments(headers.get("arguments"))
                if event == "binding.created":
                    self._bind(*binding)
                else:
                    self._bindings.pop(_key(*binding), None)

    def presences(self, age: float) -> Presences:
        """Who is there by all this."""
        entries = seen(self.groups, self._bindings.values(), source=SOURCE, age=age)
        return Presences(entries, via=SOURCE)

    def _bind(self, source: str, queue: str, key: str, arguments: dict[str, Any]) -> None:
        row = {"source": source, "destination": queue, "arguments": arguments}
        self._bindings[_key(source, queue, key, arguments)] = row


def _key(source: str, queue: str, key: str, arguments: dict[str, Any]) -> Key:
    """Two bindings of one queue to one exchange differ in these, too."""
    return source, queue, key, *sorted(announced(arguments).items())


def _arguments(terms: object) -> dict[str, Any]:
    """A binding's arguments in an event: a list of terms, ``{<<"address">>,longstr,<<"…">>}``;
    texts and numbers of it."""
    found: dict[str, Any] = {}
    for term in terms if isinstance(terms, list) else ():
        if isinstance(term, str) and (match := _TERM.fullmatch(term)):
            name, text, number = match.groups()
            found[name] = int(number) if text is None else text
    return found


class BrokerView:
    """Who is there, kept up to date by RabbitMQ's events. :meth:`open` it first.

    Args:
        address: the lab's RabbitMQ; the account that only looks is used where there is one.
        heartbeat, deadline: seconds, as for every connection.
    """

    def __init__(
        self, address: RabbitAddress, *, heartbeat: int = 30, deadline: float = 5.0
    ) -> None:
        #: Events taken in.
        self.events = 0
        #: How often it had to ask what is there.
        self.questions = 0
        #: One more whenever there may be something new.
        self.version = 0
        #: Why nothing is heard now; None: all is well.
        self.trouble: ChatlabError | None = None
        self._vhost = address.vhost
        self._feed = Feed(
            replace(address.watched(), vhost=EVENTS_VHOST),
            address.vhost,
            names=events_of(address),
            heartbeat=heartbeat,
            deadline=deadline,
        )
        self._management = Management(address.watched(), deadline)
        self._picture = Picture()
        self._lost_at = 0.0
        self._news = asyncio.Event()
        self._opening = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Subscribe, and ask what is there; from then on it is kept up to date, after a lost
        connection, too. Again does nothing.

        Raises:
            NotPossible: this RabbitMQ does not tell its events, or not to us; says what to
                type.
            ServiceUnavailable: it does not answer now.
        """
        async with self._opening:
            if self._closed:
                raise LabClosed("Nobody listens to RabbitMQ's events any more.")
            if self._keeper is None:
                try:
                    await self._begin()
                except BaseException:
                    await self._feed.close()
                    raise
                self._keeper = asyncio.create_task(self._keep(), name="broker events")

    def presences(self) -> Presences:
        """Who is there. Nothing is asked for it, so there is an answer without RabbitMQ, too.
        Its age is :data:`AGE` while events come, else the time since they ceased to."""
        age = AGE if self.trouble is None else AGE + now() - self._lost_at
        return self._picture.presences(age)

    async def changed(self, version: int) -> None:
        """Wait until this is not the version any more."""
        while self.version == version:
            await self._news.wait()

    async def close(self) -> None:
        """Listen no more; RabbitMQ removes what the view had there. Idempotent."""
        async with self._opening:
            self._closed = True
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.wait([self._keeper])
            await self._feed.close()

    async def _keep(self) -> None:
        while True:
            try:
                while True:
                    self._take_in(await self._feed.take())
                    self._tell()
            except ChatlabError as error:
                self.trouble, self._lost_at = error, now()
            await self._begin_again()

    async def _begin(self) -> None:
        await self._feed.open()
        await self._picture.ask(self._management, self._vhost)
        self.questions += 1
        while self._feed.waiting:  # told while we asked
            self._take_in(await self._feed.take())
        self.trouble = None
        self._tell()

    async def _begin_again(self) -> None:
        """Until it works. What RabbitMQ refuses, too, for it may only be starting or be
        making the lab's virtual host anew."""
        pause, longest = BACKOFF_SECONDS
        while self.trouble is not None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            try:
                await self._begin()
            except ChatlabError as error:
                self.trouble = error

    def _take_in(self, events: list[Delivery]) -> None:
        self.events += len(events)
        for event in events:
            self._picture.apply(event.key, event.properties.headers or {})

    def _tell(self) -> None:
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()
