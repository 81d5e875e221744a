"""Guests: the accounts of those who use a lab's brokers from other computers.

A guest may do all that a client of the lab does, in the lab's own namespace, and nothing
elsewhere:

- *RabbitMQ*: an account with all rights in the lab's virtual host. Its tag ``management`` lets
  it list what is there and close connections of this same account, no others
  (https://www.rabbitmq.com/docs/management#permissions). In the default virtual host it may
  read RabbitMQ's own events, as an account that looks does (:mod:`namespaces`): events tell
  names of queues and users of other labs at the same RabbitMQ, never a message;
- *Redis*: an ACL user (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)
  for the lab's keys and channels and for the commands of :data:`COMMANDS`, all of them about
  data. The commands that a script runs are held to the same.

All guests of a lab are one account, with one password: among themselves they are trusted, as
the users of one notebook are. The administrator's password and those of the private brokers
stay on this computer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from chatlab.errors import ChatlabError, NotPossible
from chatlab.resp import Redis, mapped
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.management import Management
from chatlab.services.namespaces import (
    EVENTS_VHOST,
    EVERYTHING,
    guest_of,
    watching,
)

DEADLINE_SECONDS = 15.0
#: A Redis that has started anew knows the guests after so long.
KEEP_SECONDS = 3.0

#: What clients of a lab ask of Redis. No SCAN, KEYS or PUBSUB CHANNELS, which name what others
#: have, nothing that administers. CLIENT UNBLOCK ends the wait of whoever it names; a client
#: that stops listening wakes itself so.
COMMANDS = (
    *("+@hash", "+@list", "+@sortedset", "+@stream", "+@string", "+@transaction"),
    *("+del", "+unlink", "+exists", "+pexpire", "+time"),
    *("+publish", "+subscribe", "+unsubscribe", "+pubsub|numsub"),
    *("+eval", "+evalsha", "+script|load"),
    *("+ping", "+hello", "+auth", "+quit", "+select"),
    *("+client|setname", "+client|setinfo", "+client|id"),
    *("-@dangerous", "-@admin", "+client|unblock"),
)


async def grant(
    rabbitmq: RabbitAddress, redis: RedisAddress, administrator: tuple[str, str], password: str
) -> tuple[RabbitAddress, RedisAddress]:
    """Make the accounts, or set them right. Idempotent; a guest that is there notices nothing.

    Args:
        rabbitmq, redis: the lab's namespace, with rights to make accounts.
        administrator: user and password for the management API.

    Returns:
        The same places with the guests' credentials.

    Raises:
        NotPossible: there is no management API, or no right to make accounts.
        ServiceUnavailable, SendUncertain: a broker does not answer.
    """
    await _grant_rabbitmq(rabbitmq, administrator, password)
    name = guest_of(rabbitmq)
    guests = replace(redis, user=name, password=password)
    async with _client(redis) as client:
        await _grant_redis(client, guests)
    there = replace(rabbitmq, user=name, password=password, monitor="", monitor_password="")
    return there, guests


async def _grant_rabbitmq(
    rabbitmq: RabbitAddress, administrator: tuple[str, str], password: str
) -> None:
    if not rabbitmq.management_url:
        raise NotPossible(
            "Without RabbitMQ's management API no account for other computers can be made.",
            todo="Set CHATLAB_MANAGEMENT_URL, with an administrator's user and password.",
        )
    user, secret = administrator
    management = Management(replace(rabbitmq, user=user, password=secret), DEADLINE_SECONDS)
    guest = guest_of(rabbitmq)
    account = {"password": password, "tags": "management"}
    await management.put("users", guest, body=account)
    await management.put("permissions", rabbitmq.vhost, guest, body=EVERYTHING)
    await management.put("permissions", EVENTS_VHOST, guest, body=watching(rabbitmq))


async def keep_granted(redis: RedisAddress, guests: RedisAddress) -> None:
    """Make the account at Redis again and again, until cancelled: one that starts anew has
    forgotten it."""
    async with _client(redis) as client:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            with suppress(ChatlabError):  # Redis is away: the next time
                await _grant_redis(client, guests)


async def _grant_redis(client: Redis, guests: RedisAddress) -> None:
    mine = guests.prefix
    rules = ("reset", "on", f">{guests.password}", f"~{mine}*", f"&{mine}*", *COMMANDS)
    with mapped(client.address):
        execute: Any = client.driver.execute_command
        await execute("ACL SETUSER", guests.user, *rules)


@asynccontextmanager
async def _client(address: RedisAddress) -> AsyncIterator[Redis]:
    client = Redis(address, deadline=DEADLINE_SECONDS, name="chatlab-server")
    try:
        yield client
    finally:
        await client.close()
