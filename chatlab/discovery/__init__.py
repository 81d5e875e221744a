"""Discovery: who is there, asked in several ways that all answer a list of ``Presence``.

``registry``
    The name server in Redis: shared memory, every entry under a lease.
``management``
    RabbitMQ's management API: the broker's own view of queues, bindings and connections.
``events``
    Scatter/gather: every client that is online is asked, and answers for itself.
"""

from __future__ import annotations

from chatlab.discovery.inquirer import WAYS, Inquirer
from chatlab.discovery.presence import Presence, Presences
from chatlab.discovery.redis import Registry

__all__ = ["WAYS", "Inquirer", "Presence", "Presences", "Registry"]
