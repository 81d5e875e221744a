"""The real programs: find, start, join, watch, stop, break; and links that can be cut.

::

    lease.py       join(): a client's lease on a namespace          <- what others use
    reach.py       find the supervisor, or start it
    wire.py        how clients and the supervisor talk
    supervisor.py  the process that runs the brokers
    sessions.py    one client of it
    spaces.py      which lab has what, and for how long
    holders.py     which other computers have a shared one, too
    pairs.py       one RabbitMQ and one Redis
    broker.py      what both have in common; rabbitmq_node.py, redis_server.py
    namespaces.py  a virtual host and a key prefix for each lab
    processes.py   children that are surely ended; ports.py
    progress.py    what a slow start says meanwhile
    find.py        which programs this machine offers; packages.py fetches one
    links.py       one user's way to one service
    place.py       where a chat system is; doors.py, guests.py and invitation.py let others in
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatlab.services.lease import Lease as Lease
    from chatlab.services.lease import join as join
    from chatlab.services.lease import status as status
    from chatlab.services.lease import stop as stop
    from chatlab.services.progress import Progress as Progress

__all__ = ["Lease", "Progress", "join", "status", "stop"]


def __getattr__(name: str) -> Any:
    # The addresses below are values that everybody imports; the client is not.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from chatlab.services import lease

    return getattr(lease, name)
