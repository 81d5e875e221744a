"""What a stranger on another computer, and an invited guest, can do to a server's computer.

``python -m tests.hosts_probe HOST INVITATION PORT…`` prints one JSON object: which ports of
HOST take a connection, what they answer to plain text, and what each attempt met.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio

from chatlab.amqp.wire import Wire
from chatlab.discovery.redis import Registry
from chatlab.errors import ChatlabError
from chatlab.private.channel import error_of, open_channel
from chatlab.private.security import lab_metadata
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RabbitAddress, RedisAddress, ServerAddress
from chatlab.services.management import Management
from chatlab.services.place import Place, invited
from chatlab.settings import Settings
from chatlab.v1 import direct_chat_pb2 as direct
from chatlab.v1 import direct_chat_pb2_grpc as direct_grpc
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

SECONDS = 5.0
#: Greetings that a plain-text broker or web server would answer.
GREETINGS = (b"PING\r\n", b"AMQP\x00\x00\x09\x01", b"GET /api/overview HTTP/1.0\r\n\r\n")


async def open_ports(host: str, ports: list[int]) -> list[int]:
    async def answers(port: int) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        return True

    found = await asyncio.gather(*map(answers, ports))
    return [port for port, is_open in zip(ports, found, strict=True) if is_open]


async def in_plain_text(host: str, port: int) -> list[str]:
    """What comes back, but for a TLS alert or a reset."""
    said = []
    for greeting in GREETINGS:
        with suppress(OSError):
            async with asyncio.timeout(2 * SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(greeting)
                answer = await reader.read(100)
                writer.close()
                if answer and answer[0] != 0x15:  # RFC 8446, section 5.1: an alert
                    said.append(answer.decode("latin-1"))
    return said


async def outcome(work: Awaitable[Any]) -> str:
    """``ok``, or the class of the error and what it says first."""
    try:
        await work
    except ChatlabError as error:
        return f"{type(error).__name__}: {error.what}"
    return "ok"


async def amqp(address: RabbitAddress, **changes: str) -> None:
    wire = await Wire.open(
        replace(address, **changes),  # type: ignore[arg-type]
        *({},),
        heartbeat=0,
        timeout=SECONDS,
        on_lost=lambda _: None,
    )
    await wire.close()


async def declare(address: RabbitAddress, vhost: str, queue: str) -> None:
    wire = await Wire.open(
        *(replace(address, vhost=vhost), {}),
        heartbeat=0,
        timeout=SECONDS,
        on_lost=lambda _: None,
    )
    try:
        channel = await wire.channel()
        await channel.call("queue_declare", queue=queue, exclusive=True)
    finally:
        await wire.close()


async def api(address: RabbitAddress, *path: str, put: dict[str, Any] | None = None) -> None:
    management = Management(address, SECONDS)
    if put is None:
        await management.get(*path)
    else:
        await management.put(*path, body=put)


async def command(address: RedisAddress, *words: str) -> None:
    redis = Redis(address, deadline=SECONDS)
    try:
        with mapped(address):
            await redis.driver.execute_command(*words)  # type: ignore[no-untyped-call]
    finally:
        await redis.close()


async def claim(place: Place, settings: Settings) -> None:
    """Ask the chat server for a session without an account."""
    redis = Redis(place.redis, deadline=SECONDS)
    found = await Registry(redis, 3).find_server("mailbox-redis")
    await redis.close()
    assert found is not None
    channel = open_channel(found, settings)
    try:
        stub = pb_grpc.PrivateChatServiceStub(channel)  # type: ignore[no-untyped-call]
        await stub.Claim(pb.ClaimRequest(), metadata=lab_metadata(settings), timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error
    finally:
        await channel.close()


async def call(place: Place, settings: Settings, peer: str) -> None:
    """Call a user directly."""
    redis = Redis(place.redis, deadline=SECONDS)
    found = await Registry(redis, 3).whereabouts(peer)
    await redis.close()
    assert found is not None
    host, _, port = found.address.rpartition(":")
    there = ServerAddress(host=host, port=int(port), certificate=found.certificate)
    channel = open_channel(there, settings)
    try:
        stub = direct_grpc.DirectChatServiceStub(channel)  # type: ignore[no-untyped-call]
        talk = stub.Talk(metadata=lab_metadata(settings), timeout=SECONDS)
        await talk.write(direct.TalkRequest(hello=direct.Hello(caller="eva", peer=peer)))
        await talk.read()
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error
    finally:
        await channel.close()


async def main(host: str, invitation: str, *ports: str) -> None:
    settings = Settings.load({}, Path(invitation))
    place = invited(settings)
    rabbitmq, redis = place.rabbitmq, place.redis
    found = await open_ports(host, list(map(int, ports)))
    plain = {port: await in_plain_text(host, port) for port in found}
    stranger = replace(rabbitmq, user="guest", password="guest")
    unnamed = replace(redis, user="", password="")
    met = {
        "amqp guest/guest": amqp(stranger),
        "amqp guest/guest in /": amqp(stranger, vhost="/"),
        "api guest/guest": api(stranger, "overview"),
        "amqp chatlab/chatlab": amqp(rabbitmq, user="chatlab", password="chatlab"),
        "redis without a password": command(unnamed, "PING"),
        "redis guest/guest": command(replace(unnamed, user="guest", password="guest"), "PING"),
        "grpc without the secret": claim(place, replace(settings, lab_secret="")),
        "grpc with another secret": claim(place, replace(settings, lab_secret="guess")),
        "direct without the secret": call(place, replace(settings, lab_secret=""), "ana"),
        "direct with another secret": call(place, replace(settings, lab_secret="guess"), "ana"),
        "direct without a ticket": call(place, settings, "ana"),
        "amqp another authority": amqp(rabbitmq, authority=""),
        # The guest's own account, elsewhere than in the lab:
        "guest: a queue in /": declare(rabbitmq, "/", "mine"),
        "guest: a queue of other labs' events": declare(
            rabbitmq, "/", "chatlab/events/chatlab-other/x"
        ),
        "guest: a new user": api(
            rabbitmq, "users", "me", put={"password": "x", "tags": "administrator"}
        ),
        "guest: the users": api(rabbitmq, "users"),
        "guest: a new vhost": api(rabbitmq, "vhosts", "mine", put={}),
        "guest: definitions": api(rabbitmq, "definitions"),
        "guest: CONFIG": command(redis, "CONFIG", "GET", "requirepass"),
        "guest: KEYS": command(redis, "KEYS", "*"),
        "guest: SCAN": command(redis, "SCAN", "0"),
        "guest: FLUSHALL": command(redis, "FLUSHALL"),
        "guest: ACL": command(redis, "ACL", "LIST"),
        "guest: another lab's key": command(redis, "GET", "chatlab:other:accounts"),
        "guest: another lab's key in a script": command(
            redis, "EVAL", "return redis.call('GET', 'chatlab:other:x')", "0"
        ),
        "guest: another lab's channel": command(redis, "PUBLISH", "chatlab:other:changes", ""),
        "guest: its own lab's key": command(redis, "HGETALL", redis.prefix + "users"),
    }
    said = {what: await outcome(work) for what, work in met.items()}
    print(json.dumps({"open": found, "plain": plain, "met": said}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
