"""Where a chat server may listen, TLS, and the lab's secret."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from private_rig import SECRET, quick_settings, rig

from chatlab.errors import NotAdmitted, NotPossible, ServiceUnavailable
from chatlab.private.accounts import MemoryAccounts
from chatlab.private.channel import client_options, open_channel
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.security import LAB_SECRET_KEY, NOT_ADMITTED_KEY, make_credentials
from chatlab.private.server import ChatServer
from chatlab.services.addresses import ServerAddress
from chatlab.services.links import Link
from chatlab.settings import Settings
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

ROOT = Path(__file__).parents[2]
LAB_SECRET = "an open sésame"
WITH_SECRET = quick_settings(lab_secret=LAB_SECRET)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


LOOPBACK = [
    "127.0.0.1",
    "localhost",
    pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
]


def server(host: str, settings: Settings) -> ChatServer:
    return ChatServer(MemoryMailboxes(), MemoryAccounts(), settings, host=host)


# -- addresses


def test_an_address_says_which_server_it_is_and_where_to_connect() -> None:
    address = ServerAddress(host="2001:db8::1", port=5)
    assert (str(address), address.target) == ("[2001:db8::1]:5", "[2001:db8::1]:5")
    linked = address.through("127.0.0.1", 7)
    assert (str(linked), linked.target) == ("[2001:db8::1]:5", "127.0.0.1:7")


@pytest.mark.parametrize("settings", [quick_settings(), WITH_SECRET])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", ""])
def test_a_wildcard_is_refused_with_or_without_a_secret(host: str, settings: Settings) -> None:
    with pytest.raises(NotPossible, match="one address of this machine"):
        server(host, settings)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_an_address_off_loopback_is_refused_without_a_secret(host: str) -> None:
    with pytest.raises(NotPossible, match="CHATLAB_LAB_SECRET"):
        server(host, quick_settings())
    server(host, WITH_SECRET)


@pytest.mark.parametrize("host", ["0", "x" * 64])  # a label has at most 63: never looked up
async def test_a_name_that_leads_everywhere_or_nowhere_is_refused(host: str) -> None:
    with pytest.raises(NotPossible, match="one address of this machine"):
        await server(host, WITH_SECRET).start()


async def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(ServiceUnavailable, match=r"192\.0\.2\.1.*no address of this machine"):
        await server("192.0.2.1", WITH_SECRET).start()


@pytest.mark.parametrize("host", LOOPBACK)
async def test_loopback_needs_no_set_up(host: str) -> None:
    async with rig(host=host) as r:
        assert r.address.certificate == ""
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "hola")
        assert await bob.wait_for(1) == ["hola"]


def test_a_server_process_refuses_in_three_lines(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    file.write_text(
        '{"backend": "mailbox-memory", "host": "192.0.2.1",'
        ' "redis": {"host": "127.0.0.1", "port": 1}}'
    )
    command = [sys.executable, "-m", "chatlab.private.server", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 3
    assert "192.0.2.1 without a lab secret" in ended.stderr


# -- TLS


@pytest.mark.parametrize("host", LOOPBACK)
async def test_with_tls_users_chat_directly_and_through_a_link(host: str) -> None:
    async with rig(host=host, tls=True) as r:
        ana = await r.online("ana")
        link = Link((host, r.address.port), user="bob", service="server")
        r.address = r.address.through("127.0.0.1", await link.open())
        bob = await r.online("bob")
        await ana.send("bob", "hola")
        assert await bob.wait_for(1) == ["hola"]
        await bob.client.close()
        await link.close()


async def refused(address: ServerAddress) -> str:
    """Why a client does not get in."""
    async with rig(settings=quick_settings(send_seconds=0.8)) as r:
        r.address = address
        with pytest.raises(ServiceUnavailable) as caught:
            await r.online("ana")
        return caught.value.what


async def test_a_client_without_the_servers_certificate_is_refused_and_told_why() -> None:
    async with rig(tls=True) as r:
        _, other = make_credentials("127.0.0.1")
        assert "certificate" in (await refused(replace(r.address, certificate=other))).lower()


async def test_a_client_expecting_another_host_is_refused() -> None:
    async with rig(tls=True) as r:
        elsewhere = replace(r.address, host="192.0.2.1", link=str(r.address))
        assert "Hostname Verification" in await refused(elsewhere)


async def test_a_client_that_speaks_plain_text_to_a_tls_server_is_refused() -> None:
    async with rig(tls=True) as r:
        await refused(replace(r.address, certificate=""))


async def test_no_secret_is_sent_in_plain_text_to_another_machine() -> None:
    async with rig() as r:
        r.address = ServerAddress(host="192.0.2.1", port=9)
        with pytest.raises(NotPossible, match="lists no certificate"):
            await r.online("ana")


# -- the lab's secret


async def test_with_the_labs_secret_users_chat() -> None:
    async with rig(settings=WITH_SECRET, tls=True) as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "hola")
        assert await bob.wait_for(1) == ["hola"]


@pytest.mark.parametrize(("shown", "says"), [("", "none was shown"), ("guess", "is not that")])
async def test_another_secret_or_none_is_refused_for_good_and_says_what_to_set(
    shown: str, says: str
) -> None:
    async with rig(settings=WITH_SECRET) as r:
        asked = 0

        async def locate(_: object) -> ServerAddress:
            nonlocal asked
            asked += 1
            return r.address

        ana = r.person("ana", settings=quick_settings(lab_secret=shown))
        ana.client._locate = locate
        with pytest.raises(NotAdmitted, match=says) as caught:
            await ana.client.open()
        assert asked == 1, "it does not try again"
        assert "CHATLAB_LAB_SECRET" in str(caught.value)
        assert LAB_SECRET not in str(caught.value)


async def test_a_server_that_comes_back_with_another_secret_ends_the_client() -> None:
    async with rig(settings=WITH_SECRET) as r:
        ana = await r.online("ana")
        await r.stop()
        r.settings = quick_settings(lab_secret="another")
        await r.start()
        async with asyncio.timeout(10):
            assert isinstance(await ana.ended, NotAdmitted)


async def test_every_call_but_health_asks_for_the_secret() -> None:
    async with rig(settings=WITH_SECRET) as r, open_channel(r.address, r.settings) as channel:
        stub = pb_grpc.PrivateChatServiceStub(channel)  # type: ignore[no-untyped-call]
        claim = pb.ClaimRequest(name="ana", secret=SECRET, incarnation=1)
        other = ((LAB_SECRET_KEY, b"\xff\x00"),)
        for call in (
            stub.Claim(claim, timeout=5),
            stub.Claim(claim, timeout=5, metadata=other),
            stub.Send(timeout=5),
            stub.Receive(timeout=5),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (call if hasattr(call, "__await__") else call.read())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert NOT_ADMITTED_KEY in dict(caught.value.trailing_metadata())
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_secret_is_shown_in_no_repr() -> None:
    async with rig(settings=WITH_SECRET, tls=True) as r:
        ana = await r.online("ana")
        shown = f"{r.settings!r} {ana.life!r} {r.address!r} {client_options(r.settings)}"
        assert LAB_SECRET not in shown
        assert "BEGIN CERTIFICATE" not in shown
