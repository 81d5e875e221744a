"""Doors, the keys that are kept, and the invitation: what stands between a broker and the
other computers."""

from __future__ import annotations

import argparse
import asyncio
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from chatlab import hosting, serving
from chatlab.errors import InvalidInput, NotPossible, ServiceUnavailable
from chatlab.hosting import Hosted
from chatlab.private import keys
from chatlab.services import doors
from chatlab.services.addresses import RabbitAddress, RedisAddress, trust
from chatlab.services.doors import Door, Target
from chatlab.services.files import write_private
from chatlab.services.invitation import invite
from chatlab.services.place import invited
from chatlab.settings import Settings

#: Nothing here takes longer, on a slow machine.
PATIENCE_SECONDS = 20.0
MEGABYTE = 1024 * 1024

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def lab(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path, lab="class")


@asynccontextmanager
async def door_to(
    lab: Settings, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]
) -> AsyncIterator[tuple[Door, Callable[[], object]]]:
    """A door to a service that does ``serve``, and what connects through it."""
    made = keys.keys_of(lab)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = Target(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    door = Door(target, keys.server_context(made, "127.0.0.1"))
    port = await door.open("127.0.0.1", 0)
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Ends:
        ends = await asyncio.open_connection("127.0.0.1", port, ssl=trust(made.authority))
        opened.append(ends[1])
        return ends

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield door, connect
    finally:
        for writer in opened:
            writer.transport.abort()
        await door.close()
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_what_goes_in_comes_out_whole_in_both_directions(lab: Settings) -> None:
    async with door_to(lab, echo) as (_, connect):
        reader, writer = await connect()
        sent = bytes(range(256)) * (4 * MEGABYTE // 256)

        async def send() -> None:
            for first in range(0, len(sent), 100_000):
                writer.write(sent[first : first + 100_000])
                await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(sent)) == sent
        await sending


async def test_a_service_that_does_not_read_stops_the_sender_and_memory_is_bounded(
    lab: Settings,
) -> None:
    arrived, over = asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        writer.transport.pause_reading()
        arrived.set()
        await over.wait()
        writer.transport.abort()

    async with door_to(lab, deaf) as (_, connect):
        _, writer = await connect()
        await arrived.wait()
        taken = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                while taken < 64 * MEGABYTE:
                    writer.write(bytes(MEGABYTE))
                    await writer.drain()
                    taken += MEGABYTE
        over.set()
        assert taken < 32 * MEGABYTE, "what the sockets' own buffers hold"


async def test_what_the_service_says_last_arrives_before_the_end(
    lab: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the other computer is slow to take it."""
    last = b"x" * 48 * 1024
    closed = asyncio.Event()
    welcome = Door._welcome

    async def small(door: Door, connection: socket.socket) -> Ends:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return await welcome(door, connection)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(last)
        writer.close()
        await writer.wait_closed()
        closed.set()

    monkeypatch.setattr(Door, "_welcome", small)
    async with door_to(lab, answer) as (door, _):
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", door.port))
        slow.setblocking(False)
        trusted = trust(keys.keys_of(lab).authority)
        reader, writer = await asyncio.open_connection(
            sock=slow, ssl=trusted, server_hostname="127.0.0.1"
        )
        writer.write(b"GET\n")
        await writer.drain()
        writer.transport.pause_reading()
        await closed.wait()
        await asyncio.sleep(0.1)  # by now the door has seen the end
        writer.transport.resume_reading()
        assert await reader.read(-1) == last
        writer.close()


async def test_the_service_sees_the_end_of_who_goes_and_the_place_is_free(
    lab: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "CONNECTIONS", 2)
    ended = asyncio.Semaphore(0)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(-1)
        ended.release()
        writer.close()

    async with door_to(lab, listen) as (_, connect):
        for _ in range(6):
            _, writer = await connect()
            writer.close()
            await ended.acquire()


async def test_no_more_connections_than_the_bound_and_the_next_one_waits(
    lab: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "CONNECTIONS", 2)
    async with door_to(lab, echo) as (_, connect):
        first, second = await connect(), await connect()
        third = asyncio.ensure_future(connect())
        for reader, writer in (first, second):
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
        assert not third.done()
        first[1].close()
        reader, writer = await third
        writer.write(b"now")
        assert await reader.readexactly(3) == b"now"


async def test_who_speaks_no_tls_or_nothing_at_all_is_sent_away_unheard(
    lab: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr(doors, "CONNECTIONS", 1)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    async with door_to(lab, listen) as (door, connect):
        for says in (b"PING\r\n", b"AMQP\x00\x00\x09\x01", b"GET /api HTTP/1.0\r\n\r\n", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(says)
            with suppress(ConnectionError):
                assert not (await reader.read(-1)).startswith((b"AMQP", b"HTTP", b"+", b"-"))
            writer.close()
        assert heard == []
        _, writer = await connect()
        writer.write(b"by TLS")
        while not heard:  # noqa: ASYNC110 (nothing else to wait for)
            await asyncio.sleep(0.01)
        assert heard == [b"by TLS"]


async def test_a_computer_that_has_vanished_is_noticed_by_the_system(
    lab: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[list[int]] = []
    welcome = Door._welcome
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )

    async def look(door: Door, connection: socket.socket) -> Ends:
        ends = await welcome(door, connection)
        watched.append([connection.getsockopt(*option) for option in options])
        return ends

    monkeypatch.setattr(Door, "_welcome", look)
    async with door_to(lab, echo) as (_, connect):
        reader, writer = await connect()
        writer.write(b"x")
        await reader.readexactly(1)
    assert watched == [[1, 10, 3]]


async def test_older_tls_is_refused(lab: Settings) -> None:
    async with door_to(lab, echo) as (door, _):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(cadata=keys.keys_of(lab).authority)
        old.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", door.port, ssl=old)


async def test_a_service_that_is_gone_ends_the_connection_and_the_door_goes_on(
    lab: Settings,
) -> None:
    async with door_to(lab, echo) as (door, connect):
        there = door.target
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            door.target = replace(there, port=unused.getsockname()[1])
            reader, _ = await connect()
            assert await reader.read(-1) == b""
        door.target = there
        reader, writer = await connect()
        writer.write(b"back")
        assert await reader.readexactly(4) == b"back"


async def test_a_port_that_is_taken_and_an_address_of_another_computer_are_said(
    lab: Settings,
) -> None:
    async with door_to(lab, echo) as (door, _):
        other = Door(door.target, keys.server_context(keys.keys_of(lab), "127.0.0.1"))
        with pytest.raises(ServiceUnavailable, match=f"127.0.0.1:{door.port} is taken"):
            await other.open("127.0.0.1", door.port)
        with pytest.raises(NotPossible, match=r"192\.0\.2\.1 is no address of this computer"):
            await other.open("192.0.2.1", 0)


async def test_there_is_no_door_to_a_redis_that_asks_for_no_password() -> None:
    async def open_house(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"+PONG\r\n")
        writer.close()

    server = await asyncio.start_server(open_house, "127.0.0.1", 0)
    redis = RedisAddress(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    assert await doors._takes_anybody(redis)
    server.close()


# -- the keys


def test_keys_are_made_once_for_a_lab_and_only_their_owner_reads_them(lab: Settings) -> None:
    first, file = keys.keys_of(lab), keys.file_of(lab)
    assert keys.keys_of(lab) == first
    assert keys.keys_of(replace(lab, lab="other")).password != first.password
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    shown = repr(first)
    assert first.password not in shown and first.authority_key not in shown
    keys.keep_ports(lab, [7, 8, 9])
    keys.keep_ports(lab, [1, 2, 3])
    assert keys.keys_of(lab) == replace(first, ports=[7, 8, 9])


def test_who_is_at_home_has_the_secret_that_a_server_made_unless_another_is_named(
    lab: Settings,
) -> None:
    elsewhere = replace(lab, lab="lab")
    assert keys.with_kept_secret(elsewhere, "class") == elsewhere
    made = keys.keys_of(lab).lab_secret
    assert keys.with_kept_secret(elsewhere, "class") == replace(elsewhere, lab_secret=made)
    for own in (replace(lab, lab_secret="mine"), replace(lab, invited=True)):
        assert keys.with_kept_secret(own, "class") == own


def test_a_damaged_file_of_keys_is_said_and_not_replaced(lab: Settings) -> None:
    keys.keys_of(lab)
    keys.file_of(lab).write_text("{}")
    with pytest.raises(InvalidInput, match=r"class\.json"):
        keys.keys_of(lab)
    assert keys.file_of(lab).read_text() == "{}"


def test_a_secret_file_is_whole_private_and_replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "invitation.toml"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["invitation.toml"]
    with pytest.raises(ServiceUnavailable, match="cannot be written"):
        write_private(tmp_path / "nowhere" / "file", "text")


# -- the invitation


@pytest.mark.parametrize("secret", ["plain", "with \" ' \\ and # = \x7f\n and é", "'''"])
def test_an_invitation_is_a_settings_file_that_leads_into_the_lab(
    lab: Settings, tmp_path: Path, secret: str
) -> None:
    authority = keys.keys_of(lab).authority
    there = {"host": "2001:db8::1", "password": "p/@:", "tls": True, "authority": authority}
    rabbitmq = RabbitAddress(
        port=1, user="ch@t", vhost="chatlab-class", management_url="https://h:2", **there
    )
    redis = RedisAddress(port=3, user="ch@t", prefix="chatlab:class:", **there)
    file = tmp_path / "invitation.toml"
    invite("class", rabbitmq, redis, secret).write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = Settings.load({}, file)
    assert (settings.lab, settings.invited, settings.lab_secret) == ("class", True, secret)
    place = invited(settings)
    assert (place.rabbitmq, place.redis) == (rabbitmq, redis)
    assert "secret" in file.read_text().splitlines()[2].lower()


def test_a_server_on_loopback_and_one_that_is_a_guest_write_none(tmp_path: Path) -> None:
    for settings in (Settings(), Settings(invited=True)):
        with pytest.raises(NotPossible):
            Hosted(settings=settings, doors={}).write_invitation(tmp_path / "x")
    assert not (tmp_path / "x").exists()


# -- the command


@pytest.mark.parametrize(
    ("host", "invites", "said"),
    [
        ("127.0.0.1", True, "for other computers"),
        ("0.0.0.0", True, "one address of this machine"),
        ("::", False, "one address of this machine"),
    ],
)
def test_a_server_that_cannot_be_open_is_refused_before_anything_starts(
    tmp_path: Path, host: str, invites: bool, said: str
) -> None:
    file = tmp_path / "invitation.toml"
    options = argparse.Namespace(
        host=host,
        port=None,
        lab=None,
        drain=1.0,
        invite=file if invites else None,
        store="mailbox-redis",
        tls=False,
    )
    with pytest.raises(NotPossible) as caught:
        serving.server(Settings(folder=tmp_path), options)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "api", "tls", "is_open"),
    [
        ("broker.example", "https://broker.example", True, True),
        ("broker.example", "http://broker.example", True, False),
        ("broker.example", "https://broker.example", False, False),
        ("127.0.0.1", "https://broker.example", True, False),
        ("broker.example", "https://localhost:1", True, False),
    ],
)
def test_brokers_need_doors_unless_others_reach_all_of_them_by_tls(
    host: str, api: str, tls: bool, is_open: bool
) -> None:
    where = {"host": host, "port": 1, "tls": tls, "password": "p"}
    rabbitmq = RabbitAddress(user="u", management_url=api, **where)  # type: ignore[arg-type]
    redis = RedisAddress(**where)  # type: ignore[arg-type]
    assert hosting._is_open(rabbitmq, redis) is is_open


async def test_a_name_that_leads_to_loopback_is_none_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leads_to = ["127.0.1.1"]

    async def look_up(*_: object) -> list[object]:
        return [(2, 1, 6, "", (address, 0)) for address in leads_to]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with pytest.raises(NotPossible, match="other computers do not reach"):
        await hosting._check_reachable("laptop")
    leads_to.append("192.0.2.1")
    await hosting._check_reachable("laptop")
