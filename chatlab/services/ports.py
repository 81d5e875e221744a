"""Ports for the private services: below the ephemeral range, one holder each.

A port found by binding to 0 may be given to any outgoing connection before its service has
booted, which takes RabbitMQ seconds. So ports are drawn below the ephemeral range, and a
reservation is held for as long as the service lives: a UDP socket bound to the same number.
UDP and TCP numbers are separate, so the service is not disturbed; the system takes the
reservation back when its holder dies, and other users' supervisors see it as well.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

from chatlab.errors import ServiceUnavailable

LOOPBACK = "127.0.0.1"
#: Above the well-known servers, below Linux's ephemeral range (32768; macOS begins higher).
PORTS = range(20_000, 32_000)
#: So many numbers are tried before giving up.
ATTEMPTS = 200


class Port:
    """A reserved TCP port on loopback. ``release`` (or the process's end) gives it back."""

    def __init__(self, number: int, guard: socket.socket) -> None:
        self.number = number
        self._guard = guard

    def __repr__(self) -> str:
        return f"<Port {self.number}>"

    def release(self) -> None:
        """Give the reservation back. Idempotent."""
        self._guard.close()


def reserve(candidates: Iterable[int] | None = None) -> Port:
    """Reserve a port that nobody listens on.

    Args:
        candidates: numbers to try in this order; random ones of :data:`PORTS` if not given.

    Raises:
        ServiceUnavailable: none of the candidates is free.
    """
    if candidates is None:
        candidates = random.sample(PORTS, ATTEMPTS)
    for number in candidates:
        port = _try(number)
        if port is not None:
            return port
    raise ServiceUnavailable(
        f"No free port was found between {PORTS.start} and {PORTS.stop} on {LOOPBACK}.",
        todo="See what listens there, for instance with `ss -ltnp`.",
    )


def _try(number: int) -> Port | None:
    guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        guard.bind((LOOPBACK, number))
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, number))
    except OSError:
        guard.close()
        return None
    return Port(number, guard)
