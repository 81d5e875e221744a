"""Reservations of ports."""

from __future__ import annotations

import random
import socket

import pytest

from chatlab.errors import ServiceUnavailable
from chatlab.services.ports import LOOPBACK, PORTS, reserve


def test_a_port_lies_below_the_ephemeral_range_and_can_be_listened_on() -> None:
    port = reserve()
    with socket.socket() as server:
        server.bind((LOOPBACK, port.number))
        server.listen()
    port.release()
    assert port.number in PORTS
    assert PORTS.stop <= 32_768


def test_a_reserved_port_is_not_given_twice_until_it_is_released() -> None:
    first = reserve()
    with pytest.raises(ServiceUnavailable):
        reserve([first.number])
    first.release()
    first.release()
    second = reserve([first.number])
    assert second.number == first.number
    second.release()


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    free = reserve()
    free.release()
    with socket.socket() as server:
        number = random.choice([n for n in PORTS if n != free.number])
        while True:
            try:
                server.bind((LOOPBACK, number))
                break
            except OSError:
                number = random.choice(PORTS)
        server.listen()
        port = reserve([number, free.number])
    assert port.number == free.number
    port.release()
