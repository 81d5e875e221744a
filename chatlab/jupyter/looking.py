"""Looking: the brokers are held while somebody looks, by an account that only looks.

The first question takes a lease, which starts the brokers where they do not run; two minutes
after the last one it is given back (the page asks every five seconds, or every minute in a
browser tab that is out of sight). The lease brings an account with RabbitMQ's tag
``monitoring``. Such an account sees the queues of those virtual hosts only in which it has a
permission, so it gets one, for nothing, in every lab's.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import replace

from chatlab import services
from chatlab.errors import ServiceUnavailable
from chatlab.services import urls
from chatlab.services.addresses import RabbitAddress
from chatlab.services.lease import Lease
from chatlab.services.management import Management
from chatlab.services.namespaces import TO_LIST
from chatlab.services.progress import Progress
from chatlab.settings import Settings

#: The lease is given back when nobody has asked for so long. Browsers let a page that is out
#: of sight ask once a minute.
IDLE_SECONDS = 120.0
#: New labs are looked for at most so often.
LABS_SECONDS = 1.0
#: The virtual hosts of labs begin with it.
OF_LABS = "chatlab-"


class Looking:
    """The lease of one page, taken and given back as it is needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: What the start of the brokers is busy with, for people.
        self.doing = "RabbitMQ is starting"
        self._joining: asyncio.Task[Lease] | None = None
        self._lease: Lease | None = None
        self._used = time.monotonic()
        self._looked = -LABS_SECONDS

    async def rabbitmq(self) -> RabbitAddress | None:
        """The RabbitMQ to show, with the account that looks; None while it starts.

        Raises:
            ChatlabError: it cannot be had; the next call tries again.
        """
        self._used = time.monotonic()
        if self._lease is not None and self._lease.lost:
            await self._give_back()
        if self._lease is None:
            if self.settings.rabbitmq_url and not self.settings.management_url:
                raise ServiceUnavailable(
                    "The address of your RabbitMQ's management page is not known.",
                    todo="Set CHATLAB_MANAGEMENT_URL, for instance http://host:15672.",
                )
            if self._joining is None:
                self._joining = asyncio.create_task(self._join())
            if not self._joining.done():
                return None
            joining, self._joining = self._joining, None
            self._lease = joining.result()
        lease = self._lease  # the next question may find it lost while this one waits
        await self._see_all(lease)
        return lease.rabbitmq.watched()

    async def rest(self) -> None:
        """Give the lease back when nobody has looked for a while."""
        if self._lease is not None and time.monotonic() - self._used > IDLE_SECONDS:
            await self._give_back()

    async def close(self) -> None:
        """Give it back now."""
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait([self._joining])
            if not self._joining.cancelled() and self._joining.exception() is None:
                self._lease = self._joining.result()
        await self._give_back()

    async def _join(self) -> Lease:
        return await services.join(
            self.settings, lab=f"page-{secrets.token_hex(3)}", progress=self._progress
        )

    def _progress(self, progress: Progress) -> None:
        self.doing = str(progress)

    async def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.close()

    async def _see_all(self, lease: Lease) -> None:
        """The account may list what is in every lab's virtual host, also in new ones and in
        those that a scene has emptied."""
        if time.monotonic() - self._looked < LABS_SECONDS:
            return
        self._looked = time.monotonic()
        management = Management(self._administrator(lease))
        monitor = lease.rabbitmq.monitor
        with suppress(ServiceUnavailable):  # it is down, or a lab was closed just then
            seen = {
                row["vhost"]
                for row in await management.get("users", monitor, "permissions") or ()
            }
            for row in await management.get("vhosts", columns="name") or ():
                if row["name"].startswith(OF_LABS) and row["name"] not in seen:
                    await management.put("permissions", row["name"], monitor, body=TO_LIST)

    def _administrator(self, lease: Lease) -> RabbitAddress:
        if not self.settings.rabbitmq_url:
            return lease.rabbitmq
        user, password = urls.administrator(self.settings, lease.rabbitmq)
        return replace(lease.rabbitmq, user=user, password=password)
