"""The insult channel: a work queue, each insult to exactly one of its listeners.

Backends: ``rabbitmq`` (one plain queue), ``rabbitmq-not-me`` (never back to its sender),
``redis-list`` (at most once, a baseline), ``redis-stream`` (a consumer group), ``memory``
(an in-process stand-in) and ``as-reported``. What each promises is data:
:func:`~chatlab.insults.guarantees.guarantees`.
"""

from __future__ import annotations

from chatlab.insults.guarantees import Guarantees, guarantees
from chatlab.insults.line import DELIVERIES, Registry
from chatlab.insults.member import DEFAULT_BACKEND, InsultMember
from chatlab.insults.rabbitmq import DEAD, QUEUE

__all__ = [
    "DEAD",
    "DEFAULT_BACKEND",
    "DELIVERIES",
    "QUEUE",
    "Guarantees",
    "InsultMember",
    "Registry",
    "guarantees",
]
