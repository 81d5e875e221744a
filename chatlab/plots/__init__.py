"""Pictures: pure functions of scenes, runs or journals.

Each returns a Matplotlib Axes that shows itself in a notebook, with ``finding`` (its title,
computed), ``table()`` (its facts) and ``save(path)`` (PNG or SVG). Several scenes become one
strip each on a common axis.
"""

from chatlab.plots.cost import cost
from chatlab.plots.depth import depth
from chatlab.plots.discovery import discovery
from chatlab.plots.grid import grid
from chatlab.plots.insults import insults
from chatlab.plots.latency import latency
from chatlab.plots.order import order
from chatlab.plots.persistence import persistence
from chatlab.plots.ratios import ratios
from chatlab.plots.spacetime import spacetime
from chatlab.plots.style import Picture
from chatlab.plots.throughput import throughput

__all__ = [
    "Picture",
    "cost",
    "depth",
    "discovery",
    "grid",
    "insults",
    "latency",
    "order",
    "persistence",
    "ratios",
    "spacetime",
    "throughput",
]
