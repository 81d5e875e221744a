"""Progress of a slow start in a terminal or a log; notebooks have their own (``lab``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Progress:
    """A service that is being waited for."""

    service: str
    #: What it is doing, for people.
    text: str
    #: Since it began.
    seconds: float
    #: How long it took last time; None when that is not known.
    expected: float | None

    def __str__(self) -> str:
        expected = f" of about {self.expected:.0f}" if self.expected else ""
        return f"{self.text} ({self.seconds:.0f}{expected} s)"


class ProgressLine:
    """Shows progress on one line that is written over; in a log, one line per step."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = ""

    def __call__(self, progress: Progress | str) -> None:
        text = progress if isinstance(progress, str) else progress.text
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{progress}")
        elif text != self._shown:
            self._out.write(f"{text}\n")
        self._shown = text
        self._out.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.isatty():
            self._out.write("\r\x1b[K")
            self._out.flush()
