"""The keys of a lab that is open to other computers, kept on disk.

``<folder>/keys/<lab>.json``, readable by its owner only, holds all that must be the same when
a server is started again, so that an invitation stays good:

- a certificate authority of the lab's own, which signs for the doors (``services/doors.py``);
- the password of the guests' accounts (``services/guests.py``);
- the lab's secret, for when the settings name none;
- the doors' ports.

Whoever has the file is the lab. To take back all invitations: stop the servers, remove the
file, start them again.
"""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import filelock

from chatlab.errors import InvalidInput, ServiceUnavailable
from chatlab.services.files import write_private
from chatlab.services.wire import make_private
from chatlab.settings import Settings

#: Another server that makes the same file takes a tenth of a second.
LOCK_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What is kept."""

    #: The authority's certificate and private key, PEM.
    authority: str = field(repr=False)
    authority_key: str = field(repr=False)
    #: Of the guests, at RabbitMQ and at Redis.
    password: str = field(repr=False)
    lab_secret: str = field(repr=False)
    #: Of the doors; empty: there were none yet.
    ports: Sequence[int] = field(default_factory=list)


def file_of(settings: Settings) -> Path:
    """Where the keys of ``settings.lab`` are kept."""
    return settings.folder.expanduser().absolute() / "keys" / f"{settings.lab}.json"


def keys_of(settings: Settings) -> Keys:
    """The keys of ``settings.lab``; made, and kept, when there are none.

    Raises:
        InvalidInput: the file is damaged.
        ServiceUnavailable: it cannot be read or written.
    """
    file = file_of(settings)
    make_private(file.parent)
    with filelock.FileLock(file.with_suffix(".lock"), timeout=LOCK_SECONDS):
        if file.exists():
            return _read(file)
        keys = _make(settings.lab)
        write_private(file, json.dumps(asdict(keys), indent=1))
        return keys


def with_kept_secret(settings: Settings, lab: str) -> Settings:
    """The settings with the secret that a server of this computer made for ``lab``, where they
    name none: who is at home needs no invitation.

    Raises:
        InvalidInput, ServiceUnavailable: as :func:`keys_of`.
    """
    file = file_of(replace(settings, lab=lab))
    if settings.lab_secret or settings.invited or not file.exists():
        return settings
    return replace(settings, lab_secret=_read(file).lab_secret)


def keep_ports(settings: Settings, ports: Sequence[int]) -> None:
    """The doors are here from now on, if they were nowhere before.

    Raises:
        InvalidInput, ServiceUnavailable: as :func:`keys_of`.
    """
    keys, file = keys_of(settings), file_of(settings)
    if not keys.ports:
        text = json.dumps(asdict(replace(keys, ports=list(ports))), indent=1)
        write_private(file, text)


def server_context(keys: Keys, host: str) -> ssl.SSLContext:
    """A fresh certificate for ``host``, signed by the lab's authority, and its key: what a TLS
    listener needs. TLS 1.2 or later."""
    import trustme

    authority = trustme.CA.from_pem(keys.authority.encode(), keys.authority_key.encode())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert(host, organization_name="chatlab").configure_cert(context)
    return context


def _make(lab: str) -> Keys:
    import trustme  # takes a tenth of a second; most servers need none

    authority = trustme.CA(organization_name="chatlab", organization_unit_name=f"lab {lab}")
    return Keys(
        authority=authority.cert_pem.bytes().decode("ascii"),
        authority_key=authority.private_key_pem.bytes().decode("ascii"),
        password=secrets.token_hex(16),
        lab_secret=secrets.token_hex(16),
    )


def _read(file: Path) -> Keys:
    try:
        return Keys(**json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ServiceUnavailable(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"{file} does not hold a lab's keys.",
            todo="Remove it: new keys are made, and invitations of before hold no more.",
        ) from error
