"""Group chats: publish/subscribe, one message to every member.

A group gets its backend from its first subscription and keeps it. A member *subscribes*
(from now on the group's messages are meant for it), *connects* (receives what waits, oldest
first, then what comes), *disconnects*, and *unsubscribes* for good. Anybody may send. A
sender that is a member gets its own messages, too; "nobody listens" means nobody else.
"""

from __future__ import annotations

from collections.abc import Callable

from chatlab.amqp import Connections
from chatlab.backends import parse_backend, shared_text
from chatlab.client import Life, OnMessage
from chatlab.errors import BackendMismatch
from chatlab.groups.as_reported import AsReportedMember
from chatlab.groups.guarantees import Guarantees, guarantees
from chatlab.groups.member import GroupMember, OnEnd, Registry
from chatlab.groups.memory import MemoryMember
from chatlab.groups.rabbitmq import RabbitMember
from chatlab.groups.rabbitmq_log import RabbitLogMember
from chatlab.groups.redis_pubsub import RedisPubsubMember
from chatlab.groups.redis_stream import RedisStreamMember
from chatlab.messages import check_name

__all__ = [
    "DEFAULT_BACKEND",
    "GroupMember",
    "Guarantees",
    "OnEnd",
    "Registry",
    "guarantees",
    "open_group",
]

#: The backend of a group whose first member named none.
DEFAULT_BACKEND = "rabbitmq-durable"

#: Backend name -> the class of its members.
_MEMBERS: dict[str, Callable[..., GroupMember]] = {
    "rabbitmq-durable": RabbitMember,
    "rabbitmq-transient": RabbitMember,
    "rabbitmq-quorum": RabbitMember,
    "rabbitmq-log": RabbitLogMember,
    "redis-pubsub": RedisPubsubMember,
    "redis-stream": RedisStreamMember,
    "memory": MemoryMember,
    "as-reported": AsReportedMember,
}


async def open_group(
    life: Life,
    connections: Connections,
    registry: Registry,
    group: str,
    backend: str | None,
    on_message: OnMessage,
    on_end: OnEnd | None = None,
) -> GroupMember:
    """A handle on ``group``; no membership yet, and nothing is recorded anywhere.

    Args:
        backend: with options; ``None`` takes the group's, for a new group the default.
            A personal option (``from``) is this member's, the others are the group's.
        on_message: called for each message shown, in order.
        on_end: called when a membership ended without being asked to.

    Raises:
        InvalidInput: a name, backend or option that does not exist.
        BackendMismatch: the group has another backend; both are named.
    """
    group = check_name(group, "group name")
    shared = shared_text(backend) if backend is not None else None
    found = await registry.find_group(group)
    if found is not None and shared not in (None, found):
        raise BackendMismatch(f"The group {group} has the backend {found}, not {shared}.")
    backend = backend or found or DEFAULT_BACKEND
    name, _ = parse_backend(backend)
    return _MEMBERS[name](life, connections, registry, group, backend, on_message, on_end)
