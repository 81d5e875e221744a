"""The only root that connections to the brokers trust: each driver, and no way around it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trustme

from chatlab.amqp.errors import Lost
from chatlab.amqp.wire import Wire
from chatlab.errors import ChatlabError, InvalidInput, ServiceUnavailable
from chatlab.resp import Redis, mapped
from chatlab.services import urls
from chatlab.services.addresses import RabbitAddress, RedisAddress, trust
from chatlab.services.management import Management
from chatlab.settings import Settings

OURS, THEIRS = trustme.CA(), trustme.CA()


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def rabbit(port: int, authority: str) -> RabbitAddress:
    url = f"https://localhost:{port}"
    return RabbitAddress(
        host="localhost",
        port=port,
        user="u",
        password="p",
        tls=True,
        authority=authority,
        management_url=url,
    )


async def by_amqp(port: int, authority: str) -> None:
    await Wire.open(rabbit(port, authority), {}, heartbeat=0, timeout=5, on_lost=print)


async def by_management(port: int, authority: str) -> None:
    await Management(rabbit(port, authority)).get("overview")


async def by_redis(port: int, authority: str) -> None:
    address = RedisAddress(host="localhost", port=port, tls=True, authority=authority)
    redis = Redis(address)
    try:
        with mapped(address):
            await redis.driver.ping()
    finally:
        await redis.close()


@asynccontextmanager
async def service(named: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Its port, and the first bytes of each connection that trusted its certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    OURS.issue_cert(named).configure_cert(context)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4))
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], heard
    server.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("ask", [by_amqp, by_management, by_redis])
@pytest.mark.parametrize(
    ("authority", "named", "heard_from"),
    [
        (pem(OURS), "localhost", True),
        (pem(THEIRS), "localhost", False),
        (pem(OURS), "elsewhere.example", False),
        ("", "localhost", False),
    ],
    ids=["its authority", "another authority", "another host's", "the system's"],
)
async def test_only_a_certificate_of_the_authority_for_the_host_is_spoken_to(
    ask: Callable[[int, str], Awaitable[None]], authority: str, named: str, heard_from: bool
) -> None:
    async with service(named) as (port, heard):
        with pytest.raises((Lost, ServiceUnavailable, ChatlabError)):
            await ask(port, authority)  # it says nothing that a client could use
    assert bool(heard) is heard_from


@pytest.mark.parametrize("ask", [by_amqp, by_management, by_redis])
async def test_the_systems_roots_do_not_count_beside_an_authority(
    ask: Callable[[int, str], Awaitable[None]],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    OURS.cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/ca.pem")
    unseen = pem(trustme.CA())  # what is trusted for one is made once
    for authority, heard_from in (("", True), (unseen, False)):
        async with service("localhost") as (port, heard):
            with pytest.raises(ChatlabError):
                await ask(port, authority)
        assert bool(heard) is heard_from


def test_the_urls_carry_the_authority_and_a_text_that_is_none_is_refused() -> None:
    settings = Settings(
        rabbitmq_url="amqps://u:p@h", redis_url="rediss://h", authority=pem(OURS)
    )
    for address in urls.rabbitmq_address(settings), urls.redis_address(settings):
        assert address is not None and address.authority == pem(OURS)
    with pytest.raises(InvalidInput, match="authority"):
        trust("-----BEGIN CERTIFICATE-----")
