"""Files that hold a secret: readable by their owner only, and always whole."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from chatlab.errors import ServiceUnavailable


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, in the place of one that is there: at any moment a reader
    finds the old text or the new one.

    Raises:
        ServiceUnavailable: it cannot be written there.
    """
    new = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise ServiceUnavailable(
            f"{path} cannot be written: {error.strerror}.",
            todo="Name a file in a folder of yours that exists.",
        ) from error
