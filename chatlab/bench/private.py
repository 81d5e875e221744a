"""Private chats against a bare grpc.aio unary call for each message, of the same size.

All through a lab as a notebook has it: links between the users and the server, journal on.

==========================  ===========================================  ================
figure                      from … to                                    goal
==========================  ===========================================  ================
one send, async face        ``send`` to its receipt, on the loop         1.3 (memory)
one send                    ``chat.send`` to its receipt, from a cell    1.7; redis 2.5
one message                 ``chat.send`` to ``chat.next`` of the peer   1.7; redis 2.5
many sent                   ``chat.send_many`` to all receipts           25 x; redis 12 x
many received               … until the sender knows that all are acked  20 x; redis 8 x
==========================  ===========================================  ================

The first three are ratios of times a message, the last two of messages a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from chatlab.bench import baselines
from chatlab.bench.report import Figure, alternate
from chatlab.lab import Lab
from chatlab.lab.chats import PrivateChat

BODY = "x" * 100
CALLS = 200
MANY = 5_000
BASE = "bare unary call"
#: Goals a store: one send on the loop, one send, one message; many sent, many received.
GOALS: dict[str, tuple[float | None, float, float, float, float]] = {
    "memory": (1.3, 1.7, 1.7, 25, 20),
    "redis": (None, 2.5, 2.5, 12, 8),
}


def private_messages(rounds: int) -> Iterator[Figure]:
    """All figures of this module."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.start("bench-private"))
        # On the lab's own loop: a second loop in one process makes every gRPC call slower.
        context = baselines.grpc_unary()
        call = lab._call(context.__aenter__())
        stack.callback(lambda: lab._call(context.__aexit__(None, None, None)))

        def base() -> list[float]:
            return lab._call(baselines.grpc_unary_calls(call, BODY.encode(), CALLS))

        lab.users("ana", "bob")
        for store, goals in GOALS.items():
            yield from _one_by_one(lab, store, base, rounds, goals[:3])
            yield from _many(lab, store, base, rounds, goals[3:])


def _ends(lab: Lab, store: str) -> tuple[PrivateChat, PrivateChat]:
    """Both ends of a conversation in a scene of its own."""
    lab.scene(f"private {store}")
    ana, bob = lab.user("ana"), lab.user("bob")
    backend = f"mailbox-{store}"
    return ana.private_chat("bob", backend), bob.private_chat("ana", backend)


def _one_by_one(
    lab: Lab,
    store: str,
    base: Callable[[], list[float]],
    rounds: int,
    goals: tuple[float | None, float, float],
) -> Iterator[Figure]:
    chat, inbox = _ends(lab, store)

    async def on_the_loop() -> list[float]:
        seconds = []
        for _ in range(CALLS):
            began = time.perf_counter()
            await chat._seat.do(
                "send", chat=chat.chat, to=chat.to, backend=chat.backend, bodies=[BODY]
            )
            seconds.append(time.perf_counter() - began)
        return seconds

    def sent() -> list[float]:
        return [_seconds(lambda: chat.send(BODY)) for _ in range(CALLS)]

    def received() -> list[float]:
        inbox.wait(len(chat.messages))  # all that the other figures have sent
        inbox._next = len(inbox)
        return [_seconds(lambda: (chat.send(BODY), inbox.next())) for _ in range(CALLS)]

    names = "one send, async face", "one send", "one message"
    works = (lambda: lab._call(on_the_loop())), sent, received
    for name, goal, work in zip(names, goals, works, strict=True):
        if goal is not None:
            alternate(base, work, 1)  # warm both up
            bases, ours = alternate(base, work, rounds)
            yield Figure(f"{name}, {store}", ours, bases, BASE, at_most=goal)


def _many(
    lab: Lab,
    store: str,
    base: Callable[[], list[float]],
    rounds: int,
    goals: tuple[float, float],
) -> Iterator[Figure]:
    bodies = [BODY] * MANY
    sent: list[float] = []
    received: list[float] = []

    def work() -> list[float]:
        chat, inbox = _ends(lab, store)
        began = time.perf_counter()
        receipts = chat.send_many(bodies)
        sent.append((time.perf_counter() - began) / MANY)
        inbox.wait(MANY, timeout=60)
        chat.wait_delivered(receipts[-1], timeout=60)
        received.append((time.perf_counter() - began) / MANY)
        return []

    alternate(base, work, 1)  # warm both up
    sent.clear()
    received.clear()
    bases, _ = alternate(base, work, rounds)
    yield Figure(f"many sent, {store}", sent, bases, BASE, at_least=goals[0])
    yield Figure(f"many received, {store}", received, bases, BASE, at_least=goals[1])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
