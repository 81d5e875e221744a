"""What RabbitMQ and the network can answer, as errors of chatlab.

Two families, because they ask for opposite things:

- :class:`Lost`: the connection broke or could not be made. Trying again may work, and the
  connection does so by itself. Reply codes 320 (the operator or a deleted virtual host closed
  the connection) and 541 (internal error) belong here.
- a *refusal*: RabbitMQ understood and said no. Trying again gives the same answer, so it is
  raised. :data:`REFUSALS` maps the reply codes of AMQP 0-9-1 (section 1.4, and RabbitMQ's own
  use of them) to errors; a code that is not in it is a :class:`Refused`.
"""

from __future__ import annotations

from chatlab.errors import (
    BackendMismatch,
    ChatClosed,
    ChatlabError,
    NotPossible,
    ServiceUnavailable,
)


class Lost(ServiceUnavailable):
    """The connection to RabbitMQ broke or could not be made."""


class Forced(Lost):
    """320: the operator closed it, or the virtual host or RabbitMQ itself goes away. So does
    a successor of the same user that evicts us: it needs a moment to take the queues."""


class NotYet(Lost):
    """404 or 406 for a queue that exists: its node, or after a restart its stream, is not up
    yet."""


class Refused(ServiceUnavailable):
    """RabbitMQ closed the channel or connection with a code that retrying won't change."""


class AccessRefused(NotPossible):
    """403: the credentials, or a name that RabbitMQ keeps for itself."""


class NotFound(ChatClosed):
    """404: no such queue or exchange."""


class Locked(NotPossible):
    """405: the queue belongs to another connection."""


class Unlike(BackendMismatch):
    """406: it exists with other properties, or a precondition failed."""


class NotAllowed(NotPossible):
    """530: no such virtual host, or no permission for it."""


REFUSALS: dict[int, type[ChatlabError]] = {
    403: AccessRefused,
    404: NotFound,
    405: Locked,
    406: Unlike,
    530: NotAllowed,
}

#: Reply codes after which connecting again may work.
RETRIED: dict[int, type[Lost]] = {320: Forced, 541: Lost}

#: In the text of a refusal that holds for a moment only (RabbitMQ has no code of its own for
#: it; seen from 3.10 in the seconds after it was killed and started again).
NOT_YET = {404: "is down or inaccessible", 406: "does not have a replica on the local node"}


def from_code(code: int, text: str, where: str) -> ChatlabError:
    """The error for a Channel.Close or Connection.Close with this reply code."""
    if code in RETRIED:
        return RETRIED[code](f"{where} closed the connection ({code} {text}).")
    if code in NOT_YET and NOT_YET[code] in text:
        return NotYet(f"{where} is not ready ({code}): {text}.")
    kind = REFUSALS.get(code, Refused)
    return kind(f"{where} refused ({code}): {text}")
