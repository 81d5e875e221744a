"""Saying that one is there, so that RabbitMQ itself knows.

An online user holds an exclusive queue, which exists just as long as the connection, and
binds it to the exchange of questions. The binding's arguments, which a fanout exchange
ignores, say which life it is and where it is reached: so whoever lists the bindings, or is
told of new ones by the broker, knows as much as the name server. Membership of a group is no
presence: a durable queue waits for a user who is gone.
"""

from __future__ import annotations

from typing import Any

from chatlab.amqp import Binding, Connection, Exchange, Queue
from chatlab.client import Life
from chatlab.discovery.names import EXCHANGE, PRESENCE
from chatlab.journal import now

#: Questions that a frozen client has not taken; the oldest go first.
EAR_MESSAGES = 100


async def announce(connection: Connection, life: Life, address: str) -> None:
    """Hold the queue from now on, after a lost connection again.

    Args:
        address: where the user's client is reached.

    Raises:
        ServiceUnavailable: RabbitMQ does not answer now.
    """
    await connection.declare(*_things(life, address))


def _things(life: Life, address: str) -> tuple[Exchange, Queue, Binding]:
    queue = PRESENCE + life.user
    said = {"incarnation": life.incarnation, "address": address, "since": round(now() * 1000)}
    return (
        Exchange(EXCHANGE),
        Queue(queue, exclusive=True, arguments={"x-max-length": EAR_MESSAGES}),
        Binding(queue, EXCHANGE, arguments=said),
    )


def announced(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a binding says of a user, as fields of a Presence; nothing that is not ours."""
    found: dict[str, Any] = {}
    if isinstance(address := arguments.get("address"), str):
        found["address"] = address
    if isinstance(life := arguments.get("incarnation"), int):
        found["incarnation"] = life
    if isinstance(since := arguments.get("since"), int):
        found["since"] = since / 1000
    return found
