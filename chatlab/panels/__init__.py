"""Panels: a lab to click on and to watch, in a notebook or in front of a class.

``panels.chat(ana)`` is one user's chat window, ``panels.stage(lab)`` a lab on one page: chat
windows, the broker's queues, buttons that break it. Each panel is one widget that lives until
its cell is run again, its lab is closed or ``close()`` is called, and shows what a plain
function returns as well: :meth:`Panel.table <chatlab.panels.panel.Panel.table>`.

- ``panel``: what all panels share; ``pump``: who keeps them up to date;
- ``conversation``: what one user knows of one conversation, from the journal, pure;
- ``stage``: made of ``toolbar``, ``topology`` and ``recent``, which show what ``lookout`` saw
  of services and ``stores`` and what ``situation`` read in the journal;
- ``look``: the scripts and styles in the browser, which set text, never HTML.
"""

from chatlab.panels.column import ChatColumn, chat
from chatlab.panels.stage import Stage, stage

__all__ = ["ChatColumn", "Stage", "chat", "stage"]
