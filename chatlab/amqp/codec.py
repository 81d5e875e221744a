"""Messages as AMQP messages: the body is plain text, all else properties and headers.

RabbitMQ's own tools can read ours, and what is published with them is shown as from
:data:`OUTSIDER`. AMQP's ``timestamp`` has whole seconds and pika knows no floating-point
headers, so the exact time is the text of the header ``sent_at``.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from chatlab.amqp.consumer import Delivery
from chatlab.amqp.publisher import Outgoing
from chatlab.amqp.wire import Properties
from chatlab.errors import InvalidInput
from chatlab.messages import Message, check_name, new_message

#: The sender of a message that was not published by chatlab.
OUTSIDER = "outsider"

#: The header that :func:`labelled` adds.
LABEL = "chatlab-label"
#: The header of a :func:`mark`.
MARK = "chatlab-mark"

TRANSIENT, PERSISTENT = 1, 2


def outgoing(message: Message, exchange: str, key: str, *, persistent: bool) -> Outgoing:
    """``message``, ready to publish to ``exchange`` with routing key ``key``."""
    id, sender, incarnation, _, body, seq, sent_at, clock = message
    properties = Properties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers={
            "sender": sender,
            "incarnation": incarnation,
            "seq": seq,
            "sent_at": repr(sent_at),
            "clock": clock,
        },
        delivery_mode=PERSISTENT if persistent else TRANSIENT,
        message_id=id,
        timestamp=int(sent_at),
        app_id="chatlab",
    )
    return Outgoing(exchange, key, body.encode(), properties)


def incoming(delivery: Delivery, to: str) -> Message:
    """The message that arrived in the conversation with ``to``.

    What is not wholly ours (a header missing or of the wrong type, a name that we would
    refuse) is an outsider's: its text is shown, nothing else of it is believed.
    """
    properties = delivery.properties
    body = delivery.body.decode("utf-8", "replace")
    headers: dict[str, Any] = properties.headers or {}
    try:
        id, sender = properties.message_id, check_name(headers["sender"])
        incarnation, seq, clock = headers["incarnation"], headers["seq"], headers["clock"]
        sent_at = float(headers["sent_at"])
        if id and type(incarnation) is type(seq) is type(clock) is int:
            return new_message((id, sender, incarnation, to, body, seq, sent_at, clock))
    except (KeyError, TypeError, ValueError, InvalidInput):
        pass  # an outsider's
    id = str(properties.message_id or f"{OUTSIDER}:{secrets.token_hex(8)}")
    return Message(id, OUTSIDER, 0, to, body, 0, _seconds(properties.timestamp), 0)


def labelled(message: Message, exchange: str, *, persistent: bool) -> Outgoing:
    """``message`` as its text alone; only :data:`LABEL`, a header that whoever receives it
    may ignore, says which message it is."""
    id, _, incarnation, _, body, seq, sent_at, clock = message
    properties = Properties(
        headers={LABEL: f"{incarnation} {seq} {sent_at!r} {clock} {id}"},
        delivery_mode=PERSISTENT if persistent else TRANSIENT,
    )
    return Outgoing(exchange, "", body.encode(), properties)


def unlabelled(delivery: Delivery, to: str, sender: str) -> Message:
    """What arrived, from ``sender``: the message itself does not say. A label that is
    missing or broken makes it a message of its own."""
    body = delivery.body.decode("utf-8", "replace")
    label = str((delivery.properties.headers or {}).get(LABEL, ""))
    try:
        incarnation, seq, sent_at, clock, id = label.split(" ", 4)
        numbers = int(incarnation), to, body, int(seq), float(sent_at), int(clock)
        return Message(id, sender, *numbers)
    except ValueError:
        id = f"{OUTSIDER}:{secrets.token_hex(8)}"
        return Message(id, sender, 0, to, body, 0, time.time(), 0)


def mark(queue: str) -> Outgoing:
    """An empty message straight into ``queue``, which no conversation shows."""
    properties = Properties(
        headers={MARK: True}, delivery_mode=PERSISTENT, message_id=secrets.token_hex(8)
    )
    return Outgoing("", queue, b"", properties)


def is_mark(delivery: Delivery) -> bool:
    """Whether this is a :func:`mark`."""
    return MARK in (delivery.properties.headers or {})


def _seconds(timestamp: Any) -> float:
    return float(timestamp) if isinstance(timestamp, int) else time.time()
