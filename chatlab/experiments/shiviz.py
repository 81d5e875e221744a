"""A journal as a log with vector clocks, as ShiViz reads it
(https://bestchai.bitbucket.io/shiviz/): two lines an event, the first with host and clock.

The clocks are made of the journal itself: what one life does is in its order, and a delivery
comes after its send. The viewer wants a regular expression::

    (?<host>\\S*) (?<clock>{.*})\\n(?<event>.*)
"""

from __future__ import annotations

import json
from collections import defaultdict

from chatlab.journal import Delivered, Fact, Handled, Journal, Sent
from chatlab.messages import title


def shiviz(journal: Journal) -> str:
    """Sends, deliveries, and what befell users, with their vector clocks."""
    clocks: defaultdict[str, dict[str, int]] = defaultdict(dict)
    carried: dict[str, dict[str, int]] = {}
    lines: list[str] = []
    for fact in journal:
        if not fact.user or not (event := _event(fact)):
            continue
        host = f"{fact.user}.{fact.incarnation}"
        clock = clocks[host]
        if isinstance(fact, Delivered):
            for other, count in carried.get(fact.message.id, {}).items():
                clock[other] = max(clock.get(other, 0), count)
        clock[host] = clock.get(host, 0) + 1
        if isinstance(fact, Sent):
            carried[fact.message.id] = dict(clock)
        lines += [f"{host} {json.dumps(clock, ensure_ascii=False)}", event]
    return "\n".join([*lines, ""])


def _event(fact: Fact) -> str:
    where = title(fact.chat)
    if isinstance(fact, Sent):
        return f"sends {fact.message.id} to {where}"
    if isinstance(fact, Delivered):
        return f"is shown {fact.message.id} in {where}"
    if isinstance(fact, Handled):
        return f"has handled {fact.id}"
    kind = type(fact).__name__
    if kind in (
        "Connected",
        "Disconnected",
        "Subscribed",
        "Left",
        "Crashed",
        "Frozen",
        "Thawed",
    ):
        return f"{kind.lower()} {where}".strip()
    return ""
