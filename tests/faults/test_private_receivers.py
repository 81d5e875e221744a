"""A receiver that is killed, stopped and cancelled, over and over, while messages flow.

Two users write to bob, who shows what he gets slowly and is struck in the midst of a frame,
twenty times. A killed or stopped client is followed by a new incarnation (of the stopped ones,
whose names are taken then, every second one is woken, the others never wake up); a cancelled
one comes back in the same. Each opening of
the mailbox must have shown a run of it, beginning not before what was acknowledged; together
the runs are the mailbox. That these assertions catch what they should is shown by designs
that are broken on purpose.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from private_rig import Person, Rig, Taking, rig
from process_rig import (
    Child,
    Shown,
    child,
    mailbox,
    until_all_is_acknowledged,
    until_let_go,
)

from chatlab.private.mailbox import Batch, Hold
from chatlab.private.memory import MemoryMailboxes

#: Messages of each sender between two faults: 2 x 25 x 20 = 1,000.
BURST = 25
FAULTS = 20
#: How long a receiver looks at a message: it is struck while a frame is being shown.
WORK_SECONDS = 0.001
SIGNALS = {
    "killed": signal.SIGKILL,
    "stopped": signal.SIGSTOP,
    "cancelled": signal.SIGUSR1,
}


@dataclass
class Opening:
    """What one client showed, from its opening to its end."""

    incarnation: int
    shown: Sequence[Shown]
    #: How many messages the mailbox knew to be acknowledged before.
    acked: int


class Crew:
    """Processes for the next life of bob, started before they are needed."""

    def __init__(self, stack: AsyncExitStack, fault: str, forgetful: bool) -> None:
        self._stack = stack
        self._forgetful = forgetful
        # A killed one is gone; a stopped one must wake up before it can serve again.
        lost = {"killed": FAULTS, "stopped": FAULTS // 2 + 1, "cancelled": 0}[fault]
        self._left = lost + 1
        self._ahead: deque[asyncio.Task[Child]] = deque()
        self._used: deque[Child] = deque()
        for _ in range(2):
            self._start()

    def _start(self) -> None:
        if self._left:
            self._left -= 1
            self._ahead.append(asyncio.create_task(self._started()))

    async def _started(self) -> Child:
        made = await self._stack.enter_async_context(child(work=WORK_SECONDS))
        if self._forgetful:
            made.tell("forget")
        return made

    async def next(self) -> Child:
        if self._ahead:
            made = await self._ahead.popleft()
            self._start()
        else:
            while (made := self._used.popleft()).silent:
                pass
        self._used.append(made)
        return made


async def openings_of_bob(r: Rig, fault: str, forgetful: bool = False) -> list[Opening]:
    """Let 1,000 messages flow to bob, who suffers ``fault`` twenty times; then let a last
    client take what is left. What the openings of his mailbox showed."""
    dice = random.Random(fault)
    ana, eva = await r.online("ana"), await r.online("eva")
    openings: list[Opening] = []
    struck: Child | None = None
    async with AsyncExitStack() as stack:
        crew = Crew(stack, fault, forgetful)
        for number in range(1, FAULTS + 2):
            incarnation = 1 if fault == "cancelled" else number
            bob = await crew.next()
            acked = (await mailbox(r, "bob")).acked if number > 1 else 0
            shown: list[Shown] = []
            bob.shown[incarnation] = shown
            openings.append(Opening(incarnation, shown, acked))
            await bob.open(r.address, incarnation)
            if fault == "stopped" and struck is not None:
                await wake_or_kill(struck, incarnation - 1)
            if number > FAULTS:
                break
            sending = asyncio.create_task(burst((ana, eva), number))
            enough = dice.randint(1, 2 * BURST * number - await passed(r, openings))
            await bob.until(lambda shown=shown, enough=enough: len(shown) >= enough)
            await strike(r, bob, fault, incarnation)
            await sending
            struck = bob
        await until_all_is_acknowledged(r, "bob")
        for sender in (ana, eva):
            await sender.send("bob", f"{sender.life.user} last")
        await until_all_is_acknowledged(r, "bob")
        await bob.until(lambda: sum(s.body.endswith("last") for s in shown) == 2)
    return openings


async def passed(r: Rig, openings: Sequence[Opening]) -> int:
    """At most so many messages the newest opening will not show: they are acknowledged, or
    were shown in the same incarnation."""
    *before, now = openings
    same = [opening for opening in before if opening.incarnation == now.incarnation]
    shown = {message[:2] for opening in same for message in opening.shown}
    return max((await mailbox(r, "bob")).acked, len(shown))


async def burst(senders: Sequence[Person], number: int) -> None:
    numbers = range(BURST * (number - 1), BURST * number)
    receipts = await asyncio.gather(
        *(s.send("bob", *(f"{s.life.user} {n}" for n in numbers)) for s in senders)
    )
    assert {receipt.outcome for some in receipts for receipt in some} == {"confirmed"}


async def strike(r: Rig, bob: Child, fault: str, incarnation: int) -> None:
    times = bob.cancelled[incarnation]
    bob.process.send_signal(SIGNALS[fault])
    if fault == "killed":
        assert await until_let_go(r, "bob") < 1, "noticed at once"
        await bob.until(lambda: bob.silent)
    elif fault == "cancelled":
        await bob.until(lambda: bob.cancelled[incarnation] > times)
        await until_let_go(r, "bob")


async def wake_or_kill(struck: Child, incarnation: int) -> None:
    """A stopped client finds that its name is taken, or it never wakes up."""
    if incarnation % 2 == 0:
        await struck.killed()
        return
    struck.process.send_signal(signal.SIGCONT)
    await struck.until(lambda: incarnation in struck.ended)
    assert struck.ended[incarnation] == "Taken"


def check(openings: Sequence[Opening]) -> None:
    """The promise."""
    log: list[tuple[str, str]] = []
    seen: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
    for opening in openings:
        shown = [(message.sender, message.body) for message in opening.shown]
        for message in shown:
            assert message not in seen[opening.incarnation], "shown twice in one incarnation"
            seen[opening.incarnation].add(message)
        start = log.index(shown[0]) if shown and shown[0] in log else len(log)
        known = log[start : start + len(shown)]
        assert shown[: len(known)] == known, "out of the mailbox's order"
        assert start >= opening.acked or not known, "shown again though acknowledged"
        marks = [message.redelivered for message in opening.shown]
        assert all(marks[: len(known)]), "shown again without being marked"
        assert marks == sorted(marks, reverse=True), "marked behind what is new"
        log += shown[len(known) :]
    new = (*openings[0].shown[:1], *openings[-1].shown[-2:])
    assert not any(message.redelivered for message in new), "marked though new"
    for sender in ("ana", "eva"):
        sent = [*(f"{sender} {n}" for n in range(BURST * FAULTS)), f"{sender} last"]
        came = [body for who, body in log if who == sender]
        assert set(came) == set(sent), f"{len(sent) - len(came)} of {sender} are lost"
        assert came == sent, "out of the sender's order"


@pytest.mark.parametrize("fault", SIGNALS)
async def test_a_receiver_struck_twenty_times_in_mid_stream_loses_nothing(
    chats: Rig, fault: str
) -> None:
    check(await openings_of_bob(chats, fault))


# -- the same assertions, on designs that are broken


class Unmarking(MemoryMailboxes):
    """Does not say what was handed out before."""

    async def fetch(self, hold: Hold, *args: Any) -> Batch:
        return (await super().fetch(hold, *args))._replace(again=0)


class Deaf(MemoryMailboxes):
    """Hands out from the beginning again, whatever was acknowledged."""

    acked = 0

    async def ack(self, hold: Hold, position: str, *rest: Any) -> None:
        if int(position) > self.acked:
            self.acked = int(position)
            await super().ack(hold, position, *rest)

    async def attach(self, *args: Any) -> Hold:
        hold = await super().attach(*args)
        object.__setattr__(hold, "start", "0")  # the store knows a hold by its identity
        return hold


@pytest.mark.parametrize(
    "store, fault, forgetful, complaint",
    [
        (Taking, "killed", False, "are lost"),
        (Taking, "stopped", False, "are lost"),
        (Taking, "cancelled", False, "are lost"),
        (Unmarking, "stopped", False, "without being marked"),
        (Deaf, "stopped", False, "though acknowledged"),
        (MemoryMailboxes, "cancelled", True, "shown twice"),
    ],
)
async def test_a_broken_design_is_caught(
    store: type[MemoryMailboxes], fault: str, forgetful: bool, complaint: str
) -> None:
    async with rig(store()) as r:
        openings = await openings_of_bob(r, fault, forgetful)
    with pytest.raises(AssertionError, match=complaint):
        check(openings)
