"""Tables: tidy, exportable, escaped."""

from __future__ import annotations

import csv
import io

from chatlab.tables import SHOWN_ROWS, Table, card, html

NASTY = "<img src=x onerror=alert(1)>"


def test_everything_shown_is_escaped() -> None:
    rows = [{NASTY: NASTY}]
    for text in (
        html(rows, NASTY),
        card(NASTY, {NASTY: NASTY}),
        Table(rows, NASTY)._repr_html_(),
    ):
        assert "<img" not in text
        assert "&lt;img" in text


def test_plain_text_is_aligned_by_the_longest_cell() -> None:
    table = Table([{"name": "ana", "n": 1}, {"name": "bobby", "n": 2}])
    assert repr(table).splitlines() == ["name   n", "ana    1", "bobby  2"]


def test_csv_reads_back() -> None:
    table = Table([{"body": 'a "quoted", line\nand another'}])
    assert list(csv.DictReader(io.StringIO(table.to_csv()))) == [table[0]]


def test_a_pipe_does_not_break_a_markdown_row() -> None:
    assert Table([{"a": "x|y"}]).to_markdown().splitlines()[2] == r"| x\|y |"


def test_missing_cells_are_empty_and_columns_keep_their_order() -> None:
    table = Table([{"a": 1}, {"b": 2, "a": None}])
    assert table.columns == ["a", "b"]
    assert repr(table).splitlines()[1:] == ["1", "   2"]


def test_a_long_table_shows_its_beginning_and_says_so() -> None:
    text = Table([{"n": n} for n in range(SHOWN_ROWS + 1)], "numbers")._repr_html_()
    assert f"the first {SHOWN_ROWS} of {SHOWN_ROWS + 1}" in text
    assert text.count("<tr>") == SHOWN_ROWS + 1


def test_an_empty_table_says_so() -> None:
    assert "empty" in repr(Table([])) and "empty" in Table([])._repr_html_()
