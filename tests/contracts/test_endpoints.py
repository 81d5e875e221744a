"""Where users can be called directly: what the name server says, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chatlab.discovery import redis as registry_module
from chatlab.discovery.redis import Registry, Whereabouts
from chatlab.errors import NotPossible, PeerAway, ServiceUnavailable
from chatlab.lab import exchange
from chatlab.lab.exchange import Finder
from chatlab.private.endpoint import Endpoint
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import ServerAddress
from chatlab.services.machine import machine_id
from chatlab.settings import Settings

SECRET = "sesame"


class Straight:
    async def through(self, kind: str, address: ServerAddress) -> ServerAddress:
        return address

    async def expose(self, port: int) -> str:
        raise NotImplementedError


@pytest.fixture
async def names(redis: Redis) -> Registry:
    made = Registry(redis, lease_seconds=30)
    await made.create_account("bob", SECRET)
    return made


async def test_machine_and_certificate_go_with_the_newest_life(names: Registry) -> None:
    first = await names.claim("bob", SECRET, "127.0.0.1:7")
    assert await names.whereabouts("bob") == Whereabouts("127.0.0.1:7", machine_id())
    second = await names.claim("bob", SECRET, "192.0.2.2:8", certificate="PEM")
    newest = Whereabouts("192.0.2.2:8", machine_id(), "PEM")
    assert await names.whereabouts("bob") == newest
    await names.depart("bob", first)
    assert await names.whereabouts("bob") == newest, "an older life's departure"
    await names.depart("bob", second)
    assert await names.whereabouts("bob") is None
    with mapped(names.redis.address):
        assert await names.redis.driver.hlen(names.redis.key("endpoints")) == 0


async def test_a_redis_that_has_forgotten_is_told_again_at_a_renewal(names: Registry) -> None:
    life = await names.claim("bob", SECRET, "192.0.2.2:8", certificate="PEM")
    with mapped(names.redis.address):
        await names.redis.driver.delete(*map(names.redis.key, ("users", "leases", "endpoints")))
    assert await names.whereabouts("bob") is None
    await names.renew("bob", life)
    assert await names.whereabouts("bob") == Whereabouts("192.0.2.2:8", machine_id(), "PEM")


async def test_what_another_life_wrote_is_not_taken_for_the_newest(names: Registry) -> None:
    await names.claim("bob", SECRET, "127.0.0.1:7", certificate="old")
    with mapped(names.redis.address):
        kept = await names.redis.driver.hget(names.redis.key("endpoints"), "bob")
        await names.claim("bob", SECRET, "127.0.0.1:8", certificate="new")
        await names.redis.driver.hset(names.redis.key("endpoints"), "bob", kept)
    assert await names.whereabouts("bob") == Whereabouts("127.0.0.1:8")


async def test_coming_online_costs_one_command(
    names: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[object] = []
    run = names.redis.run

    async def counting(*words: Any) -> Any:
        ran.append(words)
        return await run(*words)

    monkeypatch.setattr(names.redis, "run", counting)
    await names.claim("bob", SECRET, "127.0.0.1:8", certificate="PEM")
    assert len(ran) == 1


async def test_a_loopback_of_another_computer_is_not_called(
    names: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = Finder(names, Straight(), "ana")
    here = ServerAddress(host="127.0.0.1", port=7)
    await names.claim("bob", SECRET, "127.0.0.1:7")
    assert await finder.find_peer("bob") == here
    monkeypatch.setattr(registry_module, "machine_id", lambda: "another")
    await names.claim("bob", SECRET, "127.0.0.1:7")
    with pytest.raises(PeerAway, match=r"another computer.*client_host"):
        await finder.find_peer("bob")
    assert await Finder(names, Straight(), "bob").find_older("127.0.0.1:9") is None
    await names.claim("bob", SECRET, "[2001:db8::2]:8", certificate="PEM")
    there = ServerAddress(host="2001:db8::2", port=8, certificate="PEM")
    assert await finder.find_peer("bob") == there
    monkeypatch.setattr(exchange, "machine_id", lambda: "another")
    await names.claim("bob", SECRET, "127.0.0.1:7")
    assert await finder.find_peer("bob") == here


@pytest.mark.parametrize(
    ("host", "secret", "error"),
    [
        ("192.0.2.1", "", NotPossible),
        ("0.0.0.0", SECRET, NotPossible),
        ("", SECRET, NotPossible),
        ("nowhere.invalid", SECRET, NotPossible),
        ("192.0.2.1", SECRET, ServiceUnavailable),
    ],
)
async def test_an_endpoint_at_another_address_needs_the_secret_and_an_address(
    settings: Settings, host: str, secret: str, error: type[Exception]
) -> None:
    endpoint = Endpoint(replace(settings, client_host=host, lab_secret=secret))
    with pytest.raises(error):
        await endpoint.start()
    await endpoint.stop()


async def test_an_endpoint_on_loopback_needs_nothing(settings: Settings) -> None:
    endpoint = Endpoint(settings)
    address = await endpoint.start()
    assert (address.host, address.certificate) == ("127.0.0.1", "")
    await endpoint.stop()
