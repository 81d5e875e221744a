"""Who is there, asked by a lab and by its users, in every way there is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from chatlab.discovery import WAYS
from chatlab.errors import InvalidInput, SendFailed, ServiceUnavailable
from chatlab.lab import Lab
from chatlab.messages import check_name
from chatlab.settings import Settings

#: A deadline that no test waits for.
LONG = 30.0


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("who", settings=replace(lab_settings, send_seconds=3)) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


@pytest.mark.parametrize("via", WAYS)
def test_all_ways_agree_on_who_is_online_and_where(lab: Lab, via: str) -> None:
    (ana,) = lab.users("ana")
    for found in (lab.discover(via), ana.discover(via)):
        assert (found.users, found.via, found.silent) == (["ana", "bob", "eva"], via, ())
        known = lab.discover()
        assert {e.name: e.address for e in found} == {e.name: e.address for e in known}
        if via != "as-reported":  # it knows no lives
            assert [e.incarnation for e in found] == [e.incarnation for e in known]
    with lab.user("bob").away():
        for ask in (ana.discover, lab.discover):
            deadline = time.monotonic() + LONG
            while ask(via).users != ["ana", "eva"]:  # the broker's events take a moment
                assert via == "broker-events" and time.monotonic() < deadline


def test_groups_are_told_by_those_of_their_members_who_are_online(lab: Lab) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    ana.join("sd", backend="redis-stream")
    room = bob.join("sd")
    eva.subscribe("news", backend="rabbitmq-durable")
    news, sd = (entry for entry in lab.discover("events") if entry.kind == "group")
    assert (sd.members, sd.away, sd.backend) == (("ana", "bob"), (), "redis-stream")
    assert (news.members, news.away) == ((), ("eva",))
    assert news.backend.startswith("rabbitmq-durable")
    room.disconnect()
    assert [e.away for e in lab.discover("events") if e.name == "sd"] == [("bob",)]
    room.unsubscribe()
    bob.group("sd").send("who only sends is no member")
    assert [e.members for e in lab.discover("events") if e.name == "sd"] == [("ana",)]
    eva.offline()
    assert lab.discover("events").groups == ["sd"]


def test_a_crashed_user_is_gone_and_a_frozen_one_is_silent(lab: Lab) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    with bob.frozen():
        found = lab.discover("events", timeout=0.5)
        assert (found.users, found.silent) == (["ana", "eva"], ("bob",))
        assert found.seconds >= 0.5
        with pytest.raises(SendFailed, match="frozen"):
            bob.discover("events")
    found = ana.discover("events", timeout=LONG)
    assert (found.users, found.silent) == (["ana", "bob", "eva"], ())
    life = eva.incarnation
    eva.crash()
    while (found := lab.discover("events", timeout=0.5)).silent:  # RabbitMQ learns of it
        assert found.silent == ("eva",)
    assert found.users == ["ana", "bob"]
    eva.online()
    (again,) = (entry for entry in lab.discover("events") if entry.name == "eva")
    assert again.incarnation == life + 1


def test_a_user_in_a_process_of_its_own_asks_and_answers(lab_settings: Settings) -> None:
    with Lab.start("who-else", settings=lab_settings) as lab:
        lab.user("ana")
        dan = lab.user("dan", process=True)
        dan.join("sd", backend="redis-stream")
        for via in WAYS:
            found = dan.discover(via)
            assert found.users == ["ana", "dan"]
            # RabbitMQ knows nothing of groups on Redis.
            unseen = via in ("management", "broker-events")
            assert found.groups == ([] if unseen else ["sd"])
        (sd,) = (entry for entry in lab.discover("events") if entry.kind == "group")
        assert sd.members == ("dan",)
        with dan.frozen():
            assert lab.discover("events", timeout=0.5).silent == ("dan",)
        assert "dan" in lab.discover("events", timeout=LONG).users
        dan.crash()
        while lab.discover("events", timeout=0.5).silent:
            pass
        assert lab.discover("events").users == ["ana"]


@pytest.mark.parametrize("via", ["management", "events"])
def test_a_user_cut_off_from_rabbitmq_is_told_so_and_is_back_when_healed(
    lab: Lab, via: str
) -> None:
    ana, bob, _ = lab.users("ana", "bob", "eva")
    assert bob.discover(via).users == ["ana", "bob", "eva"]
    lab.cut(bob, "rabbitmq")
    with pytest.raises(ServiceUnavailable, match="RabbitMQ") as caught:
        bob.discover(via)
    assert "Nothing was changed" in caught.value.effect or "safe" in caught.value.effect
    assert bob.discover("registry").users == ["ana", "bob", "eva"]
    assert lab.discover("events", timeout=LONG).users == ["ana", "eva"]
    lab.heal(bob)
    while "bob" not in ana.discover("events", timeout=1).users:
        pass
    assert bob.discover(via).users == ["ana", "bob", "eva"]


def test_two_cells_may_ask_at_once(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(who.discover, "events", timeout=LONG)
            for who in (lab, ana, bob)
            for _ in range(8)
        ]
        assert {tuple(future.result().users) for future in asked} == {("ana", "bob", "eva")}


def test_a_scene_cut_short_by_another_leaves_the_asker_working(lab: Lab) -> None:
    for name in ("one", "two"):
        lab.scene(name)
        assert lab.discover("events", timeout=LONG).users == ["ana", "bob", "eva"]


@pytest.mark.parametrize("via", ["registry", "management"])
def test_a_way_that_does_not_wait_takes_no_timeout(lab: Lab, via: str) -> None:
    (ana,) = lab.users("ana")
    for who in (lab, ana):
        with pytest.raises(InvalidInput, match="timeout"):
            who.discover(via, timeout=1)
        with pytest.raises(InvalidInput, match="timeout"):
            who.discover("events", timeout=-1)
        with pytest.raises(InvalidInput, match="no way 'rumour'"):
            who.discover("rumour")


def test_nobody_sees_the_lab_that_asks(lab: Lab) -> None:
    lab.discover("events")
    for via in WAYS:
        assert lab.discover(via).users == ["ana", "bob", "eva"]


def test_the_lab_s_own_connections_are_no_user_s_that_could_evict_them(lab: Lab) -> None:
    name = lab._observer.connection_name
    with pytest.raises(InvalidInput):
        check_name(name.split("/")[1])
    assert lab._new_observer().connection_name != name  # two kernels in one lab
