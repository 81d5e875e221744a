"""``my``: the folder of all that a reader makes: guesses, answers, runs, the report.

It lies beside the notebooks (``CHATLAB_MY_FOLDER`` puts it elsewhere) and belongs to the
reader alone: plain files, written as a whole or not at all, and removed by ``course.reset()``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from chatlab.errors import InvalidInput, NotPossible
from chatlab.settings import Settings


def folder() -> Path:
    """Where it is; not there before something was made."""
    return Settings.load().my_folder


def read(name: str) -> dict[str, Any]:
    """What was written under this name; empty when nothing was.

    Raises:
        InvalidInput: the file is damaged; names it and says what to do.
    """
    path = folder() / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} cannot be read: {error}.",
            todo="Restore the file, or delete it and answer again.",
        ) from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} is not what the course wrote there.", todo="Delete it.")
    return found


def write(name: str, value: dict[str, Any]) -> Path:
    """Write it in place of what was there."""
    return write_text(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(name: str, text: str) -> Path:
    """Write a text file as a whole: whoever reads it sees the old one or the new one."""
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path


def remove(name: str) -> None:
    """Remove a folder of it, if it is there."""
    shutil.rmtree(folder() / name, ignore_errors=True)


def files() -> list[Path]:
    """All files in it, sorted."""
    return sorted(path for path in folder().rglob("*") if path.is_file())


def submit(to: Path | str | None = None) -> Path:
    """Pack all of it into one file to hand in.

    Args:
        to: the file; default: ``chatlab-my.zip`` beside the folder.

    Raises:
        NotPossible: there is nothing yet.
    """
    here, found = folder(), files()
    if not found:
        raise NotPossible(f"There is nothing in {here} yet.", todo="Answer a question first.")
    path = Path(to) if to else here.parent / "chatlab-my.zip"
    draft = path.with_name(f".{path.name}")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in found:
            packed.write(file, Path("my") / file.relative_to(here))
    return draft.replace(path)


def reset(*, sure: bool = False) -> str:
    """Delete all of it: guesses, answers, runs, the report. Asks first, unless ``sure``.

    Returns what was done, in words.
    """
    here, found = folder(), files()
    if not found:
        return f"There is nothing in {here}."
    if not sure and not _agrees(f"Delete {len(found)} files in {here}? Type yes: "):
        return f"Nothing was deleted; {len(found)} files are in {here}."
    shutil.rmtree(here)
    return f"Deleted {len(found)} files in {here}."


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() == "yes"
    except (EOFError, NotImplementedError):  # nobody can be asked
        return False
