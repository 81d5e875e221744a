"""Keyring: the secrets of the accounts that were made on this computer, a file each.

Whoever shows an account's secret may take its name over; so a second window and a client that
is started again are let in at once. A file lies in ``accounts`` below ``settings.folder``,
beside the brokers' own data, and is readable for its owner only (mode 0600, the folder 0700).
Its name is a hash of what the account is one of: the lab, the name and, with brokers elsewhere,
where they are. Of an invitation that is the computer only: its ports may be others tomorrow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from chatlab.client import new_secret
from chatlab.errors import ServiceUnavailable
from chatlab.services.place import Place
from chatlab.settings import Settings


@dataclass(frozen=True)
class Key:
    """An account's secret, and whether it was made just now."""

    secret: str = field(repr=False)
    path: Path
    new: bool


def key_of(settings: Settings, here: Place, name: str) -> Key:
    """The secret of an account, made and kept at its first use.

    Raises:
        ServiceUnavailable: the file cannot be read or written.
    """
    where = ""
    if settings.invited:
        where = here.redis.host
    elif settings.redis_url:
        where = f"{here.redis.host}:{here.redis.port}/{here.redis.db}"
    about = {"lab": here.lab, "name": name, "where": where}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = settings.folder / "accounts" / f"{digest[:32]}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        new = _make(path, {**about, "secret": new_secret()})
        path.chmod(0o600)
        secret = json.loads(path.read_text("utf-8"))["secret"]
        if not isinstance(secret, str) or not secret:
            raise ValueError("no secret")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServiceUnavailable(
            f"The secret of {name} cannot be kept in {path} ({type(error).__name__}).",
            todo="Make the folder writable; delete the file if it is damaged.",
        ) from error
    return Key(secret, path, new)


def forget(key: Key) -> None:
    """Throw a secret away that was made for nothing: the name is another's."""
    if key.new:
        key.path.unlink(missing_ok=True)


def _make(path: Path, content: dict[str, str]) -> bool:
    """Write the file, complete or not at all; False when there is one already."""
    if path.exists():
        return False
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
        with contextlib.suppress(FileExistsError):  # another window was quicker
            os.link(draft, path)
            return True
        return False
    finally:
        draft.unlink()
