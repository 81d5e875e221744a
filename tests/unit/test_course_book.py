"""The book: the committed notebooks as pages that need no kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from chatlab.course import book
from chatlab.errors import InvalidInput


def written(folder: Path, name: str, *cells: nbformat.NotebookNode) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / f"{name}.ipynb")


def test_each_notebook_is_a_page_with_links_to_its_neighbours_and_nothing_is_run(
    tmp_path: Path,
) -> None:
    shown = nbformat.v4.new_output("execute_result", data={"text/plain": "seen 5"})
    code = nbformat.v4.new_code_cell("1 / 0", outputs=[shown], execution_count=1)
    head = nbformat.v4.new_markdown_cell("# A & B?\n\n**10 minutes.** Words.")
    written(tmp_path, "00_first", head, code)
    written(tmp_path, "01_second", nbformat.v4.new_markdown_cell(r"# Second \1"))
    written(tmp_path, "02_third", nbformat.v4.new_markdown_cell("No title"))
    index = book.build(tmp_path, tmp_path / "book")
    listed = re.findall(r'<li><a href="([^"]+)">([^<]+)</a> ([^<]*)</li>', index.read_text())
    assert listed == [
        ("00_first.html", "A &amp; B?", "10 minutes"),
        ("01_second.html", r"Second \1", ""),
        ("02_third.html", "02_third", ""),
    ]
    first, second, third = (
        (index.parent / f"{name}.html").read_text()
        for name in ("00_first", "01_second", "02_third")
    )
    assert "seen 5" in first and "ZeroDivisionError" not in first
    assert "<title>A &amp; B?</title>" in first
    for page, links in ((first, "01"), (second, "00 02"), (third, "01")):
        found = re.findall(r'<a href="(index|\d\d)[^"]*\.html">', page)
        # Above and below.
        assert found == ["index", *links.split()] * 2


def test_a_folder_without_notebooks_makes_no_book(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no notebooks"):
        book.build(tmp_path, tmp_path / "book")
