"""Direct chats: clients and their endpoints on one loop, real gRPC on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from direct_rig import PATIENCE_SECONDS, Person, Stock, direct_rig, fake_peer, letter

from chatlab.errors import NotPossible, SendUncertain, ServiceUnavailable, Taken
from chatlab.journal import (
    Confirmed,
    Connected,
    Delivered,
    Discarded,
    Disconnected,
    Failed,
    Reached,
    Sent,
    Uncertain,
)
from chatlab.messages import BODY_BYTES, Receipt
from chatlab.private.line import AnswerersLine, CallersLine, LineBroke
from chatlab.private.screen import CLOCK_LIMIT
from chatlab.services.addresses import ServerAddress
from chatlab.v1 import direct_chat_pb2 as pb

Code = grpc.StatusCode


def outcomes(receipts: list[Receipt]) -> list[str]:
    return [receipt.outcome for receipt in receipts]


def bodies(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


# -- talking


async def test_both_directions_go_over_one_line() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        (there,) = await ana.send(bob, "hola")
        (back,) = await bob.send(ana, "adéu")
        assert (there.outcome, there.waiting, there.listeners) == ("confirmed", 0, 1)
        assert (ana.bodies, bob.bodies) == (["adéu"], ["hola"])
        assert (back.outcome, ana.questions.redeemed, bob.questions.redeemed) == (
            *("confirmed", 0, 1),
        )
        assert bob.client.state()["conversations"] == ["ana"]
        kinds = [type(fact).__name__ for fact in rig.facts() if fact.chat]
        assert kinds.index("Sent") < kinds.index("Delivered") < kinds.index("Confirmed")
        assert [fact.id for fact in ana.facts(Reached)] == [there.id]


@pytest.mark.parametrize("meet", [True, False], ids=["two calls at once", "one call"])
async def test_two_thousand_both_ways_at_once_lose_double_and_reorder_nothing(
    meet: bool,
) -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        if meet:
            rig.names.finding.clear()
        sends = [ana.send(bob, *bodies(2000)), bob.send(ana, *bodies(2000))]
        both = asyncio.gather(*sends)
        await bob.until(lambda: len(rig.facts(Sent)) == 4000)
        rig.names.finding.set()
        for receipts in await both:
            assert outcomes(receipts) == ["confirmed"] * 2000
        assert ana.bodies == bob.bodies == bodies(2000)
        assert rig.facts(Discarded) == []
        if meet:
            assert (ana.questions.redeemed, bob.questions.redeemed) == (1, 1)
        assert len(rig.facts(Connected)) == 2, "two lines are one conversation"


async def test_exit_is_ordinary_text() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "EXIT", "still here")
        assert bob.bodies == ["EXIT", "still here"]
        assert rig.facts(Disconnected) == []


async def test_the_largest_frame_arrives_whole() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        large = ["ü" * (BODY_BYTES // 2)] * 17
        assert outcomes(await ana.send(bob, *large)) == ["confirmed"] * 17
        assert bob.bodies == large


async def test_with_a_lab_secret_those_who_know_it_talk_and_others_are_not_let_in() -> None:
    async with direct_rig(lab_secret="of the lab") as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        assert outcomes(await ana.send(bob, "hola")) == ["confirmed"]
        stranger = await rig.stock().dial(bob, metadata=())
        assert (await stranger.refusal())[0] == Code.UNAUTHENTICATED
        assert bob.questions.redeemed == 1
        assert "of the lab" not in repr(bob.life) + repr(rig.settings)


async def test_nobody_is_asked_for_history_and_the_name_server_for_presence() -> None:
    async with direct_rig() as rig:
        ana, _ = await rig.online("ana"), await rig.online("bob")
        with pytest.raises(NotPossible):
            await ana.client.history("bob", 10)
        assert await ana.client.presence(["bob", "eva", "nobody"]) == [
            *(("bob", True, 7.0), ("eva", False, 7.0)),
        ]


# -- nobody there


async def test_who_is_away_or_unknown_is_said_at_once_and_nothing_is_kept() -> None:
    async with direct_rig() as rig:
        ana = await rig.online("ana")
        away, unknown = await ana.client.send(
            [ana.life.message("private:ana:x", to, "hola") for to in ("bob", "nobody")]
        )
        assert (away.outcome, away.error) == ("failed", "PeerAway")
        assert (unknown.outcome, unknown.error) == ("failed", "UnknownAccount")
        bob = await rig.online("bob")
        await ana.send(bob, "now")
        assert bob.bodies == ["now"]


async def test_a_name_server_that_does_not_answer_is_no_reason_for_doubt() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        for rig.names.broken in (ServiceUnavailable("Redis is down."), SendUncertain("Cut.")):
            (receipt,) = await ana.send(bob, "hola")
            assert (receipt.outcome, receipt.error) == ("failed", "ServiceUnavailable")
        rig.names.broken = None
        assert outcomes(await ana.send(bob, "hola")) == ["confirmed"]


async def test_a_peer_that_never_answers_a_call_is_given_up_at_the_deadline() -> None:
    async with direct_rig(send_seconds=0.3) as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        bob.life.gate.clear()
        assert outcomes(await ana.send(bob, "hola")) == ["failed"]
        bob.life.gate.set()
        assert outcomes(await ana.send(bob, "again")) == ["confirmed"]
        assert bob.bodies == ["again"]


async def test_a_refusal_says_why_and_who_accepts_again_is_talked_to() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        bob.refusal = "I am asleep."
        (refused,) = await ana.send(bob, "hola")
        assert (refused.outcome, refused.error) == ("failed", "ChatRefused")
        assert "I am asleep." in refused.reason
        bob.refusal = ""
        assert outcomes(await ana.send(bob, "again")) == ["confirmed"]
        assert bob.bodies == ["again"]


async def test_a_very_long_reason_is_cut_and_still_a_refusal() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        bob.refusal = "são " * 16_000
        (refused,) = await ana.send(bob, "hola")
        assert refused.error == "ChatRefused"
        assert 100 < len(refused.reason) < 1000


async def test_who_hangs_up_and_refuses_is_not_talked_to_and_nothing_is_in_doubt() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "hola")
        bob.refusal = "enough"
        receipts, _ = await asyncio.gather(ana.send(bob, *bodies(3000)), bob.client.hang_up())
        seen = len(bob.shown) - 1
        assert outcomes(receipts) == ["confirmed"] * seen + ["failed"] * (3000 - seen)
        (last,) = await ana.send(bob, "are you sure?")
        assert last.error == "ChatRefused"
        assert bob.facts(Disconnected)[-1].reason == ""
        # He may still call, and she may answer on his line.
        assert outcomes(await bob.send(ana, "sorry")) == ["confirmed"]
        assert outcomes(await ana.send(bob, "at last")) == ["confirmed"]


# -- who calls, and who is called


async def refused(stock: Stock, person: Person, *codes: Code) -> None:
    status, _ = await stock.refusal()
    assert status in codes
    assert person.shown == []
    assert person.client.state()["conversations"] == []


async def test_without_a_ticket_nobody_is_talked_to() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        for ticket in ("", "guess", "x" * 100_000):
            await refused(await rig.stock().dial(bob, ticket), bob, Code.UNAUTHENTICATED)


async def test_a_ticket_is_good_once() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        rig.names.newest["eva"] = 1
        ticket, proof = rig.names.issue("eva", 1, "bob")
        first = await rig.stock().dial(bob, ticket)
        assert (await first.call.read()).proof == proof
        again = await rig.stock().dial(bob, ticket)
        assert (await again.refusal())[0] == Code.UNAUTHENTICATED
        await first.write(letter(1))
        assert await bob.wait_for(1) == ["hola"]


async def test_the_ticket_of_another_user_does_not_make_one_that_user() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        ticket, _ = rig.names.issue("eva", 0, "bob")
        await refused(
            await rig.stock().dial(bob, ticket, caller="ana"), bob, Code.UNAUTHENTICATED
        )


async def test_a_ticket_for_another_peer_opens_nothing() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        ticket, _ = rig.names.issue("eva", 0, "ana")
        await refused(await rig.stock().dial(bob, ticket), bob, Code.UNAUTHENTICATED)


async def test_the_ticket_of_an_older_life_is_no_good() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        ticket, _ = rig.names.issue("eva", 0, "bob")
        rig.names.newest["eva"] = 2
        await refused(await rig.stock().dial(bob, ticket), bob, Code.UNAUTHENTICATED)


async def test_a_caller_without_a_possible_name_is_refused() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        for caller in ("", "e v a", "x" * 65):
            stock = await rig.stock().dial(bob, "any", caller=caller)
            await refused(stock, bob, Code.INVALID_ARGUMENT)
        assert bob.questions.redeemed == 0


async def test_nobody_calls_oneself() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        ticket, _ = rig.names.issue("bob", 1, "bob")
        stock = await rig.stock("bob").dial(bob, ticket)
        await refused(stock, bob, Code.UNAUTHENTICATED)
        assert bob.ended == []


async def test_whoever_has_the_port_of_another_by_now_says_so() -> None:
    async with direct_rig() as rig:
        ana, eva = await rig.online("ana"), await rig.online("eva")
        rig.names.addresses["bob"] = eva.address
        (receipt,) = await ana.send("bob", "for bob only")
        assert (receipt.outcome, receipt.error) == ("failed", "PeerAway")
        assert eva.shown == []
        assert eva.questions.redeemed == 0, "the ticket is not hers to use"


async def test_whoever_pretends_to_be_another_is_told_nothing() -> None:
    async def pretend(hello: pb.Hello, context: Any) -> None:
        await context.write(pb.TalkResponse(incarnation=9, proof="guess"))
        heard.append(await context.read())

    heard: list[object] = []
    async with direct_rig() as rig, fake_peer(rig, "bob", pretend):
        ana = await rig.online("ana")
        (receipt,) = await ana.send("bob", "for bob only")
        assert (receipt.outcome, receipt.error) == ("failed", "PeerAway")
        assert "is not bob" in receipt.reason
        assert heard in ([], [grpc.aio.EOF])


async def test_a_peer_that_says_we_were_superseded_is_not_believed() -> None:
    async def lie(hello: pb.Hello, context: Any) -> None:
        await context.abort(Code.ABORTED, "A newer client of ana took over.")

    async with direct_rig() as rig, fake_peer(rig, "bob", lie):
        ana, eva = await rig.online("ana"), await rig.online("eva")
        (receipt,) = await ana.send("bob", "hola")
        assert (receipt.outcome, receipt.error) == ("failed", "PeerAway")
        assert outcomes(await ana.send(eva, "hola")) == ["confirmed"]
        assert ana.ended == []


@pytest.mark.parametrize(
    "raised",
    [
        grpc.aio.AioRpcError(Code.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata()),
        grpc.aio.InternalError("Failed execute_batch"),
        grpc.aio.UsageError("RPC already finished."),
        asyncio.InvalidStateError("RPC already finished."),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_grpc_raises_when_the_other_end_is_gone_is_a_line_that_broke(
    raised: Exception,
) -> None:
    class Gone:
        async def read(self) -> None:
            raise raised

        async def write(self, frame: object) -> None:
            raise raised

    for line in (AnswerersLine("bob", 1, Gone()), CallersLine("bob", 1, None, Gone())):
        with pytest.raises(LineBroke):
            await line.read()
        with pytest.raises(LineBroke):
            await line.write([], 1)


# -- limits


@pytest.mark.parametrize(
    ("letters", "limit"),
    [
        ([letter(n) for n in range(101)], "100 letters"),
        ([letter(n, "x" * BODY_BYTES) for n in range(9)], "524,288 bytes"),
        ([letter(1), letter(2, "ü" * (BODY_BYTES // 2) + "x")], "65,536 bytes"),
        ([letter(1), letter(2, "")], "65,536 bytes"),
        ([letter(1), letter(2, id="")], "256 bytes"),
        ([letter(1), letter(2, id="ü" * 129)], "256 bytes"),
        ([letter(1), letter(2, sent_at=float("inf"))], "no time"),
        ([letter(1), letter(2, sent_at=float("nan"))], "no time"),
    ],
    ids=["101", "9 large", "large", "no body", "no id", "long id", "inf", "nan"],
)
async def test_a_frame_that_breaks_a_limit_is_refused_and_nothing_of_it_is_shown(
    letters: list[Any], limit: str
) -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        stock = await rig.stock().accepted(bob)
        await stock.write(letter(0, "before"))
        await bob.wait_for(1)
        await stock.write(*letters)
        status, said = await stock.refusal()
        assert status == Code.INVALID_ARGUMENT
        assert limit in said
        await bob.until(lambda: bob.facts(Disconnected))
        assert limit in bob.facts(Disconnected)[0].reason
        assert bob.bodies == ["before"]
        assert bob.ended == []


async def test_letters_in_the_hello_are_refused_for_they_would_not_be_counted() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        stock = rig.stock()
        await stock.dial(bob, write=False)
        ticket, _ = rig.names.issue("eva", 1, "bob")
        hello = pb.Hello(caller="eva", peer="bob", ticket=ticket)
        await stock.call.write(pb.TalkRequest(hello=hello, letters=[letter(1)]))
        await refused(stock, bob, Code.INVALID_ARGUMENT)


async def test_a_call_without_a_hello_ends_at_the_deadline() -> None:
    async with direct_rig(send_seconds=0.2) as rig:
        bob = await rig.online("bob")
        stock = await rig.stock().dial(bob, write=False)
        await refused(stock, bob, Code.INVALID_ARGUMENT)


async def test_bytes_that_are_no_frame_end_the_call_and_nothing_else() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        for accepted in (False, True):
            stock = rig.stock()
            await stock.dial(bob, write=accepted, raw=True)
            await stock.call.write(b"\xff\xff\xff")
            assert (await stock.refusal())[0] == Code.INVALID_ARGUMENT
        assert outcomes(await ana.send(bob, "hola")) == ["confirmed"]
        assert bob.ended == []


async def test_acknowledging_what_was_never_written_ends_the_call_and_nothing_else() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        stock = await rig.stock().accepted(bob)
        await stock.write(acked=1)
        assert (await stock.refusal())[0] == Code.INVALID_ARGUMENT
        assert outcomes(await ana.send(bob, "hola")) == ["confirmed"]
        assert (bob.ended, bob.facts(Reached), bob.facts(Confirmed)) == ([], [], [])


async def test_an_answerer_that_keeps_to_nothing_ends_its_call_and_nothing_else() -> None:
    def answering(*frames: pb.TalkResponse) -> Callable[[pb.Hello, Any], Any]:
        async def answer(hello: pb.Hello, context: Any) -> None:
            proof = rig.names.tickets.pop(hello.ticket)[3]
            first, *rest = frames
            first.proof = proof
            await context.write(first)
            await context.read()
            for frame in rest:
                await context.write(frame)
            await context.read()  # until she hangs up

        return answer

    hello, wrong = pb.TalkResponse(incarnation=1), pb.TalkResponse(acked=5)
    async with direct_rig(send_seconds=1.0) as rig:
        ana, eva = await rig.online("ana"), await rig.online("eva")
        for frames, outcome in (
            ([pb.TalkResponse(incarnation=1, letters=[letter(1)])], "failed"),
            ([hello, wrong], "uncertain"),
            ([hello, pb.TalkResponse(letters=[letter(n) for n in range(101)])], "uncertain"),
        ):
            async with fake_peer(rig, "bob", answering(*frames)):
                assert outcomes(await ana.send("bob", "hola")) == [outcome]
        assert outcomes(await ana.send(eva, "hola")) == ["confirmed"]
        assert (ana.shown, ana.ended) == ([], [])


async def test_an_absurd_clock_is_not_followed() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        stock = await rig.stock().accepted(bob)
        await stock.write(letter(1, clock=2**64 - 1), letter(2, clock=7))
        await bob.wait_for(2)
        assert 7 < bob.life.clock.value < CLOCK_LIMIT
        assert outcomes(await bob.send(ana, "what time is it?")) == ["confirmed"]


async def test_a_caller_has_one_line_its_newest() -> None:
    async with direct_rig() as rig:
        bob = await rig.online("bob")
        first = await rig.stock().accepted(bob)
        second = await rig.stock().accepted(bob)
        assert (await first.refusal())[0] == Code.ABORTED
        sending = asyncio.create_task(bob.send("eva", "to your newest"))
        assert [x.body for x in (await second.call.read()).letters] == ["to your newest"]
        await second.write(acked=1)
        assert outcomes(await sending) == ["confirmed"]


async def test_a_peer_that_never_reads_is_given_up_and_holds_no_more_than_a_window() -> None:
    async with direct_rig(send_seconds=0.3) as rig:
        bob = await rig.online("bob")
        stock = await rig.stock().accepted(bob)
        receipts = await bob.send("eva", *["x" * BODY_BYTES] * 400)
        doubtful = outcomes(receipts).count("uncertain")
        assert 0 < doubtful < 200
        assert outcomes(receipts) == ["uncertain"] * doubtful + ["failed"] * (400 - doubtful)
        await stock.write(letter(1, "I only talk"))
        await bob.wait_for(1)


# -- lines that end


async def test_a_goodbye_is_one_at_both_ends_whoever_called() -> None:
    for caller, called in (("ana", "bob"), ("bob", "ana")):
        async with direct_rig() as rig:
            people = {name: await rig.online(name) for name in ("ana", "bob")}
            await people[caller].send(called, "hola")
            await people["ana"].leave()
            bob = people["bob"]
            await bob.until(lambda bob=bob: bob.facts(Disconnected))
            assert [f.reason for f in people["ana"].facts(Disconnected)] == [""]
            assert [f.reason for f in bob.facts(Disconnected)] == ["ana left"]


@pytest.mark.parametrize("leaver_called", [True, False])
async def test_what_was_shown_before_a_goodbye_is_acknowledged_and_the_rest_was_not_shown(
    leaver_called: bool,
) -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await (bob.send(ana, "hola") if leaver_called else ana.send(bob, "hola"))
        before = len(bob.shown)
        sending = asyncio.create_task(ana.send(bob, *bodies(3000)))
        await bob.wait_for(before + 150)
        await bob.leave()
        receipts = await sending
        seen = len(bob.shown) - before
        assert 150 <= seen < 3000
        assert outcomes(receipts) == ["confirmed"] * seen + ["failed"] * (3000 - seen)
        assert {receipt.error for receipt in receipts[seen:]} == {"PeerAway"}


async def test_who_closes_waits_for_the_receipts_of_what_is_on_its_way() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "hola")
        sending = asyncio.create_task(ana.send(bob, *bodies(500)))
        await ana.until(lambda: len(ana.facts(Sent)) == 501)
        await ana.leave()
        assert outcomes(await sending) == ["confirmed"] * 500
        (late,) = await ana.send(bob, "too late")
        assert (late.outcome, late.error) == ("failed", "ChatClosed")


@pytest.mark.parametrize("caller", [True, False])
async def test_closing_is_bounded_although_the_peer_is_frozen(caller: bool) -> None:
    async with direct_rig(keepalive_seconds=60.0, keepalive_timeout_seconds=60.0) as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await (ana.send(bob, "hola") if caller else bob.send(ana, "hola"))
        for person in (ana, bob):
            person.link.freeze()
        bob.life.gate.clear()
        before = len(ana.facts(Sent))
        sending = asyncio.create_task(ana.send(bob, "are you there?"))
        await ana.until(lambda: len(ana.facts(Sent)) > before)
        async with asyncio.timeout(5):
            await ana.leave()
        assert outcomes(await sending) == ["uncertain"]


async def test_closing_while_dialling_leaves_no_line_behind() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        rig.names.redeeming.clear()
        sending = asyncio.create_task(ana.send(bob, "hola"))
        await ana.until(lambda: ana.facts(Sent))
        await ana.client.close()
        rig.names.redeeming.set()
        (receipt,) = await sending
        assert (receipt.outcome, receipt.error) == ("failed", "ChatClosed")
        assert outcomes(await bob.send("ana", "are you there?")) == ["failed"]
        assert (bob.shown, rig.facts(Connected)) == ([], [])


async def test_who_is_called_while_it_closes_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def accept(line: AnswerersLine, mine: int, proof: str) -> None:
        accepted.append(line)

    accepted: list[AnswerersLine] = []
    monkeypatch.setattr(AnswerersLine, "accept", accept)
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        rig.names.redeeming.clear()
        sending = asyncio.create_task(ana.send(bob, "hola"))
        await ana.until(lambda: rig.names.tickets)
        stock = await rig.stock().dial(bob)
        await bob.client.close()
        rig.names.redeeming.set()
        (receipt,) = await sending
        assert (receipt.outcome, receipt.error) == ("failed", "PeerAway")
        assert accepted == []
        assert (await stock.refusal())[0] == Code.NOT_FOUND
        assert rig.facts(Connected) == []


async def test_who_closes_just_when_it_has_accepted_does_not_stay_on_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        accept = AnswerersLine.accept

        async def accept_and_close(line: AnswerersLine, mine: int, proof: str) -> None:
            await accept(line, mine, proof)
            await bob.client.close()

        monkeypatch.setattr(AnswerersLine, "accept", accept_and_close)
        (receipt,) = await ana.send(bob, "hola")
        assert receipt.outcome in ("failed", "uncertain")
        assert bob.shown == []
        assert bob.client.state()["conversations"] == []


async def test_a_call_that_fails_is_all_the_same_when_the_peer_has_called_meanwhile() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        rig.names.finding.clear()
        sending = asyncio.create_task(ana.send(bob, "hola"))
        await ana.until(lambda: ana.facts(Sent))
        stock = await rig.stock("bob").accepted(ana)
        assert [x.body for x in (await stock.call.read()).letters] == ["hola"]
        rig.names.broken = ServiceUnavailable("Redis is down.")
        rig.names.finding.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while ana.client._talks["bob"]._dialling is not None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await stock.write(acked=1)
        assert outcomes(await sending) == ["confirmed"]


async def test_after_a_crash_the_line_broke_and_nobody_left() -> None:
    for caller, called in (("ana", "bob"), ("bob", "ana")):
        async with direct_rig() as rig:
            people = {name: await rig.online(name) for name in ("ana", "bob")}
            await people[caller].send(called, "hola")
            ana, bob = people["ana"], people["bob"]
            for person in (ana, bob):
                person.link.reset()
            await bob.until(lambda: len(rig.facts(Disconnected)) == 2)
            assert {f.reason for f in rig.facts(Disconnected)} == {"the line broke"}
            assert outcomes(await bob.send(ana, "again")) == ["confirmed"]


async def test_who_is_abandoned_records_nothing_and_its_peer_is_not_told_a_goodbye() -> None:
    for caller, called in (("ana", "bob"), ("bob", "ana")):
        async with direct_rig() as rig:
            people = {name: await rig.online(name) for name in ("ana", "bob")}
            await people[caller].send(called, "hola")
            facts = len(people["bob"].facts())
            people["bob"].client.abandon()  # its endpoint goes on
            ana = people["ana"]
            await ana.until(lambda ana=ana: ana.facts(Disconnected))
            assert ana.facts(Disconnected)[0].reason == "the line broke"
            (receipt,) = await ana.send("bob", "are you there?")
            assert (receipt.outcome, receipt.error) == ("failed", "PeerAway")
            assert len(people["bob"].facts()) == facts


async def test_a_crashed_peer_is_noticed_at_once_and_what_had_left_is_in_doubt() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "hola")
        bob.on_message = lambda message: bob.life.gate.clear()
        sending = asyncio.create_task(ana.send(bob, *bodies(3000)))
        await bob.wait_for(101)
        await bob.crash()
        receipts = outcomes(await sending)
        doubtful = receipts.count("uncertain")
        assert 100 <= doubtful <= 800
        assert receipts == ["uncertain"] * doubtful + ["failed"] * (3000 - doubtful)
        assert len(ana.facts(Uncertain)) == doubtful
        assert len(ana.facts(Failed)) == 3000 - doubtful


@pytest.mark.parametrize("caller", [True, False])
async def test_what_was_on_its_way_when_the_line_broke_goes_again_and_is_shown_once(
    caller: bool,
) -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await (ana.send(bob, "hola") if caller else bob.send(ana, "hola"))
        before = len(bob.shown)

        def cut_after_showing(message: Any) -> None:
            if message.body in ("150", "2000"):
                for person in (ana, bob):
                    person.link.reset()

        bob.on_message = cut_after_showing
        assert outcomes(await ana.send(bob, *bodies(3000))) == ["confirmed"] * 3000
        assert bob.bodies[before:] == bodies(3000)
        assert len(bob.facts(Discarded)) > 0
        assert len(rig.facts(Uncertain)) == 0
        assert len(bob.facts(Disconnected)) == 2


async def test_many_cuts_while_both_send_lose_double_and_reorder_nothing() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        for person in (ana, bob):

            def cut(message: Any, person: Person = person) -> None:
                if int(message.body) % 97 == 0:
                    person.link.reset()

            person.on_message = cut
        sent = await asyncio.gather(
            ana.send(bob, *bodies(2000, 1)), bob.send(ana, *bodies(2000, 1))
        )
        for receipts in sent:
            assert outcomes(receipts) == ["confirmed"] * 2000
        assert ana.bodies == bob.bodies == bodies(2000, 1)


async def test_answers_on_an_older_line_do_not_count_for_what_went_again() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        first = await rig.stock("bob").accepted(ana)  # bob's own call, by bare gRPC
        one = asyncio.create_task(ana.send(bob, "1"))
        assert len((await first.call.read()).letters) == 1
        newer = await rig.stock("bob", 2).accepted(ana)
        with pytest.raises(grpc.aio.AioRpcError):
            with contextlib.suppress(asyncio.InvalidStateError):  # its end is known already
                await first.write(acked=1)
            await first.call.read()
        assert [x.body for x in (await newer.call.read()).letters] == ["1"]
        two = asyncio.create_task(ana.send(bob, "2"))
        assert [x.body for x in (await newer.call.read()).letters] == ["2"]
        await newer.write(acked=1)
        assert outcomes(await one) == ["confirmed"]
        assert not two.done()
        await newer.write(acked=2)
        assert outcomes(await two) == ["confirmed"]


async def test_an_interrupted_send_is_given_up_and_the_next_one_goes_on() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "hola")
        bob.life.gate.clear()
        sending = asyncio.create_task(ana.send(bob, *bodies(2000)))
        await ana.until(lambda: len(ana.facts(Sent)) == 2001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        doubtful = len(ana.facts(Uncertain))
        assert doubtful + len(ana.facts(Failed)) == 2000
        bob.life.gate.set()
        assert outcomes(await ana.send(bob, "next")) == ["confirmed"]
        assert bob.bodies == ["hola", *bodies(doubtful), "next"]


async def test_a_message_in_doubt_may_be_sent_again_and_is_shown_once() -> None:
    async with direct_rig(send_seconds=0.3) as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "hola")
        bob.life.gate.clear()
        (lost,) = await ana.send(bob, "did you get it?")
        assert lost.outcome == "uncertain"
        bob.life.gate.set()
        again = ana.life.message("private:ana:bob", "bob", "did you get it?", lost.id)
        assert outcomes(await ana.client.send([again])) == ["confirmed"]
        assert bob.bodies == ["hola", "did you get it?"]
        assert [f.id for f in bob.facts(Discarded)] == [lost.id]


@pytest.mark.parametrize("caller", [True, False])
async def test_a_defect_in_on_message_is_never_silent(caller: bool) -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await (ana.send(bob, "hola") if caller else bob.send(ana, "hola"))

        def fail(message: Any) -> None:
            raise ZeroDivisionError(message.body)

        bob.on_message = fail
        (receipt,) = await ana.send(bob, "boom")
        assert receipt.outcome == "uncertain"
        assert [type(error).__name__ for error in bob.ended] == ["ChatlabError"]
        assert "ZeroDivisionError" in bob.ended[0].what
        (defect,) = rig.defects
        assert isinstance(defect["exception"], ZeroDivisionError)
        rig.defects.clear()
        assert "ZeroDivisionError" not in receipt.reason, "the peer need not know"
        (dead,) = await bob.send(ana, "too late")
        assert dead.outcome == "failed"


# -- takeovers


@pytest.mark.parametrize("first_called", [True, False])
async def test_a_newer_life_is_talked_to_at_once_and_the_older_line_ends(
    first_called: bool,
) -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        if not first_called:
            await ana.send(bob, "are you there?")
            bob.shown.clear()
        await bob.send(ana, "from the first")
        newer = await rig.online("bob", 2)
        await newer.send(ana, "from the second")
        assert outcomes(await ana.send("bob", *bodies(50))) == ["confirmed"] * 50
        assert (newer.bodies, bob.bodies) == (bodies(50), [])
        assert [m.incarnation for m in ana.shown] == [1, 2]
        (late,) = await bob.send(ana, "from the first again")
        assert (late.outcome, late.error) == ("failed", "Taken")
        assert [type(error) for error in bob.ended] == [Taken]


async def test_an_older_life_that_was_called_by_its_successor_ends_at_once() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        await ana.send(bob, "hola")
        sending = asyncio.create_task(bob.send("eva", "x"))
        older = bob.address
        newer = await rig.online("bob", 2)
        await newer.client.succeed(older)
        assert [type(error) for error in bob.ended] == [Taken]
        assert outcomes(await sending) == ["failed"]
        assert outcomes(await ana.send("bob", *bodies(5))) == ["confirmed"] * 5
        assert (bob.bodies, newer.bodies) == (["hola"], bodies(5))


async def test_a_successor_finds_nobody_or_a_stranger_and_goes_on() -> None:
    async with direct_rig() as rig:
        bob, eva = await rig.online("bob"), await rig.online("eva")
        nobody = ServerAddress(host="127.0.0.1", port=1)
        for older in (nobody, eva.address, bob.address):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await bob.client.succeed(older)
        assert (bob.ended, eva.ended) == ([], [])
        assert outcomes(await bob.send(eva, "hola")) == ["confirmed"]


async def test_an_older_life_learns_at_the_next_call_that_it_is_over() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        rig.names.newest["bob"] = 2  # claimed, and its address not known yet
        (receipt,) = await ana.send(bob, "hola")
        assert (receipt.outcome, receipt.error) == ("failed", "PeerAway")
        assert [type(error) for error in bob.ended] == [Taken]
        assert bob.shown == []


async def test_a_caller_that_was_superseded_ends_when_it_is_refused() -> None:
    async with direct_rig() as rig:
        ana, bob = await rig.online("ana"), await rig.online("bob")
        rig.names.redeeming.clear()
        sending = asyncio.create_task(ana.send(bob, "hola"))
        await ana.until(lambda: rig.names.tickets)
        rig.names.newest["ana"] = 2
        rig.names.redeeming.set()
        (receipt,) = await sending
        assert (receipt.outcome, receipt.error) == ("failed", "Taken")
        assert [type(error) for error in ana.ended] == [Taken]
        assert bob.shown == []


async def test_calls_goodbyes_and_crashes_in_turn_leave_no_line_and_no_task() -> None:
    async with direct_rig() as rig:
        ana = await rig.online("ana")
        tasks = len(asyncio.all_tasks())
        for incarnation in range(1, 21):
            bob = await rig.online("bob", incarnation)
            await (ana.send(bob, "x") if incarnation % 2 else bob.send(ana, "x"))
            await (bob.leave() if incarnation % 3 else bob.crash())
        await ana.until(lambda: ana.client.state()["conversations"] == [])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(ana.facts(Connected)) == len(ana.facts(Disconnected)) == 20
        assert len(rig.facts(Delivered)) == 20
