"""Ghosts: connections of ours that RabbitMQ has not yet missed.

After a cut, or when a user starts again elsewhere, RabbitMQ may keep the old connection
until its heartbeat runs out. Its exclusive queues stay locked and its consumers go on taking
messages. Connections are named ``lab/user/incarnation`` and carry their role and a serial
number as client properties, so that the older ones can be told and closed through the
management API, which works at once.
"""

from __future__ import annotations

from typing import Any

from chatlab.errors import ServiceUnavailable, Taken
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management

#: The management API gets so many seconds; without it the heartbeat does the work.
MANAGEMENT_SECONDS = 2.0


async def evict(address: RabbitAddress, name: str, role: str, serial: int) -> int:
    """Close the connections of this user that are older than the one described.

    Args:
        name: ``lab/user/incarnation``.
        role: ``consuming`` or ``publishing``.
        serial: which connection of this role and life it is, from 1.

    Returns:
        How many were closed; 0 also when there is no management API.

    Raises:
        Taken: a connection of a newer incarnation exists.
    """
    if not address.management_url:
        return 0
    management = Management(address, timeout=MANAGEMENT_SECONDS)
    closed = 0
    try:
        rows = await management.get(
            "vhosts", address.vhost, "connections", columns="name,client_properties"
        )
        for row in rows or []:
            if older(row.get("client_properties") or {}, name, role, serial):
                closed += await management.delete("connections", row["name"])
    except ServiceUnavailable:
        pass  # RabbitMQ misses the ghost itself when its heartbeat runs out
    return closed


def older(properties: dict[str, Any], name: str, role: str, serial: int) -> bool:
    """Whether a connection with these client properties is an older one of ours.

    Raises:
        Taken: it belongs to a newer incarnation of the same user.
    """
    ours, _, incarnation = name.rpartition("/")
    owner, _, other = str(properties.get("connection_name", "")).rpartition("/")
    if owner != ours or not other.isdecimal():
        return False
    if int(other) > int(incarnation):
        raise Taken(f"A newer client of {ours.rpartition('/')[2]} is connected.")
    if int(other) < int(incarnation):
        return True
    theirs = properties.get("serial")
    return properties.get("role") == role and isinstance(theirs, int) and theirs < serial
