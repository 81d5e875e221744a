"""A chat server at an address that is not loopback, in a network namespace of its own.

``unshare --net python -m tests.lan_child`` (as root): gives the namespace's loopback interface
a second address, by the ioctls of netdevice(7), and lets two users chat there with TLS and a
lab secret. Prints ``ok`` at the end; anything else is a failure.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
from dataclasses import replace
from pathlib import Path

from chatlab.errors import NotAdmitted, NotPossible, ServiceUnavailable
from chatlab.private.accounts import MemoryAccounts
from chatlab.private.memory import MemoryMailboxes
from chatlab.private.server import ChatServer

sys.path.insert(0, str(Path(__file__).parent))
from private_rig import Rig, quick_settings, rig

#: Of the range for documentation (RFC 5737): leads nowhere.
HOST = "192.0.2.1"
SIOCSIFFLAGS, SIOCSIFADDR = 0x8914, 0x8916
IFF_UP, IFF_RUNNING = 0x1, 0x40


def add_address() -> None:
    """``ip link set lo up; ip address add 192.0.2.1 dev lo``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        up = struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING)
        fcntl.ioctl(asking, SIOCSIFFLAGS, up)
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(HOST))
        fcntl.ioctl(asking, SIOCSIFADDR, address)


async def main() -> None:
    settings = quick_settings(lab_secret="sesame")
    try:
        ChatServer(MemoryMailboxes(), MemoryAccounts(), quick_settings(), host=HOST)
    except NotPossible:
        pass
    else:
        raise AssertionError("it started without a secret")
    async with rig(settings=settings, host=HOST) as r:
        assert (r.address.host, r.address.certificate[:5]) == (HOST, "-----")
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "hola")
        assert await bob.wait_for(1) == ["hola"]
        assert isinstance(await refusal(r, lab_secret=""), NotAdmitted)
        assert isinstance(await refusal(r, lab_secret="guess"), NotAdmitted)
        r.address = replace(r.address, certificate="")
        assert isinstance(await refusal(r, lab_secret="sesame"), NotPossible)
        # What speaks plain text all the same: no secret reaches the server.
        r.address = replace(r.address, host="127.0.0.1", link=str(r.address))
        assert isinstance(await refusal(r, lab_secret="sesame"), ServiceUnavailable)
    print("ok")


async def refusal(r: Rig, lab_secret: str) -> BaseException | None:
    settings = quick_settings(lab_secret=lab_secret, send_seconds=1.0)
    outcome = await asyncio.gather(
        r.person("eva", settings=settings).client.open(), return_exceptions=True
    )
    return outcome[0]


if __name__ == "__main__":
    add_address()
    asyncio.run(main())
