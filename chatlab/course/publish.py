"""Run the notebooks and write them as they are committed: ``python -m chatlab.course.publish``.

Committed notebooks are executed, so that a reader on the web sees the pictures. To keep them
comparable, execution counts run 1..n, metadata and widget state are dropped, progress and
stderr are removed, and what belongs to one run (times of day, ports, the lab's random
suffix) becomes dots. The pictures also become files in ``pictures/``, for the README.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 120
#: What belongs to one run, and what stands for it.
ONE_RUN = {
    r"\b\d\d:\d\d:\d\d\b": "··:··:··",
    r"(?<=\w)-[0-9a-f]{6}\b": "-······",
    r"\b127\.0\.0\.1:\d{5}\b": "127.0.0.1:·····",
}
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def publish(path: Path) -> None:
    """Execute one notebook in its folder and write it back normalised."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    normalise(book)
    nbformat.write(book, path)
    for number, png in enumerate(_pictures(book), 1):
        file = path.parent / "pictures" / f"{path.stem}-{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png)


def normalise(book: Any) -> None:
    """Take out of an executed notebook what belongs to one run or one machine."""
    book.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    number = 0
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
        if cell.cell_type != "code":
            continue
        number += 1
        cell.execution_count = number
        cell.outputs = [output for output in cell.outputs if _kept(output)]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
            if "image/png" in output.get("data", {}):
                output.data.pop("text/html", None)  # the same picture once more
            # A widget of a kernel that is gone; readers see its text and its table.
            output.get("data", {}).pop(WIDGET, None)
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = _undated(content)


def _pictures(book: Any) -> Iterator[bytes]:
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                yield b64decode(output.data["image/png"])


def _kept(output: Any) -> bool:
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    return bool(output.get("data", {}).get("text/html") != "")


def _undated(text: str) -> str:
    for pattern, dots in ONE_RUN.items():
        text = re.sub(pattern, dots, text)
    return text


def main() -> None:
    """Publish the notebooks named, or all in ``notebooks/``."""
    named = [Path(name) for name in sys.argv[1:]]
    for path in named or sorted(Path("notebooks").glob("*.ipynb")):
        publish(path)
        sys.stdout.write(f"{path}: executed\n")


if __name__ == "__main__":
    main()
