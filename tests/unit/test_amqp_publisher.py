"""The window, the answers and the resending of a publisher, with a fake channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from chatlab.amqp import publisher as module
from chatlab.amqp.errors import NotFound, Refused
from chatlab.amqp.publisher import Batch, Outcome, Outgoing, Publisher
from chatlab.amqp.wire import Properties
from chatlab.errors import InvalidInput


@dataclass
class FakeChannel:
    """Records what is published; answers when told to."""

    written: list[str] = field(default_factory=list)
    open: bool = True
    refuses: str = ""
    on_confirm: Callable[[Any], None] = lambda _: None
    on_return: Callable[..., None] = lambda *_: None

    def __post_init__(self) -> None:
        self.wire = SimpleNamespace(blocked="")
        self.raw = self

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.on_return = callback

    async def call(self, method: str, **arguments: Any) -> None:
        assert method == "confirm_delivery"
        self.on_confirm = arguments["ack_nack_callback"]

    def send(self, method: str, *arguments: Any) -> bool:
        assert method == "basic_publish"
        if arguments[3].message_id == self.refuses:
            raise InvalidInput("too long")
        if self.open:
            self.written.append(arguments[3].message_id)
        return self.open

    def ack(self, tag: int, *, multiple: bool = False, name: str = "Basic.Ack") -> None:
        method = SimpleNamespace(NAME=name, delivery_tag=tag, multiple=multiple)
        self.on_confirm(SimpleNamespace(method=method))

    def return_(self, id: str) -> None:
        self.on_return(None, None, Properties(message_id=id), b"")


def items(*ids: str, exchange: str = "sd") -> list[Outgoing]:
    return [Outgoing(exchange, "", b"x", Properties(message_id=id)) for id in ids]


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def kinds(batch: Batch) -> list[str | None]:
    return [outcome and outcome.kind for outcome in batch.results]


async def on(publisher: Publisher) -> FakeChannel:
    channel = FakeChannel()
    await publisher.attach(channel)  # type: ignore[arg-type]
    return channel


async def settle() -> None:
    for _ in range(20):  # turns of the loop, for bursts that continue later
        await asyncio.sleep(0)


async def test_no_more_than_the_window_is_unconfirmed() -> None:
    publisher = Publisher(window=3)
    channel = await on(publisher)
    publisher.submit(items(*"abcde"))
    await settle()
    assert channel.written == ["a", "b", "c"]
    channel.ack(2, multiple=True)
    assert channel.written == ["a", "b", "c", "d", "e"]


async def test_a_burst_yields_to_the_loop_and_goes_on() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    publisher.submit(items(*numbered(3 * module.WRITE_BURST)))
    assert len(channel.written) == module.WRITE_BURST
    await settle()
    assert channel.written == numbered(3 * module.WRITE_BURST)


async def test_one_answer_may_cover_many_and_answers_may_overtake_each_other() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    batch = publisher.submit(items(*"abcde"))
    channel.ack(4)
    channel.ack(2, multiple=True)
    assert kinds(batch) == ["acked", "acked", None, "acked", None]
    channel.ack(3, name="Basic.Nack")
    channel.ack(5, multiple=True)
    assert kinds(batch) == ["acked", "acked", "nacked", "acked", "acked"]
    assert await publisher.outcomes(batch, 1) == batch.results
    assert publisher.unconfirmed == 0


async def test_a_return_is_matched_to_its_publish() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    batch = publisher.submit(items(*"abc"))
    channel.return_("b")
    channel.ack(3, multiple=True)
    assert kinds(batch) == ["acked", "returned", "acked"]


async def test_the_unconfirmed_go_again_from_the_oldest_before_anything_new() -> None:
    publisher = Publisher(window=4)
    first = await on(publisher)
    batch = publisher.submit(items(*"abcdef"))
    first.ack(2)  # b; a is the oldest unconfirmed
    assert first.written == list("abcde")
    publisher.detach()
    new = publisher.submit(items("new"))
    second = await on(publisher)
    await settle()
    assert second.written == ["a", "c", "d", "e"]
    second.ack(4, multiple=True)
    assert second.written == ["a", "c", "d", "e", "f", "new"]
    second.ack(6, multiple=True)
    assert kinds(batch) == ["acked"] * 6
    assert kinds(new) == ["acked"]


async def test_what_was_returned_before_the_loss_is_asked_again() -> None:
    publisher = Publisher()
    first = await on(publisher)
    batch = publisher.submit(items("a"))
    first.return_("a")
    publisher.detach()
    second = await on(publisher)
    second.ack(1)
    assert kinds(batch) == ["acked"]


async def test_a_nack_is_an_answer_and_never_sent_again() -> None:
    publisher = Publisher()
    first = await on(publisher)
    batch = publisher.submit(items("a"))
    first.ack(1, name="Basic.Nack")
    publisher.detach()
    assert (await on(publisher)).written == []
    assert kinds(batch) == ["nacked"]


async def test_at_the_end_of_patience_what_left_is_uncertain_and_the_rest_failed() -> None:
    publisher = Publisher(window=1)
    await on(publisher)
    batch = publisher.submit(items("left", "never left"))
    outcomes = await publisher.outcomes(batch, 0.01)
    assert [outcome.kind for outcome in outcomes] == ["uncertain", "failed"]


async def test_what_was_given_up_is_not_sent_again() -> None:
    publisher = Publisher()
    await on(publisher)
    await publisher.outcomes(publisher.submit(items("a")), 0.01)
    publisher.detach()
    assert (await on(publisher)).written == []


async def test_without_a_connection_a_message_fails_with_the_reason() -> None:
    publisher = Publisher()
    publisher.trouble = "RabbitMQ is not running."
    outcomes = await publisher.outcomes(publisher.submit(items("a")), 0.01)
    assert outcomes == [Outcome("failed", "RabbitMQ is not running.")]


async def test_a_memory_alarm_is_named() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    channel.wire.blocked = "low on memory"
    (outcome,) = await publisher.outcomes(publisher.submit(items("a")), 0.01)
    assert outcome.kind == "uncertain"
    assert "low on memory" in outcome.reason


async def test_patience_lasts_as_long_as_anything_is_confirmed() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    batch = publisher.submit(items(*numbered(5)))
    waiting = asyncio.create_task(publisher.outcomes(batch, 0.08))
    for tag in range(1, 6):  # 0.2 s in all, each answer well within the patience
        await asyncio.sleep(0.04)
        channel.ack(tag)
    assert [outcome.kind for outcome in await waiting] == ["acked"] * 5


async def test_new_messages_do_not_prolong_the_patience_of_old_ones() -> None:
    publisher = Publisher()
    await on(publisher)
    waiting = asyncio.create_task(publisher.outcomes(publisher.submit(items("old")), 0.1))
    others = []
    for number in range(4):
        await asyncio.sleep(0.04)
        batch = publisher.submit(items(f"new {number}"))
        others.append(asyncio.create_task(publisher.outcomes(batch, 0.1)))
    assert waiting.done()
    for other in others:
        await other


async def test_an_interrupted_wait_gives_up_its_messages() -> None:
    publisher = Publisher()
    await on(publisher)
    batch = publisher.submit(items("a"))
    waiting = asyncio.create_task(publisher.outcomes(batch, 5))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    publisher.detach()
    assert (await on(publisher)).written == []


async def test_a_missing_exchange_settles_only_what_was_meant_for_it() -> None:
    publisher = Publisher()
    await on(publisher)
    gone = publisher.submit(items("a", "b", exchange="gone"))
    there = publisher.submit(items("c"))
    publisher.refused(NotFound("no exchange 'gone' in vhost '/'"))
    assert kinds(gone) == ["uncertain", "failed"]  # "b" cannot have got through
    channel = await on(publisher)
    assert channel.written == ["c"]
    channel.ack(1)
    assert kinds(there) == ["acked"]


async def test_another_refusal_leaves_all_uncertain_and_resends_nothing() -> None:
    publisher = Publisher()
    await on(publisher)
    batch = publisher.submit(items("a", "b"))
    publisher.refused(Refused("(540) not implemented"))
    assert kinds(batch) == ["uncertain", "uncertain"]
    assert (await on(publisher)).written == []


async def test_a_message_that_amqp_cannot_carry_fails_alone() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    channel.refuses = "b"
    batch = publisher.submit(items(*"abc"))
    assert channel.written == ["a", "c"]
    channel.ack(2, multiple=True)
    assert kinds(batch) == ["acked", "failed", "acked"]


async def test_a_channel_lost_this_instant_keeps_the_message() -> None:
    publisher = Publisher()
    channel = await on(publisher)
    channel.open = False
    batch = publisher.submit(items("a"))
    publisher.detach()
    second = await on(publisher)
    assert second.written == ["a"]
    second.ack(1)
    assert kinds(batch) == ["acked"]


async def test_an_empty_batch_is_done() -> None:
    assert await Publisher().outcomes(Publisher().submit([]), 1) == []
