"""Panels: a lab to click on and to watch, in a notebook or in front of a class.

``panels.chat(ana)`` is one user's chat window, ``panels.insults(lab)`` the insult channel with
all its settings, ``panels.stage(lab)`` a lab on one page: chat windows, the broker's queues,
buttons that break it; ``panels.guess(…)`` is a question to answer before the run. Each is one
widget that lives until its cell is run again, its lab is closed or ``close()`` is called, and
shows what a plain function returns as well: :meth:`Panel.table
<chatlab.panels.panel.Panel.table>`.

- ``panel``: what all panels share; ``pump``: who keeps them up to date;
- ``column``: the chat window; ``desk`` and ``conversation``: what its user knows, from the
  journal, pure;
- ``strips``: who got which insult under which setting, from the journal, pure;
- ``stage``: made of ``toolbar``, ``topology`` and ``recent``, which show what ``lookout`` saw
  of services and ``stores`` and what ``situation`` read in the journal;
- ``look``: the scripts and styles in the browser, which set text, never HTML.
"""

from chatlab.panels.column import ChatColumn, chat
from chatlab.panels.guess import GuessCard, guess
from chatlab.panels.insults import InsultPanel, insults
from chatlab.panels.stage import Stage, stage

__all__ = [
    "ChatColumn",
    "GuessCard",
    "InsultPanel",
    "Stage",
    "chat",
    "guess",
    "insults",
    "stage",
]
