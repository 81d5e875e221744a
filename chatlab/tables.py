"""Tables: lists of rows that look tidy in a notebook and leave it easily.

Everything shown in a notebook that is not a picture is a :class:`Table` or is drawn by
:func:`html`. All text is escaped; columns are named once, cells are what ``str`` says.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

#: A longer text is cut in a cell; ``.table()`` and ``.to_csv()`` keep all of it.
CELL_CHARACTERS = 60
#: A notebook shows so many rows; the caption says how many there are.
SHOWN_ROWS = 40

_STYLE = "text-align:left;padding:2px 12px 2px 0"


class Table(Sequence[Mapping[str, Any]]):
    """Rows (dictionaries with the same keys) and a caption.

    ``len``, indexing and iteration go over the rows.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], caption: str = "") -> None:
        self._rows = [dict(row) for row in rows]
        self.caption = caption

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]

    @property
    def columns(self) -> list[str]:
        """The keys of all rows, in the order of first appearance."""
        return list(dict.fromkeys(key for row in self._rows for key in row))

    def table(self) -> list[dict[str, Any]]:
        """The rows as plain dictionaries, for pandas and the like."""
        return [dict(row) for row in self._rows]

    def to_csv(self, path: Path | str | None = None) -> str:
        """The rows as CSV (RFC 4180); also written to ``path`` when one is given."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(self._rows)
        if path is not None:
            Path(path).write_text(out.getvalue(), encoding="utf-8", newline="")
        return out.getvalue()

    def to_markdown(self) -> str:
        """The rows as a Markdown table (pipes in cells escaped)."""
        lines = [self.columns, ["---"] * len(self.columns)]
        lines += [[shown(row.get(c)).replace("|", r"\|") for c in self.columns] for row in self]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def __repr__(self) -> str:
        """Aligned plain text, for terminals and for comparing outputs."""
        if not self._rows:
            return f"{self.caption} (empty)".strip()
        lines = [self.columns, *([shown(row.get(c)) for c in self.columns] for row in self)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [
            "  ".join(
                cell.ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*([self.caption] if self.caption else []), *text])

    def _repr_html_(self) -> str:
        return html(self._rows[:SHOWN_ROWS], self._caption())

    def _caption(self) -> str:
        if len(self) <= SHOWN_ROWS:
            return self.caption or ("" if len(self) else "(empty)")
        return f"{self.caption} (the first {SHOWN_ROWS} of {len(self)})".strip()


class Tabular:
    """Something that is shown as a table: :meth:`_table` says which."""

    def _table(self) -> Table:
        raise NotImplementedError

    def table(self) -> list[dict[str, Any]]:
        """The rows as plain dictionaries, for pandas and the like."""
        return self._table().table()

    def to_csv(self, path: Path | str | None = None) -> str:
        """The rows as CSV (RFC 4180); also written to ``path`` when one is given."""
        return self._table().to_csv(path)

    def to_markdown(self) -> str:
        """The rows as a Markdown table."""
        return self._table().to_markdown()

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()


def shown(value: Any) -> str:
    """A value as a cell shows it: empty for None, cut when long, one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(map(str, sorted(value) if isinstance(value, set) else value))
    text = " ".join(str(value).split())
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"


def html(rows: Sequence[Mapping[str, Any]], caption: str = "") -> str:
    """A small HTML table; everything escaped."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f'<th style="{_STYLE}">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{_STYLE}">{escape(shown(row.get(c)))}</td>' for c in columns)
        + "</tr>"
        for row in rows
    )
    title = f'<caption style="{_STYLE};caption-side:top">{escape(caption)}</caption>'
    return f"<table>{title if caption else ''}<tr>{head}</tr>{body}</table>"


def card(title: str, facts: Mapping[str, Any]) -> str:
    """HTML of one object: its name and a row per fact."""
    rows = "".join(
        f'<tr><td style="{_STYLE};opacity:.7">{escape(name)}</td>'
        f'<td style="{_STYLE}">{escape(shown(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None
    )
    caption = f'<caption style="{_STYLE};caption-side:top"><b>{escape(title)}</b></caption>'
    return f"<table>{caption}{rows}</table>"
