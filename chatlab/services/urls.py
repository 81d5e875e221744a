"""Addresses of brokers of one's own, from the URLs in the settings."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from chatlab.errors import InvalidInput
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings


def rabbitmq_address(settings: Settings) -> RabbitAddress | None:
    """From ``amqp[s]://user:secret@host:port/vhost``; None when no URL is set.

    ``management_url`` goes with it, without its credentials; see :func:`administrator`.

    Raises:
        InvalidInput: not such a URL. The text names the setting, never the URL.
    """
    if not settings.rabbitmq_url:
        return None
    url = _split(settings.rabbitmq_url, "rabbitmq_url", ("amqp", "amqps"))
    tls = url.scheme == "amqps"
    return RabbitAddress(
        host=url.hostname or "",
        port=url.port or (5671 if tls else 5672),
        user=unquote(url.username or "guest"),
        password=unquote(url.password or "guest"),
        vhost=unquote(url.path[1:]) or "/",
        tls=tls,
        management_url=_management_url(settings),
    )


def is_ours(settings: Settings, service: str) -> bool:
    """Whether chatlab itself runs this service: no URL of it was given."""
    given = {"rabbitmq": settings.rabbitmq_url, "redis": settings.redis_url}
    return not given.get(service)


def administrator(settings: Settings, address: RabbitAddress) -> tuple[str, str]:
    """User and password for the management API: its URL's own, else those for AMQP."""
    if settings.management_url:
        url = _split(settings.management_url, "management_url", ("http", "https"))
        if url.username:
            return unquote(url.username), unquote(url.password or "")
    return address.user, address.password


def redis_address(settings: Settings) -> RedisAddress | None:
    """From ``redis[s]://user:secret@host:port/db``; None when no URL is set.

    Raises:
        InvalidInput: not such a URL.
    """
    if not settings.redis_url:
        return None
    url = _split(settings.redis_url, "redis_url", ("redis", "rediss"))
    database = url.path.strip("/") or "0"
    if not database.isdecimal():
        raise InvalidInput("The setting redis_url names a database that is no number.")
    return RedisAddress(
        host=url.hostname or "",
        port=url.port or 6379,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        db=int(database),
        tls=url.scheme == "rediss",
    )


def _management_url(settings: Settings) -> str:
    if not settings.management_url:
        return ""
    url = _split(settings.management_url, "management_url", ("http", "https"))
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


def _split(text: str, setting: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        url = urlsplit(text)
        valid = url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidInput(
            f"The setting {setting} is not a URL of the kind it should be.",
            todo=f"It begins like {schemes[0]}://user:password@host:port.",
        )
    return url
