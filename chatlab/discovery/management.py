"""Discovery by RabbitMQ's management API: the broker's own view, nothing of ours to keep up.

A group is a fanout exchange; its members are the queues ``chatlab/<group>/<user>`` bound to
it. Bindings and queues are listed as they are now; consumers would be seconds late, so a
durable queue alone does not tell whether its member is there. Who is there is told by
exclusive queues, which exist only while their connection does, and by the names of the
connections, ``lab/user/incarnation``, which the API lists some seconds late.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from chatlab.discovery.presence import Presence
from chatlab.errors import ServiceUnavailable
from chatlab.services.management import Management

#: Queues of ours are named so; the user's name is the last part.
QUEUES = "chatlab/"
#: An exclusive queue of each online user.
PRESENCE_QUEUES = "chatlab/presence/"
#: How late the API lists queues and bindings, in seconds.
QUEUES_AGE = 0.1
#: How late it lists a new connection: a statistics interval, by default 5 seconds (seen:
#: 0.7 to 5.0). One that ends is gone in 0.01 s.
CONNECTIONS_AGE = 5.0

SOURCE = "management"


async def discover(management: Management, vhost: str) -> list[Presence]:
    """Users online, then groups, each sorted by name.

    Raises:
        ServiceUnavailable: the API is not there, refuses the credentials, or knows no such
            virtual host.
    """
    exchanges, bindings, queues, connections = await asyncio.gather(
        management.get("exchanges", vhost, columns="name,type"),
        management.get("bindings", vhost, columns="source,destination,destination_type"),
        management.get("queues", vhost, columns="name,exclusive"),
        management.get("vhosts", vhost, "connections"),
    )
    if None in (exchanges, bindings, queues, connections):
        raise ServiceUnavailable(f"RabbitMQ has no virtual host {vhost}.")
    exclusive = {queue["name"] for queue in queues if queue.get("exclusive")}
    members = _members(bindings)
    users = _users(exclusive, members, connections)
    return [
        *(users[name] for name in sorted(users)),
        *(
            _group(exchange["name"], members[exchange["name"]], exclusive, users)
            for exchange in sorted(exchanges, key=lambda entry: str(entry["name"]))
            if exchange["type"] == "fanout"
            and not exchange["name"].startswith(("amq.", QUEUES))
        ),
    ]


def _members(bindings: list[dict[str, Any]]) -> defaultdict[str, set[str]]:
    """Group -> its members, from the bindings of queues that are named as ours."""
    members: defaultdict[str, set[str]] = defaultdict(set)
    for binding in bindings:
        group, queue = binding["source"], binding["destination"]
        if group and binding["destination_type"] == "queue":
            own = f"{QUEUES}{group}/"
            if queue.startswith(own):
                members[group].add(queue.removeprefix(own))
    return members


def _users(
    exclusive: set[str], members: defaultdict[str, set[str]], connections: list[dict[str, Any]]
) -> dict[str, Presence]:
    """Who is online, by presence queue or else by connection."""
    users: dict[str, Presence] = {}
    # The oldest connection of a user last: its time is since when the user is there.
    for connection in sorted(connections, key=lambda c: -c.get("connected_at", 0)):
        # A connection in its first moments is listed without its properties.
        properties = connection.get("client_properties") or {}
        parts = str(properties.get("connection_name", "")).split("/")
        if len(parts) == 3 and parts[2].isdigit():
            users[parts[1]] = Presence(
                parts[1],
                "private",
                f"{connection.get('peer_host')}:{connection.get('peer_port')}",
                since=connection["connected_at"] / 1000,
                source=SOURCE,
                age=CONNECTIONS_AGE,
            )
    for queue in exclusive:
        name = queue.removeprefix(PRESENCE_QUEUES)
        # A group may be called "presence"; its members' queues are bound to it.
        if name != queue and name not in members["presence"] and name not in users:
            users[name] = Presence(name, "private", "", source=SOURCE, age=QUEUES_AGE)
    return users


def _group(
    name: str, members: set[str], exclusive: set[str], users: dict[str, Presence]
) -> Presence:
    here = {m for m in members if m in users or f"{QUEUES}{name}/{m}" in exclusive}
    return Presence(
        name,
        "group",
        name,
        members=tuple(sorted(here)),
        away=tuple(sorted(members - here)),
        source=SOURCE,
        age=QUEUES_AGE,
    )
