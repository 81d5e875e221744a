"""Controls: ``lab.rabbitmq``, ``lab.redis`` and ``lab.server``, to look at and to break.

Breaking is possible in a lab of its own services (``Lab.start(name, breakable=True)``);
elsewhere it is refused by name, because other notebooks use the same brokers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chatlab.errors import NotPossible
from chatlab.journal import now
from chatlab.lab.client import WHOLE
from chatlab.services.processes import memory_bytes
from chatlab.tables import card

if TYPE_CHECKING:
    from chatlab.lab.lab import Lab


class Service:
    """One service of a lab. ``running`` tells, the verbs break it and bring it back."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab = lab
        self.name = name

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed.

        Raises:
            NotPossible: the lab is not breakable.
        """
        self._act("kill", self._verb("kill"), began="kill")

    def start(self) -> None:
        """Start it again; returns when it answers."""
        self._act("start", self._verb("start"), ended="kill")

    def restart(self) -> None:
        """An orderly stop and a start; returns when it answers."""
        self._act("restart", self._verb("stop"), began="restart")
        self._act("restart", self._verb("start"), ended="restart")

    def pause(self) -> None:
        """SIGSTOP: it is there and does not answer."""
        self._act("pause", self._verb("pause"), began="pause")

    def resume(self) -> None:
        """A paused service goes on."""
        self._act("resume", self._verb("resume"), ended="pause")

    def memory_alarm(self) -> None:
        """It behaves as one whose memory is full: RabbitMQ blocks connections that publish,
        Redis refuses to write. Reading goes on."""
        self._alarm(on=True)

    def calm(self) -> None:
        """The memory alarm is over."""
        self._alarm(on=False)

    def _alarm(self, on: bool) -> None:
        fault = "memory_alarm"
        self._act(
            "raise a memory alarm in",
            lambda: self._lab._lease.memory_alarm(self.name, on),
            began=fault if on else "",
            ended="" if on else fault,
        )

    @contextmanager
    def killed(self) -> Iterator[Service]:
        """``with lab.rabbitmq.killed():`` gone inside, back after."""
        self.kill()
        try:
            yield self
        finally:
            self.start()

    @contextmanager
    def paused(self) -> Iterator[Service]:
        """``with lab.redis.paused():`` silent inside, going on after."""
        self.pause()
        try:
            yield self
        finally:
            self.resume()

    @property
    def running(self) -> bool:
        """Whether its process is there and not paused."""
        return bool(self._lab._call(self._lab._lease.running(self.name)))

    @property
    def boot_seconds(self) -> float:
        """How long its last start took; 0 for a service that is not ours, or is down."""
        return float(self._process().get("boot_seconds") or 0)

    @property
    def megabytes(self) -> float:
        """Resident memory of its process, MB (10^6 bytes); 0 for a service that is not ours."""
        pid = self._process().get("pid")
        return memory_bytes(pid) / 1e6 if pid else 0.0

    def _process(self) -> dict[str, Any]:
        """What the supervisor knows of it; empty for one that it did not start."""
        address = getattr(self._lab._lease, self.name, None)
        if address is None:  # a chat server has several
            return {}
        pairs = self._lab._call(self._lab._lease.status())["pairs"].values()
        found = [pair[self.name] for pair in pairs]
        # One that is down has no ports now.
        return next((one for one in found if address.port in one.get("ports", ())), {})

    def _verb(self, verb: str) -> Callable[[], Awaitable[Any]]:
        act: Callable[[str], Awaitable[Any]] = getattr(self._lab._lease, verb)
        return lambda: act(self.name)

    def _act(
        self, verb: str, work: Callable[[], Awaitable[Any]], began: str = "", ended: str = ""
    ) -> None:
        if not self._lab.breakable:
            raise NotPossible(
                f"This lab shares its services with other notebooks, so it cannot {verb} "
                f"{self.name}.",
                todo='Lab.start("faults", breakable=True) has services of its own.',
            )

        async def do() -> None:
            if began:
                self._fact("FaultBegan", began)
            await work()
            if ended:
                self._fact("FaultEnded", ended)

        self._lab._call(do())

    def _fact(self, kind: str, fault: str) -> None:
        self._lab.record((kind, now(), "", 0, WHOLE, fault, self.name))

    def facts(self) -> dict[str, Any]:
        """What a card shows of it."""
        address = getattr(self._lab._lease, self.name)
        product = getattr(address, "product", "RabbitMQ")
        return {
            "program": f"{product} {address.version}".strip(),
            "at": f"{address.host}:{address.port}",
            "running": "yes" if self.running else "no",
        }

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.facts().items())
        return f"<{self.name}: {facts}>"

    def _repr_html_(self) -> str:
        return card(self.name, self.facts())


class RabbitService(Service):
    """The lab's RabbitMQ."""

    @property
    def page(self) -> str:
        """URL of the broker's own management page; :attr:`login` signs in."""
        return f"{self._lab._lease.rabbitmq.management_url}/#/queues"

    @property
    def login(self) -> tuple[str, str]:
        """User and password of the management page. Shown only when asked for."""
        address = self._lab._lease.rabbitmq
        return address.user, address.password

    def facts(self) -> dict[str, Any]:
        """Also its virtual host and management page."""
        vhost = self._lab._lease.rabbitmq.vhost
        return {**super().facts(), "virtual host": vhost, "management page": self.page}


class RedisService(Service):
    """The lab's Redis."""

    def facts(self) -> dict[str, Any]:
        """Also the prefix of the lab's keys."""
        return {**super().facts(), "key prefix": self._lab._lease.redis.prefix}


class ServerService(Service):
    """The lab's chat servers (one per private backend in use)."""

    def _alarm(self, on: bool) -> None:
        raise NotPossible("A chat server knows no memory alarm.", todo="lab.redis has one.")

    @property
    def running(self) -> bool:
        """Whether every chat server that was started is there and not paused."""
        return self._lab._call(self._lab._servers.running())

    def _verb(self, verb: str) -> Callable[[], Awaitable[Any]]:
        act: Callable[[], Awaitable[Any]] = getattr(self._lab._servers, verb)
        return act

    def facts(self) -> dict[str, Any]:
        """Address per kind of chat server."""
        return {
            **self._lab._servers.addresses(),
            "place": "a process of its own" if self._lab.breakable else "this kernel",
            "running": "yes" if self.running else "no",
        }
