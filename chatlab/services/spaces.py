"""Which lab has which namespace on which pair of brokers, and for how long.

A lab's namespace is created by its first holder and removed with its last one, unless one
of them said ``kept``: then it lasts as long as its brokers do. A second holder of the same
name is let in when both say ``shared``; one that comes while the namespace is being removed
waits and gets a new one. Other computers may hold a shared one, too: see ``holders``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from chatlab.errors import ChatlabError, NameInUse, NotPossible
from chatlab.services import namespaces
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.services.holders import Holder
from chatlab.services.namespaces import Namespace
from chatlab.services.pairs import SHARED, Pair

log = logging.getLogger(__name__)

#: Most breakable labs at once; each pair takes 150 MB.
BREAKABLE_PAIRS = 3


@dataclass(frozen=True)
class Join:
    """What a client asks for."""

    lab: str
    breakable: bool
    shared: bool
    #: Only if the lab is open already, on another computer.
    existing: bool = False
    #: Of a shared one: what is in it stays when nobody holds it.
    kept: bool = False
    #: Brokers of the user's own, which are not started here.
    rabbitmq: RabbitAddress | None = None
    redis: RedisAddress | None = None
    #: User and password for RabbitMQ's management API if they differ.
    administrator: tuple[str, str] | None = None

    @property
    def services(self) -> tuple[str, ...]:
        """The brokers that it needs from a pair."""
        own = {"rabbitmq": self.rabbitmq, "redis": self.redis}
        return tuple(name for name, address in own.items() if address is None)


@dataclass(eq=False)
class Space:
    """One lab's place: a pair of brokers and, once created, a namespace."""

    join: Join
    pair: Pair
    names: Namespace | None = None
    #: Of a shared lab: our entry among those of other computers.
    holder: Holder | None = None
    holders: int = 1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Spaces:
    """All labs of a supervisor.

    Args:
        new_pair: makes the pair of this name; nothing in it is started yet.
    """

    def __init__(self, new_pair: Callable[[str], Pair]) -> None:
        self.pairs: dict[str, Pair] = {}
        self._new_pair = new_pair
        self._spaces: dict[tuple[str, str], Space] = {}
        self._removals: set[asyncio.Task[None]] = set()

    async def take(self, join: Join) -> Space:
        """Hold the lab's place; :meth:`release` gives it back.

        Raises:
            NameInUse: another lab of this name is open, and not both are shared.
            NotPossible: too many breakable labs are open.
        """
        while True:
            pair = self._pair(join)
            space = self._spaces.get((pair.name, join.lab))
            if space is None:
                space = self._spaces[pair.name, join.lab] = Space(join, pair)
                pair.lab = join.lab
                return space
            if space.holders == 0:  # being removed
                await space.gone.wait()
            elif join.shared and space.join.shared:
                space.holders += 1
                return space
            else:
                raise NameInUse(
                    f"A lab named {join.lab} is open already.",
                    todo="Choose another name, or share it: Lab.start(name, shared=True).",
                )

    async def open(self, space: Space) -> Namespace:
        """Start what is needed and create the namespace; return when both are done.

        Raises:
            ServiceUnavailable: a broker does not start or answer.
            NotPossible: the lab should be open already and is not.
        """
        async with space.lock:
            await space.pair.ensure(space.join.services)
            if space.names is None:
                space.names = await self._create(space)
            return space.names

    async def _create(self, space: Space) -> Namespace:
        names = _names(space)
        if space.join.shared:
            holder = Holder(names.redis)
            try:
                await holder.enter(
                    partial(namespaces.clear, names),
                    join=space.join.existing,
                    kept=space.join.kept,
                )
                await namespaces.create(names)
            except BaseException:
                with suppress(ChatlabError):
                    await holder.leave(_keep_all)
                raise
            space.holder = holder
        else:
            await namespaces.create(names)
        return names

    async def release(self, space: Space) -> None:
        """Give a place back; with its last holder the namespace goes, even if this wait is
        cancelled."""
        space.holders -= 1
        if space.holders == 0:
            removal = asyncio.create_task(self._remove(space))
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)
            await asyncio.shield(removal)

    async def settle(self) -> None:
        """Wait for all removals under way."""
        await asyncio.gather(*self._removals, return_exceptions=True)

    async def _remove(self, space: Space) -> None:
        async with space.lock:
            try:
                await self._clear(space)
            except ChatlabError as error:
                log.warning("the lab %s was not removed: %s", space.join.lab, error)
            finally:
                del self._spaces[space.pair.name, space.join.lab]
                space.pair.lab = ""
                space.gone.set()

    async def _clear(self, space: Space) -> None:
        holder, space.holder = space.holder, None
        if space.pair.healthy(space.join.services):
            if space.names is not None and holder is not None:
                await holder.leave(partial(namespaces.clear, space.names))
                await namespaces.remove_monitor(space.names)
            elif space.names is not None:
                await namespaces.remove(space.names)
            return
        if holder is not None:
            await holder.abandon()
        if space.pair.name != SHARED:
            # Broken by its lab: the next one gets a fresh start.
            await space.pair.stop(0)

    def _pair(self, join: Join) -> Pair:
        """The pair that has this lab, else a free one, else a new one."""
        if not join.breakable:
            return self._make(SHARED)
        names = [f"breakable-{number}" for number in range(1, BREAKABLE_PAIRS + 1)]
        there = [self.pairs[name] for name in names if name in self.pairs]
        for wanted in (join.lab, ""):
            for pair in there:
                if pair.lab == wanted:
                    return pair
        if len(there) == len(names):
            raise NotPossible(
                f"{BREAKABLE_PAIRS} breakable labs are open already: "
                f"{', '.join(pair.lab for pair in there)}.",
                todo="Close one of them first: lab.close().",
            )
        return self._make(names[len(there)])

    def _make(self, name: str) -> Pair:
        if name not in self.pairs:
            self.pairs[name] = self._new_pair(name)
        return self.pairs[name]


async def _keep_all() -> None:
    """Who could not create a namespace removes none."""


def _names(space: Space) -> Namespace:
    join, pair = space.join, space.pair
    return namespaces.of_lab(
        join.lab,
        join.rabbitmq or pair.rabbitmq.address,
        join.redis or pair.redis.address,
        join.administrator,
    )
