"""The calls of the chat server: two kinds of streams over a store of mailboxes.

The service keeps no messages itself. What it knows is which streams are open, so that a
takeover or a shutdown can end them; everything else is in the store.

A receiving stream is two loops. One hands out what the store has, as long as the client has
not too much unacknowledged; one takes acknowledgements, of which clients send few (``client``),
and moves the store's cursor. A
message is never taken out of the mailbox to be written: a stream that ends, however it ends,
loses nothing.

Streams end with a status: ABORTED for a takeover, UNAVAILABLE for shutdown or when the store
cannot be reached, so that clients come back and send again what has no receipt.

A server that is to stop drains first: see :meth:`PrivateChat.drain`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
import grpc.aio

from chatlab import logs
from chatlab.errors import (
    ChatlabError,
    InvalidInput,
    NameInUse,
    SendUncertain,
    ServiceUnavailable,
    Taken,
    UnknownAccount,
)
from chatlab.messages import BATCH_BYTES, BATCH_MESSAGES, BODY_BYTES, Message, check_name
from chatlab.private import session as sessions
from chatlab.private import wire
from chatlab.private.accounts import Accounts
from chatlab.private.channel import SESSION_KEY, status_of
from chatlab.private.mailbox import (
    TOLD_MESSAGES,
    Batch,
    Hold,
    Limits,
    Mailboxes,
    joined,
)
from chatlab.private.session import Session
from chatlab.v1 import private_chat_pb2 as pb
from chatlab.v1 import private_chat_pb2_grpc as pb_grpc

#: Names known to exist: accounts live as long as the lab, so a yes may be remembered.
KNOWN_NAMES = 10_000

#: A draining server waits no longer than this for the acknowledgements of what it handed out,
#: seconds: clients send them within a hundredth, a frozen one never does.
ACK_SECONDS = 1.0

Context = Any  # grpc.aio.ServicerContext; grpcio carries no types

log = logs.of(__name__)


class _Stream:
    """One open call, and the way to end it from outside."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.error: ChatlabError | None = None
        #: Of a receiving one: what is on its way to the client.
        self.window: _Window | None = None
        #: Of a sending one: letters are being stored, or their receipts written.
        self.posting = False
        self._task = asyncio.current_task()

    def end(self, error: ChatlabError) -> None:
        """Let the call end with ``error``; the first one counts."""
        if self.error is None:
            self.error = error
            if self._task is not None:
                self._task.cancel()


#: No entry takes more in a store: a body of characters that JSON escapes, and its envelope.
LARGEST_ENTRY = 6 * BODY_BYTES + 4096


class _Window:
    """What a receiving stream handed out and its client has not acknowledged yet."""

    def __init__(self) -> None:
        #: Set when there may be something to do: news, or room.
        self.changed = asyncio.Event()
        #: The store may hold something that was not looked at yet.
        self.more = True
        self.position = ""
        self.handed = 0  # letters ever handed out on this stream
        self.acked = 0
        self.bytes = 0
        self.leaving = False
        self.quiet = False  # the server drains: nothing more is handed out
        #: What the store handed over unasked, and is not handed out yet.
        self.offered: list[Batch] = []
        #: A look is on its way: what is offered now may come out of order.
        self.looking = False
        #: Receiver -> the user's newest letter that it has acknowledged, not told yet.
        self.reached: dict[str, str] = {}
        #: The latest acknowledgement on its way into the store; one at a time.
        self.storing: asyncio.Task[None] | None = None
        self._batches: deque[Batch] = deque()

    def __len__(self) -> int:
        return self.handed - self.acked

    @property
    def settled(self) -> bool:
        """Whether all is acknowledged, and nothing is about to be handed out."""
        return not (len(self) or self.looking or self.offered)

    @property
    def room(self) -> tuple[int, int]:
        """How many messages and bytes may be handed out now."""
        size = wire.WINDOW_BYTES - self.bytes
        if self.leaving or self.quiet or size <= 0:
            return 0, 0
        return min(BATCH_MESSAGES, wire.WINDOW_MESSAGES - len(self)), min(BATCH_BYTES, size)

    def news(self) -> None:
        """The store has something new, or the hold became stale."""
        self.more = True
        self.changed.set()

    def told(self, receiver: str, id: str) -> None:
        """A receiver has acknowledged letters of the user."""
        self.reached[receiver] = id
        self.changed.set()

    def take_reached(self) -> dict[str, str]:
        """What to tell now: as many as fit into a frame in any case."""
        taken = dict(islice(self.reached.items(), BATCH_MESSAGES))
        for receiver in taken:
            del self.reached[receiver]
        return taken

    def offer(self, before: str, batch: Batch) -> bool:
        """Take new messages if they are just what comes next and there is room; else look."""
        count, size = self.room
        last = self.offered[-1].positions[-1] if self.offered else self.position
        together = [*self.offered, batch]
        fits = sum(len(some.messages) for some in together) <= count
        fits = fits and sum(sum(some.sizes) for some in together) <= size
        if before == last and fits and not (self.more or self.looking):
            self.offered = together
            self.changed.set()
            return True
        self.news()
        return False

    def add(self, batch: Batch) -> None:
        """It is being handed out."""
        self.position = batch.positions[-1]
        self.handed += len(batch.messages)
        self.bytes += sum(batch.sizes)
        self._batches.append(batch)

    def ack(self, through: int) -> Settled:
        """Forget all up to the letter of that number; returns what to tell the store."""
        before, size, newest = self.acked, 0, dict[str, str]()
        while self.acked < through:
            batch = self._batches.popleft()
            if len(batch.messages) > through - self.acked:
                batch, rest = batch.split(through - self.acked)
                self._batches.appendleft(rest)
            self.acked += len(batch.messages)
            size += sum(batch.sizes)
            newest.update([(message.sender, message.id) for message in batch.messages])
        self.bytes -= size
        return batch.positions[-1], through - before, size, newest


#: Position, how many, their bytes, and the newest id of each sender.
Settled = tuple[str, int, int, dict[str, str]]


class PrivateChat(pb_grpc.PrivateChatServiceServicer):
    """The service of one server.

    Args:
        store: the mailboxes.
        accounts: who exists.
        limits: those of the store, for the reasons of refusals.
    """

    def __init__(self, store: Mailboxes, accounts: Accounts, limits: Limits) -> None:
        self.streams: dict[str, set[_Stream]] = {}
        #: Nothing new is let in …
        self.stopping = False
        #: … and nothing more is taken from those who are in.
        self.closing = False
        #: How many claims, refusals, streams, letters stored and duplicates there were.
        self.counts = Counter(claims=0, refused=0, streams=0, stored=0, duplicates=0)
        self._store = store
        self._accounts = accounts
        self._limits = limits
        self._known: set[str] = set()
        self._key: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Set when something has ended that a drain may be waiting for.
        self._ebbed = asyncio.Event()

    # -- who is calling

    async def _signing_key(self) -> bytes:
        if self._key is None:
            self._key = await self._accounts.key()
        return self._key

    async def _session(self, context: Context) -> Session:
        metadata = dict(context.invocation_metadata() or ())
        token = metadata.get(SESSION_KEY, "")
        session = sessions.verify(await self._signing_key(), token) if token else None
        if session is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Claim a name first.")
            raise AssertionError  # abort raises
        if await self._store.newest(session.user) > session.incarnation:
            raise _taken(session.user)
        return session

    @asynccontextmanager
    async def _stream(self, kind: str, context: Context) -> AsyncIterator[_Stream]:
        """An open call of whoever is calling; errors of chatlab become its status."""
        stream, why = None, "done"
        try:
            session = await self._session(context)
            stream = _Stream(session)
            if self.stopping:
                raise _stopping()
            self.streams.setdefault(session.user, set()).add(stream)
            self._opened(kind, session, context)
            yield stream
        except ChatlabError as error:
            why = error.what
            await _abort(context, error)
        except asyncio.CancelledError:
            if stream is None or stream.error is None:
                why = "the client is gone"
                raise
            why = stream.error.what
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            await _abort(context, stream.error)
        finally:
            if stream is not None:
                self._forget(stream)
                log.debug("stream closed", kind=kind, **_about(stream.session), why=why)

    def _opened(self, kind: str, session: Session, context: Context) -> None:
        self.counts["streams"] += 1
        log.debug("stream opened", kind=kind, **_about(session), peer=_peer(context))

    def _forget(self, stream: _Stream) -> None:
        streams = self.streams.get(stream.session.user, set())
        streams.discard(stream)
        if not streams:
            self.streams.pop(stream.session.user, None)
        self._ebbed.set()

    def _all(self) -> list[_Stream]:
        return [stream for streams in self.streams.values() for stream in streams]

    def end_all(self) -> None:
        """The server stops: end all streams and refuse new ones."""
        self.stopping = True
        for stream in self._all():
            stream.end(_stopping())

    async def drain(self, seconds: float) -> None:
        """The server is to stop: finish what has begun, begin nothing, then end all streams.

        Claims and new streams are refused from now on, and nothing more is handed out. First
        the clients get a moment to acknowledge what they have, while messages are still
        taken: a client whose sending stream ends drops its receiving one, too. Then what was
        read from the sending streams is stored and its receipts are written, and the
        acknowledgements that were read are stored. Whoever has no receipt sends again,
        elsewhere and under the same id.

        Args:
            seconds: at the end of this time all streams are ended, whatever is under way.
        """
        self.stopping = True
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        for stream in self._all():
            if stream.window is not None:
                stream.window.quiet = True
        await self._until(self._acknowledged, min(until, loop.time() + ACK_SECONDS))
        self.closing = True
        await self._until(self._stored, until)
        self.end_all()
        await self._until(lambda: not self._tasks, until)  # mailboxes are let go

    def _stored(self) -> bool:
        """Whether nothing that was read is still under way."""
        return not self._tasks and not any(stream.posting for stream in self._all())

    def _acknowledged(self) -> bool:
        """Whether the clients have acknowledged all that they were handed."""
        windows = (stream.window for stream in self._all())
        return all(window is None or window.settled for window in windows)

    async def _until(self, condition: Callable[[], bool], when: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                while not condition():
                    self._ebbed.clear()
                    await self._ebbed.wait()

    def end_older(self, user: str, incarnation: int) -> None:
        """End the streams of this user's older incarnations."""
        older = [s for s in self.streams.get(user, ()) if s.session.incarnation < incarnation]
        for stream in older:
            stream.end(_taken(user))
        if older:
            log.info("takeover", user=user, incarnation=incarnation, streams=len(older))

    # -- calls

    async def Claim(self, request: pb.ClaimRequest, context: Context) -> pb.ClaimResponse:
        about: dict[str, logs.Field] = {
            "user": request.name,
            "incarnation": request.incarnation,
        }
        try:
            session = await self._claim(request)
        except ChatlabError as error:
            self._refused(error, **about, peer=_peer(context))
            await _abort(context, error)
        self.counts["claims"] += 1
        log.info("claim", **about, peer=_peer(context))
        return pb.ClaimResponse(session=session)

    def _refused(self, error: ChatlabError, **about: logs.Field) -> None:
        self.counts["refused"] += 1
        # That a store is away is said once, by the store; its clients try again and again.
        own = isinstance(error, (ServiceUnavailable, SendUncertain))
        (log.debug if own else log.warning)("refused", **about, why=error.what)

    async def _claim(self, request: pb.ClaimRequest) -> str:
        if self.stopping:
            raise _stopping()
        name = check_name(request.name)
        accepted = await self._accounts.check(name, request.secret)
        if accepted is None:
            raise UnknownAccount(f"There is no account {name}.")
        if not accepted:
            raise NameInUse(f"The secret shown is not that of {name}.")
        if request.incarnation < 1:
            raise InvalidInput("An incarnation is 1 or more.")
        await self._store.claim(name, request.incarnation)
        self.end_older(name, request.incarnation)
        return sessions.issue(await self._signing_key(), Session(name, request.incarnation))

    async def Send(self, _: object, context: Context) -> None:
        async with self._stream("send", context) as stream:
            await _begin(context)
            while (request := await context.read()) is not grpc.aio.EOF:
                if self.closing:
                    raise _stopping()
                stream.posting = True
                await context.write(await self._post(stream.session, request.parcels))
                stream.posting = False
                self._ebbed.set()

    async def _post(self, session: Session, parcels: Sequence[pb.Parcel]) -> pb.SendResponse:
        batches = [wire.opened(parcel, session) for parcel in parcels]
        fault = wire.fault_of_frame(batches)
        if fault:
            raise InvalidInput(fault)
        receipts: list[pb.Receipt] = []
        for batch in batches:
            to = batch[0].to
            wrong_name = wire.fault_of_receiver(to)
            for fault, part in wire.faults(batch):
                receipts += await self._deliver(to, wrong_name or fault, part)
        return pb.SendResponse(receipts=receipts)

    async def _deliver(self, to: str, fault: str, batch: list[Message]) -> list[pb.Receipt]:
        if fault:
            return [wire.refusals(len(batch), pb.OUTCOME_INVALID, fault)]
        if not await self._exists(to):
            reason = f"There is no account {to}."
            return [wire.refusals(len(batch), pb.OUTCOME_UNKNOWN_ACCOUNT, reason)]
        stored = await self._store.send(to, batch)
        self.counts["stored"] += stored.verdicts.count("stored")
        self.counts["duplicates"] += stored.verdicts.count("duplicate")
        return list(wire.receipts_of(stored, to, self._limits))

    async def _exists(self, name: str) -> bool:
        if name in self._known:
            return True
        found = await self._accounts.exists(name)
        if found:
            if len(self._known) >= KNOWN_NAMES:
                self._known.clear()
            self._known.add(name)
        return found

    async def Receive(self, _: object, context: Context) -> None:
        async with self._stream("receive", context) as stream:
            session, window = stream.session, _Window()
            stream.window = window
            hold = await self._store.attach(
                *(session.user, session.incarnation, window.news, window.offer, window.told)
            )
            window.position = hold.start
            try:
                await _begin(context)
                handing = self._hand_out(hold, window, context)
                await _first_of(handing, self._take_acks(hold, window, context))
            finally:
                # Not interrupted by a second cancellation: the mailbox must be let go.
                await asyncio.shield(self._spawn(self._detach(hold, window)))

    async def _hand_out(self, hold: Hold, window: _Window, context: Context) -> None:
        """Until the client left and has acknowledged all."""
        while not (window.leaving and not len(window)):
            window.changed.clear()
            batch = await self._next(hold, window)
            if batch is not None:
                window.add(batch)
            elif not window.reached:
                self._ebbed.set()
                await window.changed.wait()
                continue
            await context.write(wire.frame_of(batch, window.take_reached()))

    async def _next(self, hold: Hold, window: _Window) -> Batch | None:
        """What to hand out now: what was offered, else what a look finds."""
        if window.offered:
            batches, window.offered = window.offered, []
            return joined(batches)
        if not window.more:
            return None
        window.more, window.looking = False, True
        count, size = window.room
        try:
            # With no room: a look for nothing, which finds out whether the hold is stale.
            batch = await self._store.fetch(hold, window.position, count, size)
        finally:
            window.looking = False
        # The store was emptied, unless the next entry may have been too large.
        left = size - sum(batch.sizes)
        window.more |= len(batch.messages) == count or left < LARGEST_ENTRY
        return batch if batch.messages else None

    async def _take_acks(self, hold: Hold, window: _Window, context: Context) -> None:
        """Until the client closes its side."""
        while (request := await context.read()) is not grpc.aio.EOF:
            if request.acked > window.handed:
                raise InvalidInput(f"Only {window.handed} messages were handed out.")
            if request.acked > window.acked:
                done = window.ack(request.acked)
                # Once begun it is finished, also when the stream ends meanwhile.
                window.storing = self._spawn(self._store.ack(hold, *done))
                await asyncio.shield(window.storing)
            window.leaving |= request.leaving
            if request.awaiting:
                await self._say_reached(hold.user, request.awaiting, window)
            window.changed.set()

    async def _say_reached(self, user: str, receivers: Sequence[str], window: _Window) -> None:
        if len(receivers) > BATCH_MESSAGES:
            raise InvalidInput(f"At most {BATCH_MESSAGES} receivers are awaited at a time.")
        for receiver, id in (await self._store.reached(user, receivers)).items():
            window.reached.setdefault(receiver, id)  # what was told meanwhile is newer

    # -- questions

    async def GetHistory(self, request: pb.GetHistoryRequest, context: Context) -> None:
        async with self._stream("history", context) as stream:
            if not 1 <= request.limit <= TOLD_MESSAGES:
                raise InvalidInput(f"A limit is 1 to {TOLD_MESSAGES:,}, not {request.limit}.")
            peer = check_name(request.peer)
            found = await self._store.history(stream.session.user, peer, request.limit)
            for frame in wire.history_frames(found):
                await context.write(frame)

    async def GetPresence(
        self, request: pb.GetPresenceRequest, context: Context
    ) -> pb.GetPresenceResponse:
        async with self._stream("presence", context):
            if not 1 <= len(request.names) <= BATCH_MESSAGES:
                raise InvalidInput(f"Ask for 1 to {BATCH_MESSAGES} names at a time.")
            names = [name for name in request.names if await self._exists(check_name(name))]
            seen = await self._store.seen(names)
            return pb.GetPresenceResponse(
                presences=[
                    pb.UserPresence(name=name, online=one.online, last_seen=one.at)
                    for name, one in zip(names, seen, strict=True)
                ]
            )

    async def _detach(self, hold: Hold, window: _Window) -> None:
        # The store refuses what a hold that was let go acknowledges.
        if window.storing is not None:
            await asyncio.wait([window.storing])
        with suppress(ChatlabError):  # the hold ends with the server's own lease
            await self._store.detach(hold)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ebbed.set()
        if not task.cancelled():
            task.exception()  # raised by whoever waits for it; nobody may wait any more


def _taken(user: str) -> Taken:
    return Taken(f"A newer client of {user} took over.")


def _stopping() -> ServiceUnavailable:
    return ServiceUnavailable("The chat server is stopping.")


def _about(session: Session) -> dict[str, logs.Field]:
    return {"user": session.user, "incarnation": session.incarnation}


def _peer(context: Context) -> str:
    """The client's address, as gRPC spells it (``ipv4:127.0.0.1:4711``)."""
    return unquote(context.peer())


async def _begin(context: Context) -> None:
    """Say that the stream is open. Once begun it is finished: only then does gRPC know that it
    was said, and a stream that is ended meanwhile would say it a second time, which fails."""
    saying = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(saying)
    except asyncio.CancelledError:
        await asyncio.wait([saying])
        raise


async def _abort(context: Context, error: ChatlabError) -> NoReturn:
    await context.abort(*status_of(error))
    raise AssertionError  # abort raises


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends; cancel the others; raise what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
