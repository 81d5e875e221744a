"""Hosting: a lab opened to other computers, for as long as a chat server runs.

A server on loopback needs none of this. One at an address that others can reach gets, before
it begins to listen:

1. the lab's secret: that of the settings, else one that is made once and kept;
2. accounts for guests, at RabbitMQ and at Redis (``services/guests.py``);
3. doors to both (``services/doors.py``), unless others reach them by TLS already: then the
   URLs of the settings are good for them, too.

What a client on another computer has to know of all this is the invitation
(``services/invitation.py``). The keys are kept (``private/keys.py``), so a server that was
killed and starts again is the same to those who were invited before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from chatlab import logs
from chatlab.amqp.limits import raise_file_limit
from chatlab.errors import NotPossible, ServiceUnavailable
from chatlab.private.keys import Keys, keep_ports, keys_of, server_context
from chatlab.private.security import check_host, check_name
from chatlab.services import urls
from chatlab.services.addresses import RabbitAddress, RedisAddress, join_host_port
from chatlab.services.doors import NAMES, Doors, check_locked
from chatlab.services.guests import grant, keep_granted
from chatlab.services.invitation import Invitation, invite
from chatlab.services.machine import is_loopback
from chatlab.services.place import Place
from chatlab.services.ports import reserve
from chatlab.settings import Settings

log = logs.of(__name__)


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """A lab, and how others get in."""

    #: With the lab's secret; a server starts with these.
    settings: Settings
    #: What has a door -> its port; empty: there are no doors.
    doors: dict[str, int]
    #: None: nobody on another computer can be invited from here.
    invitation: Invitation | None = None
    #: What no log may show.
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def write_invitation(self, path: Path) -> None:
        """Write the file that a client elsewhere needs, mode 0600.

        Raises:
            NotPossible: this server is not open to other computers, or is a guest itself.
            ServiceUnavailable: it cannot be written there.
        """
        if self.invitation is not None:
            self.invitation.write(path)
        elif self.settings.invited:
            raise NotPossible(
                "This server was invited itself.",
                todo="Pass on the invitation that it uses.",
            )
        else:
            raise nobody_to_invite()


def nobody_to_invite() -> NotPossible:
    """The error of an invitation to what listens on loopback."""
    return NotPossible(
        "An invitation is for other computers, and this server listens on loopback.",
        todo="Give it an address of this computer: --host 192.0.2.1, for instance.",
    )


@asynccontextmanager
async def hosted(
    settings: Settings, place: Place, host: str, port: int = 0
) -> AsyncIterator[Hosted]:
    """Open the lab of ``place`` to other computers while the body runs, if ``host`` is not
    loopback.

    Args:
        host: where the chat server is going to listen.
        port: its port; the doors get the next three. 0: any free ones, which are kept.

    Raises:
        NotPossible: ``host`` is no address for it, guests cannot have accounts, or a broker
            lets in whoever asks.
        ServiceUnavailable: a port is taken, or a broker does not answer.
    """
    if is_loopback(host) or place.lease is None:
        yield Hosted(settings=settings, doors={})
        return
    keys = await asyncio.to_thread(keys_of, settings)
    settings = replace(settings, lab_secret=settings.lab_secret or keys.lab_secret)
    check_host(host, settings.lab_secret)
    await check_name(host)
    await _check_reachable(host)
    await check_locked(place.rabbitmq, place.redis)
    raise_file_limit()
    administrator = urls.administrator(settings, place.rabbitmq)
    rabbitmq, redis = await grant(place.rabbitmq, place.redis, administrator, keys.password)
    keeping = asyncio.create_task(keep_granted(place.redis, redis))
    doors: Doors | None = None
    try:
        if not _is_open(rabbitmq, redis):
            doors = await _open(settings, keys, place, host, port)
            rabbitmq, redis = _through(doors, host, keys.authority, rabbitmq, redis)
        yield Hosted(
            settings=settings,
            doors=dict(zip(NAMES, doors.ports, strict=True)) if doors else {},
            invitation=invite(place.lab, rabbitmq, redis, settings.lab_secret),
            secrets=(keys.password, settings.lab_secret),
        )
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        if doors is not None:
            await doors.close()


async def _check_reachable(host: str) -> None:
    """Debian's own name of a computer leads to 127.0.1.1 (hosts(5))."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None)
    if all(is_loopback(str(address[0])) for *_, address in found):
        raise NotPossible(
            f"{host} leads to loopback here, which other computers do not reach.",
            todo="Give the address itself: `ip address` lists those of this computer.",
        )


def _is_open(rabbitmq: RabbitAddress, redis: RedisAddress) -> bool:
    """Whether other computers reach all of it by TLS already."""
    api = urlsplit(rabbitmq.management_url)
    hosts = rabbitmq.host, redis.host, api.hostname or ""
    secure = rabbitmq.tls and redis.tls and api.scheme == "https"
    return secure and not any(map(is_loopback, hosts))


async def _open(settings: Settings, keys: Keys, place: Place, host: str, port: int) -> Doors:
    """The doors, at the ports that are asked for; else at those of last time; else anywhere."""
    doors = Doors(place.rabbitmq, place.redis, server_context(keys, host))
    if port:
        await doors.open(host, range(port + 1, port + 1 + len(NAMES)))
        return doors
    if keys.ports:
        with suppress(ServiceUnavailable):
            await doors.open(host, keys.ports)
            return doors
        log.warning("doors elsewhere", why="another program has their ports", host=host)
    await doors.open(host, _free_ports())
    await asyncio.to_thread(keep_ports, settings, doors.ports)
    return doors


def _free_ports() -> Sequence[int]:
    """Below those that outgoing connections get, so that they are free next time, too."""
    guards = [reserve() for _ in NAMES]
    for guard in guards:
        guard.release()
    return [guard.number for guard in guards]


def _through(
    doors: Doors, host: str, authority: str, rabbitmq: RabbitAddress, redis: RedisAddress
) -> tuple[RabbitAddress, RedisAddress]:
    """The same brokers, reached by the doors."""
    amqp, api, store = doors.ports
    url = f"https://{join_host_port(host, api)}{urlsplit(rabbitmq.management_url).path}"
    return (
        replace(
            rabbitmq,
            host=host,
            port=amqp,
            tls=True,
            named="",
            authority=authority,
            management_url=url,
        ),
        replace(redis, host=host, port=store, tls=True, named="", authority=authority),
    )
