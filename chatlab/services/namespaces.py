"""A lab's own corner of the brokers: a virtual host, a prefix of keys, an account that looks.

Creating one costs about 20 ms, removing one 75 ms; the clients in a virtual host that is
removed are closed by the broker (320).

The account has RabbitMQ's tag ``monitoring``: it sees all through the management API and may
change nothing (https://www.rabbitmq.com/docs/management#permissions). In the default virtual
host, where ``rabbitmq_event_exchange`` publishes what happens, it may read that and have
queues and an exchange of its own to do so.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Collection, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.holders import HOLDERS
from chatlab.services.management import Management

#: Keys looked at, and removed, per round trip.
SCAN_KEYS = 1000
#: A broker that is busy starting others may take so long.
DEADLINE_SECONDS = 15.0
#: Tells the accounts of computers that share a lab apart.
TOKEN_BYTES = 4
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
#: Where RabbitMQ's own events are, and what a lab has there begins with.
EVENTS_VHOST = "/"
EVENTS = "chatlab/events"
TO_WATCH = {
    "configure": f"^{EVENTS}",
    "write": f"^{EVENTS}",
    "read": rf"^({EVENTS}|amq\.rabbitmq\.event$)",
}
#: In the lab's own virtual host: to list what is there needs a permission, if one for nothing.
TO_LIST = {"configure": "^$", "write": "^$", "read": "^$"}


def events_of(rabbitmq: RabbitAddress) -> str:
    """Begins the name of what a lab has in :data:`EVENTS_VHOST`."""
    return f"{EVENTS}/{rabbitmq.vhost}/"


def watching(rabbitmq: RabbitAddress) -> dict[str, str]:
    """As :data:`TO_WATCH`, for one lab only."""
    own = re.escape(events_of(rabbitmq))
    return {
        "configure": f"^{own}",
        "write": f"^{own}",
        "read": rf"^({own}|amq\.rabbitmq\.event$)",
    }


def guest_of(rabbitmq: RabbitAddress) -> str:
    """The account of a lab's users on other computers; see :mod:`guests`."""
    return f"{rabbitmq.vhost}-guest"


@dataclass(frozen=True)
class Namespace:
    """What one lab has on a RabbitMQ and on a Redis."""

    rabbitmq: RabbitAddress
    redis: RedisAddress
    #: The same RabbitMQ with an administrator's credentials; None when its management API
    #: is not known: then the address's own virtual host is used, and all names in it begin
    #: with a prefix.
    administrator: RabbitAddress | None = field(repr=False)


def of_lab(
    lab: str,
    rabbitmq: RabbitAddress,
    redis: RedisAddress,
    administrator: tuple[str, str] | None = None,
) -> Namespace:
    """Name a lab's namespace; nothing is created yet.

    Args:
        administrator: user and password for the management API if they differ.
    """
    admin = None
    if rabbitmq.management_url:
        user, password = administrator or (rabbitmq.user, rabbitmq.password)
        rabbitmq = replace(rabbitmq, vhost=f"chatlab-{lab}")
        admin = replace(rabbitmq, user=user, password=password)
        # Two computers that share a lab have an account each.
        monitor = f"chatlab-{lab}-monitor-{secrets.token_hex(TOKEN_BYTES)}"
        rabbitmq = replace(rabbitmq, monitor=monitor, monitor_password=secrets.token_hex(16))
    else:
        rabbitmq = replace(rabbitmq, prefix=f"chatlab-{lab}.")
    return Namespace(rabbitmq, replace(redis, prefix=f"chatlab:{lab}:"), admin)


async def create(space: Namespace) -> None:
    """Create the virtual host; a prefix needs no creation. Idempotent.

    Raises:
        ServiceUnavailable: RabbitMQ does not answer or refuses.
    """
    if space.administrator is not None:
        management = Management(space.administrator, DEADLINE_SECONDS)
        monitor, password = space.rabbitmq.monitor, space.rabbitmq.monitor_password
        account = {"password": password, "tags": "monitoring"}
        await _all(
            _create_vhost(management, space.rabbitmq.vhost),
            management.put("users", monitor, body=account),
        )
        await _all(
            _permit(management, space.rabbitmq, [monitor]),
            management.put("permissions", EVENTS_VHOST, monitor, body=TO_WATCH),
        )


async def _create_vhost(management: Management, vhost: str) -> None:
    await management.put("vhosts", vhost, body={"description": "a lab of chatlab"})


async def _permit(
    management: Management,
    rabbitmq: RabbitAddress,
    monitors: Iterable[str],
    guests: Iterable[str] = (),
) -> None:
    """In a new virtual host: all to the lab and its guests, and to list what is there to who
    looks."""
    rights = dict.fromkeys((rabbitmq.user, *guests), EVERYTHING)
    rights |= dict.fromkeys(monitors, TO_LIST)
    puts = (
        management.put("permissions", rabbitmq.vhost, user, body=body)
        for user, body in rights.items()
    )
    await _all(*puts)


async def wipe(space: Namespace, keep: Collection[str] = ()) -> None:
    """Empty it: a new virtual host, no keys but those of ``keep`` (without the prefix).

    Raises:
        ServiceUnavailable, SendUncertain: a broker does not answer; both were tried.
    """
    await _all(_renew_vhost(space), _remove_keys(space, keep))


async def remove(space: Namespace) -> None:
    """Remove all of it. Idempotent.

    Raises:
        ServiceUnavailable, SendUncertain: a broker does not answer; all was tried.
    """
    await _all(
        *(_remove_vhost(space), _remove_keys(space, ())),
        *(remove_monitor(space), _remove_watchers(space)),
    )


async def clear(space: Namespace) -> None:
    """Remove all of a shared one that nobody holds any more, also what computers that were
    killed have left; but the key of the holders. Idempotent.

    Raises:
        ServiceUnavailable, SendUncertain: as :func:`remove`.
    """
    await _all(
        *(_remove_vhost(space), _remove_keys(space, [HOLDERS])),
        *(_remove_monitors(space), _remove_watchers(space)),
    )


async def _all(*works: Coroutine[Any, Any, None]) -> None:
    """Let each have its try, then raise what the first unlucky one raised."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _renew_vhost(space: Namespace) -> None:
    await _remove_vhost(space)
    if space.administrator is not None:
        management = Management(space.administrator, DEADLINE_SECONDS)
        await _create_vhost(management, space.rabbitmq.vhost)
        # Also to the accounts of other computers, whose rights went with the old one.
        users = await _users(management)
        monitors = _monitors(users, space.rabbitmq)
        guests = [user for user in users if user == guest_of(space.rabbitmq)]
        await _permit(management, space.rabbitmq, monitors, guests)


async def _remove_vhost(space: Namespace) -> None:
    if space.administrator is not None:
        await Management(space.administrator, DEADLINE_SECONDS).delete(
            "vhosts", space.rabbitmq.vhost
        )


async def _users(management: Management) -> list[str]:
    return [user["name"] for user in await management.get("users") or ()]


def _monitors(users: Iterable[str], rabbitmq: RabbitAddress) -> list[str]:
    """The accounts that look, of all computers that share the lab."""
    pattern = re.escape(rabbitmq.monitor[: -2 * TOKEN_BYTES]) + f"[0-9a-f]{{{2 * TOKEN_BYTES}}}"
    return [name for name in users if re.fullmatch(pattern, name)]


async def _remove_monitors(space: Namespace) -> None:
    if space.administrator is not None:
        management = Management(space.administrator, DEADLINE_SECONDS)
        for name in _monitors(await _users(management), space.rabbitmq):
            await management.delete("users", name)


async def remove_monitor(space: Namespace) -> None:
    """Remove our own account that looks. Idempotent."""
    if space.administrator is not None:
        management = Management(space.administrator, DEADLINE_SECONDS)
        await management.delete("users", space.rabbitmq.monitor)


async def _remove_watchers(space: Namespace) -> None:
    """The exchanges of the lab's watchers. They go with their watcher, but for one that was
    killed before anything was bound to its exchange."""
    if space.administrator is not None:
        management = Management(space.administrator, DEADLINE_SECONDS)
        for row in await management.get("exchanges", EVENTS_VHOST, columns="name") or ():
            if row["name"].startswith(events_of(space.rabbitmq)):
                await management.delete("exchanges", EVENTS_VHOST, row["name"])


async def _remove_keys(space: Namespace, keep: Collection[str]) -> None:
    # Loaded here: a cold start need not wait for the driver's import.
    from chatlab.resp import Redis, mapped

    redis = Redis(space.redis, deadline=DEADLINE_SECONDS, name="chatlab-supervisor")
    kept = {redis.key(name) for name in keep}
    try:
        with mapped(space.redis):
            cursor = 0
            while True:
                cursor, keys = await redis.driver.scan(
                    cursor, match=f"{redis.prefix}*", count=SCAN_KEYS
                )
                doomed = [key for key in keys if key not in kept]
                if doomed:
                    await redis.driver.unlink(*doomed)
                if cursor == 0:
                    return
    finally:
        await redis.close()
