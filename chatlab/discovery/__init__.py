"""Discovery: who is there, asked in several ways that all answer a list of ``Presence``.

``registry``
    The name server in Redis: shared memory, every entry under a lease.
``management``
    RabbitMQ's management API: the broker's own view of queues, bindings and connections.
``events``
    Scatter/gather: every client that is online is asked, and answers for itself.
``broker-events``
    The broker's own view, kept up to date by the events that RabbitMQ itself publishes.
``as-reported``
    Two hashes in Redis without leases or owners, as in the original report: the baseline
    that keeps ghosts.

``registry`` and ``broker-events`` can be followed live: see
:mod:`chatlab.discovery.watching`.
"""

from __future__ import annotations

from chatlab.discovery.inquirer import LIVE_WAYS, WAYS, Inquirer
from chatlab.discovery.presence import Presence, Presences
from chatlab.discovery.redis import Registry
from chatlab.discovery.watching import Change, Changes

__all__ = [
    "LIVE_WAYS",
    "WAYS",
    "Change",
    "Changes",
    "Inquirer",
    "Presence",
    "Presences",
    "Registry",
]
