"""Discovery: who is there, asked in several ways that all answer ``list[Presence]``.

``registry``
    The name server in Redis: shared memory, every entry under a lease.
``management``
    RabbitMQ's management API: the broker's own view of queues, bindings and connections.
"""

from __future__ import annotations

from chatlab.discovery.management import discover as discover_by_management
from chatlab.discovery.presence import Presence
from chatlab.discovery.redis import Registry

__all__ = ["Presence", "Registry", "discover_by_management"]
