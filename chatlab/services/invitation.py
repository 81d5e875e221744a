"""An invitation: one file with all that a client on another computer needs.

It is a ``chatlab.toml``: put where chatlab looks for one, or named by ``--config``, it makes
``chatlab client`` a client of the lab that wrote it. It holds the guests' password and the
lab's secret, so whoever has it is in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from chatlab.services.addresses import RabbitAddress, RedisAddress, join_host_port
from chatlab.services.files import write_private

HEAD = """\
# An invitation to the chat lab "{lab}". On another computer with chatlab:
#     chatlab client --config THIS_FILE
# A secret: whoever has this file can read and write all of this lab. Pass it on as you would
# a password. To take back all invitations, see the README, "Several computers".
"""


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What it says: the settings of a client elsewhere."""

    lab: str
    rabbitmq_url: str = field(repr=False)
    management_url: str
    redis_url: str = field(repr=False)
    #: The only root that the client trusts, PEM; empty: the system's.
    authority: str = field(repr=False)
    lab_secret: str = field(repr=False)

    def __str__(self) -> str:
        """The file's text."""
        values = {name: value for name, value in vars(self).items() if value}
        lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
        return "\n".join([HEAD.format(lab=self.lab) + "invited = true", *lines, ""])

    def write(self, path: Path) -> None:
        """Write the file, mode 0600, at once.

        Raises:
            ServiceUnavailable: it cannot be written there.
        """
        write_private(path, str(self))


def invite(
    lab: str, rabbitmq: RabbitAddress, redis: RedisAddress, lab_secret: str
) -> Invitation:
    """The invitation to a lab whose brokers are reached, by guests, at these addresses."""
    return Invitation(
        lab=lab,
        rabbitmq_url=f"amqps://{_at(rabbitmq)}/{quote(rabbitmq.vhost, safe='')}",
        management_url=rabbitmq.management_url,
        redis_url=f"rediss://{_at(redis)}/{redis.db}",
        authority=redis.authority,
        lab_secret=lab_secret,
    )


def _at(address: RabbitAddress | RedisAddress) -> str:
    user, password = quote(address.user, safe=""), quote(address.password, safe="")
    return f"{user}:{password}@{join_host_port(address.host, address.port)}"


def _toml(value: str) -> str:
    """A string of TOML. Those of JSON are, too, but for DEL (toml.io/en/v1.0.0#string)."""
    if value.startswith("-----BEGIN"):
        return f"'''\n{value}'''"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
