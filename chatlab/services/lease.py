"""The client's side: join the brokers of this machine, hold a lease on a namespace.

:func:`join` finds the supervisor, or starts one. The lease is the open connection: when this
process is killed, the supervisor sees it close and cleans up. All of it is awaited on one
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from chatlab.errors import LabClosed, NotPossible, ServiceUnavailable
from chatlab.messages import check_name
from chatlab.services import urls, wire
from chatlab.services.addresses import RabbitAddress, RedisAddress, to_dict
from chatlab.services.progress import Progress
from chatlab.services.reach import locked, reach
from chatlab.settings import Settings

Action = Literal["kill", "pause", "resume", "terminate"]

#: A supervisor that waits for a broker says so four times a second.
SILENCE_SECONDS = 20.0
#: A supervisor may be about to end when it is joined; the next one is not.
JOIN_ATTEMPTS = 3


GONE = "The supervisor of the private brokers is gone, and its labs with it."


class _Gone(ServiceUnavailable):
    """The connection to the supervisor has ended."""

    effect = "Unknown whether this took effect."
    todo = "Start the lab anew."


class Lease:
    """A namespace on running brokers, for as long as this is open. Made by :func:`join`.

    Every method raises ServiceUnavailable when the supervisor is gone and LabClosed after
    :meth:`close`. ``service`` is ``"rabbitmq"`` or ``"redis"``.
    """

    rabbitmq: RabbitAddress
    redis: RedisAddress

    def __init__(self, channel: wire.Channel, *, lab: str, breakable: bool) -> None:
        self.lab = lab
        self.breakable = breakable
        #: Called with a service and ``down``, ``up`` or ``paused`` when it changes;
        #: ``("supervisor", "down")`` when the lease is lost.
        self.on_event: Callable[[str, str], None] | None = None
        #: Called while a service is being waited for.
        self.on_progress: Callable[[Progress], None] | None = None
        self._channel = channel
        self._closed = False
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._heard = 0
        #: Whether the supervisor is gone.
        self.lost = False
        self._reader = asyncio.create_task(self._read())

    def __repr__(self) -> str:
        return f"<Lease of {self.lab}{', breakable' if self.breakable else ''}>"

    async def kill(self, service: str) -> None:
        """SIGKILL the service; returns when it is gone.

        Raises:
            NotPossible: the lab is not breakable, or brought this service itself.
        """
        await self._ask("kill", service=service)

    async def start(self, service: str) -> None:
        """Start it again with its data, on the same port; returns when it answers.

        Raises:
            NotPossible: as :meth:`kill`.
        """
        await self._ask("start", service=service)

    async def stop(self, service: str) -> None:
        """SIGTERM the service; returns when it is gone.

        Raises:
            NotPossible: as :meth:`kill`.
        """
        await self._ask("stop_service", service=service)

    async def pause(self, service: str) -> None:
        """SIGSTOP: connections stay open, nothing answers.

        Raises:
            NotPossible: as :meth:`kill`.
        """
        await self._ask("pause", service=service)

    async def resume(self, service: str) -> None:
        """SIGCONT.

        Raises:
            NotPossible: as :meth:`kill`.
        """
        await self._ask("resume", service=service)

    async def memory_alarm(self, service: str, on: bool) -> None:
        """The service behaves as one whose memory is full, or does so no more.

        Raises:
            NotPossible: as :meth:`kill`.
        """
        await self._ask("memory_alarm", service=service, on=on)

    async def running(self, service: str) -> bool:
        """Whether the service is up (not paused, not starting)."""
        return bool(await self._ask("running", service=service))

    async def status(self) -> dict[str, Any]:
        """What the supervisor runs: pairs of brokers, leases, ports; no secrets."""
        return dict(await self._ask("status"))

    async def spawn(self, name: str, argv: Sequence[str], environ: Mapping[str, str]) -> int:
        """Start a process that ends with this lease; its output goes to a log file.

        Args:
            name: unique among the running processes of this lease.
            argv: program and arguments. No secrets: everybody on the machine sees them.
            environ: variables on top of the supervisor's environment.

        Returns:
            The process id.

        Raises:
            InvalidInput: the program cannot be started, or the name is taken.
        """
        pid = await self._ask("spawn", name=name, argv=list(argv), environ=dict(environ))
        return int(pid)

    async def signal(self, name: str, action: Action) -> None:
        """Kill, pause, resume or terminate a process of :meth:`spawn`, with its children.

        Raises:
            NotPossible: it has ended.
            InvalidInput: there is none of that name.
        """
        await self._ask("signal", name=name, action=action)

    async def ended(self, name: str, timeout: float) -> int:
        """Wait for the end of a process of :meth:`spawn`; its exit code, -9 for SIGKILL.

        Raises:
            WaitTimeout: it still runs after ``timeout`` seconds.
            InvalidInput: there is none of that name.
        """
        return int(
            await self._ask(
                "ended", name=name, timeout=timeout, patience=timeout + SILENCE_SECONDS
            )
        )

    async def wipe(self, keep: Collection[str] = ()) -> None:
        """Empty the namespace: a new virtual host, no keys.

        Args:
            keep: names of keys, without the prefix, that stay.
        """
        await self._ask("wipe", keep=sorted(keep))

    async def close(self) -> None:
        """Give the lease back; returns when the namespace is gone. Idempotent.

        The processes of :meth:`spawn` are killed.
        """
        if self._closed:
            return
        self._closed = True
        if not self.lost:
            with suppress(ServiceUnavailable):  # then it is given back already
                await self._ask("leave")
        await self._drop()

    async def _drop(self) -> None:
        self._closed = True
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._channel.close()

    async def _join(self, request: dict[str, Any]) -> None:
        answer = await self._ask("join", **request)
        self.rabbitmq = RabbitAddress(**answer["rabbitmq"])
        self.redis = RedisAddress(**answer["redis"])

    async def _ask(self, do: str, *, patience: float = SILENCE_SECONDS, **fields: Any) -> Any:
        """Send a request and wait for its answer, as long as the supervisor says anything."""
        if self._closed and do != "leave":
            raise LabClosed(f"The lease of {self.lab} has been given back.")
        if self.lost:
            raise _Gone(GONE)
        self._number += 1
        number = self._number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._channel.post({"id": number, "do": do, **fields})
            while not answer.done():
                heard = self._heard
                await asyncio.wait([answer], timeout=patience)
                if not answer.done() and self._heard == heard:
                    raise ServiceUnavailable(
                        f"The supervisor has said nothing for {patience:g} s.",
                        "Unknown whether this took effect.",
                    )
            return answer.result()
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while (line := await self._channel.receive()) is not None:
            self._heard += 1
            if "id" in line:
                self._settle(line)
            elif "event" in line and self.on_event is not None:
                loop.call_soon(self.on_event, *line["event"])
            elif self.on_progress is not None:
                for values in line.get("progress", ()):
                    loop.call_soon(self.on_progress, Progress(*values))
        self.lost = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_Gone(GONE))
        if self.on_event is not None and not self._closed:
            loop.call_soon(self.on_event, "supervisor", "down")

    def _settle(self, line: dict[str, Any]) -> None:
        future = self._waiting.get(line["id"])
        if future is None or future.done():
            return  # whoever asked has gone
        if "error" in line:
            future.set_exception(wire.decode_error(line["error"]))
        else:
            future.set_result(line["ok"])


async def join(
    settings: Settings,
    *,
    lab: str,
    breakable: bool = False,
    shared: bool = False,
    existing: bool = False,
    kept: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Lease:
    """Take a lease on the namespace of ``lab``; start what is not running yet.

    Args:
        settings: brokers whose URLs are set here are used instead of private ones.
        lab: a name; unique among open labs, unless all who join say ``shared``.
        breakable: brokers of its own, which this lab may kill.
        existing: only if it is open already, perhaps on another computer; with ``shared``.
        kept: what is in the namespace outlives its last lease, for as long as its brokers
            run; with ``shared``.
        progress: called on the running loop while a service is being waited for.

    Raises:
        ServiceMissing: a program is not installed; says what to type.
        ServiceUnavailable: a broker or the supervisor does not start; quotes its log.
        NameInUse: a lab of this name is open.
        NotPossible: too many breakable labs are open, or the lab is not open (``existing``).
    """
    if settings.invited:
        raise NotPossible(
            "These settings are an invitation to the chat system of another computer.",
            todo="`chatlab client` uses them. A lab needs brokers of its own, or no URLs.",
        )
    request = _request(settings, lab, breakable, shared)
    request |= {"existing": existing, "kept": kept}
    for attempt in range(1, JOIN_ATTEMPTS + 1):
        lease = Lease(await reach(settings), lab=request["lab"], breakable=breakable)
        lease.on_progress = progress
        try:
            await lease._join(request)
        except BaseException as error:
            await lease._drop()
            if not isinstance(error, _Gone) or attempt == JOIN_ATTEMPTS:
                raise
        else:
            return lease
    raise AssertionError("unreachable")


async def status(settings: Settings) -> dict[str, Any] | None:
    """What the running supervisor of these settings does; None when there is none."""
    with suppress(_Gone):  # it was ending just then
        async with _visit(settings) as visit:
            return await visit.status() if visit else None
    return None


async def stop(settings: Settings, *, force: bool = False) -> bool:
    """End the supervisor and its brokers; returns when all is gone.

    Without one, ends what a killed supervisor left running.

    Args:
        force: even if labs are open.

    Returns:
        Whether anything ran.

    Raises:
        NotPossible: labs are open; names them.
    """
    from chatlab.services.processes import end_leftovers

    folder = wire.run_folder(settings)
    async with _visit(settings) as visit:
        if visit is not None:
            with suppress(_Gone):
                await visit._ask("stop", force=force)
    if not folder.exists():
        return False
    async with locked(folder / wire.ALIVE_LOCK):
        left = await asyncio.to_thread(end_leftovers, folder / wire.LEDGER)
    return visit is not None or bool(left)


def _request(settings: Settings, lab: str, breakable: bool, shared: bool) -> dict[str, Any]:
    rabbitmq, redis = urls.rabbitmq_address(settings), urls.redis_address(settings)
    return {
        "lab": check_name(lab, "lab name"),
        "breakable": breakable,
        "shared": shared,
        "idle_seconds": settings.idle_seconds,
        "rabbitmq": rabbitmq and to_dict(rabbitmq),
        "redis": redis and to_dict(redis),
        "administrator": rabbitmq and urls.administrator(settings, rabbitmq),
    }


@asynccontextmanager
async def _visit(settings: Settings) -> AsyncIterator[Lease | None]:
    """A connection without a lease to the running supervisor; None when there is none."""
    channel = await wire.dial(wire.run_folder(settings))
    visit = Lease(channel, lab="", breakable=False) if channel else None
    try:
        yield visit
    finally:
        if visit is not None:
            await visit._drop()
