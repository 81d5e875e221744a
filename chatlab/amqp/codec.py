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
from chatlab.messages import Message, check_name

#: The sender of a message that was not published by chatlab.
OUTSIDER = "outsider"

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
        numbers = headers["incarnation"], headers["seq"], headers["clock"]
        sent_at = float(headers["sent_at"])
        if id and all(isinstance(number, int) for number in numbers):
            incarnation, seq, clock = numbers
            return Message(id, sender, incarnation, to, body, seq, sent_at, clock)
    except (KeyError, TypeError, ValueError, InvalidInput):
        pass  # an outsider's
    id = str(properties.message_id or f"{OUTSIDER}:{secrets.token_hex(8)}")
    return Message(id, OUTSIDER, 0, to, body, 0, _seconds(properties.timestamp), 0)


def _seconds(timestamp: Any) -> float:
    return float(timestamp) if isinstance(timestamp, int) else time.time()
