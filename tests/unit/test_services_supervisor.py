"""Decisions of the supervisor that need no process: fetch, restart, who gets which pair."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chatlab.errors import NotPossible, ServiceMissing
from chatlab.services import namespaces, packages, supervisor
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.broker import Broker, State
from chatlab.services.find import RabbitProgram
from chatlab.services.namespaces import Namespace
from chatlab.services.pairs import SHARED, Pair
from chatlab.services.spaces import BREAKABLE_PAIRS, Join, Space, Spaces
from chatlab.services.supervisor import EXPECTED_SECONDS, RESTART_SECONDS, Supervisor
from chatlab.settings import Settings


@pytest.fixture
def boss(tmp_path: Path) -> Supervisor:
    return Supervisor(Settings(folder=tmp_path), tmp_path)


async def take(spaces: Spaces, lab: str, *, breakable: bool = False) -> Space:
    return await spaces.take(Join(lab, breakable, shared=False))


async def test_a_missing_rabbitmq_is_fetched_and_those_who_wait_read_it(
    boss: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched = RabbitProgram(tmp_path / "script", {}, tmp_path / "epmd", "3.10.8", "fetched")
    calls: list[Path] = []

    def missing(settings: Settings) -> RabbitProgram:
        raise ServiceMissing("none")

    def install(folder: Path, report: packages.Report) -> RabbitProgram:
        calls.append(folder)
        report("fetching 40 MB")
        return fetched

    monkeypatch.setattr(supervisor, "find_rabbitmq", missing)
    monkeypatch.setattr(packages, "install", install)
    node = boss._new_pair(SHARED).rabbitmq

    assert await boss._find_rabbitmq(node) is fetched
    assert await boss._find_rabbitmq(node) is fetched
    assert node.text == "fetching 40 MB"
    assert calls == [tmp_path]


@pytest.mark.parametrize(
    ("name", "before", "lasted", "restarted"),
    [
        (SHARED, "up", RESTART_SECONDS + 1, True),
        (SHARED, "up", RESTART_SECONDS - 1, False),
        (SHARED, "starting", RESTART_SECONDS + 1, False),
        ("breakable-1", "up", RESTART_SECONDS + 1, False),
    ],
)
def test_only_a_shared_broker_that_was_up_for_a_while_is_started_again(
    boss: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    before: State,
    lasted: float,
    restarted: bool,
) -> None:
    started: list[str] = []
    monkeypatch.setattr(Pair, "start", lambda self, service: started.append(service))
    pair = boss._new_pair(name)
    broker: Broker = pair.redis
    boss._changed(pair, broker, before, lasted, "down")
    assert started == (["redis"] if restarted else [])


def test_the_time_of_a_start_is_remembered_and_a_damaged_record_is_ignored(
    boss: Supervisor, tmp_path: Path
) -> None:
    assert boss.expected == EXPECTED_SECONDS
    node = boss._new_pair(SHARED).rabbitmq
    node.boot_seconds = 7.04
    boss._remember(node)
    assert Supervisor(boss.settings, tmp_path).expected == {**EXPECTED_SECONDS, "rabbitmq": 7.0}
    (tmp_path / "boot-seconds").write_text("{")
    assert Supervisor(boss.settings, tmp_path).expected == EXPECTED_SECONDS


async def test_ordinary_labs_share_a_pair_and_breakable_ones_do_not(boss: Supervisor) -> None:
    plain = [await take(boss.spaces, lab) for lab in ("a", "b")]
    assert {space.pair.name for space in plain} == {SHARED}
    labs = [f"x{number}" for number in range(BREAKABLE_PAIRS)]
    broken = [await take(boss.spaces, lab, breakable=True) for lab in labs]
    assert len({space.pair.name for space in broken}) == BREAKABLE_PAIRS
    with pytest.raises(NotPossible, match=", ".join(labs)):
        await take(boss.spaces, "one-too-many", breakable=True)

    await boss.spaces.release(broken[1])
    again = await take(boss.spaces, "one-too-many", breakable=True)
    assert again.pair is broken[1].pair


async def test_a_lab_that_comes_while_its_predecessor_is_removed_waits_for_a_new_place(
    boss: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing, removed = asyncio.Event(), asyncio.Event()

    async def remove(names: Namespace) -> None:
        removing.set()
        await removed.wait()

    monkeypatch.setattr(namespaces, "remove", remove)
    first = await take(boss.spaces, "a")
    rabbitmq = RabbitAddress(host="h", port=1, user="u", password="p")
    first.names = namespaces.of_lab("a", rabbitmq, RedisAddress(host="h", port=2))
    release = asyncio.create_task(boss.spaces.release(first))
    await removing.wait()
    taking = asyncio.create_task(take(boss.spaces, "a"))
    release.cancel()  # whoever gave it back has gone; the removal goes on
    await asyncio.wait([release])
    assert not taking.done()
    removed.set()
    second = await taking
    assert second is not first
    assert second.names is None
