"""Experiments: one scenario, every backend, real faults, an independent verdict.

- :mod:`scenario <chatlab.experiments.scenario>`: who does what when, as a value;
- :mod:`shipped <chatlab.experiments.shipped>`: those that come with chatlab;
- ``script`` and ``lanes``: done to real users and services;
- :mod:`runner <chatlab.experiments.runner>`: :func:`run` one, or a :func:`matrix` of many;
- :mod:`outside <chatlab.experiments.outside>`: clients that are not ours; ``faults`` and
  ``declared``: services that are not;
- :mod:`run <chatlab.experiments.run>`: what came of it, kept in a folder;
- :mod:`chatlab.checkers`, a room of its own, judges.

Discovery has its own: :func:`discovery` asks every way while users crash, freeze, leave and
are cut off; :func:`discovery_costs` tells what a question costs, and what must be running.
"""

from chatlab.discovery.accuracy import Accuracy
from chatlab.experiments.compare import compare
from chatlab.experiments.costs import Costs, discovery_costs
from chatlab.experiments.discovery import discovery, discovery_verdict
from chatlab.experiments.matrix import Matrix
from chatlab.experiments.run import Run
from chatlab.experiments.runner import declares, matrix, run
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.shipped import scenarios, shipped
from chatlab.experiments.steps import Step

__all__ = [
    "Accuracy",
    "Costs",
    "Matrix",
    "Run",
    "Scenario",
    "Step",
    "compare",
    "declares",
    "discovery",
    "discovery_costs",
    "discovery_verdict",
    "matrix",
    "run",
    "scenarios",
    "shipped",
]
