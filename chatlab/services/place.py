"""Place: where a chat system is, for those who use it without a notebook.

The server and the clients of one chat system share a lab's namespace, which is kept: what
waits there outlives them, for as long as its brokers run. There are two ways in:

- with brokers that chatlab runs on this computer, or that the settings name: by a lease, as
  a lab does. The namespace is created when it is not there;
- by an invitation (``settings.invited``), on another computer: the URLs of the settings lead
  into the namespace, by an account that has rights there only. Nothing is started here.

A notebook is in the same place with ``Lab.join("chat")``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from chatlab.errors import InvalidInput
from chatlab.messages import check_name
from chatlab.services import urls
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.lease import Lease, join
from chatlab.services.progress import Progress
from chatlab.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Place:
    """A lab's namespace on running brokers."""

    lab: str
    rabbitmq: RabbitAddress
    redis: RedisAddress
    #: What holds it open; None: somebody elsewhere does.
    lease: Lease | None = None


@asynccontextmanager
async def enter(
    settings: Settings, progress: Callable[[Progress], None] | None = None
) -> AsyncIterator[Place]:
    """The place of ``settings.lab``; held while the body runs.

    Raises:
        InvalidInput: an invitation without both URLs, or a lab's name that cannot be.
        ServiceMissing, ServiceUnavailable: a broker cannot be had; says what to do.
    """
    lab = check_name(settings.lab, "lab name")
    if settings.invited:
        yield invited(settings)
        return
    lease = await join(settings, lab=lab, shared=True, kept=True, progress=progress)
    try:
        yield Place(lab=lab, rabbitmq=lease.rabbitmq, redis=lease.redis, lease=lease)
    finally:
        await lease.close()


def invited(settings: Settings) -> Place:
    """What an invitation says.

    Raises:
        InvalidInput: not all of it is there.
    """
    rabbitmq, redis = urls.rabbitmq_address(settings), urls.redis_address(settings)
    if rabbitmq is None or redis is None:
        raise InvalidInput(
            "The invitation does not say where RabbitMQ and Redis are.",
            todo="Copy all of the file that the server wrote.",
        )
    lab = check_name(settings.lab, "lab name")
    return Place(lab=lab, rabbitmq=rabbitmq, redis=replace(redis, prefix=f"chatlab:{lab}:"))
