"""Discovery while RabbitMQ is away, and after it has come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from chatlab.errors import ServiceUnavailable
from chatlab.lab import Lab
from chatlab.settings import Settings

#: A killed RabbitMQ comes back in 5 to 15 s; clients then within some seconds.
BACK_SECONDS = 60.0


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    settings = replace(lab_settings, send_seconds=3)
    with Lab.start("discovery-faults", breakable=True, settings=settings) as running:
        running.users("ana", "bob")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


def until(condition: Callable[[], bool]) -> None:
    """Until what may fail meanwhile is true."""
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        try:
            if condition():
                return
        except ServiceUnavailable:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_comes_online_without_rabbitmq_is_announced_when_it_is_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That it is not there is known at once, and nothing is waited for.
    monkeypatch.setattr("chatlab.discovery.announcement.PATIENCE_SECONDS", BACK_SECONDS)
    _, bob = lab.users("ana", "bob")
    bob.offline()
    with lab.rabbitmq.killed():
        began = time.monotonic()
        bob.online()
        assert bob.where == "online"
        assert time.monotonic() - began < lab.settings.send_seconds
        assert bob.discover("registry").users == ["ana", "bob"]
    until(lambda: lab.discover("events").users == ["ana", "bob"])
    assert lab.discover("management").users == ["ana", "bob"]
    until(lambda: bob.discover("events").users == ["ana", "bob"])


def test_a_silent_rabbitmq_does_not_hold_up_who_comes_online(lab: Lab) -> None:
    _, bob = lab.users("ana", "bob")
    bob.offline()
    with lab.rabbitmq.paused():
        began = time.monotonic()
        bob.online()
        assert time.monotonic() - began < lab.settings.send_seconds
    until(lambda: lab.discover("events").users == ["ana", "bob"])


@pytest.mark.parametrize("via", ["management", "events"])
def test_asking_a_killed_rabbitmq_is_an_error_and_works_again_afterwards(
    lab: Lab, via: str
) -> None:
    (ana,) = lab.users("ana")
    assert ana.discover(via).users == ["ana", "bob"]
    assert lab.discover(via).users == ["ana", "bob"]
    with lab.rabbitmq.killed():
        for who in (lab, ana):
            with pytest.raises(ServiceUnavailable, match="RabbitMQ"):
                who.discover(via)
        assert lab.discover("registry").users == ["ana", "bob"]
    for who in (lab, ana):
        until(lambda who=who: who.discover(via).users == ["ana", "bob"])  # type: ignore[misc]


def test_a_rabbitmq_that_dies_while_answers_are_collected_is_an_error(lab: Lab) -> None:
    _, bob = lab.users("ana", "bob")
    assert lab.discover("events").users == ["ana", "bob"]
    with bob.frozen():
        asked = lab._loop.start(lab._observer.discover("events", timeout=30.0))
        with pytest.raises(TimeoutError):
            asked.result(timeout=0.3)  # bob has not answered
        lab.rabbitmq.kill()
        with pytest.raises(ServiceUnavailable, match="could not be collected"):
            asked.result(timeout=20)
    lab.rabbitmq.start()
    until(lambda: lab.discover("events").users == ["ana", "bob"])
