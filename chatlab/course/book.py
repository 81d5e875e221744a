"""The notebooks as a site to read without running: ``python -m chatlab.course.book``.

A page for each notebook as it is committed, an index in front, links between neighbours.
Nothing is executed, and the site is files only: open ``build/book/index.html``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat

from chatlab.errors import InvalidInput

FOLDER = Path("build/book")
INDEX = "index.html"
_TITLE = re.compile(r"^# (.+)$", re.M)
_MINUTES = re.compile(r"\*\*(\d+ minutes[^.*]*)")
_STYLE = "font:16px/1.5 system-ui,sans-serif;max-width:920px;margin:1rem auto;padding:0 1rem"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>chatlab: the course</title>
<body style="{style}"><h1>chatlab: the course</h1>
<p>To read. To run it, type <code>make lab</code>.</p>
<ol start="0">{entries}</ol></body></html>
"""


@dataclass(frozen=True)
class Chapter:
    """One notebook of the book."""

    name: str
    title: str
    #: ``10 minutes``; empty where it does not say.
    minutes: str
    book: Any

    @property
    def page(self) -> str:
        """The file of its page."""
        return f"{self.name}.html"

    @classmethod
    def read(cls, path: Path) -> Chapter:
        """From a notebook: what stands on its top."""
        book = nbformat.read(path, as_version=4)
        text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
        title, minutes = _TITLE.search(text), _MINUTES.search(text)
        return cls(
            path.stem, title[1] if title else path.stem, minutes[1] if minutes else "", book
        )


def build(notebooks: Path | str = "notebooks", to: Path | str = FOLDER) -> Path:
    """Write the site; returns its index.

    Raises:
        InvalidInput: there are no notebooks.
    """
    chapters = [Chapter.read(path) for path in sorted(Path(notebooks).glob("*.ipynb"))]
    if not chapters:
        raise InvalidInput(f"There are no notebooks in {notebooks}.")
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    for number, chapter in enumerate(chapters):
        text = _page(chapter, _links(chapters, number))
        (folder / chapter.page).write_text(text, encoding="utf-8")
    entries = "".join(
        f'<li><a href="{escape(c.page)}">{escape(c.title)}</a> {escape(c.minutes)}</li>'
        for c in chapters
    )
    index = folder / INDEX
    index.write_text(_PAGE.format(style=_STYLE, entries=entries), encoding="utf-8")
    return index


def _page(chapter: Chapter, links: str) -> str:
    from nbconvert import HTMLExporter  # a second to import, and nothing else needs it

    text, _ = HTMLExporter().from_notebook_node(chapter.book)
    # By a function: a replacement text would have its backslashes read.
    text = re.sub(
        r"<title>.*?</title>", lambda _: f"<title>{escape(chapter.title)}</title>", text
    )
    text = re.sub(r"<body[^>]*>", lambda found: found[0] + links, text, count=1)
    return re.sub(r"</body>(?!.*</body>)", lambda found: links + found[0], text, flags=re.S)


def _links(chapters: Sequence[Chapter], number: int) -> str:
    places = [(INDEX, "The course")]
    if number > 0:
        places.append((chapters[number - 1].page, f"← {chapters[number - 1].title}"))
    if number + 1 < len(chapters):
        places.append((chapters[number + 1].page, f"{chapters[number + 1].title} →"))
    words = " · ".join(f'<a href="{escape(to)}">{escape(name)}</a>' for to, name in places)
    return f'<nav style="{_STYLE}">{words}</nav>'


def main() -> None:
    """Build the book."""
    sys.stdout.write(f"{build()}\n")


if __name__ == "__main__":
    main()
