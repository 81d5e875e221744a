"""Between the values of chatlab and the messages of ``protos/``; limits are checked here.

The hot path: a letter is read or written once on each side, fields by position and whole
frames at a time; who sent it, to whom, and what became of it is said once for a run of
letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from operator import attrgetter

from chatlab.errors import ChatlabError, InvalidInput, MailboxFull, SendFailed, UnknownAccount
from chatlab.messages import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    BODY_BYTES,
    CHARACTER_BYTES,
    Message,
    Outcome,
    Receipt,
    batches,
    check_name,
    new_message,
    new_receipt,
    size_of,
)
from chatlab.private.mailbox import Batch, Limits, Stored, full_reason
from chatlab.private.session import Session
from chatlab.v1 import letter_pb2
from chatlab.v1 import private_chat_pb2 as pb

#: Longest message id, bytes.
ID_BYTES = 256
#: Seconds since the epoch at the end of the year 9999, the last that a calendar can show.
LATEST = 253_402_300_800

#: What a receiving stream may have handed out and not yet seen acknowledged.
WINDOW_MESSAGES = 1_000
WINDOW_BYTES = 1024 * 1024

_OUTCOMES = {
    "stored": pb.OUTCOME_STORED,
    "duplicate": pb.OUTCOME_DUPLICATE,
    "full of messages": pb.OUTCOME_MAILBOX_FULL,
    "full of bytes": pb.OUTCOME_MAILBOX_FULL,
}

_receiver = attrgetter("to")
_source = attrgetter("sender", "incarnation")


# -- up


def letters_of(messages: Iterable[Message]) -> list[letter_pb2.Letter]:
    """Messages on their way."""
    letter = letter_pb2.Letter
    return [
        letter(id=id, body=body, seq=seq, sent_at=sent_at, clock=clock)
        for id, _, _, _, body, seq, sent_at, clock in messages
    ]


def parcels_of(messages: Sequence[Message]) -> list[pb.Parcel]:
    """Messages on their way up, those that follow each other to one receiver together."""
    return [
        pb.Parcel(to=to, letters=letters_of(run)) for to, run in groupby(messages, _receiver)
    ]


def messages_of(
    letters: Iterable[letter_pb2.Letter], sender: str, incarnation: int, to: str
) -> list[Message]:
    """Letters as messages."""
    return [
        new_message((x.id, sender, incarnation, to, x.body, x.seq, x.sent_at, x.clock))
        for x in letters
    ]


def opened(parcel: pb.Parcel, session: Session) -> list[Message]:
    """A parcel's letters as the session's user sent them."""
    return messages_of(parcel.letters, session.user, session.incarnation, parcel.to)


def fault_of_frame(batches: Sequence[Sequence[Message]]) -> str:
    """Which limit a whole frame breaks; empty when none."""
    count = sum(map(len, batches))
    if not 1 <= count <= BATCH_MESSAGES or not all(batches):
        return f"A request holds 1 to {BATCH_MESSAGES} letters, not {count}."
    size = sum(len(message.body) for batch in batches for message in batch)
    if size * CHARACTER_BYTES > BATCH_BYTES:
        size = sum(size_of(message.body) for batch in batches for message in batch)
    if size > BATCH_BYTES:
        return f"A request holds at most {BATCH_BYTES:,} bytes of bodies, not {size:,}."
    return ""


def fault_of_receiver(to: str) -> str:
    """Why nobody can have this name; empty when somebody can."""
    try:
        clean = check_name(to, "receiver")
    except InvalidInput as error:
        return error.what
    return "" if clean == to else "The receiver's name is not in NFC."


def fault_of_letter(message: Message) -> str:
    """Which limit one letter breaks; empty when none."""
    if not message.id or size_of(message.id) > ID_BYTES:
        return f"A message id has 1 to {ID_BYTES} bytes."
    if not message.body or size_of(message.body) > BODY_BYTES:
        return f"A body has 1 to {BODY_BYTES:,} bytes."
    if not 0 <= message.sent_at < LATEST:  # also what is no number
        return "A letter was sent at no time that there is."
    return ""


def faults(batch: list[Message]) -> Iterator[tuple[str, list[Message]]]:
    """A batch in runs that break the same limit; almost always one run that breaks none."""
    ids = [len(message.id) for message in batch]
    bodies = [len(message.body) for message in batch]
    long = max(ids) * CHARACTER_BYTES > ID_BYTES or max(bodies) * CHARACTER_BYTES > BODY_BYTES
    if min(ids) and min(bodies) and not long:  # so short that no size need be counted
        yield "", batch
        return
    for fault, run in groupby(batch, fault_of_letter):
        yield fault, list(run)


def receipts_of(stored: Stored, user: str, limits: Limits) -> Iterator[pb.Receipt]:
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


def deliveries_of(batch: Batch) -> Iterator[pb.Delivery]:
    """What is handed out, in runs of one source that fared alike."""
    parts = (batch.messages[: batch.again], True), (batch.messages[batch.again :], False)
    for messages, redelivered in parts:
        for (sender, incarnation), run in groupby(messages, _source):
            yield pb.Delivery(
                sender=sender,
                incarnation=incarnation,
                redelivered=redelivered,
                letters=letters_of(run),
            )


def frame_of(batch: Batch | None, reached: Mapping[str, str]) -> pb.ReceiveResponse:
    """What is written to a receiver at once."""
    frame = pb.ReceiveResponse()
    if batch is not None:
        frame.deliveries.extend(deliveries_of(batch))
    for receiver, id in reached.items():
        frame.reached.add(receiver=receiver, id=id)
    return frame


def history_frames(messages: Sequence[Message]) -> Iterator[pb.GetHistoryResponse]:
    """A conversation in frames that keep their limits."""
    for batch in batches(messages):
        runs = groupby(batch, _source)
        yield pb.GetHistoryResponse(
            deliveries=[
                pb.Delivery(sender=sender, incarnation=life, letters=letters_of(run))
                for (sender, life), run in runs
            ]
        )


def delivered(delivery: pb.Delivery, to: str) -> list[Message]:
    """A delivery as the messages that ``to`` received."""
    return messages_of(delivery.letters, delivery.sender, delivery.incarnation, to)


# -- receipts, as the sender understands them


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of ``count`` messages that followed each other."""

    count: int
    outcome: Outcome
    waiting: int | None = None
    listeners: int | None = None
    #: ``waiting`` counts them, the last one included.
    added: bool = False
    reason: str = ""
    error: str = ""

    def receipts(self, ids: Sequence[str], skipped: int = 0) -> list[Receipt]:
        """Those of the messages with these ids; ``skipped`` of the answer's came before."""
        waiting: Iterable[int | None] = repeat(self.waiting)
        if self.added and self.waiting is not None:
            first = self.waiting - self.count + 1 + skipped
            waiting = range(first, first + len(ids))
        same = map(repeat, (self.listeners, self.reason, self.error))
        rows = zip(ids, repeat(self.outcome), waiting, *same)
        return list(map(new_receipt, rows))


_REFUSALS: dict[pb.Outcome, type[ChatlabError]] = {
    pb.OUTCOME_UNKNOWN_ACCOUNT: UnknownAccount,
    pb.OUTCOME_MAILBOX_FULL: MailboxFull,
    pb.OUTCOME_INVALID: InvalidInput,
}
_ACCEPTED = (pb.OUTCOME_STORED, pb.OUTCOME_DUPLICATE)


def answer_of(run: pb.Receipt) -> Answer:
    """A receipt of the wire."""
    if run.outcome not in _ACCEPTED:
        error = _REFUSALS.get(run.outcome, SendFailed).__name__
        return Answer(run.count, "failed", reason=run.reason, error=error)
    added = not run.listeners and run.outcome == pb.OUTCOME_STORED
    return Answer(run.count, "confirmed", run.waiting, run.listeners, added)
