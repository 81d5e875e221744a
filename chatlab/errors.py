"""Every error that chatlab raises, and what each one says about the operation.

::

    ChatlabError
    ├── InvalidInput (also a ValueError)   refused before anything was sent
    ├── SendFailed                         the message was definitely not accepted
    │   ├── UnknownAccount                 there is no such receiver
    │   ├── PeerAway                       it is not there now, and nothing keeps it for it
    │   ├── ChatRefused                    the peer does not want to talk; says why
    │   ├── ChatClosed                     the handle, queue or group is gone
    │   └── MailboxFull                    a named limit of the receiver is reached
    ├── SendUncertain                      nobody knows; the same id may be sent again
    ├── WaitTimeout (also a TimeoutError)  what was waited for has not come (yet)
    ├── NameInUse                          the account's secret was not shown
    ├── NotAdmitted                        the lab's secret was not shown
    ├── Taken                              a newer incarnation of this account took over
    ├── BackendMismatch                    the group exists with another backend
    ├── NotPossible                        refused here by rule (not breakable, links off)
    ├── ServiceUnavailable                 a service does not answer; nothing was changed
    │   └── ServiceMissing                 a program is not installed and cannot be had
    ├── LabClosed                          the lab has been closed
    └── LoopMisuse                         a call that would deadlock, or after close

An error has three lines: what happened, whether the operation took effect, what to do.
A notebook shows just these three. Driver exceptions (pika, redis, grpc) never leave the
module that owns the driver: it raises one of these ``from`` them.
"""

from __future__ import annotations

from typing import Any

NO_EFFECT = "Nothing was changed."


class ChatlabError(Exception):
    """Base of all errors of chatlab.

    Args:
        what: what happened, one sentence.
        effect: whether the operation took effect, one sentence.
        todo: what the reader can do now, one sentence.
    """

    effect = NO_EFFECT
    todo = ""

    def __init__(self, what: str, effect: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.effect = effect or type(self).effect
        self.todo = todo or type(self).todo

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.effect, self.todo) if line)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.what, self.effect, self.todo)

    def _render_traceback_(self, *_: object, **__: object) -> list[str]:
        """What IPython shows instead of a traceback: the name and the three lines."""
        return f"{type(self).__name__}: {self}".splitlines()


class InvalidInput(ChatlabError, ValueError):
    """A name, body, option or backend that chatlab refuses; says the limit."""

    effect = "Nothing was sent or changed."


class SendFailed(ChatlabError):
    """The message was definitely not accepted: nobody will see it."""

    #: The message's :class:`chatlab.messages.Receipt`, where there is one.
    receipt: Any = None

    effect = "The message was not accepted; nobody will see it."
    todo = "Send it again when the cause is gone."


class UnknownAccount(SendFailed):
    """No account of that name exists in this lab."""

    todo = "Create it with lab.user(name), or check the spelling."


class PeerAway(SendFailed):
    """The receiver is not there now, and this backend keeps nothing for it."""

    todo = "Send it again when the receiver is back, or use a mailbox backend."


class ChatRefused(SendFailed):
    """The receiver does not want to talk now; the message says why."""

    todo = "Ask again later."


class ChatClosed(SendFailed):
    """The handle was closed, or its queue or group is gone."""

    todo = "Open the chat again."


class MailboxFull(SendFailed):
    """A limit of the receiver's mailbox or queue is reached; the message says which."""

    todo = "Wait until the receiver has read, then send again."


class SendUncertain(ChatlabError):
    """Nobody knows whether the message was accepted (a time-out, a lost connection)."""

    #: The message's :class:`chatlab.messages.Receipt`, where there is one.
    receipt: Any = None

    effect = "It may or may not have been accepted."
    todo = "Sending it again with the same id is safe: a second copy is dropped."


class WaitTimeout(ChatlabError, TimeoutError):
    """What was waited for has not come within the time given, in seconds."""

    effect = "Nothing was lost by waiting; it may still come."
    todo = "Wait longer (timeout=…), or see lab.settle() for what still waits."


class NameInUse(ChatlabError):
    """Somebody else holds this name and its lease lives."""

    todo = "Choose another name, or use the account's own secret."


class NotAdmitted(ChatlabError):
    """The chat server asks for the lab's secret, and another or none was shown."""

    todo = "Set lab_secret (CHATLAB_LAB_SECRET, or chatlab.toml) to that of the lab's server."


class Taken(ChatlabError):
    """A newer client of the same account took over; this one has ended."""

    effect = "This client shows nothing more; nothing is split between the two."
    todo = "Go on in the newer window, or bring this user online again to take over."


class BackendMismatch(ChatlabError):
    """The group exists already with another backend; both are named."""

    todo = "Leave out backend= to inherit the group's, or choose another group name."


class NotPossible(ChatlabError):
    """The operation is refused here by rule; the message names the way to get it."""


class ServiceUnavailable(ChatlabError):
    """A service (RabbitMQ, Redis, the chat server) does not answer."""

    todo = "Look at `chatlab status`, or run `chatlab doctor`."


class ServiceMissing(ServiceUnavailable):
    """A program that the lab needs is not here; says what to type on this system."""


class LabClosed(ChatlabError):
    """The lab has been closed."""

    todo = "Start one with Lab.start(name)."


class LoopMisuse(ChatlabError):
    """A call into the background loop that can never return."""
