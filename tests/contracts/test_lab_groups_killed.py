"""A member of a group in a process of its own that gets SIGKILL, backend by backend."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from chatlab.backends import GROUPS
from chatlab.groups.guarantees import guarantees
from chatlab.journal import Delivered
from chatlab.lab import Lab
from chatlab.settings import Settings

#: A process cannot take part in what is in the memory of this one.
BACKENDS = [*(name for name in GROUPS if name != "memory"), "as-reported:persistent=yes"]
#: Sent in two halves: around the kill, and while the member is away.
MESSAGES = 200


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("groups-killed", settings=lab_settings) as running:
        running.users("ana")
        running.user("dan", process=True)
        yield running


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_member_killed_in_mid_stream_misses_is_as_declared(
    lab: Lab, backend: str
) -> None:
    lab.scene(backend.partition(":")[0])
    ana, dan = lab.user("ana"), lab.user("dan")
    room = dan.join("sd", backend)
    sender = ana.group("sd")

    def send(first: int) -> None:
        for start in range(first, first + MESSAGES, 20):
            sender.send_many([str(number) for number in range(start, start + 20)])

    sending = threading.Thread(target=send, args=(0,))
    sending.start()
    room.wait(50, timeout=20)
    dan.crash()  # SIGKILL
    sending.join()
    send(MESSAGES)  # while there is no dan
    dan.online()
    room.wait_for(sender.send("last"), timeout=20)
    facts = [fact for fact in lab.journal.facts(Delivered) if fact.user == "dan"]
    seen = [fact.message.body for fact in facts]
    assert seen[-1] == "last"
    wanted = {str(number) for number in range(2 * MESSAGES)}
    promised = guarantees(backend)
    if promised.killed == promised.away == "kept":
        assert wanted <= set(seen)
    elif promised.away == "lost":
        assert not wanted <= set(seen)
    # One life is shown a message once, in order; only a successor may be shown some again.
    for life in {fact.incarnation for fact in facts}:
        mine = [fact.message.body for fact in facts if fact.incarnation == life]
        numbers = [int(body) for body in mine if body != "last"]
        assert numbers == sorted(set(numbers))
