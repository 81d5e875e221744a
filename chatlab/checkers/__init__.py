"""Checkers: independent judges of a run.

They know a journal and what each backend declares that it promises, and nothing else: not the
lab, not the clients, not what a test hoped for. :func:`judge` gives a :class:`Verdict`;
:func:`presence` judges lists of who is there.

- ``history``, ``conversation``: a journal read once; ``promises``: what holds for a
  conversation; ``fates``: what became of each delivery that was owed and is not there.
- ``delivery``, ``fanout``, ``insults``, ``fairness``, ``order``, ``causal``, ``reconnect``,
  ``limits``: one question each, a function from a case to a :class:`Check`.
- ``verdict``: the values; ``judge``: all of it.
"""

from __future__ import annotations

from chatlab.checkers.judge import judge
from chatlab.checkers.presence import Listing, Stay, presence
from chatlab.checkers.verdict import Check, Example, Outcome, Verdict

__all__ = ["Check", "Example", "Listing", "Outcome", "Stay", "Verdict", "judge", "presence"]
