"""A run as one HTML page that needs nothing else: verdict, pictures, figures, steps."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING

from chatlab.plots import insults, persistence, spacetime
from chatlab.tables import card

if TYPE_CHECKING:
    from chatlab.experiments.run import Run

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:60em;color:#222}}
h1{{font-size:1.5em}}img{{max-width:100%;border:1px solid #ddd}}
table{{border-collapse:collapse;margin:1em 0}}.outcome{{font-weight:bold}}</style>
<h1>{title}</h1><p>{about}</p><p class="outcome">{outcome}</p>
{verdict}{pictures}{figures}{header}{steps}
</html>
"""


def draw(run: Run, folder: Path) -> dict[Path, str]:
    """Write the pictures of a run as SVG files; returns them with what they show."""
    drawn = {"space-time": spacetime(run.journal)}
    if run.pattern == "insults":
        drawn["insults"] = insults(run.journal)
    else:
        drawn["persistence"] = persistence(run.journal)
    return {
        picture.save(folder / f"{name}.svg"): picture.finding  # type: ignore[attr-defined]
        for name, picture in drawn.items()
    }


def page(run: Run, pictures: Mapping[Path, str]) -> str:
    """The page; everything shown is escaped, pictures are part of it."""
    title = f"{run.scenario.name} on {run.backend}"
    header = {key: str(value) for key, value in run.journal.header.items() if value}
    return _PAGE.format(
        title=escape(title),
        about=escape(run.scenario.about),
        outcome=escape(run.outcome),
        verdict=run.verdict._repr_html_(),
        pictures="".join(starmap(_inline, pictures.items())),
        figures=run.figures._repr_html_(),
        header=card("run", header),
        steps=run.scenario._repr_html_(),
    )


def _inline(picture: Path, finding: str) -> str:
    """As data, because the names inside two SVG texts would clash on one page."""
    data = b64encode(picture.read_bytes()).decode()
    return f'<p><img alt="{escape(finding)}" src="data:image/svg+xml;base64,{data}">'
