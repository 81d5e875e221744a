"""Panels in committed notebooks: the same text after every run, no widget without a kernel."""

from __future__ import annotations

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from chatlab.course.publish import WIDGET, normalise


def test_of_a_panel_its_text_and_table_are_committed() -> None:
    data = {
        WIDGET: {"model_id": "4f2a", "version_major": 2, "version_minor": 0},
        "text/plain": "<chat window of ana in the lab tour>",
        "text/html": "<table>12:04:05</table>",
    }
    output = new_output("display_data", data=data)
    book = new_notebook(cells=[new_code_cell("panels.chat(ana)", outputs=[output])])
    book.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    normalise(book)
    assert dict(book.cells[0].outputs[0].data) == {
        "text/plain": "<chat window of ana in the lab tour>",
        "text/html": "<table>··:··:··</table>",
    }
    assert "widgets" not in book.metadata
    nbformat.validate(book)
