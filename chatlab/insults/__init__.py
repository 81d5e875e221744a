"""The insult channel: a work queue, each insult to exactly one of its listeners."""

from __future__ import annotations

from chatlab.insults.rabbitmq import QUEUE, InsultMember

__all__ = ["QUEUE", "InsultMember"]
