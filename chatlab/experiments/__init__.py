"""Experiments: runs that make something happen and record what came of it.

``discovery`` asks every way of discovery while users crash, freeze, leave and are cut off;
``discovery_costs`` what a question costs, and what must be running. Both return values that
need no services any more: tables that save themselves, and that ``plots`` draws.
"""

from __future__ import annotations

from chatlab.experiments.accuracy import Accuracy
from chatlab.experiments.costs import Costs, discovery_costs
from chatlab.experiments.discovery import discovery

__all__ = ["Accuracy", "Costs", "discovery", "discovery_costs"]
