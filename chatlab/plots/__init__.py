"""Pictures: pure functions of scenes, runs or journals.

Each returns a Matplotlib Axes that shows itself in a notebook, with ``finding`` (its title,
computed), ``table()`` (its facts) and ``save(path)`` (PNG or SVG). Several scenes become one
strip each on a common axis.
"""

from chatlab.plots.cost import cost
from chatlab.plots.discovery import discovery
from chatlab.plots.grid import grid
from chatlab.plots.insults import insults
from chatlab.plots.persistence import persistence
from chatlab.plots.spacetime import spacetime
from chatlab.plots.style import Picture

__all__ = ["Picture", "cost", "discovery", "grid", "insults", "persistence", "spacetime"]
