"""The report's chat server and its clients, in one process; and a stock client that forges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from private_rig import PATIENCE_SECONDS, Rig, quick_settings

from chatlab.private.accounts import MemoryAccounts
from chatlab.private.as_reported import AS_REPORTED, AsReportedServer
from chatlab.private.mailbox import Limits
from chatlab.private.memory import MemoryMailboxes
from chatlab.settings import Settings
from chatlab.v1 import as_reported_chat_pb2 as pb
from chatlab.v1 import as_reported_chat_pb2_grpc as pb_grpc


class ReportedRig(Rig):
    """A rig around an :class:`AsReportedServer`; a new one begins with nothing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(MemoryMailboxes(), MemoryAccounts(), settings, Limits())
        self.backend = AS_REPORTED
        self.reported = AsReportedServer()

    async def start(self) -> Any:
        self.reported = AsReportedServer()
        self.address = await self.reported.start()
        return self.reported

    async def stop(self) -> None:
        await self.reported.stop()

    def waiting(self, user: str) -> int:
        return self.reported.waiting().get(user, 0)

    async def until(self, what: Any) -> None:
        """Wait until the server, which tells nobody of itself, is seen in some state."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not what():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def forge(self, sender: str, receiver: str, text: str) -> int:
        """Send in anybody's name, with a stock client. Returns the id."""
        async with grpc.aio.insecure_channel(self.address.target) as channel:
            stub = pb_grpc.AsReportedChatServiceStub(channel)  # type: ignore[no-untyped-call]
            request = pb.SendMessageRequest(sender=sender, receiver=receiver, text=text)
            answer = await stub.SendMessage(request, timeout=PATIENCE_SECONDS)
            return int(answer.id)


@asynccontextmanager
async def reported(**changes: float) -> AsyncIterator[ReportedRig]:
    """A started rig; everything that it made is closed afterwards."""
    made = ReportedRig(quick_settings(**changes))
    await made.start()
    try:
        yield made
    finally:
        for person in made.people:
            person.life.gate.set()
            await person.client.close()
        await made.stop()
