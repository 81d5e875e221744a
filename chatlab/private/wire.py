"""Between the values of chatlab and ``private_chat.proto``; limits are checked here.

The hot path: a message is converted once up and once down, a receipt stands for a run of
letters that fared alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from chatlab.errors import ChatlabError, InvalidInput, MailboxFull, SendFailed, UnknownAccount
from chatlab.messages import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    BODY_BYTES,
    Message,
    Receipt,
    check_name,
)
from chatlab.private.mailbox import Entry, Limits, Stored, full_reason
from chatlab.private.session import Session
from chatlab.v1 import private_chat_pb2 as pb

#: Longest message id, bytes.
ID_BYTES = 256

#: What a receiving stream may have handed out and not yet seen acknowledged.
WINDOW_MESSAGES = 1_000
WINDOW_BYTES = 1024 * 1024

_OUTCOMES = {
    "stored": pb.OUTCOME_STORED,
    "duplicate": pb.OUTCOME_DUPLICATE,
    "full of messages": pb.OUTCOME_MAILBOX_FULL,
    "full of bytes": pb.OUTCOME_MAILBOX_FULL,
}


def size_of(body: str) -> int:
    """Bytes of UTF-8; without encoding when it is plain ASCII."""
    return len(body) if body.isascii() else len(body.encode())


# -- up


def letter_of(message: Message) -> pb.Letter:
    """A message on its way up."""
    id, _, _, to, body, seq, sent_at, clock = message
    return pb.Letter(id=id, to=to, body=body, seq=seq, sent_at=sent_at, clock=clock)


def message_of(letter: pb.Letter, session: Session) -> Message:
    """A letter as the session's user sent it."""
    return Message(
        letter.id,
        session.user,
        session.incarnation,
        letter.to,
        letter.body,
        letter.seq,
        letter.sent_at,
        letter.clock,
    )


def fault_of_frame(letters: Sequence[pb.Letter]) -> str:
    """Which limit a whole frame breaks; empty when none."""
    if not 1 <= len(letters) <= BATCH_MESSAGES:
        return f"A request holds 1 to {BATCH_MESSAGES} letters, not {len(letters)}."
    size = sum(size_of(letter.body) for letter in letters)
    if size > BATCH_BYTES:
        return f"A request holds at most {BATCH_BYTES:,} bytes of bodies, not {size:,}."
    return ""


def fault_of_letter(message: Message) -> str:
    """Which limit one letter breaks; empty when none."""
    if not message.id or size_of(message.id) > ID_BYTES:
        return f"A message id has 1 to {ID_BYTES} bytes."
    if not message.body or size_of(message.body) > BODY_BYTES:
        return f"A body has 1 to {BODY_BYTES:,} bytes."
    try:
        clean = check_name(message.to, "receiver")
    except InvalidInput as error:
        return error.what
    return "" if clean == message.to else "The receiver's name is not in NFC."


def receipts_of(stored: Stored, user: str, limits: Limits) -> Iterable[pb.Receipt]:
    """What a mailbox did with a batch, one receipt for each run of equal verdicts."""
    waiting = stored.waiting
    if not stored.listeners:
        waiting -= stored.verdicts.count("stored")
    for verdict, run in groupby(stored.verdicts):
        count = sum(1 for _ in run)
        if verdict == "stored" and not stored.listeners:
            waiting += count
        refused = verdict.startswith("full")
        yield pb.Receipt(
            count=count,
            outcome=_OUTCOMES[verdict],
            waiting=waiting,
            listeners=stored.listeners,
            reason=full_reason(verdict, limits, user) if refused else "",
        )


def refusals(count: int, outcome: pb.Outcome, reason: str) -> pb.Receipt:
    """``count`` letters were refused."""
    return pb.Receipt(count=count, outcome=outcome, reason=reason)


# -- down


def delivery_of(entry: Entry) -> pb.Delivery:
    """A message on its way down."""
    id, sender, incarnation, _, body, seq, sent_at, clock = entry.message
    return pb.Delivery(
        id=id,
        sender=sender,
        incarnation=incarnation,
        body=body,
        seq=seq,
        sent_at=sent_at,
        clock=clock,
        redelivered=entry.redelivered,
    )


def delivered(delivery: pb.Delivery, to: str) -> Message:
    """A delivery as the message that ``to`` received."""
    return Message(
        delivery.id,
        delivery.sender,
        delivery.incarnation,
        to,
        delivery.body,
        delivery.seq,
        delivery.sent_at,
        delivery.clock,
    )


_REFUSALS: dict[pb.Outcome, type[ChatlabError]] = {
    pb.OUTCOME_UNKNOWN_ACCOUNT: UnknownAccount,
    pb.OUTCOME_MAILBOX_FULL: MailboxFull,
    pb.OUTCOME_INVALID: InvalidInput,
}
_ACCEPTED = (pb.OUTCOME_STORED, pb.OUTCOME_DUPLICATE)


def receipts(run: pb.Receipt, ids: Sequence[str]) -> list[Receipt]:
    """The receipts that one run stands for; ``ids`` are those of its letters."""
    if run.outcome not in _ACCEPTED:
        error = _REFUSALS.get(run.outcome, SendFailed).__name__
        return [Receipt(id, "failed", reason=run.reason, error=error) for id in ids]
    waiting, listeners = run.waiting, run.listeners
    if listeners or run.outcome == pb.OUTCOME_DUPLICATE:
        return [Receipt(id, "confirmed", waiting, listeners) for id in ids]
    first = waiting - len(ids) + 1
    return [Receipt(id, "confirmed", n, listeners) for n, id in enumerate(ids, first)]
