"""The name server: accounts, presences, groups and servers in Redis, leased.

========================  ======  ====================================================
key (below the prefix)    type    content
========================  ======  ====================================================
``accounts``              hash    name -> SHA-256 of the secret, newest life ever claimed
``users``                 hash    name -> life, address and since when
``leases``                zset    name -> when the presence ends, in ms of Redis' clock
``endpoints``             hash    name -> life; the machine and certificate of its address
``groups``                hash    group -> backend and since when
``members:<group>``       hash    member -> its life, and whether it is connected
``positions:<group>``     hash    member -> its life, and how far it has read the log
``agreed``                hash    what the first in a scene chose -> since when, and what
``servers``               hash    kind and token -> when it ends; address, machine as JSON
``ticket:<random>``       string  who calls, in which life, whom, and a proof; expires
========================  ======  ====================================================

``accounts`` outlives a scene, so that no life of an earlier one is taken for a newer one.
Each operation is one Lua script, so it happens completely or not at all, and every expiry is
judged by Redis' own clock. An entry belongs to a life (incarnation) of a user: a late message
of an older life never changes what its successor wrote. Nothing is deleted when a lease ends;
it just does not count any more, so a member that crashed leaves the memberships of the others
alone. Everything but ``claim`` may be repeated without harm; a repeated ``claim`` costs a
number.

What an instance has claimed, opened or registered it remembers, and writes it again when a
renewal finds that Redis has forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple, cast

from chatlab.discovery import scripts
from chatlab.discovery.presence import Presence, Presences
from chatlab.errors import (
    BackendMismatch,
    ChatlabError,
    InvalidInput,
    NameInUse,
    Taken,
)
from chatlab.resp import Redis, Script, mapped
from chatlab.services.addresses import ServerAddress, to_dict
from chatlab.services.machine import is_loopback, machine_id

SOURCE = "registry"
#: A question and its answer.
MESSAGES = 2
#: The channel (below the prefix) on which the scripts hint that presences or groups changed.
CHANGES = "changes"
#: The backend of a group whose first member did not name one.
DEFAULT_BACKEND = "rabbitmq-durable"
#: A ticket is good for so long, in ms.
TICKET_MS = 10_000
#: A lease is renewed this many times in its time, so that one lost renewal is no harm.
RENEWALS = 3
#: Most leases renewed by one script: while it runs, some milliseconds, Redis does nothing else,
#: and Lua cannot pass on more than a few thousand arguments.
BATCH_LIVES = 1_000


class Whereabouts(NamedTuple):
    """Where a user who is there can be called."""

    #: As it was claimed.
    address: str
    #: Whose loopback it is, if it is one (:mod:`chatlab.services.machine`); empty: unknown.
    machine: str = ""
    #: The only root to trust there, PEM; empty: no TLS.
    certificate: str = ""


class Registry:
    """A client of the name server.

    Args:
        redis: the connection; its prefix separates this lab from others.
        lease_seconds: a presence or server that is not renewed for so long is gone.

    All methods may raise :class:`~chatlab.errors.ServiceUnavailable` (Redis was not
    reached, nothing changed) and :class:`~chatlab.errors.SendUncertain` (the connection
    broke; doing it again is safe).
    """

    def __init__(self, redis: Redis, lease_seconds: float) -> None:
        self.redis = redis
        self.lease_seconds = lease_seconds
        self._lease_ms = round(lease_seconds * 1000)
        self._claims: dict[tuple[str, int], tuple[str, str]] = {}
        self._endpoints: dict[tuple[str, int], str] = {}
        self._backends: dict[str, str] = {}
        self._servers: dict[tuple[str, str], tuple[ServerAddress, bool]] = {}

    def sibling(self) -> Registry:
        """Another client over the same connection: what one of them has claimed, the other
        can renew, too; what it knows of groups and servers is its own."""
        made = Registry(self.redis, self.lease_seconds)
        made._claims, made._endpoints = self._claims, self._endpoints
        return made

    # Accounts: a name and the hash of a secret, for as long as the lab lives.

    async def create_account(self, name: str, secret: str) -> None:
        """Create the account; with the same secret again, nothing happens.

        Raises:
            NameInUse: the account has another secret.
        """
        await self._run(scripts.ACCOUNT, ["accounts"], name, _digest(secret))

    async def account_exists(self, name: str) -> bool:
        """Whether there is an account of that name."""
        return await self._get("accounts", name) is not None

    async def account_secret_ok(self, name: str, secret: str) -> bool | None:
        """Whether ``secret`` is the account's; ``None`` when there is no such account."""
        stored = await self._get("accounts", name)
        if stored is None:
            return None
        return hmac.compare_digest(stored.partition(" ")[0], _digest(secret))

    # Presences: a user is there, at an address, in one life, under a lease.

    async def claim(
        self,
        name: str,
        secret: str,
        address: str,
        incarnation: int | None = None,
        *,
        certificate: str = "",
    ) -> int:
        """Begin a presence, and create the account when there is none.

        With the account's secret the name is taken over at once, whoever holds it.

        Args:
            address: how others reach this user; an empty one is fine.
            incarnation: the life to go on with; ``None`` begins a new one.
            certificate: what the address shows, PEM, if it speaks TLS.

        Returns:
            The incarnation: one more than any before it.

        Raises:
            NameInUse: the account has another secret.
            Taken: a newer incarnation than the one given exists.
        """
        digest = _digest(secret)
        endpoint = json.dumps({"machine": machine_id(), "certificate": certificate})
        (mine,) = await self._run(
            scripts.CLAIM,
            ["accounts", "users", "leases", "endpoints", CHANGES],
            *(name, digest, address),
            *("" if incarnation is None else incarnation, self._lease_ms, endpoint),
        )
        self._claims[name, mine] = (digest, address)
        self._endpoints[name, mine] = endpoint
        return cast(int, mine)

    async def renew(self, name: str, incarnation: int) -> None:
        """Extend the lease from now; register again when Redis has forgotten.

        A renewal that arrives after its own ``depart`` changes nothing.

        Raises:
            Taken: a newer incarnation holds the name.
            InvalidInput: this registry has not claimed that life.
        """
        lost = await self.renew_many([(name, incarnation)])
        for error in lost.values():
            raise error

    async def renew_many(
        self, lives: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], Taken]:
        """Extend many leases, :data:`BATCH_LIVES` in one round trip.

        Returns:
            For each life whose name a newer one holds, the error that ``renew`` would raise.

        Raises:
            InvalidInput: this registry has not claimed one of these lives.
        """
        lives = list(lives)
        words = [f"{name} {life} {' '.join(self._claimed(name, life))}" for name, life in lives]
        lost: dict[tuple[str, int], Taken] = {}
        keys = ["accounts", "users", "leases", CHANGES]
        for first in range(0, len(lives), BATCH_LIVES):
            batch = words[first : first + BATCH_LIVES]
            over, anew = await self._run(scripts.RENEW, keys, self._lease_ms, *batch)
            for index, newest in zip(over[::2], over[1::2], strict=True):
                life = lives[first + index]
                lost[life] = _taken(life[0], newest)
            for life in [lives[first + index] for index in anew]:
                args = (*life, self._endpoints[life])
                await self._run(scripts.ENDPOINT, ["users", "endpoints"], *args)
        return lost

    async def depart(self, name: str, incarnation: int) -> None:
        """End the presence, if it is still this life's."""
        keys = ["users", "leases", "endpoints", CHANGES]
        await self._run(scripts.DEPART, keys, name, incarnation)

    async def find_user(self, name: str) -> str | None:
        """The address at which a user who is there claimed its presence; ``None`` when it is
        not there."""
        found = await self.whereabouts(name)
        return None if found is None else found.address

    async def whereabouts(self, name: str) -> Whereabouts | None:
        """Where a user who is there is called; ``None`` when it is not there."""
        found = await self._run(scripts.FIND_USER, ["users", "leases", "endpoints"], name)
        if not found:
            return None
        address, endpoint = found
        return Whereabouts(address, **(json.loads(endpoint) if endpoint else {}))

    async def last_seen(self, name: str) -> tuple[bool, float]:
        """Whether the user is there, and when it was last known to be: seconds since the
        epoch by Redis' clock, 0 when it never was."""
        there, at = await self._run(scripts.LAST_SEEN, ["users", "leases"], name)
        return bool(there), at / 1000

    # Tickets: they say who calls and, when redeemed, who was called; good once.

    async def issue_ticket(self, name: str, incarnation: int, peer: str) -> tuple[str, str]:
        """What ``name``, in a life claimed here, shows ``peer`` to prove itself, and what the
        peer is told for it and nobody else.

        Raises:
            Taken: a newer incarnation holds the name.
            InvalidInput: this registry has not claimed that life.
        """
        digest, _ = self._claimed(name, incarnation)
        ticket, proof = secrets.token_hex(16), secrets.token_hex(16)
        keys = ["accounts", f"ticket:{ticket}"]
        args = (name, digest, incarnation, peer, proof, TICKET_MS)
        await self._run(scripts.ISSUE_TICKET, keys, *args)
        return ticket, proof

    async def redeem_ticket(
        self, ticket: str, caller: str, name: str, incarnation: int
    ) -> tuple[int, str] | None:
        """Use up a ticket that was shown to ``name``, in a life claimed here.

        Returns:
            The caller's incarnation and the proof; ``None`` when it is not a ticket of the
            newest life of ``caller`` for ``name``, or is no good any more.

        Raises:
            Taken: a newer incarnation of ``name`` holds it.
            InvalidInput: this registry has not claimed that life.
        """
        digest, _ = self._claimed(name, incarnation)
        keys = ["accounts", f"ticket:{ticket}"]
        found = await self._run(scripts.REDEEM_TICKET, keys, caller, name, digest, incarnation)
        return (found[0], found[1]) if found else None

    def check_claimed(self, name: str, incarnation: int) -> None:
        """Raises InvalidInput when this registry has not claimed that life."""
        self._claimed(name, incarnation)

    def _claimed(self, name: str, incarnation: int) -> tuple[str, str]:
        """Digest and address of a life."""
        if (name, incarnation) not in self._claims:
            raise InvalidInput(f"Life {incarnation} of {name} was not claimed here.")
        return self._claims[name, incarnation]

    async def keep_alive(
        self, name: str, incarnation: int, on_lost: Callable[[ChatlabError], None]
    ) -> None:
        """Renew at a third of the lease until cancelled.

        A Redis that is down or slow is tried again. When a newer life holds the name,
        ``on_lost`` gets the error and the loop ends.
        """
        while True:
            await asyncio.sleep(self.lease_seconds / RENEWALS)
            try:
                await self.renew(name, incarnation)
            except Taken as error:
                on_lost(error)
                return
            except InvalidInput:
                raise
            except ChatlabError:
                continue  # the lease may end meanwhile; the next renewal registers again

    # Groups: a backend, fixed by the first member, and members.

    async def open_group(self, group: str, backend: str | None = None) -> str:
        """The group's backend, recorded now when the group is new.

        Args:
            backend: with options; ``None`` takes the group's, or that of the default.

        Raises:
            BackendMismatch: the group has another backend; both are named.
        """
        (found,) = await self._run(
            scripts.OPEN_GROUP,
            ["groups", CHANGES],
            *(group, backend or "", DEFAULT_BACKEND),
        )
        self._backends[group] = found
        return cast(str, found)

    async def find_group(self, group: str) -> str | None:
        """The group's backend; ``None`` when there is no such group."""
        found = await self._get("groups", group)
        return None if found is None else found.partition(" ")[2]

    async def enter_group(
        self, group: str, member: str, incarnation: int, connected: bool
    ) -> None:
        """Record a membership of a group that ``open_group`` has returned.

        Args:
            connected: whether the member receives now, or has only its queue there.

        Raises:
            Taken: a newer incarnation of this member has entered.
            BackendMismatch: the group has ended and begun with another backend meanwhile.
            InvalidInput: ``open_group`` was not called before.
        """
        if group not in self._backends:
            raise InvalidInput(f"The group {group} was not opened here.")
        await self._run(
            scripts.ENTER_GROUP,
            ["groups", f"members:{group}", CHANGES],
            *(group, self._backends[group], member, incarnation, int(connected)),
        )

    async def leave_group(
        self, group: str, member: str, incarnation: int | None = None
    ) -> None:
        """End a membership; with the last one the group ends, too.

        Args:
            incarnation: when given, a newer life's membership is left alone.
        """
        newest = "" if incarnation is None else incarnation
        keys = ["groups", f"members:{group}", CHANGES]
        await self._run(scripts.LEAVE_GROUP, keys, group, member, newest)

    async def group_members(self, group: str) -> dict[str, bool]:
        """Each member, and whether it is connected: it said so and its presence, if it
        ever claimed one, is still the same life's under a living lease."""
        keys = [f"members:{group}", "users", "leases"]
        (flat,) = await self._run(scripts.GROUP_MEMBERS, keys)
        return _members(flat)

    # Positions: how far a member has read a group's log.

    async def keep_position(
        self, group: str, member: str, incarnation: int, position: int, handed: int
    ) -> None:
        """Record how far a member has read; it outlives the member's lives.

        Args:
            position: the first offset that it has not been shown for sure.
            handed: the first offset that nobody has begun to show it.

        Raises:
            Taken: a newer incarnation reads on.
        """
        args = (group, member, incarnation, position, handed)
        await self._run(scripts.KEEP_POSITION, [f"positions:{group}"], *args)

    async def position(self, group: str, member: str) -> tuple[int, int] | None:
        """What :meth:`keep_position` recorded last; ``None`` when nothing."""
        found = await self._get(f"positions:{group}", member)
        if found is None:
            return None
        _, position, handed = map(int, found.split())
        return position, handed

    async def forget_position(self, group: str, member: str) -> None:
        """The member reads the log no more."""
        with mapped(self.redis.address):
            removing = self.redis.driver.hdel(self.redis.key(f"positions:{group}"), member)
            await removing

    # What all of a lab agree on, for as long as a scene.

    async def agree(self, on: str, proposal: str) -> str:
        """What was proposed first: now and from now on the same for everybody."""
        (found,) = await self._run(scripts.OPEN_GROUP, ["agreed"], on, "", proposal)
        return cast(str, found)

    # Servers: any number of a kind, each leased under a token of its own.

    async def register_server(
        self, kind: str, address: ServerAddress, token: str, *, sole: bool = False
    ) -> None:
        """List this server.

        Args:
            token: chosen by the server; whoever shows it may renew and forget.
            sole: it takes the place of all others of its kind.
        """
        self._servers[kind, token] = address, sole
        await self._renew_server(kind, token, first=True)

    async def renew_server(self, kind: str, token: str) -> None:
        """Extend the lease from now; list the server again when it has ended.

        Raises:
            Taken: another one took the place of this sole server.
            InvalidInput: this registry has not registered that server.
        """
        if (kind, token) not in self._servers:
            raise InvalidInput(f"A {kind} server of that token was not registered here.")
        await self._renew_server(kind, token, first=False)

    async def _renew_server(self, kind: str, token: str, *, first: bool) -> None:
        address, sole = self._servers[kind, token]
        text = json.dumps(to_dict(address) | {"machine": machine_id()})
        args = (kind, token, text, self._lease_ms, int(first), int(sole))
        await self._run(scripts.RENEW_SERVER, ["servers"], *args)

    async def forget_server(self, kind: str, token: str) -> None:
        """List the server of this token no longer."""
        self._servers.pop((kind, token), None)
        await self._run(scripts.FORGET_SERVER, ["servers"], kind, token)

    async def servers_of(self, kind: str) -> dict[str, ServerAddress]:
        """The servers of this kind whose leases live: token -> address. Of another computer
        only those that listen on more than its own loopback interface."""
        (flat,) = await self._run(scripts.SERVERS_OF, ["servers"], kind)
        found = {}
        for token, text in zip(flat[::2], flat[1::2], strict=True):
            fields = json.loads(text)
            machine, address = fields.pop("machine"), ServerAddress(**fields)
            if machine == machine_id() or not is_loopback(address.host):
                found[token] = address
        return found

    async def find_server(self, kind: str, avoid: Collection[str] = ()) -> ServerAddress | None:
        """One of the servers of this kind, at random; ``None`` when there is none alive.

        A killed one is listed until its lease is over.

        Args:
            avoid: those that did not answer, as ``host:port``; one of them is the answer
                only when there is no other.
        """
        alive = list((await self.servers_of(kind)).values())
        better = [address for address in alive if str(address) not in avoid]
        return random.choice(better or alive) if alive else None  # noqa: S311

    # The question itself.

    async def discover(self) -> Presences:
        """Users online and groups; true at one instant."""
        began = asyncio.get_running_loop().time()
        keys = ["users", "leases", "groups", "members:"]
        users, groups = await self._run(scripts.DISCOVER, keys)
        seconds = asyncio.get_running_loop().time() - began
        return Presences(
            _presences(users, groups, self.lease_seconds),
            via=SOURCE,
            seconds=seconds,
            messages=MESSAGES,
        )

    async def _run(self, script: Script, keys: list[str], *args: str | int) -> list[Any]:
        """Run a script; what follows its OK, or its refusal as an error of chatlab."""
        full = [self.redis.key(key) for key in keys]
        code, *rest = await self.redis.run(script, full, args)
        if code != "OK":
            raise _REFUSALS[code](*rest)
        return list(rest)

    async def _get(self, key: str, field: str) -> str | None:
        with mapped(self.redis.address):
            found = self.redis.driver.hget(self.redis.key(key), field)
            return await cast("Awaitable[str | None]", found)


def _digest(secret: str) -> str:
    """What is stored of a secret. It is random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _members(flat: list[str]) -> dict[str, bool]:
    return {member: flag == "1" for member, flag in zip(flat[::2], flat[1::2], strict=True)}


def _presences(users: list[Any], groups: list[Any], lease: float) -> Iterator[Presence]:
    """The answer of the script. So old is what is known of a user: since its last renewal."""
    ages: dict[str, float] = {}
    for name, address, since, life, left in users:
        ages[name] = max(lease - left / 1000, 0.0)
        yield Presence(
            name,
            "private",
            address,
            since=int(since) / 1000,
            source=SOURCE,
            age=ages[name],
            incarnation=life,
        )
    for name, backend, since, flat in groups:
        members = _members(flat)
        there = tuple(sorted(m for m, connected in members.items() if connected))
        yield Presence(
            name,
            "group",
            name,
            members=there,
            away=tuple(sorted(m for m, connected in members.items() if not connected)),
            backend=backend,
            since=int(since) / 1000,
            source=SOURCE,
            age=max((ages.get(member, 0.0) for member in there), default=0.0),
        )


def _in_use(name: str) -> NameInUse:
    return NameInUse(f"The account {name} exists and has another secret.")


def _taken(name: str, newest: int) -> Taken:
    return Taken(f"A newer client of {name} has taken over (incarnation {newest}).")


def _mismatch(group: str, has: str, asked: str) -> BackendMismatch:
    return BackendMismatch(f"The group {group} has the backend {has}, not {asked}.")


def _other_server(kind: str) -> Taken:
    return Taken(f"Another {kind} server has registered since.")


#: The first word of a script's refusal -> the error, made of the other words.
_REFUSALS: dict[str, Callable[..., ChatlabError]] = {
    "IN USE": _in_use,
    "TAKEN": _taken,
    "MISMATCH": _mismatch,
    "SERVER": _other_server,
}
