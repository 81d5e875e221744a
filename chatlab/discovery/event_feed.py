"""A feed of RabbitMQ's own events about one virtual host, over one connection at a time.

Everything that it declares has names of its own for each connection and goes with it: the
queues are exclusive, the exchanges go with what is bound to them. A queue that overflows gives
up its oldest event to a second one, which says so; who reads the feed is told by an error, and
opens it again.
"""

from __future__ import annotations

import asyncio
import secrets

from chatlab.amqp import Binding, Consumer, Delivery, Exchange, ExchangeBinding, Queue
from chatlab.amqp.errors import AccessRefused, NotAllowed, NotFound
from chatlab.amqp.topology import Thing
from chatlab.amqp.wire import Wire
from chatlab.errors import ChatlabError, NotPossible, ServiceUnavailable
from chatlab.services.addresses import RabbitAddress
from chatlab.services.namespaces import EVENTS_VHOST, TO_WATCH

#: Where the plugin rabbitmq_event_exchange publishes.
EVENTS_EXCHANGE = "amq.rabbitmq.event"
#: Routing keys of the events that are wanted.
KEYS = ("binding.*", "exchange.*")
#: Events that wait in the queue; one more is one too many.
QUEUE_EVENTS = 10_000
#: Events that are handed out and not yet taken.
PREFETCH = 500


class Feed:
    """Events about one virtual host. ``open`` (again after an error), ``take``, ``close``.

    Args:
        address: where the events are, with credentials that may read them.
        vhost: the virtual host that they are about.
        names: begins the names of the queues and exchanges.
        heartbeat, deadline: seconds.
    """

    def __init__(
        self, address: RabbitAddress, vhost: str, *, names: str, heartbeat: int, deadline: float
    ) -> None:
        self._address = address
        self._vhost = vhost
        self._names = names
        self._heartbeat = heartbeat
        self._deadline = deadline
        self._wire: Wire | None = None
        self._events: Consumer | None = None
        self._notice: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Events that :meth:`take` has at once."""
        return self._events.waiting if self._events else 0

    async def open(self) -> None:
        """Every event from now on is heard.

        Raises:
            NotPossible: RabbitMQ does not tell its events, or not to this account.
            ServiceUnavailable: it does not answer.
        """
        await self.close()
        where = f"RabbitMQ at {self._address.host}:{self._address.port}"
        try:
            async with asyncio.timeout(2 * self._deadline):
                await self._subscribe()
        except NotFound as error:
            raise NotPossible(
                f"{where} does not tell its events: it has no exchange {EVENTS_EXCHANGE}.",
                todo="Type: rabbitmq-plugins enable rabbitmq_event_exchange",
            ) from error
        except (AccessRefused, NotAllowed) as error:
            may = " ".join(f'"{TO_WATCH[what]}"' for what in ("configure", "write", "read"))
            raise NotPossible(
                f"{where} does not let {self._address.user} read its events.",
                todo=f"Type: rabbitmqctl set_permissions -p {EVENTS_VHOST} "
                f"{self._address.user} {may}",
            ) from error
        except TimeoutError as error:
            raise ServiceUnavailable(f"{where} does not answer.") from error

    async def _subscribe(self) -> None:
        name = self._names + secrets.token_hex(4)
        events = self._events = Consumer(name, prefetch=PREFETCH)
        missed = Consumer(_missed(name), prefetch=1)

        def lost(error: ChatlabError) -> None:
            events.end(error)
            missed.end(error)

        self._wire = wire = await Wire.open(
            self._address,
            {"connection_name": name},
            heartbeat=self._heartbeat,
            timeout=self._deadline,
            on_lost=lost,
        )
        channel = await wire.channel()
        for thing in _things(name, self._vhost):
            await thing.declare(channel)
        await missed.attach(await wire.channel())
        await events.attach(await wire.channel())
        self._notice = asyncio.create_task(_end_when_missed(events, missed))

    async def take(self) -> list[Delivery]:
        """The next events, at least one, oldest first.

        Raises:
            ChatlabError: no more will come, or some were missed.
        """
        assert self._events is not None
        found = await self._events.take(PREFETCH)
        self._events.ack(found[-1], len(found))  # who forgets them asks anew
        return found

    async def close(self) -> None:
        """Listen no more; nothing of it is left in RabbitMQ. Idempotent."""
        if self._notice is not None:
            self._notice.cancel()
        if self._wire is not None:
            await self._wire.close()
        self._wire = self._events = self._notice = None


def _things(name: str, vhost: str) -> list[Thing]:
    """What there is for a feed; the last of them lets events in."""
    missed = _missed(name)
    bounded = {"x-max-length": QUEUE_EVENTS, "x-dead-letter-exchange": missed}
    return [
        Exchange(missed, durable=False, auto_delete=True),
        Queue(missed, exclusive=True, arguments={"x-max-length": 1}),
        Binding(missed, missed),
        Exchange(name, "headers", durable=False, auto_delete=True),
        Queue(name, exclusive=True, arguments=bounded),
        Binding(name, name, arguments={"x-match": "all", "vhost": vhost}),
        *(ExchangeBinding(name, EVENTS_EXCHANGE, key) for key in KEYS),
    ]


def _missed(name: str) -> str:
    """Queue and exchange of the events that another queue had no room for."""
    return f"{name}/missed"


async def _end_when_missed(events: Consumer, missed: Consumer) -> None:
    try:
        await missed.take(1)
        events.end(ServiceUnavailable(f"More than {QUEUE_EVENTS:,} events waited."))
    except ChatlabError as error:  # without it nobody would notice
        events.end(error)
