"""chatlab: a laboratory for communication patterns.

A small chat system on real gRPC, RabbitMQ and Redis that runs inside JupyterLab, records
every message and breaks its own services on request. Heavy parts load on first use, so
``import chatlab`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import chatlab.course as course
    import chatlab.experiments as experiments
    import chatlab.panels as panels
    import chatlab.plots as plots
    from chatlab.journal import Journal as Journal
    from chatlab.lab import Lab as Lab

__version__ = "0.1.0"

#: Public name -> the module it lives in; a module itself where both are the same.
_LAZY = {
    "Lab": "chatlab.lab",
    "Journal": "chatlab.journal",
    "course": "chatlab.course",
    "experiments": "chatlab.experiments",
    "panels": "chatlab.panels",
    "plots": "chatlab.plots",
}

__all__ = ["Journal", "Lab", "__version__", "course", "experiments", "panels", "plots"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'chatlab' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name] == f"chatlab.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
