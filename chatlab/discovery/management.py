"""Discovery by RabbitMQ's management API: the broker's own view, nothing of ours to keep up.

Only exchanges and bindings are asked for: they are listed as they are now. Connections and
consumers would be seconds late, since the API collects them with its statistics.

- A user is there whose presence queue is bound to the exchange of questions. The queue is
  exclusive: it goes with its connection. So a client that was killed is gone at once, and one
  that is frozen is there until RabbitMQ misses its heartbeats.
- A group is a fanout exchange; its members are the queues ``chatlab/<group>/<user>`` bound to
  it. A durable one does not tell whether its member is there; whether that user is, does.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from chatlab.discovery.announcement import announced
from chatlab.discovery.names import EXCHANGE, OURS, PRESENCE
from chatlab.discovery.presence import Presence, Presences
from chatlab.errors import ServiceUnavailable
from chatlab.services.management import Management

#: How late the API lists exchanges and bindings, in seconds.
AGE = 0.1
SOURCE = "management"
#: What is asked of a binding.
COLUMNS = "source,destination,destination_type,routing_key,arguments"
#: The bindings of so many groups are asked for one exchange at a time; those of more, all
#: together. What costs the API its time is the number of bindings in an answer (some 50 µs
#: each), and all together are twice as many as are wanted: the default exchange has one to
#: every queue.
FEW_GROUPS = 10


async def discover(management: Management, vhost: str) -> Presences:
    """Users online and groups, as RabbitMQ has them.

    Raises:
        ServiceUnavailable: the API is not there, refuses the credentials, or knows no such
            virtual host.
    """
    began = asyncio.get_running_loop().time()
    groups, bindings = await snapshot(management, vhost)
    seconds = asyncio.get_running_loop().time() - began
    return Presences(
        seen(groups, bindings, source=SOURCE, age=AGE),
        via=SOURCE,
        seconds=seconds,
        messages=2 * (1 + len(_paths(vhost, groups))),
    )


async def snapshot(
    management: Management, vhost: str
) -> tuple[list[str], list[dict[str, Any]]]:
    """The exchanges of groups, and the bindings of queues, as :func:`seen` takes them.

    Raises:
        ServiceUnavailable: as :func:`discover`.
    """
    exchanges = await management.get("exchanges", vhost, columns="name,type")
    if exchanges is None:
        raise ServiceUnavailable(f"RabbitMQ has no virtual host {vhost}.")
    groups = [e["name"] for e in exchanges if is_group(e["name"], e["type"])]
    answers = await asyncio.gather(
        *(management.get(*path, columns=COLUMNS) for path in _paths(vhost, groups))
    )
    bindings = itertools.chain.from_iterable(answer or () for answer in answers)
    return groups, [b for b in bindings if b["source"] and b["destination_type"] == "queue"]


def _paths(vhost: str, groups: list[str]) -> list[tuple[str, ...]]:
    """Where the bindings of discovery and of the groups are listed."""
    if len(groups) > FEW_GROUPS:
        return [("bindings", vhost)]
    return [("exchanges", vhost, name, "bindings", "source") for name in (EXCHANGE, *groups)]


def is_group(exchange: str, kind: str) -> bool:
    """Whether an exchange is that of a group."""
    return kind == "fanout" and not exchange.startswith(("amq.", OURS))


def seen(
    groups: Iterable[str], bindings: Iterable[dict[str, Any]], *, source: str, age: float
) -> list[Presence]:
    """Who is there by exchanges and bindings of queues.

    Args:
        groups: the exchanges of groups.
        bindings: each with ``source``, ``destination`` and ``arguments``.
    """
    users: dict[str, Presence] = {}
    members: defaultdict[str, set[str]] = defaultdict(set)
    for binding in bindings:
        exchange, queue = binding["source"], binding["destination"]
        own = f"{OURS}{exchange}/"
        if exchange == EXCHANGE and queue.startswith(PRESENCE):
            name = queue.removeprefix(PRESENCE)
            said = {"address": "", **announced(binding.get("arguments") or {})}
            users[name] = Presence(name, "private", source=source, age=age, **said)
        elif queue.startswith(own):
            members[exchange].add(queue.removeprefix(own))
    return [
        *users.values(),
        *(
            Presence(
                group,
                "group",
                group,
                members=tuple(sorted(members[group] & users.keys())),
                away=tuple(sorted(members[group] - users.keys())),
                source=source,
                age=age,
            )
            for group in groups
        ),
    ]
