"""Report: one HTML page with the answers, their evidence and the surprises.

It is written only when every answer stands: a stance was chosen that its own evidence does not
contradict, the runs are there, unchanged and one's own, and there are words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from chatlab.course import answers, evidence, my
from chatlab.course.answers import Answer
from chatlab.course.guesses import surprises
from chatlab.course.questions import QUESTIONS, question
from chatlab.errors import NotPossible
from chatlab.tables import html

FILE = "report.html"

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>chatlab: answers</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 920px; margin: 2rem auto;
  padding: 0 1rem; color: #1f2328; background: white; }
h2 { margin-top: 2.5rem; }
blockquote { border-left: 4px solid #0072b2; margin: 0; padding: 0 1rem; }
table { border-collapse: collapse; }
td, th { border-bottom: 1px solid #d5d8db; }
svg { max-width: 100%; height: auto; }
.soft { color: #57606a; }
.own { white-space: pre-wrap; }
</style>
"""


def report(only: Sequence[str] = ()) -> Path:
    """Write the page; returns its path.

    Args:
        only: these questions; default: all four.

    Raises:
        NotPossible: an answer does not stand; says of each what is missing.
        InvalidInput: there is no such question.
    """
    found = [answers.load(question(id).id) for id in only or QUESTIONS]
    if problems := [problem for answer in found for problem in answer.problems]:
        raise NotPossible(
            f"The report cannot be made: {len(problems)} things are missing.",
            "No page was written.",
            "\n".join(problems),
        )
    return my.write_text(FILE, "".join(_page(found)))


def _page(found: Sequence[Answer]) -> Iterator[str]:
    yield _HEAD
    yield "<h1>Answers, with evidence</h1>"
    for answer in found:
        yield from _section(answer)
    yield "<h2>What surprised me</h2>"
    table = surprises()
    yield html(list(table), table.caption)
    yield "</html>\n"


def _section(answer: Answer) -> Iterator[str]:
    assert answer.stance is not None
    asked = question(answer.id)
    yield f"<h2>{escape(answer.id.upper())}. {escape(asked.english)}</h2>"
    for language, text in (("es", asked.spanish), ("ca", asked.catalan)):
        yield f'<p class="soft" lang="{language}">{escape(text)}</p>'
    yield f"<blockquote><p><b>{escape(answer.stance.text)}</b></p></blockquote>"
    yield f'<p class="own">{escape(answer.text.strip())}</p>'
    yield html(list(answer.table()), "what was claimed, and what the runs say")
    yield from _pictures(answer.id)
    if answer.evidence.cells:
        yield html(list(evidence.rows(answer.evidence)), "the runs, judged anew for this page")
    if answer.evidence.pairs:
        yield html(answer.evidence.pairs, "the same call, made twice")


def _pictures(id: str) -> Iterator[str]:
    for path in sorted((my.folder() / evidence.FOLDER / id).glob("*.svg")):
        text = path.read_text(encoding="utf-8")
        yield f"<figure>{text[text.index('<svg') :]}</figure>"
