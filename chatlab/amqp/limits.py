"""A thousand simulated users need some thousand sockets: raise the limit of open files."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

#: What macOS grants a process at most, even when it says "unlimited".
OPEN_MAX = 10_240


@cache
def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as allowed, once; returns the limit."""
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    for wanted in (hard, max(soft, OPEN_MAX)):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft
