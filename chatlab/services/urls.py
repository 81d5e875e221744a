"""Addresses of brokers of one's own, from the URLs in the settings; and a shared lab's URL."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urlsplit

from chatlab.errors import InvalidInput
from chatlab.messages import check_name
from chatlab.services.addresses import RabbitAddress, RedisAddress, join_host_port
from chatlab.settings import Settings

#: The URL of a lab begins with it.
LAB_SCHEME = "chatlab"


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
        authority=settings.authority,
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
        authority=settings.authority,
    )


def lab_url(
    lab: str, rabbitmq: RabbitAddress, redis: RedisAddress, administrator: tuple[str, str]
) -> str:
    """``chatlab://lab?rabbitmq_url=…&management_url=…&redis_url=…``, with all secrets."""
    amqp = "amqps" if rabbitmq.tls else "amqp"
    http = urlsplit(rabbitmq.management_url)
    where = {
        "rabbitmq_url": f"{amqp}://{_at(rabbitmq)}/{quote(rabbitmq.vhost, safe='')}",
        "redis_url": f"{'rediss' if redis.tls else 'redis'}://{_at(redis)}/{redis.db}",
    }
    if rabbitmq.management_url:
        where["management_url"] = http._replace(
            netloc=f"{_user(*administrator)}@{http.netloc}"
        ).geturl()
    return f"{LAB_SCHEME}://{quote(lab)}?{urlencode(where)}"


def is_lab_url(text: str) -> bool:
    """Whether it is meant as the URL of a lab, not as a name."""
    return text.startswith(f"{LAB_SCHEME}:")


def of_lab_url(text: str, settings: Settings) -> tuple[str, Settings]:
    """The lab's name, and the settings with its brokers.

    Raises:
        InvalidInput: not such a URL. The text does not quote it.
    """
    try:
        url = urlsplit(text)
        found = parse_qs(url.query, strict_parsing=True)
        lab = check_name(unquote(url.netloc), "lab name")
        where = {name: found.pop(name)[0] for name in ("rabbitmq_url", "redis_url")}
        where["management_url"] = found.pop("management_url", [""])[0]
        there = replace(settings, **where)  # type: ignore[arg-type]
        whole = not (found or url.path or url.fragment)
        whole = whole and bool(rabbitmq_address(there) and redis_address(there))
    except (ValueError, KeyError):  # InvalidInput, too: it may quote a part
        whole = False
    if not whole:
        raise InvalidInput(
            "That is not the URL of a lab, or not all of it.",
            todo="Copy all of what lab.url says where the lab was started.",
        ) from None
    return lab, there


def _at(address: RabbitAddress | RedisAddress) -> str:
    return (
        f"{_user(address.user, address.password)}@{join_host_port(address.host, address.port)}"
    )


def _user(user: str, password: str) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}"


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


def same_lab(one: str, other: str) -> bool:
    """Whether two URLs lead to the same lab, whatever the credentials."""
    (name, first), (other_name, second) = (of_lab_url(url, Settings()) for url in (one, other))
    return name == other_name and _places(first) == _places(second)


def _places(settings: Settings) -> tuple[tuple[str, int, str], tuple[str, int, int]]:
    rabbitmq, redis = rabbitmq_address(settings), redis_address(settings)
    assert rabbitmq is not None
    assert redis is not None
    return (rabbitmq.host, rabbitmq.port, rabbitmq.vhost), (redis.host, redis.port, redis.db)
