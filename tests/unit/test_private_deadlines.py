"""No call waits for ever, and every way to fail is an error of chatlab."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from private_rig import quick_settings, rig

from chatlab import errors
from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    MailboxFull,
    NameInUse,
    NotAdmitted,
    NotPossible,
    SendUncertain,
    ServiceUnavailable,
    Taken,
    UnknownAccount,
)
from chatlab.private.channel import FRAME_BYTES, error_of, open_channel, status_of
from chatlab.private.security import NOT_ADMITTED_KEY
from chatlab.services.addresses import ServerAddress
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

QUICK = quick_settings(send_seconds=0.6)
#: With what a busy machine takes on top of the deadline.
BOUND_SECONDS = 3.0


@asynccontextmanager
async def silent_port() -> AsyncIterator[ServerAddress]:
    """Connections are made (by the kernel), and nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield ServerAddress(host="127.0.0.1", port=listener.getsockname()[1])


class Half(pb_grpc.PrivateChatServiceServicer):  # type: ignore[misc]
    """Answers Claim; begins the streams named, never the others."""

    def __init__(self, *begins: str) -> None:
        self._begins = begins

    async def Claim(self, request: pb.ClaimRequest, context: Any) -> pb.ClaimResponse:
        return pb.ClaimResponse(session="1.YW5h.00")

    async def _stream(self, name: str, context: Any) -> None:
        if name in self._begins:
            await context.send_initial_metadata(())
        await asyncio.Event().wait()

    async def Send(self, _: object, context: Any) -> None:
        await self._stream("Send", context)

    async def Receive(self, _: object, context: Any) -> None:
        await self._stream("Receive", context)


@asynccontextmanager
async def half(*begins: str) -> AsyncIterator[ServerAddress]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_PrivateChatServiceServicer_to_server(Half(*begins), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield ServerAddress(host="127.0.0.1", port=port)
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    "server",
    [silent_port, lambda: half(), lambda: half("Send")],
    ids=["accepts TCP only", "begins no stream", "never Receive"],
)
async def test_opening_is_bounded_whatever_the_server_leaves_out(
    server: Callable[[], Any],
) -> None:
    async with rig(settings=QUICK) as r, server() as address:
        r.address = address
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="in time"):
            await r.online("ana")
        assert 0.5 < time.monotonic() - began < BOUND_SECONDS


async def test_a_send_for_which_no_stream_begins_has_failed_in_time() -> None:
    async with rig(settings=QUICK) as r, half("Receive") as r.address:
        ana = await r.online("ana")
        began = time.monotonic()
        (receipt,) = await ana.send("bob", "anybody?")
        assert receipt.outcome == "failed", "it never left"
        assert time.monotonic() - began < BOUND_SECONDS
        async with asyncio.timeout(BOUND_SECONDS):  # it comes back, perhaps to another server
            while r.journal.counts()["Connected"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        ana.client.abandon()


async def test_a_send_on_a_stream_without_answers_is_bounded() -> None:
    async with rig(settings=QUICK) as r, half("Send", "Receive") as r.address:
        ana = await r.online("ana")
        began = time.monotonic()
        (receipt,) = await ana.send("bob", "anybody?")
        assert receipt.outcome == "uncertain"
        assert time.monotonic() - began < BOUND_SECONDS
        ana.client.abandon()


async def test_closing_is_bounded_with_a_server_that_answers_nothing() -> None:
    async with rig(settings=QUICK) as r, half("Send", "Receive") as r.address:
        ana = await r.online("ana")
        began = time.monotonic()
        await ana.client.close()
        assert time.monotonic() - began < BOUND_SECONDS


async def test_one_that_does_not_answer_leaves_time_to_open_at_another() -> None:
    async with rig(settings=quick_settings(send_seconds=2)) as r, silent_port() as silent:
        asked: list[set[str]] = []

        async def locate(avoid: set[str]) -> ServerAddress:
            asked.append(set(avoid))
            return r.address if str(silent) in avoid else silent

        ana = r.person("ana")
        ana.client._locate = locate
        await ana.client.open()
        assert asked == [set(), {str(silent)}]


async def test_a_client_that_lost_its_server_asks_for_another() -> None:
    async with rig() as r, rig(accounts=r.accounts) as other:
        asked: list[set[str]] = []

        async def locate(avoid: set[str]) -> ServerAddress:
            asked.append(set(avoid))
            return other.address if str(r.address) in avoid else r.address

        ana = r.person("ana")
        ana.client._locate = locate
        await ana.client.open()
        await r.stop()
        (receipt,) = await ana.send("ana", "here now")
        assert receipt.outcome == "confirmed"
        assert asked == [set(), {str(r.address)}]
        await ana.client.close()


async def test_a_name_server_that_breaks_while_it_is_asked_is_asked_again() -> None:
    async with rig() as r:
        asked = 0

        async def locate(_: object) -> ServerAddress:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise SendUncertain("The connection to Redis broke.")
            return r.address

        ana = r.person("ana")
        ana.client._locate = locate
        await ana.client.open()
        assert asked == 2


# -- what a status means

RETRIED = ServiceUnavailable
MEANINGS: dict[grpc.StatusCode, type[ChatlabError]] = {
    grpc.StatusCode.OK: RETRIED,  # never raised by gRPC
    grpc.StatusCode.CANCELLED: RETRIED,
    grpc.StatusCode.UNKNOWN: RETRIED,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.DEADLINE_EXCEEDED: RETRIED,
    grpc.StatusCode.NOT_FOUND: UnknownAccount,
    grpc.StatusCode.ALREADY_EXISTS: RETRIED,
    grpc.StatusCode.PERMISSION_DENIED: NameInUse,
    grpc.StatusCode.UNAUTHENTICATED: RETRIED,  # claim again
    grpc.StatusCode.RESOURCE_EXHAUSTED: MailboxFull,
    grpc.StatusCode.FAILED_PRECONDITION: NotPossible,
    grpc.StatusCode.ABORTED: Taken,
    grpc.StatusCode.OUT_OF_RANGE: RETRIED,
    grpc.StatusCode.UNIMPLEMENTED: RETRIED,  # another program's port by now
    grpc.StatusCode.INTERNAL: RETRIED,
    grpc.StatusCode.UNAVAILABLE: RETRIED,
    grpc.StatusCode.DATA_LOSS: RETRIED,
}


def failure(code: grpc.StatusCode, details: str | None, *trailing: tuple[str, str]) -> Any:
    return AioRpcError(code, Metadata(), Metadata(*trailing), details=details)


def test_every_status_has_a_meaning() -> None:
    assert set(MEANINGS) == set(grpc.StatusCode)


@pytest.mark.parametrize("details", ["It broke.\nA second line.", "", None])
@pytest.mark.parametrize("code", MEANINGS, ids=lambda code: code.name)
def test_a_status_becomes_the_error_it_means(code: grpc.StatusCode, details: str) -> None:
    error = error_of(failure(code, details))
    assert type(error) is MEANINGS[code]
    assert error.what and error.effect
    if details:
        assert "It broke." in error.what


def test_an_answer_for_want_of_the_labs_secret_is_final() -> None:
    code = grpc.StatusCode.UNAUTHENTICATED
    error = error_of(failure(code, "No.", (NOT_ADMITTED_KEY, "1")))
    assert type(error) is NotAdmitted


REFUSALS = [kind for kind in MEANINGS.values() if kind is not RETRIED] + [NotAdmitted]


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_comes_out_of_the_wire_as_it_went_in(kind: type[ChatlabError]) -> None:
    code, text = status_of(kind("No."))
    trailing = ((NOT_ADMITTED_KEY, "1"),) if kind is NotAdmitted else ()
    error = error_of(failure(code, text, *trailing))
    assert (type(error), error.what) == (kind, "No.")


def test_every_other_error_tells_the_client_to_come_again() -> None:
    others = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ChatlabError) and kind not in REFUSALS
    ]
    assert {status_of(kind("No."))[0] for kind in others} == {grpc.StatusCode.UNAVAILABLE}


async def test_grpcs_own_limit_is_named_and_does_not_say_to_wait_for_the_receiver() -> None:
    async with rig() as r, open_channel(r.address, quick_settings()) as channel:
        stub = pb_grpc.PrivateChatServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(AioRpcError) as caught:
            await stub.Claim(pb.ClaimRequest(name="x" * 2 * FRAME_BYTES), timeout=5)
    error = error_of(caught.value)
    assert type(error) is MailboxFull
    assert "larger than max" in error.what and f"{FRAME_BYTES}" in error.what
    assert "less" in error.todo


async def test_the_largest_frame_of_ours_is_within_grpcs_limit() -> None:
    async with rig(users=("a" * 64, "b" * 64)) as r:
        ana, bob = await r.online("a" * 64), await r.online("b" * 64)
        bodies = ["é" * 2620] * 100  # 512 KiB in 100 messages
        batch = [
            ana.life.message("c", "b" * 64, body, f"{n:0256}") for n, body in enumerate(bodies)
        ]
        receipts = await ana.client.send(batch)
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        assert await bob.wait_for(100) == bodies
