"""What a run declares on its services, by name: to be looked at before (``--dry-run``), and
removed after, where the laboratory has no virtual host to remove as a whole.

The list is made from the same values that the backends declare; nothing is connected to.
Queues that are exclusive to a connection go with it and are listed, not removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chatlab.amqp import Exchange, Queue
from chatlab.amqp.names import Names
from chatlab.amqp.topology import LEFT_MS
from chatlab.amqp.wire import Wire
from chatlab.backends import parse_backend
from chatlab.discovery.names import EXCHANGE, PRESENCE
from chatlab.errors import ChatlabError
from chatlab.experiments.lanes import GroupLane, pattern_of
from chatlab.experiments.outside import find_client, is_outside
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.steps import Pattern
from chatlab.groups.rabbitmq import kind_of
from chatlab.groups.rabbitmq_kinds import KINDS, log_queue, queue_name
from chatlab.insults.as_reported import REPORTED
from chatlab.insults.not_me import FROM, NEWS
from chatlab.insults.rabbitmq import DEAD_QUEUE, QUEUE, work_queue
from chatlab.loop import BackgroundLoop
from chatlab.services import namespaces
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.urls import rabbitmq_address, redis_address
from chatlab.settings import Settings
from chatlab.tables import Table

#: RabbitMQ has so long for each thing to be removed, in seconds.
REMOVE_SECONDS = 5.0

Thing = Exchange | Queue


@dataclass(frozen=True)
class Declared:
    """One thing on a service."""

    kind: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    #: Whether it has to be removed, and does not go by itself.
    stays: bool = True


def things(scenario: Scenario, pattern: Pattern, backends: Sequence[str]) -> list[Thing]:
    """Exchanges and queues of one scene on RabbitMQ, without the lab's prefix."""
    users = scenario.users
    found: list[Thing] = []
    if not is_outside(backends[0]):  # whose users are not the lab's
        found.append(Exchange(EXCHANGE))
        found += [Queue(PRESENCE + user, exclusive=True) for user in users]
    for number, backend in enumerate(backends):
        if is_outside(backend):
            continue
        if pattern == "group":
            found += _of_group(GroupLane.name_of(scenario, number), backend, users)
        elif pattern == "insults":
            found += _of_insults(parse_name(backend), users)
    return list(dict.fromkeys(found))


def parse_name(backend: str) -> str:
    """A backend's name without its options."""
    return backend.partition(":")[0]


def _of_group(group: str, backend: str, users: Iterable[str]) -> Iterator[Thing]:
    if parse_name(backend) not in KINDS:
        return
    parse_backend(backend)
    kind = kind_of(backend)
    yield kind.exchange(group)
    if parse_name(backend) == "rabbitmq-log":
        yield log_queue(group)
    for user in users:
        yield kind.queue(queue_name(group, user))


def _of_insults(name: str, users: Iterable[str]) -> Iterator[Thing]:
    if name in ("rabbitmq", "rabbitmq-not-me"):
        yield DEAD_QUEUE
    if name == "rabbitmq":
        yield work_queue(QUEUE)
    elif name == "as-reported":
        yield REPORTED
    elif name == "rabbitmq-not-me":
        yield NEWS
        for user in users:
            yield Queue(f"{NEWS.name}/{user}", exclusive=True, arguments={"x-max-length": 1})
            yield work_queue(FROM + user)


def dry_run(
    scenarios: Sequence[Scenario], backends: Sequence[str], settings: Settings
) -> Table:
    """What the runs would declare, a row each; nothing is connected to. ``<run>`` stands for
    what a run is given when it begins."""
    address = rabbitmq_address(settings) or _private(settings)
    space = namespaces.of_lab(
        "<run>", address, redis_address(settings) or RedisAddress(host="", port=0)
    )
    rows: list[Declared] = []
    if not space.rabbitmq.prefix:
        rows.append(Declared("virtual host", space.rabbitmq.vhost))
    rows.append(Declared("keys", f"{space.redis.prefix}*"))
    # For a moment, whenever a durable queue is new: see chatlab.amqp.topology.settled.
    settling = Names(space.rabbitmq.prefix).there("chatlab/settling/…")
    rows.append(Declared("queue", settling, {"x-expires": LEFT_MS}))
    for scenario in scenarios:
        for backend in backends:
            rows += _rows(scenario, backend, space.rabbitmq.prefix)
    unique = {(row.kind, row.name): row for row in rows}
    return Table(
        (
            {
                "kind": row.kind,
                "name": row.name,
                "arguments": ", ".join(f"{k}={v}" for k, v in row.arguments.items()),
                "afterwards": "removed" if row.stays else "goes with its connection",
            }
            for row in unique.values()
        ),
        "what would be declared; nothing was connected to",
    )


def _private(settings: Settings) -> RabbitAddress:
    """A RabbitMQ that is started for it: with a management API, hence a virtual host."""
    return RabbitAddress(host="", port=0, user="", password="", management_url="http://there")


def _rows(scenario: Scenario, backend: str, prefix: str) -> Iterator[Declared]:
    pattern, text = pattern_of(scenario, backend)
    names = Names(prefix)
    if is_outside(text):
        client = find_client(text)
        if client.broker == "rabbitmq":
            begins = f"{prefix or 'chatlab-<run>.'}*" if client.takes_prefix else "*"
            yield Declared(f"what {client.name} declares", begins)
    for thing in things(scenario, pattern, [text]):
        if isinstance(thing, Exchange):
            facts: dict[str, Any] = {"type": thing.kind, "durable": thing.durable}
            yield Declared("exchange", names.there(thing.name), facts)
        else:
            facts = {"exclusive": True} if thing.exclusive else {}
            facts |= names.of_call({"arguments": dict(thing.arguments)})["arguments"]
            yield Declared("queue", names.there(thing.name), facts, not thing.exclusive)


def remove(address: RabbitAddress, doomed: Sequence[Thing]) -> list[str]:
    """Delete these by name, those that are not there as well. Returns the names of what may
    still be there, because RabbitMQ did not answer or refused."""
    stays = [thing for thing in doomed if isinstance(thing, Exchange) or not thing.exclusive]
    with BackgroundLoop("removal") as loop:
        return loop.call(_remove(address, stays))


async def _remove(address: RabbitAddress, doomed: Sequence[Thing]) -> list[str]:
    left = [Names(address.prefix).there(thing.name) for thing in doomed]
    with suppress(ChatlabError, TimeoutError):
        wire = await Wire.open(
            address,
            {"connection_name": "chatlab: removal"},
            heartbeat=0,
            timeout=REMOVE_SECONDS,
            on_lost=lambda _: None,
        )
        try:
            for thing in doomed:
                with suppress(ChatlabError):  # it stays on the list
                    await _delete(wire, thing)
                    left.remove(wire.names.there(thing.name))
        finally:
            await wire.close()
    return left


async def _delete(wire: Wire, thing: Thing) -> None:
    channel = await wire.channel()
    kind = "exchange" if isinstance(thing, Exchange) else "queue"
    await channel.call(f"{kind}_delete", **{kind: thing.name})
    await channel.close()
