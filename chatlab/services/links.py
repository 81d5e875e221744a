"""Links: a TCP forwarder on the running loop between one user and one service.

A user's client connects to a port of its own here and never to the service itself, so a
fault can be done to one user without touching its neighbours:

=========  =======================================================================
state      what happens to the bytes
=========  =======================================================================
open       pass at once
slow       pass in order, each a fixed time later, in both directions
frozen     stay where they are: both sides see an open connection and silence
cut        all connections are reset (RST); new ones are reset as soon as made
=========  =======================================================================

``cut`` covers ``frozen``, which covers ``slow``. ``reset`` is a crash: the connections go,
new ones are fine.

Each connection is a pair of ends, one protocol each. What an end has read is written to its
peer's transport straight away, or waits in the end's own queue while the link is slow. An
end reads only while its peer's buffer and its own queue have room, so memory is bounded.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections import deque
from typing import Literal, cast

from chatlab.errors import InvalidInput

State = Literal["open", "slow", "frozen", "cut"]

#: A service that has not taken a connection by then counts as refusing it.
CONNECT_SECONDS = 5.0
#: Most bytes that wait in one direction of one connection, in each of two buffers.
BUFFER_BYTES = 256 * 1024

#: SO_LINGER on, 0 seconds: closing sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Link:
    """The way of one user to one service. All methods are for the loop's own thread.

    Args:
        target: host and port of the service.
        user, service: whose link it is; shown in ``repr``.
    """

    def __init__(self, target: tuple[str, int], *, user: str, service: str) -> None:
        self.user = user
        self.service = service
        self.delay = 0.0
        self.is_cut = False
        #: Bytes need not queue: neither slow nor frozen.
        self.direct = True
        self._target = target
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        return f"<Link {self.user}-{self.service}: {self.state}, {self.connections} open>"

    @property
    def state(self) -> State:
        """The strongest of what is done to it now."""
        if self.is_cut:
            return "cut"
        if self.is_frozen:
            return "frozen"
        return "slow" if self.delay else "open"

    @property
    def is_frozen(self) -> bool:
        """Whether bytes stay where they are."""
        return not self._thawed.is_set()

    @property
    def connections(self) -> int:
        """How many connections the user has open."""
        return sum(end.from_user and not end.lost for end in self._ends)

    async def open(self) -> int:
        """Listen on a free port of 127.0.0.1; returns the port.

        Raises:
            OSError: no port or file descriptor left.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _End(self), "127.0.0.1", 0, backlog=1024
        )
        return cast(int, self._server.sockets[0].getsockname()[1])

    def retarget(self, target: tuple[str, int]) -> None:
        """New connections go to ``target``; present ones stay."""
        self._target = target

    def cut(self) -> None:
        """Reset every connection, both sides, and new ones until :meth:`heal`."""
        self.is_cut = True
        self.reset()

    def freeze(self) -> None:
        """Stop forwarding; connections stay, new ones are accepted but silent.

        At most what the operating system and the two buffers hold already still arrives.
        """
        self._thawed.clear()
        self._changed()

    def thaw(self) -> None:
        """End :meth:`freeze`: everything that waited goes on, nothing is lost."""
        self._thawed.set()
        self._changed()

    def slow(self, seconds: float) -> None:
        """Delay every byte by ``seconds`` in each direction; 0 turns it off at once.

        Raises:
            InvalidInput: negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise InvalidInput(f"A delay is 0 or more seconds, not {seconds!r}.")
        self.delay = seconds
        self._changed()

    def heal(self) -> None:
        """End cut, freeze and slow."""
        self.is_cut = False
        self.delay = 0.0
        self.thaw()

    def reset(self) -> None:
        """RST to both sides of all present connections, as a crash does; new ones are fine."""
        for end in list(self._ends):
            end.reset()

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
        self.heal()
        self.reset()
        await self._empty.wait()

    def _changed(self) -> None:
        self.direct = not self.delay and not self.is_frozen
        for end in list(self._ends):
            end.changed()

    def enter(self, end: _End) -> None:
        """``end`` has a connection."""
        self._ends.add(end)
        self._empty.clear()

    def leave(self, end: _End) -> None:
        """``end`` is closed and has nothing left to pass on."""
        self._ends.discard(end)
        if not self._ends:
            self._empty.set()

    async def join(self, end: _End) -> None:
        """Connect the user's ``end`` to the service; reset it when that refuses."""
        await self._thawed.wait()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: _End(self, end), *self._target)
        except OSError:  # a TimeoutError is one, too
            end.reset()


class _End(asyncio.Protocol):
    """One side of a connection: reads from its socket, passes on to its peer's.

    Args:
        link: where it belongs.
        peer: the user's end, when this is the service's.
    """

    def __init__(self, link: Link, peer: _End | None = None) -> None:
        self.lost = False
        self.from_user = peer is None
        self._link = link
        self._peer = peer
        self._broken = False  # lost by a reset: the peer gets one, too
        self._full = False  # our transport's buffer: the peer must not read
        self._queue: deque[tuple[float, bytes]] = deque()  # (when due, bytes); b"": EOF
        self._queued = 0
        self._eof_read = False
        self._eof_written = False
        self._timer: asyncio.TimerHandle | None = None
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self._loop = asyncio.get_running_loop()
        link, peer = self._link, self._peer
        link.enter(self)
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if link.is_cut or (peer is not None and peer.lost):
            self.reset()
        elif peer is None:
            self._transport.pause_reading()
            self._joining = self._loop.create_task(link.join(self))
        else:
            peer._peer = self
            self.changed()
            peer.changed()

    def data_received(self, data: bytes) -> None:
        if self._peer is not None and self._link.direct and not self._queue:
            self._peer._transport.write(data)
        else:
            self._put(data)

    def eof_received(self) -> bool:
        self._eof_read = True
        self._put(b"")
        self._close_when_done()
        return True  # the other direction stays open

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._broken = self._broken or error is not None
        if self._joining is not None:
            self._joining.cancel()
        self._pump()

    def pause_writing(self) -> None:
        self._full = True
        if self._peer is not None:
            self._peer._pump()

    def resume_writing(self) -> None:
        self._full = False
        if self._peer is not None:
            self._peer._pump()

    def reset(self) -> None:
        """Close by RST and forget what waits."""
        self._broken = True
        self._queue.clear()
        self._queued = 0
        if not self.lost:
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()

    def changed(self) -> None:
        """The link's state is another one: go on, or stop."""
        if not self._link.delay:  # no longer slow: what waits is due now
            self._queue = deque((0.0, data) for _, data in self._queue)
        self._pump()

    def _put(self, data: bytes) -> None:
        """Queue what was read; it never overtakes what is queued already, due or not."""
        self._queue.append((self._loop.time() + self._link.delay, data))
        self._queued += len(data)
        self._pump()

    def _pump(self) -> None:
        """Pass on what is due, then see to the timer, to reading, and to our own end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        peer = self._peer
        if not self._link.is_frozen and peer is not None:
            self._write_due(peer)
        self._regulate()
        if self.lost and not self._queue and not self._link.is_frozen:
            if peer is not None and not peer.lost:
                peer.reset() if self._broken else peer._transport.close()
            self._link.leave(self)

    def _write_due(self, peer: _End) -> None:
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            if peer._full and not peer.lost:
                return  # its resume_writing calls again
            _, data = self._queue.popleft()
            self._queued -= len(data)
            if peer.lost:
                continue
            if data:
                peer._transport.write(data)
            else:
                peer._write_eof()
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._pump)

    def _write_eof(self) -> None:
        self._transport.write_eof()
        self._eof_written = True
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._eof_read and self._eof_written:
            self._transport.close()

    def _regulate(self) -> None:
        """Read only while there is somewhere to put it."""
        if self.lost:
            return
        peer = self._peer
        if peer is None or peer._full or self._link.is_frozen or self._queued >= BUFFER_BYTES:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _socket(self) -> socket.socket:
        return cast(socket.socket, self._transport.get_extra_info("socket"))
