"""One client of the supervisor: its requests, its lease, the processes started for it.

A session holds at most one lease, taken by ``join``. It ends when the client says ``leave``
or its connection is gone; then the lease's processes are killed and its namespace is given
back. Requests run side by side: one that waits for a process to end does not keep others
waiting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from chatlab.errors import ChatlabError, InvalidInput, LabClosed, NotPossible, WaitTimeout
from chatlab.messages import check_name
from chatlab.services import namespaces, wire
from chatlab.services.addresses import RabbitAddress, RedisAddress, to_dict
from chatlab.services.holders import HOLDERS
from chatlab.services.namespaces import Namespace
from chatlab.services.pairs import Pair
from chatlab.services.processes import Child
from chatlab.services.spaces import Join, Space
from chatlab.settings import child_environ

if TYPE_CHECKING:
    from chatlab.services.supervisor import Supervisor

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Who waits for a broker hears from it this often.
PROGRESS_SECONDS = 0.25
#: A broker that a lab stops with SIGTERM is killed after so long.
STOP_SECONDS = 15.0


class Session:
    """A connected client."""

    def __init__(self, supervisor: Supervisor, channel: wire.Channel) -> None:
        self._supervisor = supervisor
        self._channel = channel
        #: The lab it holds or waits for; empty when it only asks.
        self.lab = ""
        #: The brokers whose changes it hears of.
        self.pair: Pair | None = None
        self._space: Space | None = None
        self._since = time.time()
        self._children: dict[str, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve requests until the connection ends, then clean up."""
        try:
            while (request := await self._channel.receive()) is not None:
                if self._supervisor.over.is_set():
                    break  # the client sees the end and joins the next supervisor
                task = asyncio.create_task(self._answer(request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            await self.end()

    async def end(self) -> None:
        """Cancel requests, kill the lease's processes, give the namespace back."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._leave()
        await self._channel.close()

    def event(self, service: str, state: str) -> None:
        """Tell the client that a broker's state has changed."""
        self._channel.post({"event": [service, state]})

    def describe(self) -> dict[str, Any]:
        """For ``chatlab status``."""
        return {
            "lab": self.lab,
            "pair": self.pair.name if self.pair else "",
            "since": self._since,
            "processes": {
                name: child.pid for name, child in self._children.items() if not child.ended
            },
        }

    async def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request.get("id")}
        try:
            handler = getattr(self, f"_do_{request.get('do')}", None)
            if handler is None:
                raise InvalidInput(f"The supervisor cannot {request.get('do')!r}.")
            answer["ok"] = await handler(request)
        except ChatlabError as error:
            answer["error"] = wire.encode_error(error)
        except (KeyError, TypeError, ValueError) as error:
            log.exception("a request that cannot be understood")
            answer["error"] = wire.encode_error(InvalidInput(f"Not a request: {error!r}."))
        self._channel.post(answer)

    # --- the lease ----------------------------------------------------------------------

    async def _do_join(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.lab:
            raise NotPossible("This connection holds a lease already.")
        join = _decode(request)
        self.lab = join.lab
        self._supervisor.touched(float(request["idle_seconds"]))
        try:
            self._space = await self._supervisor.spaces.take(join)
            self.pair = self._space.pair
            names = await self._telling(self._supervisor.spaces.open(self._space))
        except BaseException:
            await self._leave()
            raise
        return {"rabbitmq": to_dict(names.rabbitmq), "redis": to_dict(names.redis)}

    async def _do_leave(self, request: dict[str, Any]) -> None:
        await self._leave()

    async def _leave(self) -> None:
        self.pair = None
        await asyncio.gather(*(child.kill() for child in self._children.values()))
        self._children.clear()
        if self._space is not None:
            space, self._space = self._space, None
            await self._supervisor.spaces.release(space)
        self.lab = ""

    async def _do_wipe(self, request: dict[str, Any]) -> None:
        await namespaces.wipe(self._names(), frozenset(request["keep"]) | {HOLDERS})

    def _names(self) -> Namespace:
        return _present(_present(self._space).names)

    # --- the brokers --------------------------------------------------------------------

    async def _do_kill(self, request: dict[str, Any]) -> None:
        pair, service = self._breakable_service(request)
        await pair.brokers[service].kill()

    async def _do_stop_service(self, request: dict[str, Any]) -> None:
        pair, service = self._breakable_service(request)
        await pair.brokers[service].stop(STOP_SECONDS)

    async def _do_start(self, request: dict[str, Any]) -> None:
        pair, service = self._breakable_service(request)
        await self._telling(pair.ensure([service]))

    async def _do_pause(self, request: dict[str, Any]) -> None:
        pair, service = self._breakable_service(request)
        pair.brokers[service].pause()

    async def _do_resume(self, request: dict[str, Any]) -> None:
        pair, service = self._breakable_service(request)
        pair.brokers[service].resume()

    async def _do_memory_alarm(self, request: dict[str, Any]) -> None:
        pair, service = self._breakable_service(request)
        await self._telling(pair.brokers[service].memory_alarm(bool(request["on"])))

    async def _do_running(self, request: dict[str, Any]) -> bool:
        space, service = _present(self._space), str(request["service"])
        if service not in space.join.services:
            raise NotPossible(f"The {service} of this lab is not run by chatlab.")
        return space.pair.brokers[service].state == "up"

    def _breakable_service(self, request: dict[str, Any]) -> tuple[Pair, str]:
        space, service = _present(self._space), str(request["service"])
        if service not in space.join.services:
            raise NotPossible(
                f"The {service} of this lab is not run by chatlab.",
                todo="Leave its URL out of the settings to have one that may be broken.",
            )
        if not space.join.breakable:
            raise NotPossible(
                f"This lab shares its {service} with others, so it may not break it.",
                todo="Start a lab of its own services: Lab.start(name, breakable=True).",
            )
        return space.pair, service

    async def _telling(self, work: Awaitable[T]) -> T:
        """Wait for ``work`` and tell the client meanwhile which brokers it waits for."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=PROGRESS_SECONDS)
                if not task.done():
                    self._tell()
            return task.result()
        finally:
            task.cancel()

    def _tell(self) -> None:
        waited = [
            [broker.name, broker.text, broker.seconds, self._supervisor.expected[broker.name]]
            for broker in (self.pair.brokers.values() if self.pair else ())
            if broker.state == "starting"
        ]
        # Even an empty one says that the supervisor is alive.
        self._channel.post({"progress": waited})

    # --- processes of the lease ---------------------------------------------------------

    async def _do_spawn(self, request: dict[str, Any]) -> int:
        _present(self._space)
        name = check_name(request["name"], "process name")
        if name in self._children and not self._children[name].ended:
            raise InvalidInput(f"A process named {name} runs in this lab already.")
        child = self._children[name] = await Child.start(
            f"{self.lab}/{name}",
            list(request["argv"]),
            environ=child_environ(request["environ"]),
            log=_log_file(self._supervisor.folder / "leases" / f"lab-{self.lab}", name),
            ledger=self._supervisor.ledger,
        )
        return child.pid

    async def _do_signal(self, request: dict[str, Any]) -> None:
        self._child(request).signal(request["action"])

    async def _do_ended(self, request: dict[str, Any]) -> int:
        child, seconds = self._child(request), float(request["timeout"])
        await asyncio.wait([child.end], timeout=seconds)
        if not child.ended:
            raise WaitTimeout(f"{child.name} has not ended within {seconds:g} s.")
        return child.end.result()

    def _child(self, request: dict[str, Any]) -> Child:
        child = self._children.get(request["name"])
        if child is None:
            raise InvalidInput(f"There is no process named {request['name']} in this lab.")
        return child

    # --- the supervisor itself ----------------------------------------------------------

    async def _do_status(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._supervisor.describe()

    async def _do_stop(self, request: dict[str, Any]) -> None:
        labs = sorted(session.lab for session in self._supervisor.leases())
        if labs and not request["force"]:
            raise NotPossible(
                f"Labs are open: {', '.join(labs)}.",
                todo="Close them first, or end them all with force.",
            )
        self._supervisor.over.set()


def _decode(request: dict[str, Any]) -> Join:
    rabbitmq, redis = request["rabbitmq"], request["redis"]
    return Join(
        check_name(request["lab"], "lab name"),
        bool(request["breakable"]),
        bool(request["shared"]),
        bool(request["existing"]),
        bool(request["kept"]),
        RabbitAddress(**rabbitmq) if rabbitmq else None,
        RedisAddress(**redis) if redis else None,
        tuple(request["administrator"]) if request["administrator"] else None,
    )


def _log_file(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def _present(value: T | None) -> T:
    if value is None:
        raise LabClosed("This connection holds no lease.")
    return value
