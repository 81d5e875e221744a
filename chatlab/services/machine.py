"""Which computer this is, as far as loopback goes: who else can be reached at 127.0.0.1."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import platform
import uuid
from pathlib import Path

#: Linux: one for each boot of a computer (proc_sys_kernel(5)), containers included …
BOOT = Path("/proc/sys/kernel/random/boot_id")
#: … and one for each network, which a container has to itself (network_namespaces(7)).
NETWORK = Path("/proc/self/ns/net")


@functools.cache
def machine_id() -> str:
    """The same for all processes that share a loopback interface; says nothing else."""
    try:
        words = f"{BOOT.read_text().strip()} {NETWORK.readlink()}"
    except OSError:  # another system
        words = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def is_loopback(host: str) -> bool:
    """Whether an address leads to the computer that uses it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
