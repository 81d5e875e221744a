"""Who exists: what the chat server asks the name server.

Accounts (a name and a secret) live in the name server's registry as long as the lab does;
the chat server only looks them up. The key that signs sessions is the lab's own, kept in
Redis, so that a session is good at any server over the same Redis.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Protocol

from chatlab.resp import Redis, Script


class Accounts(Protocol):
    """What the chat server needs to know about accounts. Each method may raise
    ``ServiceUnavailable`` or ``SendUncertain``."""

    async def check(self, name: str, secret: str) -> bool | None:
        """Whether ``secret`` is the account's; None when there is no such account."""

    async def exists(self, name: str) -> bool:
        """Whether there is an account of that name."""

    async def key(self) -> bytes:
        """The key that signs this lab's sessions; the same for all its servers."""


class MemoryAccounts:
    """Accounts of a test, or of a server on its own."""

    def __init__(self, secrets_of: dict[str, str] | None = None) -> None:
        self.secrets = dict(secrets_of or {})
        self._key = secrets.token_bytes(32)

    async def check(self, name: str, secret: str) -> bool | None:
        kept = self.secrets.get(name)
        return None if kept is None else hmac.compare_digest(kept.encode(), secret.encode())

    async def exists(self, name: str) -> bool:
        return name in self.secrets

    async def key(self) -> bytes:
        return self._key


class AccountRegistry(Protocol):
    """The part of the name server's registry that is used here."""

    async def account_secret_ok(self, name: str, secret: str) -> bool | None: ...

    async def account_exists(self, name: str) -> bool: ...


# key: KEYS server-key; ARGV a proposal -> the key in force
KEY = Script("""
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
""")


class RegisteredAccounts:
    """The lab's accounts, in the name server.

    Args:
        registry: the name server.
        redis: where the lab's key is kept.
    """

    def __init__(self, registry: AccountRegistry, redis: Redis) -> None:
        self._registry = registry
        self._redis = redis

    async def check(self, name: str, secret: str) -> bool | None:
        return await self._registry.account_secret_ok(name, secret)

    async def exists(self, name: str) -> bool:
        return await self._registry.account_exists(name)

    async def key(self) -> bytes:
        proposal = secrets.token_hex(32)
        kept: str = await self._redis.run(KEY, [self._redis.key("server-key")], [proposal])
        return bytes.fromhex(kept)
