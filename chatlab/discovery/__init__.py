"""Discovery: who is there, asked in several ways that all answer a list of ``Presence``.

``registry``
    The name server in Redis: shared memory, every entry under a lease.
``management``
    RabbitMQ's management API: the broker's own view of queues, bindings and connections.
``as-reported``
    Two hashes in Redis without leases or owners, as in the original report: the baseline
    that keeps ghosts.
"""

from __future__ import annotations

from chatlab.discovery.inquirer import WAYS, Inquirer
from chatlab.discovery.presence import Presence, Presences
from chatlab.discovery.redis import Registry

__all__ = ["WAYS", "Inquirer", "Presence", "Presences", "Registry"]
