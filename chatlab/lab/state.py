"""State: what each process remembers now, and how two looks differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chatlab.groups import redis_stream
from chatlab.insults.redis import stored as stored_insults
from chatlab.journal import (
    Confirmed,
    Delivered,
    Discarded,
    Failed,
    Journal,
    Returned,
    Sent,
    Uncertain,
)
from chatlab.messages import title
from chatlab.private.redis import RedisMailboxes
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.discovery import Registry
    from chatlab.lab.seat import Seat
    from chatlab.lab.servers import Servers
    from chatlab.resp import Redis
    from chatlab.services import Lease
    from chatlab.services.management import Management

Row = dict[str, Any]


class State(Table):
    """Rows ``process``, ``thing``, ``name``, ``value``. ``later - earlier`` keeps the rows
    that differ, with the value ``before``."""

    def __sub__(self, earlier: State) -> Table:
        old = {_key(row): row["value"] for row in earlier}
        new = {_key(row): row["value"] for row in self}
        rows = (
            {
                **dict(zip(("process", "thing", "name"), key, strict=True)),
                "before": old.get(key),
                "now": new.get(key),
            }
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key)
        )
        return Table(rows, "what changed")


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["process"], row["thing"], row["name"]


async def collect(
    lease: Lease,
    management: Management,
    redis: Redis,
    registry: Registry,
    servers: Servers,
    seats: Mapping[str, Seat],
) -> State:
    """Ask every process what it remembers of this lab."""
    rows = await _rabbitmq(management, lease.rabbitmq.vhost)
    rows += await _redis(redis)
    rows += await _registry(registry)
    for kind, streams in servers.streams().items():
        rows += [_row("chat server", "streams", f"{u} ({kind})", n) for u, n in streams.items()]
    rows += [_row("chat server", "queue", user, n) for user, n in servers.queues().items()]
    for name, seat in seats.items():
        if seat.where == "online":
            found: list[Row] = await seat.do("state")
            rows += [{"process": f"client of {name}", **row} for row in found]
    return State(rows, "what each process remembers")


async def _rabbitmq(management: Management, vhost: str) -> list[Row]:
    """Exchanges, bindings and queues, by the management API (counts up to 1 s old)."""
    rows = []
    for exchange in await management.get("exchanges", vhost) or []:
        if exchange["name"] and not exchange["name"].startswith("amq."):
            rows.append(_row("RabbitMQ", "exchange", exchange["name"], exchange["type"]))
    for binding in await management.get("bindings", vhost) or []:
        if binding["source"]:
            rows.append(_row("RabbitMQ", "binding", binding["destination"], binding["source"]))
    for queue in await management.get("queues", vhost) or []:
        rows.append(
            _row("RabbitMQ", "messages in queue", queue["name"], queue.get("messages", 0))
        )
    return rows


async def _redis(redis: Redis) -> list[Row]:
    """Mailboxes: stored, waiting; groups on streams: their length, each member's cursor."""
    rows = [_row("Redis", *found) for found in await redis_stream.streams(redis)]
    for box in await RedisMailboxes(redis).state():
        rows.append(_row("Redis", "mailbox: stored", box.user, box.stored))
        rows.append(_row("Redis", "mailbox: waiting", box.user, box.unacknowledged))
    for key, count in (await stored_insults(redis)).items():
        rows.append(_row("Redis", "insults", key, count))
    return rows


async def _registry(registry: Registry) -> list[Row]:
    """The shared registry: where each user is, who is in each group."""
    return [
        _row("Redis", "registry", entry.name, entry.address)
        if entry.kind == "private"
        else _row("Redis", "registry: group", entry.name, [*entry.members, *entry.away])
        for entry in await registry.discover()
    ]


def _row(process: str, thing: str, name: str, value: Any) -> Row:
    return {"process": process, "thing": thing, "name": name, "value": value}


def whereabouts(journal: Journal, id: str, user: str, seats: Mapping[str, Seat]) -> str:
    """Where a message is that ``user`` has not seen, in words, by the journal."""
    facts = [f for f in journal if _about(f, id)]
    sent = next((f for f in facts if isinstance(f, Sent)), None)
    if sent is None:
        return "no message with this id was sent in this scene"
    for fact in facts:
        if isinstance(fact, Failed | Returned):
            return f"it was not accepted: {fact.reason}"
    seen = sorted({f.user for f in facts if isinstance(f, Delivered)})
    if user in seen:
        return "an earlier look missed it; it is in .received"
    others = f"; seen by {', '.join(seen)}" if seen else ""
    seat = seats.get(user)
    if seat is not None and seat.where != "online":
        return f"{user} is {seat.where}{others}"
    if any(isinstance(f, Confirmed) for f in facts):
        return f"it was accepted ({title(sent.chat)}) and is not delivered{others}"
    if any(isinstance(f, Uncertain) for f in facts):
        return f"nobody knows whether it was accepted{others}"
    return f"it was sent and not answered yet{others}"


def _about(fact: Any, id: str) -> bool:
    if isinstance(fact, Sent | Delivered):
        return fact.message.id == id
    kinds = Confirmed | Returned | Failed | Uncertain | Discarded
    return isinstance(fact, kinds) and fact.id == id
