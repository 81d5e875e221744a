"""Sessions: a token that says who is calling, and that only a server of this lab can make.

A token is ``incarnation.name.mac``: the name in URL-safe base64, the rest a keyed hash
(HMAC-SHA256, RFC 2104) of the two. Servers keep no list of sessions; a token is good at each
server that has the lab's key, until a newer incarnation claims the name.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple


class Session(NamedTuple):
    """Who is calling."""

    user: str
    incarnation: int


def issue(key: bytes, session: Session) -> str:
    """The token of ``session``."""
    name = base64.urlsafe_b64encode(session.user.encode()).decode()
    claim = f"{session.incarnation}.{name}"
    return f"{claim}.{_mac(key, claim)}"


def verify(key: bytes, token: str) -> Session | None:
    """The session of a token; None when it is not one that :func:`issue` made."""
    claim, _, mac = token.rpartition(".")
    if not hmac.compare_digest(_mac(key, claim).encode(), mac.encode()):
        return None
    incarnation, _, name = claim.partition(".")
    return Session(base64.urlsafe_b64decode(name).decode(), int(incarnation))


def _mac(key: bytes, claim: str) -> str:
    return hmac.new(key, claim.encode(), hashlib.sha256).hexdigest()
