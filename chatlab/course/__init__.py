"""The course: what a reader guesses, runs, answers and hands in.

- ``predict`` and ``reveal``: a guess before the run, held against what was seen;
- ``answer`` and ``stances``: a stance to each of the four questions, with its evidence;
- ``Pairs``: the same call, made twice;
- ``report``, ``surprises``, ``submit``, ``reset``: what is made of it all.

All of it lies in ``notebooks/my``. ``publish`` runs the notebooks and writes them as they are
committed.
"""

from chatlab.course.answers import answer, stances
from chatlab.course.guesses import predict, reveal, surprises
from chatlab.course.my import reset, submit
from chatlab.course.pairs import Pairs
from chatlab.course.questions import QUESTIONS, question
from chatlab.course.report import report

__all__ = [
    "QUESTIONS",
    "Pairs",
    "answer",
    "predict",
    "question",
    "report",
    "reset",
    "reveal",
    "stances",
    "submit",
    "surprises",
]
